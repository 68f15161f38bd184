import type { Work, WorkerEvent } from './messages';
import type { Outcome } from './metrics';

/** Who made a job and is told of it: of every event, and once of its end. */
export interface JobOwner {
  /** News; the last has `end`. */
  onEvent(event: WorkerEvent): void;
  /** It failed. */
  onError(error: unknown): void;
  /** It was ended by a signal or a timeout; `error` is what to throw of it. */
  onAbort(reason: 'abort' | 'timeout', error: unknown): void;
}

/** Work given to the engine, until it is settled: answered, failed or given up, exactly once. */
export class Job {
  readonly started = performance.now();
  /** Called once it is settled. */
  onSettled: (outcome: Outcome) => void = () => {};
  #settled = false;

  constructor(
    readonly id: number,
    readonly work: Work,
    readonly owner: JobOwner,
  ) {}

  get settled(): boolean {
    return this.#settled;
  }

  /** Whether it takes a place in a batch; otherwise it is done at once between two steps. */
  get takesPlace(): boolean {
    return this.work.kind === 'generate' || this.work.kind === 'embed';
  }

  /** An event of the worker's; what comes after the end is dropped. */
  deliver(event: WorkerEvent): void {
    if (this.#settled) return;
    if (event.end) this.#settle(event.error === undefined ? 'completed' : 'failed');
    this.owner.onEvent(event);
  }

  fail(error: unknown, outcome: Outcome = 'failed'): void {
    if (this.#settled) return;
    this.#settle(outcome);
    this.owner.onError(error);
  }

  abort(reason: 'abort' | 'timeout', error: unknown): void {
    if (this.#settled) return;
    this.#settle('aborted');
    this.owner.onAbort(reason, error);
  }

  /** Its owner doesn't want it any more. */
  giveUp(): void {
    if (!this.#settled) this.#settle('aborted');
  }

  #settle(outcome: Outcome): void {
    this.#settled = true;
    this.onSettled(outcome);
  }
}
