import { SQUARES_BLOCK } from '../backend/kernels/training';
import type { ParameterStore, Stretch, WeightRange } from './parameters';
import { floatBytes } from './workspace';

/** Blocks that are exchanged at once, if there are not more ranks: 16 MB of float32. */
const BUCKET_BLOCKS = 64;

/** A rank among those that share a step. */
export interface SharingRank {
  readonly rank: number;
  readonly size: number;
  /** Neighbouring ranks that together have what is divided once. Default 1. */
  readonly groupSize?: number | undefined;
}

/** A stretch of the gradients, of which each rank that has the weights has a part. */
export interface Bucket extends WeightRange {
  /** Whether the weights are divided: then only every `groupSize`-th rank has them. */
  readonly isDivided: boolean;
  /** Elements of the part of each rank that has the weights; the parts lie one after another. */
  readonly counts: readonly number[];
}

/**
 * Cuts the buffers of gradients into buckets, and these into a part for each rank that has the weights: whole blocks of `sumSquares`, as
 * even as these allow. Where one rank has them each buffer is a bucket.
 */
export function bucketsOf(
  { mirrorSizes, mirrorDivided }: Pick<ParameterStore, 'mirrorSizes' | 'mirrorDivided'>,
  sharing: Pick<SharingRank, 'size' | 'groupSize'>,
): Bucket[] {
  return mirrorSizes.flatMap((length, shard) => {
    const isDivided = mirrorDivided[shard];
    const ranks = sharersOf(isDivided, sharing);
    const most = ranks === 1 ? Math.max(1, length) : Math.max(BUCKET_BLOCKS, ranks) * SQUARES_BLOCK;
    return Array.from({ length: Math.ceil(length / most) }, (_, i) => {
      const offset = i * most;
      const size = Math.min(most, length - offset);
      return { shard, offset, size, isDivided, counts: countsOf(size, ranks) };
    });
  });
}

function countsOf(size: number, ranks: number): number[] {
  const blocks = Math.ceil(size / SQUARES_BLOCK);
  const end = (rank: number) => Math.min(size, Math.floor((rank * blocks) / ranks) * SQUARES_BLOCK);
  return Array.from({ length: ranks }, (_, r) => (r === ranks - 1 ? size : end(r + 1)) - end(r));
}

/** The number of ranks that have the weights of a bucket. */
function sharersOf(
  isDivided: boolean,
  { size, groupSize = 1 }: Pick<SharingRank, 'size' | 'groupSize'>,
): number {
  return isDivided ? size / groupSize : size;
}

/** This rank's part of a bucket. */
export function ownPartOf(bucket: Bucket, { rank, groupSize = 1 }: SharingRank): WeightRange {
  return partOf(bucket, bucket.isDivided ? Math.floor(rank / groupSize) : rank);
}

/** The part of a bucket that `counts[rank]` is the size of. */
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

/** Bytes of AdamW's moments on a rank, which keeps those of its part of every bucket. */
export function momentBytes(store: ParameterStore, sharing: SharingRank): number {
  const parts = bucketsOf(store, sharing).map((bucket) => ownPartOf(bucket, sharing).size);
  return 2 * parts.reduce((sum, size) => sum + size, 0) * floatBytes(store.kernels);
}

/** Buffers of gradients that summing n micro-batches of a rank in a tree takes beside the gradients themselves. */
export function treeLevels(n: number): number {
  return n < 2 ? 0 : 32 - Math.clz32(n - 1);
}
