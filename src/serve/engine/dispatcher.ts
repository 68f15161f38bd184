import { type ErrorCode, SgemoeError } from '../../base/errors';
import type { Job } from './job';
import type { AdapterMessage, AdapterSetup, StepWork, WorkerSetup } from './messages';
import type { Outcome } from './metrics';
import { WaitingJobs } from './queue';
import type { TextListener, Texts } from './texts';
import { type WorkerListener, WorkerThread } from './workerThread';

export interface DispatcherOptions {
  maxBatch: number;
  maxQueue: number;
  /** The setup of each worker. */
  setups: readonly Omit<WorkerSetup, 'adapters'>[];
  /** Makes the reader of texts. */
  texts(listener: TextListener): Texts;
  /** Ranks that compute with the only worker are lost. */
  onLost(error: SgemoeError): void;
}

const LOST_CODES: readonly ErrorCode[] = [
  'SGEMOE_RANKS_ABORTED',
  'SGEMOE_RANKS_TIMEOUT',
  'SGEMOE_RANKS_MISMATCH',
  'SGEMOE_MPI_FAILED',
];

/** Consecutive failed starts after which a worker counts as unable to start. */
const MOST_FAILED_STARTS = 3;

/** The shortest beginning of a prompt for which a worker is chosen. */
const WORTH_TOKENS = 16;

