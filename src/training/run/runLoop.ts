import { writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { Collectives } from '../../backend/collectives';
import { layersInWords } from '../../config/layersInWords';
import type { DataPosition, TrainingBatches } from '../../text/data';
import { alikeOnAll, anyRank, fromFirst } from '../distributed/agreement';
import { saveTraining } from '../saving';
import type { StepResult, Trainer } from '../trainer';
import { readBest, saveBest } from './best';
import { renderChart } from './chart';
import type { RunEvent, StepEvent } from './events';
import { MetricsLog } from './metricsLog';
import type { TrainingResult } from './result';
import { StarvationWatch } from './routerHealth';
import type { RunFolder } from './runFolder';
import type { CompleteRunOptions } from './runOptions';
import type { RunState } from './runState';
import { keepSamples, SampleLog } from './samples';
import { type Save, Saver, SaveSchedule } from './saveSchedule';
import { type ValidationResult, validate } from './validation';

/** The inputs of a run. */
export interface RunSetup {
  folder: RunFolder;
  trainer: Trainer;
  options: CompleteRunOptions;
  state: RunState;
  /** The batches of the coming steps. */
  data: TrainingBatches;
}

/** The files that a run appends to, beside its checkpoints. */
interface RunLogs {
  metrics: MetricsLog;
  samples: SampleLog | null;
}

type Events<T = void> = AsyncGenerator<RunEvent, T, void>;

/**
 * Makes the steps of a run, evaluates, saves, draws the chart, and yields events. All ranks that share the steps have a loop, and
 * go the same way; what rank 0 alone writes succeeds or fails on all.
 */
export class RunLoop {
  readonly #setup: RunSetup;
  /** null on other ranks than the first, which writes. */
  readonly #logs: RunLogs | null;
  readonly #schedule: SaveSchedule;
  readonly #saver: Saver;
  readonly #starvation = new StarvationWatch();
  /** The data position after the last step, kept because an abort may come after the next batch was drawn. */
  #position: DataPosition;
  /** Whether a rank's signal was aborted before the last step ended. */
  #isStopped = false;

  private constructor(setup: RunSetup, logs: RunLogs | null) {
    const { saveInterval, retrySeconds } = setup.options;
    this.#setup = setup;
    this.#logs = logs;
    this.#schedule = new SaveSchedule(saveInterval);
    this.#saver = new Saver(retrySeconds);
    this.#position = setup.data.getState();
  }

  /** Opens the files and removes their lines about steps that will be made again. */
  static async open(setup: RunSetup): Promise<RunLoop> {
    const { folder, state, trainer, options } = setup;
    let logs: RunLogs | null = null;
    const best = await fromFirst(trainer.collectives, async () => {
      await keepSamples(folder.samplesFile, state.done);
      const metrics = await MetricsLog.continue(folder.metricsFile, state.done);
      const writer = { model: trainer.model, tokenizer: options.dataset.tokenizer };
      const samples = options.samples ? new SampleLog(folder.samplesFile, writer, options.samples) : null;
      logs = { metrics, samples };
      return readBest(folder.best);
    });
    // best/ holds the best evaluation seen, even if the checkpoint is older.
    state.best = best ?? state.best;
    return new RunLoop(setup, logs);
  }

  close(): void {
    this.#logs?.metrics.close();
    this.#logs?.samples?.close();
  }

  get #ranks(): Collectives {
    return this.#setup.trainer.collectives;
  }

  async *toTheEnd(): Events<TrainingResult> {
    const { trainer, data, state, options } = this.#setup;
    const { signal } = options;
    state.start();
    // Several ranks stop after a step, or before the first, when they have agreed on it.
    const isAlone = this.#ranks.size === 1;
    if (!isAlone) [this.#isStopped] = await anyRank(this.#ranks, signal?.aborted ?? false);
    // A run that was killed while it ended has no step left to make.
    const steps = state.isOver || this.#isStopped ? 0 : trainer.config.totalSteps - state.done;
    let before = performance.now();
    const own = isAlone ? { signal, onAbort: 'return' as const } : {};
    for await (const step of trainer.run({ data, steps, ...own, maxSkippedSteps: 0 })) {
      yield* this.#afterStep(step, (performance.now() - before) / 1000);
      if (state.isOver || (this.#isStopped && !isAlone)) break;
      before = performance.now();
    }
    const { seconds, totalSeconds } = state;
    yield* this.#saver.insist(this.#checkpoint());
    const validation = yield* this.#finalValidation();
    yield* this.#draw(validation);
    const interrupted = this.#isAborted;
    return {
      steps: state.done,
      skippedSteps: trainer.skippedSteps,
      interrupted,
      stoppedEarly: state.stoppedEarly,
      validation,
      best: state.best,
      seconds: totalSeconds,
      tokensPerSec: state.tokens / seconds,
    };
  }

  async *#afterStep(result: StepResult, seconds: number): Events {
    const { state, data, trainer, options } = this.#setup;
    const step = ++state.done;
    state.tokens += result.tokens;
    this.#position = data.getState();
    state.skips.count(result.skipped);
    const due = step % options.evalInterval === 0 || step === trainer.config.totalSteps;
    const evaluated = due && options.dataset.validationTokens > 0;
    const event = this.#stepEvent(result, seconds, evaluated);
    yield event;
    const starving = result.skipped ? null : this.#starvation.add(result.expertLoad);
    if (starving !== null) yield { type: 'starvingExpert', step, ...starving };
    const validation = evaluated ? await this.#evaluate() : null;
    const { loss: validationLoss, bitsPerByte, preferences: validationPreferences } = validation ?? {};
    const validationBitsPerByte = bitsPerByte ?? undefined;
    this.#logs?.metrics.append({ ...event, validationLoss, validationBitsPerByte, validationPreferences });
    alikeOnAll(() => state.skips.check());
    if (validation !== null) yield* this.#takeEvaluation(step, validation);
    const sample = await this.#sample(step);
    if (sample !== null) yield { type: 'sample', ...sample };
    // The ranks' clocks and signals differ.
    const isDue = this.#schedule.isDue(step, due) || state.saveRequested;
    const [saves, stops] = await anyRank(this.#ranks, isDue, this.#setup.options.signal?.aborted ?? false);
    this.#isStopped ||= stops;
    if (!state.isOver && saves) yield* this.#saveOnTheWay();
  }

  /** The sample that is due after a step, on rank 0; ranks over which the experts are divided compute theirs of it. */
  async #sample(step: number): Promise<{ step: number; prompt: string; text: string } | null> {
    const { options, trainer } = this.#setup;
    if (options.samples === undefined || step % options.samples.interval !== 0) return null;
    const sample = (await this.#logs?.samples?.add(step)) ?? null;
    trainer.model.expertExchange?.follow();
    return sample;
  }

  /** Whether the run is to end early: all ranks know it at the same place. */
  get #isAborted(): boolean {
    if (this.#ranks.size > 1) return this.#isStopped;
    return this.#setup.options.signal?.aborted ?? false;
  }

  #stepEvent(
    { step: update, ...result }: StepResult,
    seconds: number,
    evaluationFollows: boolean,
  ): StepEvent {
    const { state } = this.#setup;
    const tokensPerSec = result.tokens / seconds;
    const counts = { step: state.done, update, skippedInARow: state.skips.inARow };
    return { type: 'step', ...counts, ...result, seconds, tokensPerSec, evaluationFollows };
  }

  /** The signal doesn't end an evaluation: a resumed run must have every evaluation of an uninterrupted one. */
  #evaluate(): Promise<ValidationResult | null> {
    const { trainer, options } = this.#setup;
    const { dataset, batchSize, seqLen, evalBatches } = options;
    const batches = { batchSize, seqLen, maxBatches: evalBatches };
    return validate(trainer, dataset, batches, { collectives: this.#ranks });
  }

  /**
   * Records an evaluation and saves the weights of the best. That save comes before the checkpoint that mentions it: a run
   * killed in between makes these steps again.
   */
  async *#takeEvaluation(step: number, validation: ValidationResult): Events {
    const { state, folder, trainer, options } = this.#setup;
    const { loss } = validation;
    const isBest = loss < (state.best?.loss ?? Number.POSITIVE_INFINITY);
    yield { type: 'evaluation', step, ...validation, isBest };
    state.earlyStopping?.add(loss);
    if (!isBest) return;
    const best = { step, loss };
    const { tokenizer } = options.dataset;
    const write = () => saveBest(this.#ranks, folder.best, trainer.model, tokenizer, best);
    if (yield* this.#saver.attempt({ part: 'best', step, write })) state.best = best;
  }

  async *#saveOnTheWay(): Events {
    yield* this.#saver.attempt(this.#checkpoint());
    this.#schedule.tried();
    this.#setup.state.saveRequested = false;
    yield* this.#draw(null);
  }

  async *#finalValidation(): Events<ValidationResult | null> {
    const { trainer, state } = this.#setup;
    const { dataset, batchSize, seqLen, signal } = this.#setup.options;
    const tokens = dataset.validationTokens;
    if (this.#isAborted || tokens === 0) return null;
    yield { type: 'finalEvaluation', step: state.done, tokens };
    const options = { signal, collectives: this.#ranks };
    const validation = await validate(trainer, dataset, { batchSize, seqLen }, options);
    if (validation === null) this.#isStopped = true;
    return validation;
  }

  /** Saves the weights and the state to resume from. */
  #checkpoint(): Save {
    const { trainer, folder, state, options } = this.#setup;
    const { tokenizer, trainTokens: train, validationTokens: validation } = options.dataset;
    const write = async () => {
      await fromFirst(this.#ranks, async () => {
        this.#logs?.metrics.flush();
        this.#logs?.samples?.flush();
      });
      const progress = { ...state.toProgress({ train, validation }) };
      await saveTraining(folder.path, trainer, {
        data: this.#position,
        tokenizer,
        progress,
        keep: options.keep,
      });
    };
    return { part: 'checkpoint', step: state.done, write };
  }

  async *#draw(validation: ValidationResult | null): Events {
    const { folder, state } = this.#setup;
    const write = () =>
      fromFirst(this.#ranks, () => writeFile(folder.chartFile, this.#chart(this.#logs!.metrics, validation)));
    yield* this.#saver.attempt({ part: 'curve', step: state.done, write });
  }

  #chart(metrics: MetricsLog, validation: ValidationResult | null): string {
    const { trainer, folder, state, options } = this.#setup;
    const { config } = trainer.model;
    const unit = validation?.preferences ? '' : ' nats per token';
    const result = validation === null ? '' : `: validation loss ${validation.loss.toFixed(3)}${unit}`;
    return renderChart({
      title: `${basename(resolve(folder.path))}, step ${state.done}${result}`,
      subtitle: `${config.totalParams().toLocaleString('en-US')} parameters, ${layersInWords(config)}`,
      tokensPerStep: options.batchSize * options.seqLen,
      references: options.references,
      ...metrics.chartData(),
    });
  }
}
