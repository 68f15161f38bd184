import { checkFactor, checkOptions } from '../../base/checks';
import { SgemoeError } from '../../base/errors';
import {
  addTree,
  type Collectives,
  DEFAULT_TIMEOUT_MS,
  type SharedRank,
  type Transfer,
} from '../collectives';
import { CheckedCollectives, type Exchange } from './exchange';
import { createMailbox, Mailbox } from './mailbox';
import { abortedBy } from './solo';

export interface ThreadGroupOptions {
  /** Shared memory in which each rank hands over what it sends, twice: larger transfers take several rounds. Default 1 MiB. */
  bytesPerRank?: number | undefined;
}

export interface JoinOptions {
  /** Longest time to wait for the other ranks without any progress, in milliseconds; Infinity waits for ever. Default 300,000. */
  timeoutMs?: number | undefined;
}

const DEFAULT_BYTES_PER_RANK = 2 ** 20;

/**
 * Makes a group of `size` ranks, at most 256, that are threads of this process. What it returns is given to each thread, by
 * `workerData` or `postMessage`, which joins it with a rank of its own.
 *
 * @throws TypeError or RangeError for a size or option out of range.
 */
export function createThreadGroup(size: number, options: ThreadGroupOptions = {}): SharedArrayBuffer {
  checkOptions('createThreadGroup', options, ['bytesPerRank']);
  return createMailbox(size, options.bytesPerRank ?? DEFAULT_BYTES_PER_RANK);
}

/**
 * Joins a group as its rank `rank`, which no other thread may have taken. The thread that waits does the work of a transfer,
 * so transfers go on only while every rank waits for one. A thread that ends before `close` aborts the group; one that is
 * terminated can't, and the others notice at their time limit.
 *
 * @throws TypeError or RangeError for a group that `createThreadGroup` didn't make, or a rank that is none or is taken.
 */
export function joinThreadGroup(
  group: SharedArrayBuffer,
  rank: number,
  options: JoinOptions = {},
): Collectives {
  checkOptions('joinThreadGroup', options, ['timeoutMs']);
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  if (timeoutMs !== Number.POSITIVE_INFINITY) checkFactor('timeoutMs', timeoutMs);
  const joined = new ThreadCollectives(group, Mailbox.take(group, rank), timeoutMs);
  if (open.size === 0) process.on('exit', abortOpenGroups);
  open.add(joined);
  return joined;
}

/** Goes on as a rank that another thread of the process has joined as, and that aborts it when it ends. */
export function takeOverThread({
  group,
  rank,
  timeoutMs,
}: Extract<SharedRank, { kind: 'threads' }>): Collectives {
  return new ThreadCollectives(group, new Mailbox(group, rank), timeoutMs);
}

/** A call that is on its way: `steps` stops wherever other ranks have to come first. */
interface Job {
  readonly name: string;
  readonly steps: Generator<void, void>;
  isDone: boolean;
}

/** Groups that this thread has joined and not closed. */
const open = new Set<ThreadCollectives>();

function abortOpenGroups(): void {
  for (const group of open) group.abort('its thread ended before close()');
}

class ThreadCollectives extends CheckedCollectives {
  readonly #group: SharedArrayBuffer;
  readonly #mailbox: Mailbox;
  readonly #timeoutMs: number;
  /** In the order of the calls, which is the order in which they are done. */
  readonly #jobs: Job[] = [];
  #failure: SgemoeError | null = null;
  #isOver = false;
  /** When this rank last went on, or began to wait. */
  #movedMs = 0;

  constructor(group: SharedArrayBuffer, mailbox: Mailbox, timeoutMs: number) {
    super(mailbox.rank, mailbox.size);
    this.#group = group;
    this.#mailbox = mailbox;
    this.#timeoutMs = timeoutMs;
  }