/** Has the texts of jobs read, gives them to workers in the order in which they are ready, and replaces workers that die. */
export class Dispatcher implements WorkerListener, TextListener {
  replaced = 0;
  readonly #threads: (WorkerThread | null)[];
  readonly #failedStarts: number[];
  readonly #waiting: WaitingJobs;
  readonly #running = new Map<Job, WorkerThread>();
  readonly #options: DispatcherOptions;
  readonly #texts: Texts;
  /** Those that a worker gets which starts now. */
  #adapters: readonly AdapterSetup[] = [];
  #closing = false;
  /** Why no worker computes any more; null while they do. */
  #lost: SgemoeError | null = null;
  #ended: Promise<void> | null = null;
  #onReady: { done: () => void; fail: (error: unknown) => void } | null = null;
  #onDrained: (() => void) | null = null;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#failedStarts = options.setups.map(() => 0);
    this.#waiting = new WaitingJobs(options.maxBatch * options.setups.length);
    this.#texts = options.texts(this);
    this.#texts.start();
    this.#threads = options.setups.map((_, i) => this.#startThread(i));
  }

  /** Starts every worker. @throws SgemoeError SGEMOE_WORKER_DIED when one can't start. */
  async open(): Promise<void> {
    await new Promise<void>((done, fail) => {
      this.#onReady = { done, fail };
    });
    await this.#texts.open();
  }

  get waiting(): number {
    return this.#waiting.size + this.#texts.pending;
  }

  get running(): number {
    return this.#running.size;
  }

  get ready(): number {
    return this.#lost ? 0 : this.#threads.filter((thread) => thread?.ready).length;
  }

  get closing(): boolean {
    return this.#closing;
  }

  /** @throws SgemoeError when a new job can't be taken. */
  checkAccepting(takesPlace: boolean): void {
    if (this.#closing) throw closed();
    if (this.#lost) throw this.#lost;
    if (this.#threads.every((thread) => thread === null)) {
      throw new SgemoeError('SGEMOE_WORKER_DIED', 'No worker of the engine could be started again.');
    }
    const { maxQueue, maxBatch, setups } = this.#options;
    // Count unsettled jobs, not free places: a cancelled job keeps its place until the worker hears of it.
    const places = maxBatch * setups.length;
    // Jobs without a place run between two steps; they have a limit too.
    if (this.#size < maxQueue + (takesPlace ? places : 2 * places)) return;
    throw new SgemoeError('SGEMOE_QUEUE_FULL', `The engine's queue is full: ${this.waiting} requests wait.`);
  }

  /** Gives all workers an adapter, before any work that comes later. */
  addAdapter(adapter: AdapterSetup): void {
    this.#adapters = [...this.#adapters, adapter];
    this.#changeAdapters({ addAdapter: adapter });
  }

  /** Takes it from them, behind all work that came earlier. */
  dropAdapter(id: number): void {
    this.#adapters = this.#adapters.filter((each) => each.id !== id);
    this.#changeAdapters({ dropAdapter: id });
  }

  #changeAdapters(message: AdapterMessage): void {
    for (const thread of this.#threads) thread?.changeAdapters(message);
  }

  submit(job: Job): void {
    if (this.#size === 0) this.#keepAlive(true);
    this.#texts.submit(job);
  }

  onPrepared(job: Job, work: StepWork): void {
    job.prepared = work;
    this.#waiting.add(job);
    this.#pump();
  }

  /** Removes a settled job; call it whoever settled the job. */
  forget(job: Job): void {
    this.#waiting.delete(job);
    this.#texts.forget(job);
    this.#running.get(job)?.cancel(job);
    this.#running.delete(job);
    if (this.#size > 0) return;
    this.#keepAlive(false);
    this.#onDrained?.();
  }

  /** Ends the workers: at once, which fails all jobs, or with `drain` after the accepted jobs have ended. */
  close(drain: boolean): Promise<void> {
    this.#closing = true;
    if (!drain) this.#failAll(closed(), 'aborted');
    this.#ended ??= this.#end();
    return this.#ended;
  }

  onReady(thread: WorkerThread): void {
    this.#failedStarts[this.#threads.indexOf(thread)] = 0;
    thread.keepAlive(this.#onReady !== null || this.#size > 0);
    if (this.ready === this.#threads.length && this.#onReady !== null) {
      this.#onReady.done();
      this.#onReady = null;
      this.#keepAlive(this.#size > 0);
    }
    this.#pump();
  }

  onRoom(): void {
    this.#pump();
  }

  onLost(error: Error): void {
    if (this.#lost) return;
    this.#lost = asLost(error);
    this.#failAll(this.#lost);
    this.#options.onLost(this.#lost);
  }

  onExit(thread: WorkerThread, cause: SgemoeError): void {
    const at = this.#threads.indexOf(thread);
    this.#threads[at] = null;
    if (this.#onReady !== null) this.#onReady.fail(cause);
    else if (this.#lost) return;
    // Another worker wouldn't know where the ranks are that answered this one.
    else if (this.#options.setups[at].experts !== null && this.#ended === null) this.onLost(cause);
    else if (this.#ended === null || this.#size > 0) this.#replace(at, cause);
  }

  #failAll(error: SgemoeError, outcome?: Outcome): void {
    const jobs = [...this.#texts.jobs, ...this.#waiting, ...this.#running.keys()];
    for (const job of jobs) job.fail(error, outcome);
  }

  get #size(): number {
    return this.waiting + this.#running.size;
  }

  #startThread(at: number): WorkerThread {
    return new WorkerThread({ ...this.#options.setups[at], adapters: this.#adapters }, this);
  }

  #replace(at: number, cause: SgemoeError): void {
    if (++this.#failedStarts[at] <= MOST_FAILED_STARTS) {
      this.replaced++;
      const next = this.#startThread(at);
      next.keepAlive(this.#size > 0);
      this.#threads[at] = next;
    } else if (this.#threads.every((other) => other === null)) {
      for (const job of this.#waiting) job.fail(cause);
    }
  }

  #pump(): void {
    for (;;) {
      const job = this.#waiting.next(this.#running.keys());
      const thread = job && this.#findThread(job.prepared!);
      if (job === undefined || thread === undefined) return;
      this.#waiting.delete(job);
      this.#running.set(job, thread);
      thread.start(job);
    }
  }

  /**
   * The ready worker with the longest beginning of the prompt, unless another has far more room; without a beginning the one
   * with the most room. Undefined if none has any.
   */
  #findThread(work: StepWork): WorkerThread | undefined {
    const { maxBatch } = this.#options;
    const open = this.#threads.filter(
      (thread) => thread?.ready && thread.places < maxBatch,
    ) as WorkerThread[];
    const byRoom = open.toSorted((a, b) => a.places - b.places);
    if (work.kind !== 'generate' || byRoom.length < 2) return byRoom[0];
    const near = byRoom.filter(({ places }) => places - byRoom[0].places <= maxBatch / 2);
    const lengths = near.map(({ prompts }) => prompts.longest(work.prompt.ids, work.adapter));
    const longest = Math.max(...lengths);
    return longest < WORTH_TOKENS ? byRoom[0] : near[lengths.indexOf(longest)];
  }

  #keepAlive(wanted: boolean): void {
    for (const thread of this.#threads) thread?.keepAlive(wanted);
    this.#texts.keepAlive(wanted);
  }

  async #end(): Promise<void> {
    if (this.#size > 0) {
      await new Promise<void>((done) => {
        this.#onDrained = done;
      });
    }
    await Promise.all([...this.#threads, this.#texts].map((thread) => thread?.terminate()));
  }
}

/** The error with one of the codes that say that a run's ranks are lost. */
function asLost(error: Error): SgemoeError {
  if (error instanceof SgemoeError && LOST_CODES.includes(error.code)) return error;
  return new SgemoeError('SGEMOE_RANKS_ABORTED', `Rank 0 aborted the run: ${error.message}`, {
    cause: error,
  });
}

function closed(): SgemoeError {
  return new SgemoeError('SGEMOE_ENGINE_CLOSED', 'The engine is closed, or closing.');
}
