import { writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { formatLoss } from '../../cli/terminal/format';
import { Interrupt } from '../../cli/terminal/interrupt';
import type { CliIo } from '../../cli/terminal/io';
import { Progress } from '../../cli/terminal/progress';
import type { MoETransformer } from '../../model/model';
import type { DataPosition, TokenDataset, TrainingBatches } from '../../text/data';
import { EarlyStopping, type EarlyStoppingOptions, type EarlyStoppingState } from '../earlyStopping';
import { type ResumedTraining, saveTraining } from '../saving';
import type { StepResult, Trainer } from '../trainer';
import { type Evaluation, readBest, saveBest } from './best';
import { type LossReference, renderChart } from './chart';
import { MetricsLog } from './metricsLog';
import { StarvationWatch } from './routerHealth';
import type { RunFolder } from './runFolder';
import { keepSamples, SampleLog, type SampleOptions } from './samples';
import { type SaveInterval, Saver, SaveSchedule } from './saveSchedule';
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
  /** Ends the run when evaluations cease to improve. Default: the run makes all its steps. */
  earlyStopping?: EarlyStoppingOptions;
  /** Samples written on the way, one in so many steps. Default: none. */
  samples?: SampleOptions & { interval: number };
  /** When to save, and how many checkpoints to keep. Default: the last one, at every evaluation. */
  saving?: { interval?: SaveInterval; keep?: number; retrySeconds?: readonly number[] };
  /** What the trainer was resumed with; null or absent for a new run. */
  resumed?: Pick<ResumedTraining, 'data' | 'progress'> | null;
  /** Losses that the picture compares with. */
  references?: readonly LossReference[];
}

export interface TrainingResult {
  /** Steps made, skipped ones included. */
  steps: number;
  skippedSteps: number;
  interrupted: boolean;
  /** Ended by earlyStopping, before the last step. */
  stoppedEarly: boolean;
  /** Over the whole validation split, with the last weights; null without one or when interrupted. */
  validation: ValidationResult | null;
  /** The lowest of the evaluations on the way, whose weights are in folder.best; null when there was none. */
  best: Evaluation | null;
  seconds: number;
  /** Training tokens in all of these seconds, evaluations and saves included. */
  tokensPerSec: number;
}

/**
 * Trains, evaluates, saves and draws until the steps are made or SIGINT or SIGTERM arrives: then the step in work is
 * finished and the weights are saved. The folder holds the last weights, folder.best those of the best evaluation.
 */
export async function runTraining(job: TrainingJob, io: CliIo): Promise<TrainingResult> {
  const samples = await openSamples(job);
  const metrics = job.resumed
    ? await MetricsLog.continue(job.folder.metricsFile, job.trainer.getState())
    : new MetricsLog(job.folder.metricsFile);
  const best = job.resumed ? await readBest(job.folder.best) : null;
  const run = new TrainingRun(job, { metrics, samples, best }, io);
  try {
    return await run.toTheEnd();
  } finally {
    run.close();
  }
}

async function openSamples({ samples, folder, trainer, dataset }: TrainingJob): Promise<SampleLog | null> {
  await keepSamples(folder.samplesFile, trainer.step + trainer.skippedSteps);
  if (samples === undefined) return null;
  return new SampleLog(folder.samplesFile, { model: trainer.model, tokenizer: dataset.tokenizer }, samples);
}

const MOST_SKIPPED_IN_A_ROW = 20;

/** What a run keeps in state.json beside the trainer's own. */
export interface RunProgress {
  best: Evaluation | null;
  /** null without early stopping. */
  earlyStopping: EarlyStoppingState | null;
  skippedInARow: number;
  /** So far, over all processes. */
  seconds: number;
  tokens: { train: number; validation: number };
}

/** What a run writes to, beside its checkpoints, and finds there. */
interface RunFiles {
  metrics: MetricsLog;
  samples: SampleLog | null;
  /** Of folder.best, in a run that goes on; otherwise null. */
  best: Evaluation | null;
}

class TrainingRun {
  readonly #job: TrainingJob;
  readonly #model: MoETransformer;
  readonly #totalSteps: number;
  readonly #interrupt: Interrupt;
  readonly #metrics: MetricsLog;
  readonly #samples: SampleLog | null;
  readonly #earlyStopping: EarlyStopping | null;
  readonly #progress: Progress;
  readonly #started = performance.now();
  readonly #schedule: SaveSchedule;
  readonly #saver: Saver;
  readonly #starvation = new StarvationWatch();
  readonly #data: TrainingBatches;
  /** Where the data stood after the last step: an interrupt may come when the next batch is drawn already. */
  #position: DataPosition;
  #best: Evaluation | null = null;
  readonly #doneBefore: number;
  #done: number;
  #skippedInARow = 0;
  #secondsBefore = 0;

  constructor(job: TrainingJob, { metrics, samples, best }: RunFiles, io: CliIo) {
    const { trainer, dataset, batchSize, seqLen, seed, resumed, saving, earlyStopping } = job;
    this.#job = job;
    this.#model = trainer.model;
    this.#totalSteps = trainer.config.totalSteps;
    this.#metrics = metrics;
    this.#samples = samples;
    this.#earlyStopping = earlyStopping ? new EarlyStopping(earlyStopping) : null;
    this.#interrupt = new Interrupt(io.signals);
    this.#doneBefore = trainer.step + trainer.skippedSteps;
    this.#done = this.#doneBefore;
    this.#progress = new Progress(io.stdout, { totalSteps: this.#totalSteps, doneBefore: this.#done });
    this.#schedule = new SaveSchedule(saving?.interval);
    this.#saver = new Saver((line) => this.#progress.say(line), saving?.retrySeconds);
    this.#data = dataset.batches({ batchSize, seqLen, seed });
    if (resumed?.data) this.#data.setState(resumed.data);
    this.#position = this.#data.getState();
    if (resumed) this.#continue(resumed.progress as Partial<RunProgress>);
    // What is in folder.best is the best seen, even if the checkpoint is older.
    this.#best = best ?? this.#best;
  }

