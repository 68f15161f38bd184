import type { WeightRange } from '../../memory/parameters';

/** Elements of which `Kernels.sumSquares` makes one sum before it adds these: a rank's part consists of whole blocks. */
export const BLOCK_ELEMENTS = 65_536;

/** Blocks that are exchanged at once, if there are not more ranks: 16 MB of float32. */
const BUCKET_BLOCKS = 64;

/** A stretch of the gradients, of which each rank has a part. */
export interface Bucket extends WeightRange {
  /** Elements of each rank's part; the parts lie one after another. */
  readonly counts: readonly number[];
}

/** Cuts buffers into buckets, and these into a part for each rank: whole blocks, as even as these allow. */
export function bucketsOf(shardSizes: readonly number[], ranks: number): Bucket[] {
  const most = Math.max(BUCKET_BLOCKS, ranks) * BLOCK_ELEMENTS;
  return shardSizes.flatMap((length, shard) =>
    Array.from({ length: Math.ceil(length / most) }, (_, i) => {
      const offset = i * most;
      const size = Math.min(most, length - offset);
      return { shard, offset, size, counts: partsOf(size, ranks) };
    }),
  );
}

function partsOf(size: number, ranks: number): number[] {
  const blocks = Math.ceil(size / BLOCK_ELEMENTS);
  const end = (rank: number) => Math.min(size, Math.floor((rank * blocks) / ranks) * BLOCK_ELEMENTS);
  return Array.from({ length: ranks }, (_, r) => (r === ranks - 1 ? size : end(r + 1)) - end(r));
}

/** A rank's part of a bucket. */
export function partOf({ shard, offset, counts }: Bucket, rank: number): WeightRange {
  let from = offset;
  for (let r = 0; r < rank; r++) from += counts[r];
  return { shard, offset: from, size: counts[rank] };
}
