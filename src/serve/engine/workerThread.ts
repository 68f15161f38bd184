import { Worker } from 'node:worker_threads';
import { SgemoeError } from '../../base/errors';
import { ofThisRealm } from '../../base/realm';
import type { Job } from './job';
import {
  type AdapterMessage,
  type EndMessage,
  type FromWorker,
  fromWire,
  type ToWorker,
  type WorkerSetup,
} from './messages';
import { RecentPrompts } from './prefixes';
import { workerProgram } from './workerProgram';

export interface WorkerListener {
  /** The worker is ready for jobs. */
  onReady(thread: WorkerThread): void;
  /** Jobs have ended and left room. */
  onRoom(thread: WorkerThread): void;
  /** The worker computes nothing any more. */
  onLost(error: Error): void;
  /** The worker has ended, and with it all of its jobs. */
  onExit(thread: WorkerThread, cause: SgemoeError): void;
}

/** A worker and its jobs. */
export class WorkerThread {
  ready = false;
  readonly prompts: RecentPrompts;
  readonly #worker: Worker;
  readonly #jobs = new Map<number, Job>();
  #places = 0;
  #error: unknown;
  readonly #ended: Promise<unknown>;
  readonly #leadsRanks: boolean;

  /** @param listener its methods are called on later turns of the event loop. */
  constructor(setup: WorkerSetup, listener: WorkerListener) {
    this.prompts = new RecentPrompts(setup.slots);
    this.#worker = new Worker(workerProgram(), { eval: true, workerData: setup, name: 'sgemoe engine' });
    this.#ended = new Promise((done) => this.#worker.once('exit', done));
    this.#leadsRanks = setup.experts !== null;
    this.#worker.on('message', (message: FromWorker) => this.#receive(ofThisRealm(message), listener));
    this.#worker.on('error', (error) => {
      this.#error = error;
    });
    this.#worker.on('exit', (exitCode) => {
      const cause = this.#deathOf(exitCode);
      this.ready = false;
      const jobs = [...this.#jobs.values()];
      this.#jobs.clear();
      for (const job of jobs) job.fail(cause);
      listener.onExit(this, cause);
    });
  }

  /** Number of taken places of its batch. */
  get places(): number {
    return this.#places;
  }

  start(job: Job): void {
    this.#jobs.set(job.id, job);
    this.#places++;
    const { id, client } = job;
    const work = job.prepared!;
    if (work.kind === 'generate') this.prompts.add(work.prompt.ids, work.adapter);
    this.#post({ id, work, client });
  }

  /** Cancels a job; its place becomes free when the worker hears of it. */
  cancel(job: Job): void {
    if (this.#jobs.has(job.id)) this.#post({ id: job.id, work: null, cancel: true });
  }

  changeAdapters(message: AdapterMessage): void {
    this.#worker.postMessage(message);
  }

  /** Sets whether the process stays alive for this worker. */
  keepAlive(wanted: boolean): void {
    if (wanted) this.#worker.ref();
    else this.#worker.unref();
  }

  async terminate(): Promise<void> {
    if (!this.#leadsRanks) {
      await this.#worker.terminate();
      return;
    }
    // Ranks that answer must not be left in the middle of a step.
    this.keepAlive(true);
    this.#worker.postMessage({ end: true } satisfies EndMessage);
    await this.#ended;
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #receive(message: FromWorker, listener: WorkerListener): void {
    if (message.ready) {
      this.ready = true;
      listener.onReady(this);
      return;
    }
    if ('lost' in message) {
      listener.onLost(fromWire(message.lost));
      return;
    }
    let hasRoom = false;
    for (const event of message.events) {
      const job = this.#jobs.get(event.id)!;
      if (event.end) {
        hasRoom = true;
        this.#jobs.delete(event.id);
        this.#places--;
      }
      job.deliver(event);
    }
    if (hasRoom) listener.onRoom(this);
  }

  #deathOf(exitCode: number): SgemoeError {
    const why = this.#error === undefined ? `exit code ${exitCode}` : String((this.#error as Error).message);
    const message = `A worker of the engine ended unexpectedly: ${why}.`;
    return new SgemoeError('SGEMOE_WORKER_DIED', message, { cause: this.#error });
  }
}