  override abort(reason: string): void {
    if (this.#isOver) return;
    this.#mailbox.abort(String(reason));
    this.#advance();
  }

  override share(): SharedRank {
    return { kind: 'threads', group: this.#group, rank: this.rank, timeoutMs: this.#timeoutMs };
  }

  protected override post(exchange: Exchange): Transfer {
    const job: Job = { name: exchange.name, steps: this.#run(exchange), isDone: false };
    this.#jobs.push(job);
    this.#advance();
    return { wait: () => this.#wait(job), settled: () => this.#settled(job) };
  }

  #wait(job: Job): void {
    this.#movedMs = performance.now();
    for (;;) {
      const bell = this.#mailbox.bell();
      if (this.#isDone(job)) return;
      this.#mailbox.waitForBell(bell, this.#leftMs());
    }
  }

  async #settled(job: Job): Promise<void> {
    this.#movedMs = performance.now();
    // Node doesn't count a pending Atomics.waitAsync as a reason to live.
    const alive = setInterval(() => {}, 2 ** 30);
    try {
      for (;;) {
        const bell = this.#mailbox.bell();
        if (this.#isDone(job)) return;
        await this.#mailbox.bellRings(bell, this.#leftMs());
      }
    } finally {
      clearInterval(alive);
    }
  }

  /** Whether a job is done, after everything was done that can be. @throws SgemoeError when it never will be. */
  #isDone(job: Job): boolean {
    this.#advance();
    if (job.isDone) return true;
    if (this.#failure === null && this.#leftMs() <= 0) this.#giveUp();
    if (this.#failure !== null) throw this.#failure;
    return false;
  }

  #leftMs(): number {
    return this.#movedMs + this.#timeoutMs - performance.now();
  }

  #giveUp(): void {
    const [name, laggard] = [this.#jobs[0].name, this.#mailbox.laggard()];
    // The last one has come just now.
    if (laggard < 0) return;
    const waited = `waited ${this.#timeoutMs} ms for rank ${laggard} in ${name}`;
    this.#mailbox.abort(waited);
    this.#fail(new SgemoeError('SGEMOE_RANKS_TIMEOUT', `Rank ${this.rank} ${waited}.`));
  }

  #fail(failure: SgemoeError): void {
    this.#failure = failure;
    this.#jobs.length = 0;
    this.#leave();
  }

  #leave(): void {
    this.#isOver = true;
    if (open.delete(this) && open.size === 0) process.off('exit', abortOpenGroups);
  }

  #advance(): void {
    if (this.#failure === null) this.#step();
    // Only now: what a rank had completed before it aborted is done on the others, too.
    const aborted = this.#isOver ? null : this.#mailbox.aborted();
    if (aborted !== null) this.#fail(abortedBy(aborted.rank, aborted.reason));
    if (this.#failure !== null) this.#jobs.length = 0;
  }

  /** Goes on with the jobs until other ranks have to come first. */
  #step(): void {
    while (this.#jobs.length > 0) {
      const job = this.#jobs[0];
      try {
        if (!job.steps.next().done) return;
      } catch (error) {
        // A rank that gave up waiting and aborted has left its call behind, which this one need not match.
        const aborted = this.#mailbox.aborted();
        this.#fail(aborted === null ? (error as SgemoeError) : abortedBy(aborted.rank, aborted.reason));
        return;
      }
      job.isDone = true;
      this.#jobs.shift();
      if (job.name === 'close') this.#leave();
    }
  }

  *#run(exchange: Exchange): Generator<void, void> {
    const mailbox = this.#mailbox;
    mailbox.resume();
    mailbox.writeHead(exchange);
    for (let round = 0, rounds = 1; round < rounds; round++) {
      const at = round * mailbox.cellBytes;
      for (const [r, part] of exchange.sends.entries()) {
        mailbox.cell(this.rank, r).set(part.subarray(at, at + mailbox.cellBytes));
      }
      mailbox.arrive();
      while (mailbox.laggard() >= 0) yield;
      this.#movedMs = performance.now();
      if (round === 0) {
        // Every rank finds the same contradiction in the same heads, so nobody has to be told.
        const contradiction = mailbox.contradiction();
        if (contradiction !== null) throw new SgemoeError('SGEMOE_RANKS_MISMATCH', contradiction);
        rounds = mailbox.rounds();
      }
      this.#receive(exchange, at);
      mailbox.turn();
    }
  }

  /** Takes what the ranks' cells hold of the parts from byte `at` on. */
  #receive({ type, receives, summed }: Exchange, at: number): void {
    const { rank, cellBytes } = this.#mailbox;
    const cells = receives.map((part, r) =>
      this.#mailbox.cell(r, rank).subarray(0, Math.min(cellBytes, Math.max(part.length - at, 0))),
    );
    if (summed) {
      // Nobody else reads the cells for this rank, so they are summed where they lie.
      const elementBytes = type === 'Float64Array' ? 8 : 4;
      const count = cells[0].length / elementBytes;
      const numbers = cells.map(({ buffer, byteOffset }) =>
        elementBytes === 8
          ? new Float64Array(buffer, byteOffset, count)
          : new Float32Array(buffer, byteOffset, count),
      );
      addTree(numbers, count);
      cells.length = 1;
    }
    for (const [r, cell] of cells.entries()) {
      if (cell.length > 0) receives[r].set(cell, at);
    }
  }
}
