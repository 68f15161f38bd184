import { EarlyStopping, type EarlyStoppingState } from '../earlyStopping';
import { SkipLimit } from '../skipLimit';
import type { Trainer } from '../trainer';
import type { Evaluation } from './best';
import type { TrainingRunOptions } from './runOptions';

/** The run's part of state.json, beside the trainer's. */
export interface RunProgress {
  best: Evaluation | null;
  /** The state of early stopping; null without it. */
  earlyStopping: EarlyStoppingState | null;
  skippedInARow: number;
  /** Seconds spent so far by all processes. */
  seconds: number;
  tokens: { train: number; validation: number };
}

/** The progress of a run. */
export class RunState {
  /** Steps made by earlier processes. */
  readonly doneBefore: number;
  /** Steps made, skipped ones included. */
  done: number;
  /** Tokens of the steps of this process. */
  tokens = 0;
  /** Whether a save is asked for after the current step. */
  saveRequested = false;
  /** The lowest evaluation whose weights are saved. */
  best: Evaluation | null;
  readonly earlyStopping: EarlyStopping | null;
  readonly skips: SkipLimit;
  readonly #totalSteps: number;
  readonly #secondsBefore: number;
  #started = performance.now();

  /** @param progress of a resumed run. */
  constructor(trainer: Trainer, options: TrainingRunOptions, progress: Partial<RunProgress>) {
    const { best, earlyStopping, skippedInARow, seconds } = progress;
    this.doneBefore = trainer.step + trainer.skippedSteps;
    this.done = this.doneBefore;
    this.best = best ?? null;
    this.earlyStopping = options.earlyStopping ? new EarlyStopping(options.earlyStopping) : null;
    if (earlyStopping) this.earlyStopping?.setState(earlyStopping);
    this.skips = new SkipLimit(options.maxSkippedSteps, skippedInARow);
    this.#totalSteps = trainer.config.totalSteps;
    this.#secondsBefore = seconds ?? 0;
  }

  /** Starts the clock. */
  start(): void {
    this.#started = performance.now();
  }

  /** Seconds spent by this process. */
  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  /** Seconds spent by all processes. */
  get totalSeconds(): number {
    return this.#secondsBefore + this.seconds;
  }

  /** Whether no step is left to make. */
  get isOver(): boolean {
    return this.done >= this.#totalSteps || (this.earlyStopping?.isDue ?? false);
  }

  get stoppedEarly(): boolean {
    return this.done < this.#totalSteps && this.isOver;
  }

  toProgress(tokens: RunProgress['tokens']): RunProgress {
    return {
      best: this.best,
      earlyStopping: this.earlyStopping?.getState() ?? null,
      skippedInARow: this.skips.inARow,
      seconds: Math.round(this.totalSeconds * 10) / 10,
      tokens,
    };
  }
}
