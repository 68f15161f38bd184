import { writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { RandomSampling } from '../generate';
import type { MoETransformer } from '../model';
import type { TokenDataset } from '../text/data';
import type { StepResult, Trainer } from '../train';
import { type LossReference, renderChart } from './chart';
import { formatLoss } from './format';
import { Interrupt } from './interrupt';
import type { CliIo } from './io';
import { MetricsLog } from './metrics';
import { Progress } from './progress';
import type { RunFolder } from './runFolder';
import { writeText } from './text';
import { type ValidationResult, validate } from './validation';

/** Everything a training run needs; its length is the trainer's totalSteps. */
export interface TrainingJob {
  trainer: Trainer;
  dataset: TokenDataset;
  folder: RunFolder;
  batchSize: number;
  seqLen: number;
  /** Of the training windows. */
  seed: number;
  /** Steps from one evaluation to the next. Without a validation split there is none. */
  evalInterval: number;
  /** Batches of an evaluation on the way; the one at the end reads the whole split. */
  evalBatches: number;
  /** Losses that the picture compares with. */
  references?: readonly LossReference[];
}

export interface TrainingResult {
  /** Steps made, skipped ones included. */
  steps: number;
  skippedSteps: number;
  interrupted: boolean;
  /** Over the whole validation split, with the last weights; null without one or when interrupted. */
  validation: ValidationResult | null;
  /** The lowest of the evaluations on the way, whose weights are in folder.best; null when there was none. */
  best: { step: number; loss: number } | null;
  seconds: number;
  /** Training tokens in all of these seconds, evaluations and saves included. */
  tokensPerSec: number;
}

/**
 * Trains, evaluates, saves and draws until the steps are made or SIGINT or SIGTERM arrives: then the step in work is
 * finished and the weights are saved. The folder holds the last weights, folder.best those of the best evaluation.
 */
export async function runTraining(job: TrainingJob, io: CliIo): Promise<TrainingResult> {
  const run = new TrainingRun(job, io);
  try {
    return await run.toTheEnd();
  } finally {
    run.close();
  }
}

const MOST_SKIPPED_IN_A_ROW = 20;

class TrainingRun {
  readonly #job: TrainingJob;
  readonly #model: MoETransformer;
  readonly #totalSteps: number;
  readonly #interrupt: Interrupt;
  readonly #metrics: MetricsLog;
  readonly #progress: Progress;
  readonly #started = performance.now();
  #best: TrainingResult['best'] = null;
  #done = 0;
  #skippedInARow = 0;

  constructor(job: TrainingJob, io: CliIo) {
    this.#job = job;
    this.#model = job.trainer.model;
    this.#totalSteps = job.trainer.config.totalSteps;
    this.#metrics = new MetricsLog(job.folder.metricsFile);
    this.#interrupt = new Interrupt(io.signals);
    this.#progress = new Progress(io.stdout, { totalSteps: this.#totalSteps });
  }

  async toTheEnd(): Promise<TrainingResult> {
    const { trainer, dataset, batchSize, seqLen, seed } = this.#job;
    const { signal } = this.#interrupt;
    const data = dataset.batches({ batchSize, seqLen, seed });
    let before = performance.now();
    for await (const step of trainer.run({ data, steps: this.#totalSteps, signal, onAbort: 'return' })) {
      await this.#afterStep(step, (performance.now() - before) / 1000);
      before = performance.now();
    }
    const seconds = (performance.now() - this.#started) / 1000;
    const validation = await this.#finalValidation();
    await this.#save(this.#job.folder.path);
    await this.#draw(validation);
    this.#progress.clear();
    return {
      steps: this.#done,
      skippedSteps: trainer.skippedSteps,
      interrupted: this.#interrupt.aborted,
      validation,
      best: this.#best,
      seconds,
      tokensPerSec: (this.#done * batchSize * seqLen) / seconds,
    };
  }

  close(): void {
    this.#progress.clear();
    this.#interrupt.release();
    this.#metrics.close();
  }

  async #afterStep(step: StepResult, seconds: number): Promise<void> {
    this.#done++;
    this.#watchSkips(step.skipped);
    const { evalInterval } = this.#job;
    const due = this.#done % evalInterval === 0 || this.#done === this.#totalSteps;
    const validation = due && this.#hasValidation ? await this.#evaluate() : null;
    const validationLoss = validation?.loss;
    const validationBitsPerByte = validation?.bitsPerByte;
    const tokensPerSec = step.tokens / seconds;
    this.#metrics.append({ ...step, tokensPerSec, validationLoss, validationBitsPerByte });
    this.#progress.update({ ...step, done: this.#done, seconds, validationLoss });
    if (due) await this.#checkpoint(validationLoss);
  }

  /** Tells of the first skipped step in a row, and gives up after many: the weights won't change any more. */
  #watchSkips(skipped: boolean): void {
    this.#skippedInARow = skipped ? this.#skippedInARow + 1 : 0;
    if (this.#skippedInARow === 1) {
      this.#progress.say(`step ${this.#done}: loss or gradient not finite, weights left as they were`);
    }
    if (this.#skippedInARow < MOST_SKIPPED_IN_A_ROW) return;
    throw new Error(
      `The loss or its gradient was not finite in ${MOST_SKIPPED_IN_A_ROW} steps in a row: training has diverged. ` +
        'Try a lower learning rate or a longer warmup.',
    );
  }

  get #hasValidation(): boolean {
    return this.#job.dataset.validationTokens > 0;
  }

  #evaluate(): Promise<ValidationResult | null> {
    const { dataset, batchSize, seqLen, evalBatches } = this.#job;
    const batches = dataset.validationBatches({ batchSize, seqLen, maxBatches: evalBatches });
    return validate(this.#model, batches, dataset.tokenizer, this.#interrupt.signal);
  }

  /** Saves weights and picture so far and, after the best evaluation, the weights once more where they stay. */
  async #checkpoint(validationLoss: number | undefined): Promise<void> {
    const { folder } = this.#job;
    if (this.#done < this.#totalSteps) {
      await this.#save(folder.path);
      await this.#draw(null);
    }
    if (validationLoss === undefined || !(validationLoss < (this.#best?.loss ?? Infinity))) return;
    this.#best = { step: this.#done, loss: validationLoss };
    await this.#save(folder.best);
  }

  async #finalValidation(): Promise<ValidationResult | null> {
    if (this.#interrupt.aborted || !this.#hasValidation) return null;
    this.#progress.status('evaluating the whole validation split ...');
    const { dataset, batchSize, seqLen } = this.#job;
    const batches = dataset.validationBatches({ batchSize, seqLen });
    return validate(this.#model, batches, dataset.tokenizer, this.#interrupt.signal);
  }

  async #save(dir: string): Promise<void> {
    await this.#model.save(dir, this.#job.dataset.tokenizer.files());
  }

  async #draw(validation: ValidationResult | null): Promise<void> {
    const { folder, batchSize, seqLen, references } = this.#job;
    const result =
      validation === null ? '' : `: validation loss ${formatLoss(validation.loss)} nats per token`;
    const { config } = this.#model;
    const svg = renderChart({
      title: `${basename(resolve(folder.path))}, step ${this.#done}${result}`,
      subtitle:
        `${config.totalParams().toLocaleString('en-US')} parameters, ${config.nLayers} layers, ` +
        `${config.nExperts} experts, top ${config.topKExperts}`,
      tokensPerStep: batchSize * seqLen,
      references,
      ...this.#metrics.chartData(),
    });
    await writeFile(folder.chartFile, svg);
  }
}

/** Writes a text that the model begins after a line break. */
export async function writeSample(
  model: MoETransformer,
  { tokenizer }: Pick<TokenDataset, 'tokenizer'>,
  { maxTokens, seed }: { maxTokens: number; seed: number },
  io: CliIo,
): Promise<void> {
  const interrupt = new Interrupt(io.signals);
  await writeText(model, tokenizer, tokenizer.encode('\n'), {
    maxTokens,
    strategy: new RandomSampling({ temperature: 0.8, seed }),
    signal: interrupt.signal,
    write: (text) => io.stdout.write(text),
  }).finally(() => interrupt.release());
  io.stdout.write('\n');
}
