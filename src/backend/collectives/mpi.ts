import { setTimeout as sleep } from 'node:timers/promises';
import { SgemoeError } from '../../base/errors';
import type { SharedRank, Transfer } from '../collectives';
import { joinNativeRanks, type NativeRanks, openNativeRanks } from '../native';
import {
  CheckedCollectives,
  contradictionOf,
  EXCHANGE_NAMES,
  type Exchange,
  MOVABLE_TYPES,
} from './exchange';
import { abortedBy } from './solo';

const DONE = 1;
const MOST_REASON_BYTES = 1023;

type SharedMpiRank = Extract<SharedRank, { kind: 'mpi' }>;

interface Waiting {
  readonly ticket: number;
  readonly resolve: () => void;
  readonly reject: (error: SgemoeError) => void;
}

/**
 * The ranks of a run over MPI. One thread of the addon makes all calls of MPI, in the order of `post`; this thread only waits.
 * MPI knows no end of a run but that of its processes: an error ends the run on all ranks, and a process that ends without
 * having closed it ends the others, too.
 */
export class MpiCollectives extends CheckedCollectives {
  readonly native: NativeRanks;
  readonly #shared: SharedMpiRank;
  /** By ticket, until they are done: memory that the communication thread uses. */
  readonly #held: Map<number, Exchange>;
  /** null in a thread that has taken over, which the addon doesn't call. */
  readonly #waiting: Set<Waiting> | null;
  #failure: SgemoeError | null = null;

  private constructor(native: NativeRanks, shared: SharedMpiRank, waiting: Set<Waiting> | null) {
    super(native.rank, native.size);
    this.native = native;
    this.#shared = shared;
    this.#held = new Map();
    this.#waiting = waiting;
    if (waiting !== null) process.on('exit', (code) => native.setExitCode(code));
  }

  /**
   * Starts MPI by its library's file.
   * @throws Error with the reason when it can't be opened or started, or was started before.
   */
  static open(path: string, timeoutMs: number): MpiCollectives {
    const waiting = new Set<Waiting>();
    const onProgress = () => opened.#settle(waiting);
    const { ranks, addonPath } = openNativeRanks(path, timeoutMs, onProgress);
    const opened = new MpiCollectives(ranks, { kind: 'mpi', timeoutMs, addonPath }, waiting);
    return opened;
  }

  /** Goes on as the rank that another thread of the process has opened. @throws Error if none has. */
  static takeOver(shared: SharedMpiRank): MpiCollectives {
    return new MpiCollectives(joinNativeRanks(shared.addonPath), shared, null);
  }

  override share(): SharedRank {
    return this.#shared;
  }

  override abort(reason: string): void {
    const bytes = new Uint8Array(MOST_REASON_BYTES);
    const { written } = new TextEncoder().encodeInto(String(reason), bytes);
    this.native.abort(new TextDecoder().decode(bytes.subarray(0, written)));
  }

  protected override post(exchange: Exchange): Transfer {
    const { name, type, sends, receives, summed } = exchange;
    const sum = !summed ? 0 : type === 'Float64Array' ? 2 : 1;
    const numbers = [EXCHANGE_NAMES.indexOf(name), MOVABLE_TYPES.indexOf(type)] as const;
    const ticket = this.native.post(...numbers, sum, name === 'close', sends, receives);
    this.#held.set(ticket, exchange);
    return { wait: () => this.#wait(ticket), settled: () => this.#settled(ticket) };
  }

  #wait(ticket: number): void {
    if (this.native.wait(ticket) !== DONE) throw this.#failed();
    this.#release(ticket);
  }

  #settled(ticket: number): Promise<void> {
    const all = this.#waiting;
    if (all === null) return this.#polled(ticket);
    return new Promise((resolve, reject) => {
      all.add({ ticket, resolve, reject });
      // Before the look at what is done already: after it, progress is heard.
      this.native.listen(true);
      this.#settle(all);
    });
  }

  async #polled(ticket: number): Promise<void> {
    while (this.native.state(ticket) === 0) await sleep(1);
    this.#wait(ticket);
  }

  /** Answers those whose transfers are done or never will be. */
  #settle(all: Set<Waiting>): void {
    for (const waiting of all) {
      const state = this.native.state(waiting.ticket);
      if (state === 0) continue;
      all.delete(waiting);
      if (state === DONE) {
        this.#release(waiting.ticket);
        waiting.resolve();
      } else waiting.reject(this.#failed());
    }
    if (all.size === 0) this.native.listen(false);
  }

  /** Lets the memory of transfers up to this one go. */
  #release(ticket: number): void {
    for (const each of this.#held.keys()) {
      if (each > ticket) return;
      this.#held.delete(each);
    }
  }

  #failed(): SgemoeError {
    this.#failure ??= this.#describeFailure();
    return this.#failure;
  }

  #describeFailure(): SgemoeError {
    const { kind, rank, text, heads } = this.native.failure();
    if (kind === 'aborted') return abortedBy(rank, text);
    if (kind === 'timeout') {
      const name = [...this.#held].find(([ticket]) => this.native.state(ticket) !== DONE)?.[1].name;
      const waited = `waited ${this.#shared.timeoutMs} ms for rank ${rank} in ${name}`;
      return new SgemoeError('SGEMOE_RANKS_TIMEOUT', `Rank ${this.rank} ${waited}.`);
    }
    if (kind === 'mismatch') {
      const width = heads.length / this.size;
      const each = Array.from({ length: this.size }, (_, r) => heads.slice(r * width, (r + 1) * width));
      return new SgemoeError('SGEMOE_RANKS_MISMATCH', contradictionOf(each) as string);
    }
    return new SgemoeError('SGEMOE_MPI_FAILED', `Rank ${this.rank}: MPI failed: ${text}`);
  }
}
