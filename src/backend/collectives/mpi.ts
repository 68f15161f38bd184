import { SgemoeError } from '../../base/errors';
import type { Transfer } from '../collectives';
import { type NativeRanks, openNativeRanks } from '../native';
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
  readonly #timeoutMs: number;
  /** By ticket, until they are done: memory that the communication thread uses. */
  readonly #held: Map<number, Exchange>;
  readonly #waiting: Set<Waiting>;
  #failure: SgemoeError | null = null;

  private constructor(native: NativeRanks, timeoutMs: number, waiting: Set<Waiting>) {
    super(native.rank, native.size);
    this.native = native;
    this.#timeoutMs = timeoutMs;
    this.#held = new Map();
    this.#waiting = waiting;
    process.on('exit', (code) => native.setExitCode(code));
  }

  /**
   * Starts MPI by its library's file.
   * @throws Error with the reason when it can't be opened or started, or was started before.
   */
  static open(path: string, timeoutMs: number): MpiCollectives {
    const waiting = new Set<Waiting>();
    const onProgress = () => ranks.#settle();
    const ranks = new MpiCollectives(openNativeRanks(path, timeoutMs, onProgress), timeoutMs, waiting);
    return ranks;
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
    return new Promise((resolve, reject) => {
      this.#waiting.add({ ticket, resolve, reject });
      // Before the look at what is done already: after it, progress is heard.
      this.native.listen(true);
      this.#settle();
    });
  }

  /** Answers those whose transfers are done or never will be. */
  #settle(): void {
    for (const waiting of this.#waiting) {
      const state = this.native.state(waiting.ticket);
      if (state === 0) continue;
      this.#waiting.delete(waiting);
      if (state === DONE) {
        this.#release(waiting.ticket);
        waiting.resolve();
      } else waiting.reject(this.#failed());
    }
    if (this.#waiting.size === 0) this.native.listen(false);
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
      const waited = `waited ${this.#timeoutMs} ms for rank ${rank} in ${name}`;
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
