import { Worker } from 'node:worker_threads';
import { SgemoeError } from '../../base/errors';
import { ofThisRealm } from '../../base/realm';
import { type FromTextThread, fromWire, type TextResult, type TextSetup, type TextTask } from './messages';
import { Turns } from './turns';
import { workerProgram } from './workerProgram';

/** A task and whoever waits for it. */
export interface TextJob {
  readonly task: TextTask;
  /** Whose it is: clients take turns. */
  readonly client: string;
  onDone(result: TextResult): void;
  onError(error: unknown): void;
}

export interface TextThreadOptions {
  setup: TextSetup;
  /** Ends the thread when it has had nothing to do for so long; null keeps it. */
  idleMs: number | null;
  /** Whether a task that is cancelled ends the thread, too, so that the next one needn't wait for its end. */
  endsOnCancel: boolean;
}

/** MiB of the thread's heap: room for the largest tokenizers, and for a text. */
const HEAP_MIB = 1024;
/** Milliseconds beyond the limits of a task, which the thread keeps itself unless something in it doesn't heed them. */
const GRACE_MS = 2_000;
/** How many times the limits may pass where the thread is let run only now and then, as in withinTime, in both of its runs. */
const MOST_SLOWER = 5;

/**
 * A thread that turns texts into ids, so that no thread that decodes waits for a template or a regular expression of a
 * checkpoint. It does one task at a time, the clients' in turn, and is ended, and started again for the next task, when one
 * takes too long or too much memory.
 */
export class TextThread {
  readonly #options: TextThreadOptions;
  readonly #queue = new Turns<TextJob>();
  #worker: Worker | null = null;
  #ready = false;
  #running: TextJob | null = null;
  /** Whether the thread still does a task that nobody waits for. */
  #abandoned = false;
  #clock: NodeJS.Timeout | undefined;
  #idle: NodeJS.Timeout | undefined;
  #keptAlive = false;
  #onReady: ((error?: unknown) => void) | null = null;

  constructor(options: TextThreadOptions) {
    this.#options = options;
  }

  /** Starts the thread before there is a task. */
  start(): void {
    if (this.#worker === null) this.#start();
  }

  /** Waits until it has started. @throws SgemoeError SGEMOE_WORKER_DIED when it can't start. */
  async open(): Promise<void> {
    if (this.#ready) return;
    await new Promise<void>((done, fail) => {
      this.#onReady = (error) => (error === undefined ? done() : fail(error));
      this.start();
      this.#worker!.ref();
    });
  }

  submit(job: TextJob): void {
    clearTimeout(this.#idle);
    this.#queue.add(job.client, job);
    this.#next();
  }

  /** Forgets a job; nothing is called for it any more. */
  cancel(job: TextJob): void {
    this.#queue.delete(job.client, job);
    if (this.#running !== job) return;
    this.#running = null;
    if (this.#options.endsOnCancel) this.#end();
    else this.#abandoned = true;
  }

  /** Sets whether the process stays alive for this thread. */
  keepAlive(wanted: boolean): void {
    this.#keptAlive = wanted;
    if (wanted) this.#worker?.ref();
    else this.#worker?.unref();
  }

  async terminate(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#end();
  }

  #next(): void {
    if (this.#queue.size === 0 || this.#running !== null || this.#abandoned) return;
    if (this.#worker === null) this.#start();
    if (!this.#ready) return;
    const job = this.#queue.take()!;
    this.#running = job;
    const { templateTimeoutMs, tokenizeTimeoutMs } = this.#options.setup.limits;
    const { task } = job;
    const parts = task.kind === 'prompts' ? task.sources.length + task.constraints.length : 0;
    const most = MOST_SLOWER * (parts * templateTimeoutMs + tokenizeTimeoutMs) + GRACE_MS;
    this.#clock = setTimeout(() => this.#expire(most), Math.min(most, 2 ** 31 - 1));
    this.#clock.unref();
    this.#worker!.postMessage(task);
  }

  #start(): void {
    const worker = new Worker(workerProgram(), {
      eval: true,
      workerData: this.#options.setup,
      name: 'sgemoe texts',
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
    });
    this.#worker = worker;
    if (!this.#keptAlive) worker.unref();
    let cause: unknown;
    worker.on('error', (error) => {
      cause = error;
    });
    worker.on('message', (message: FromTextThread) => {
      if (this.#worker === worker) this.#receive(ofThisRealm(message));
    });
    worker.on('exit', () => {
      if (this.#worker === worker) this.#onExit(cause);
    });
  }

  #receive(message: FromTextThread): void {
    if (message.ready) {
      this.#ready = true;
      this.#onReady?.();
      this.#onReady = null;
      this.keepAlive(this.#keptAlive);
    } else {
      const job = this.#take();
      if ('result' in message) job?.onDone(message.result);
      else job?.onError(fromWire(message.error));
    }
    this.#next();
    this.#rest();
  }

  /** The job that has ended. */
  #take(): TextJob | null {
    clearTimeout(this.#clock);
    const job = this.#running;
    this.#running = null;
    this.#abandoned = false;
    return job;
  }

  #expire(ms: number): void {
    const job = this.#take();
    this.#end();
    job?.onError(limit(`it took longer than ${ms} ms`));
    this.#next();
  }

  #onExit(cause: unknown): void {
    const wasReady = this.#ready;
    const job = this.#take();
    this.#worker = null;
    this.#ready = false;
    const { code, message } = (cause ?? {}) as NodeJS.ErrnoException;
    if (code === 'ERR_WORKER_OUT_OF_MEMORY') job?.onError(limit(`it took more than ${HEAP_MIB} MiB`));
    else job?.onError(died(message, cause));
    if (!wasReady) {
      // It would fail again.
      this.#onReady?.(died(message, cause));
      this.#onReady = null;
      for (const each of this.#queue.clear()) each.onError(died(message, cause));
    }
    this.#next();
  }

  #rest(): void {
    const { idleMs } = this.#options;
    if (idleMs === null || this.#running !== null || this.#queue.size > 0) return;
    this.#idle = setTimeout(() => this.#end(), idleMs);
    this.#idle.unref();
  }

  #end(): Promise<unknown> | undefined {
    clearTimeout(this.#clock);
    const worker = this.#worker;
    this.#worker = null;
    this.#ready = false;
    this.#abandoned = false;
    const ended = worker?.terminate();
    if (this.#queue.size > 0) this.#next();
    return ended;
  }
}

function limit(why: string): SgemoeError {
  return new SgemoeError('SGEMOE_TEXT_LIMIT', `The text of the request can not be read: ${why}.`);
}

function died(message: string | undefined, cause: unknown): SgemoeError {
  const why = message ?? 'it exited';
  return new SgemoeError('SGEMOE_WORKER_DIED', `The engine's thread for texts ended unexpectedly: ${why}.`, {
    cause,
  });
}
