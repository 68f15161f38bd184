import { SQUARES_BLOCK } from '../backend/kernels/training';
import type { ParameterStore, Stretch, WeightRange } from './parameters';
import { floatBytes } from './workspace';

/** Blocks that are exchanged at once, if there are not more ranks: 16 MB of float32. */
const BUCKET_BLOCKS = 64;

/** A stretch of the gradients, of which each rank has a part. */
export interface Bucket extends WeightRange {
  /** Elements of each rank's part; the parts lie one after another. */
  readonly counts: readonly number[];
}

/**
 * Cuts buffers into buckets, and these into a part for each rank: whole blocks of `sumSquares`, as even as these allow. With one rank
 * each buffer is a bucket.
 */
export function bucketsOf(shardSizes: readonly number[], ranks: number): Bucket[] {
  return shardSizes.flatMap((length, shard) => {
    const most = ranks === 1 ? Math.max(1, length) : Math.max(BUCKET_BLOCKS, ranks) * SQUARES_BLOCK;
    return Array.from({ length: Math.ceil(length / most) }, (_, i) => {
      const offset = i * most;
      const size = Math.min(most, length - offset);
      return { shard, offset, size, counts: countsOf(size, ranks) };
    });
  });
}

function countsOf(size: number, ranks: number): number[] {
  const blocks = Math.ceil(size / SQUARES_BLOCK);
  const end = (rank: number) => Math.min(size, Math.floor((rank * blocks) / ranks) * SQUARES_BLOCK);
  return Array.from({ length: ranks }, (_, r) => (r === ranks - 1 ? size : end(r + 1)) - end(r));
}

/** A rank's part of a bucket. */
export function partOf({ shard, offset, counts }: Bucket, rank: number): WeightRange {
  let from = offset;
  for (let r = 0; r < rank; r++) from += counts[r];
  return { shard, offset: from, size: counts[rank] };
}

/** What of a stretch has its gradients in a range; null if nothing has. */
export function stretchWithin<Key>(stretch: Stretch<Key>, range: WeightRange): Stretch<Key> | null {
  const { gradShard, gradOffset } = stretch;
  const from = Math.max(gradOffset, range.offset);
  const size = Math.min(gradOffset + stretch.size, range.offset + range.size) - from;
  if (gradShard !== range.shard || size <= 0) return null;
  return { ...stretch, offset: stretch.offset + from - gradOffset, gradOffset: from, size };
}

/** Bytes of AdamW's moments on each rank, which keeps those of its part of every bucket. */
export function momentBytes(store: ParameterStore, ranks: number): number[] {
  const elements: number[] = new Array(ranks).fill(0);
  for (const { counts } of bucketsOf(store.mirrorSizes, ranks)) {
    for (let r = 0; r < ranks; r++) elements[r] += counts[r];
  }
  return elements.map((count) => 2 * count * floatBytes(store.kernels));
}

/** Buffers of gradients that summing n micro-batches of a rank in a tree takes beside the gradients themselves. */
export function treeLevels(n: number): number {
  return n < 2 ? 0 : 32 - Math.clz32(n - 1);
}