  #continue({ best, earlyStopping, skippedInARow, seconds }: Partial<RunProgress>): void {
    this.#best = best ?? null;
    if (earlyStopping) this.#earlyStopping?.setState(earlyStopping);
    this.#skippedInARow = skippedInARow ?? 0;
    this.#secondsBefore = seconds ?? 0;
  }

  async toTheEnd(): Promise<TrainingResult> {
    const { trainer, batchSize, seqLen } = this.#job;
    const { signal } = this.#interrupt;
    let before = performance.now();
    // A run that was cut off while it ended has no step left to make.
    const steps = this.#isOver ? 0 : this.#totalSteps - this.#done;
    for await (const step of trainer.run({ data: this.#data, steps, signal, onAbort: 'return' })) {
      await this.#afterStep(step, (performance.now() - before) / 1000);
      if (this.#isOver) break;
      before = performance.now();
    }
    const seconds = (performance.now() - this.#started) / 1000;
    await this.#saver.insist(() => this.#save());
    const validation = await this.#finalValidation();
    await this.#draw(validation);
    this.#progress.clear();
    return {
      steps: this.#done,
      skippedSteps: trainer.skippedSteps,
      interrupted: this.#interrupt.aborted,
      stoppedEarly: this.#done < this.#totalSteps && this.#isOver,
      validation,
      best: this.#best,
      seconds: this.#secondsBefore + seconds,
      tokensPerSec: ((this.#done - this.#doneBefore) * batchSize * seqLen) / seconds,
    };
  }

  close(): void {
    this.#progress.clear();
    this.#interrupt.release();
    this.#metrics.close();
    this.#samples?.close();
  }

  async #afterStep(step: StepResult, seconds: number): Promise<void> {
    this.#done++;
    this.#position = this.#data.getState();
    this.#watchSkips(step.skipped);
    const starving = step.skipped ? null : this.#starvation.add(step.expertLoad);
    if (starving !== null) this.#progress.say(`step ${this.#done}: ${starving}`);
    const { evalInterval } = this.#job;
    const due = this.#done % evalInterval === 0 || this.#done === this.#totalSteps;
    const validation = due && this.#hasValidation ? await this.#evaluate() : null;
    const validationLoss = validation?.loss;
    const validationBitsPerByte = validation?.bitsPerByte;
    const tokensPerSec = step.tokens / seconds;
    this.#metrics.append({ ...step, tokensPerSec, validationLoss, validationBitsPerByte });
    this.#progress.update({ ...step, done: this.#done, seconds, validationLoss });
    if (validationLoss !== undefined) {
      this.#earlyStopping?.add(validationLoss);
      await this.#keepBest(validationLoss);
    }
    if (this.#samples?.isDue(this.#done)) await this.#samples.add(this.#done);
    if (!this.#isOver && this.#schedule.isDue(this.#done, due)) await this.#checkpoint();
  }

  /** Whether there is no step left to make. */
  get #isOver(): boolean {
    return this.#done >= this.#totalSteps || (this.#earlyStopping?.isDue ?? false);
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

  /** Not ended by an interrupt: the run that goes on must have every evaluation that an unbroken one has. */
  #evaluate(): Promise<ValidationResult | null> {
    const { dataset, batchSize, seqLen, evalBatches } = this.#job;
    const batches = dataset.validationBatches({ batchSize, seqLen, maxBatches: evalBatches });
    return validate(this.#model, batches, dataset.tokenizer);
  }

  async #checkpoint(): Promise<void> {
    await this.#saver.attempt(() => this.#save());
    this.#schedule.tried();
    await this.#draw(null);
  }

  /**
   * After the best evaluation: its weights, saved where they stay. Before the checkpoint that says so, since a run that
   * is cut off in between makes these steps again.
   */
  async #keepBest(loss: number): Promise<void> {
    if (!(loss < (this.#best?.loss ?? Infinity))) return;
    const { folder, dataset } = this.#job;
    const best = { step: this.#done, loss };
    const save = () => saveBest(folder.best, this.#model, dataset.tokenizer, best);
    if (await this.#saver.attempt(save)) this.#best = best;
  }

  async #finalValidation(): Promise<ValidationResult | null> {
    if (this.#interrupt.aborted || !this.#hasValidation) return null;
    this.#progress.status('evaluating the whole validation split ...');
    const { dataset, batchSize, seqLen } = this.#job;
    const batches = dataset.validationBatches({ batchSize, seqLen });
    return validate(this.#model, batches, dataset.tokenizer, this.#interrupt.signal);
  }

  async #save(): Promise<void> {
    const { trainer, dataset, folder, saving } = this.#job;
    const { tokenizer, trainTokens: train, validationTokens: validation } = dataset;
    const seconds = this.#secondsBefore + (performance.now() - this.#started) / 1000;
    const progress: RunProgress = {
      best: this.#best,
      earlyStopping: this.#earlyStopping?.getState() ?? null,
      skippedInARow: this.#skippedInARow,
      seconds: Math.round(seconds * 10) / 10,
      tokens: { train, validation },
    };
    this.#metrics.flush();
    this.#samples?.flush();
    const options = { data: this.#position, tokenizer, progress: { ...progress }, keep: saving?.keep };
    await saveTraining(folder.path, trainer, options);
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
    await this.#saver.attempt(() => writeFile(folder.chartFile, svg));
  }
}
