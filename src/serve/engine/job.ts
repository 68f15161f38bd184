import type { StepWork, Work, WorkerEvent } from './messages';
import type { Outcome } from './metrics';
import type { RequestControl } from './types';

/** The maker of a job, which is notified of every event and, once, of its end. */
export interface JobOwner {
  /** The job has an event; the last one has `end`. */
  onEvent(event: WorkerEvent): void;
  /** The job failed. */
  onError(error: unknown): void;
  /** A signal or a timeout ended the job; `error` is the error to throw. */
  onAbort(reason: 'abort' | 'timeout', error: unknown): void;
}

/** A piece of work. It is settled exactly once: answered, failed or given up. */
export class Job {
  readonly started = performance.now();
  /** Called once it is settled. */
  onSettled: (outcome: Outcome) => void = () => {};
  /** The work for a worker, once its texts are ids. */
  prepared: StepWork | null = null;
  readonly client: string;
  readonly group: string | undefined;
  #settled = false;

  constructor(
    readonly id: number,
    readonly work: Work,
    readonly owner: JobOwner,
    { client, group }: RequestControl = {},
  ) {
    this.client = client ?? `request ${id}`;
    this.group = group;
  }

  get settled(): boolean {
    return this.#settled;
  }

  /** Whether it takes a place in a batch; other work runs between two steps. */
  get takesPlace(): boolean {
    return this.work.kind === 'generate' || this.work.kind === 'embed';
  }

  /** Delivers an event of the worker; events after the end are dropped. */
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

  /** Settles the job because its owner doesn't want it any more. */
  giveUp(): void {
    if (!this.#settled) this.#settle('aborted');
  }

  #settle(outcome: Outcome): void {
    this.#settled = true;
    this.onSettled(outcome);
  }
}
