/**
 * The other boundary beside `Kernels`: what moves between the ranks of a run.
 *
 * A rank is one of `size` processes or threads that run the same program on parts of the work, numbered from 0. All ranks call
 * the same functions in the same order, each with its own arrays.
 *
 * Conventions
 * - An array `x` is followed by `xAt`, the element it begins at. `counts[r]` is the number of elements of rank r's part; the
 *   parts lie one after another from `xAt` on. Counts are integers in [0, 2^53), may be 0 and may differ; implementations cut
 *   what is larger than they can send at once.
 * - A call checks its arguments, starts the transfer and returns. Until the transfer is done its arrays must stay untouched; then
 *   the arrays that it writes are complete. Each transfer has to be waited for: some move on only meanwhile. Transfers of a rank
 *   are done in the order of their calls.
 * - A sum over ranks is the fixed tree of `addTree`, so it has the same bits with every implementation.
 *
 * Errors
 * - `TypeError`, `RangeError` at the call for wrong arguments or a call after `close`; nothing has been sent then.
 * - `SGEMOE_RANKS_MISMATCH` when the ranks called different functions, or with sizes that contradict each other.
 * - `SGEMOE_RANKS_ABORTED` when a rank called `abort` or ended before `close`.
 * - `SGEMOE_RANKS_TIMEOUT` when the other ranks were waited for longer than the time limit.
 * The last three end the run: `wait` and `settled` of this and every later transfer throw the first of them.
 */
export interface Collectives {
  /** The number of this rank, in [0, size). */
  readonly rank: number;

  /** Number of ranks, at least 1. */
  readonly size: number;

  /**
   * Sums x over all ranks and leaves part r of the sum on rank r:
   * out[outAt + i] = sum over ranks of x[xAt + counts[0] + .. + counts[rank - 1] + i], for i < counts[rank].
   * All ranks give the same counts. x is unchanged, unless out is this rank's part of it, in place; out must not overlap x otherwise.
   */
  reduceScatter(
    x: Float32Array,
    xAt: number,
    counts: ArrayLike<number>,
    out: Float32Array,
    outAt: number,
  ): Transfer;

  /** Each rank gives its own part of x and gets the others, in place. All ranks give the same counts. */
  allGather(x: MovableArray, xAt: number, counts: ArrayLike<number>): Transfer;

  /**
   * Sends `sendCounts[r]` elements to each rank r and writes the `receiveCounts[r]` elements that r sends here, in the order of
   * ranks. `receiveCounts[r]` is rank r's `sendCounts` for this rank. The arrays are of one type and must not overlap.
   */
  allToAll(
    send: MovableArray,
    sendAt: number,
    sendCounts: ArrayLike<number>,
    receive: MovableArray,
    receiveAt: number,
    receiveCounts: ArrayLike<number>,
  ): Transfer;

  /** Replaces each of `count` numbers by its sum over all ranks, on all ranks. */
  sumDoubles(x: Float64Array, xAt: number, count: number): Transfer;

  /** Copies `count` elements from rank `root` to all others. All ranks give the same count and root. */
  broadcast(x: MovableArray, xAt: number, count: number, root: number): Transfer;

  /** Is done when all ranks have called it. */
  barrier(): Transfer;

  /** Ends the run on all ranks; the others' errors tell this rank and the reason. Does nothing after `close` is done. */
  abort(reason: string): void;

  /** Ends the run in order: is done when all ranks have called it, and is the last call. A rank that ends without it aborts. */
  close(): Transfer;

  /**
   * Some ranks as ranks of their own, numbered in the order of `members`, which are ascending and have this rank among them. All
   * ranks call the same function at the same time, each on the subset that it is in; a subset of one does nothing for it. `abort` ends
   * the whole run.
   * @throws TypeError, RangeError for other members; TypeError at its `close` and `share`, which are the whole's.
   */
  subset(members: readonly number[]): Collectives;

  /**
   * This rank in a form for another thread of the process, where `takeOver` makes it anew. Only one thread calls at a time, none while
   * a transfer of another isn't done.
   */
  share(): SharedRank;
}

/** A rank in a form for another thread of its process. */
export type SharedRank =
  | { readonly kind: 'solo' }
  | {
      readonly kind: 'threads';
      readonly group: SharedArrayBuffer;
      readonly rank: number;
      readonly timeoutMs: number;
    }
  | { readonly kind: 'mpi'; readonly timeoutMs: number; readonly addonPath: string };

/** A transfer that has been started. */
export interface Transfer {
  /** Blocks the thread until the transfer is done. */
  wait(): void;

  /** Resolves when the transfer is done; the event loop goes on meanwhile. */
  settled(): Promise<void>;
}

/** Longest wait for the other ranks by default, in milliseconds. */
export const DEFAULT_TIMEOUT_MS = 300_000;

/** Arrays whose elements can be sent as they are. */
export type MovableArray = Float32Array | Float64Array | Int32Array | Uint16Array | Uint8Array;

/** A transfer that is done once `finish` has run after it. */
export function afterTransfer(transfer: Transfer, finish: () => void): Transfer {
  let isFinished = false;
  const once = () => {
    if (!isFinished) finish();
    isFinished = true;
  };
  return {
    wait() {
      transfer.wait();
      once();
    },
    async settled() {
      await transfer.settled();
      once();
    },
  };
}

/**
 * Sums arrays pairwise into the first: 0 += 1, 2 += 3, ..; 0 += 2, 4 += 6, ..; and so on, each sum rounded to the arrays' type.
 * The others are overwritten. So a sum over a power of two of arrays is the tree over ranks of the trees within each rank,
 * whatever power of two the number of ranks is.
 */
export function addTree<A extends Float32Array | Float64Array>(arrays: readonly A[], count: number): void {
  for (let apart = 1; apart < arrays.length; apart *= 2) {
    for (let k = 0; k + apart < arrays.length; k += 2 * apart) {
      const sum = arrays[k];
      const other = arrays[k + apart];
      for (let i = 0; i < count; i++) sum[i] += other[i];
    }
  }
}
