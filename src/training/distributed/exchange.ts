import type { Collectives, Transfer } from '../../backend/collectives';
import { SQUARES_BLOCK } from '../../backend/kernels/training';
import type { ParameterStore, WeightRange } from '../../memory/parameters';
import { type Bucket, bucketsOf, partOf, stretchWithin } from '../../memory/partition';

/** Neighbouring weights of a bucket, which the ranks update: elements from `offset` on of a buffer of weights. */
interface UpdatedWeights {
  readonly shard: number;
  readonly offset: number;
  /** Elements that each rank updates, one rank's behind the other's. */
  readonly counts: readonly number[];
}

interface OpenBucket extends Bucket {
  /** This rank's part. */
  readonly part: WeightRange;
  /** The fewest stretches that hold the weights of its gradients. */
  readonly weights: readonly UpdatedWeights[];
  /** Elements that aren't final yet. */
  missing: number;
  transfer: Transfer | null;
}

/**
 * What the ranks exchange in a step. Gradients are summed bucket by bucket while the backward still runs: a bucket leaves once all of
 * it is final, and each rank gets the sum of its part, in the tree over ranks. Then each updates the weights of its parts and gets the
 * others' (ZeRO, Rajbhandari et al. 2020, stage 1): as many bytes as handing out the sums takes. With one rank nothing moves.
 */
export class StepExchange {
  #buckets: OpenBucket[] = [];
  /** The choice of trained weights whose gradients the buckets are. */
  #choices = -1;
  /** For each buffer of gradients the sums of squares of its blocks. */
  #squares: Float64Array[] = [];
  /** Weights on their way. */
  #sharing: Transfer[] = [];

  constructor(
    private readonly store: ParameterStore,
    private readonly ranks: Collectives,
  ) {}

  /** Begins a step. */
  begin(): void {
    if (this.ranks.size === 1) return;
    if (this.#choices !== this.store.choices) this.#cut();
    for (const bucket of this.#buckets) {
      bucket.missing = bucket.size;
      bucket.transfer = null;
    }
  }

  /** This rank's gradients of a range are final. Every element becomes so once, in the same order on all ranks. */
  complete({ shard, offset, size }: WeightRange): void {
    for (const bucket of this.#buckets) {
      if (bucket.shard !== shard) continue;
      const from = Math.max(offset, bucket.offset);
      const end = Math.min(offset + size, bucket.offset + bucket.size);
      if (end <= from) continue;
      bucket.missing -= end - from;
      if (bucket.missing === 0) this.#reduce(bucket);
    }
  }

  /**
   * Waits until this rank's parts of the gradients are summed; its other gradients are no sums. Returns the L2 norm of all sums, with
   * the bits of `gradNorm` of one process: the blocks' sums are added in the same order.
   */
  finish(): number {
    if (this.ranks.size === 1) return this.store.gradNorm();
    for (const { transfer, part } of this.#buckets) {
      transfer!.wait();
      this.#squareBlocks(part);
    }
    for (const squares of this.#squares) this.ranks.sumDoubles(squares, 0, squares.length).wait();
    let total = 0;
    for (const squares of this.#squares) total += squares.reduce((sum, ofBlock) => sum + ofBlock, 0);
    for (const squares of this.#squares) squares.fill(0);
    return Math.sqrt(total);
  }

  /** Gives all ranks the sums of all parts of the gradients. */
  gatherGradients(): void {
    const { gradShards } = this.store;
    const transfers = this.#buckets.map(({ shard, offset, counts }) =>
      this.ranks.allGather(gradShards[shard], offset, counts),
    );
    for (const transfer of transfers) transfer.wait();
  }

  /** This rank has updated the weights of its part of a bucket: begins to give them to the others, and to get theirs. */
  shareWeights(bucket: number): void {
    if (this.ranks.size === 1) return;
    for (const { shard, offset, counts } of this.#buckets[bucket].weights) {
      this.#sharing.push(this.ranks.allGather(this.store.shards[shard], offset, counts));
    }
  }

  /** Waits until this rank has all weights that `shareWeights` began to share. */
  finishWeights(): void {
    for (const transfer of this.#sharing) transfer.wait();
    this.#sharing.length = 0;
  }

  #cut(): void {
    const { store } = this;
    const { rank, size } = this.ranks;
    this.#choices = store.choices;
    const stretches = store.stretches(() => null);
    this.#buckets = bucketsOf(store.mirrorSizes, size).map((bucket) => {
      const weights = stretches.flatMap((stretch) => {
        const found = stretchWithin(stretch, bucket);
        const countOf = (r: number) => stretchWithin(stretch, partOf(bucket, r))?.size ?? 0;
        return found === null ? [] : { ...found, counts: bucket.counts.map((_, r) => countOf(r)) };
      });
      return { ...bucket, part: partOf(bucket, rank), weights, missing: 0, transfer: null };
    });
    this.#squares = store.mirrorSizes.map((length) => new Float64Array(Math.ceil(length / SQUARES_BLOCK)));
  }

  #squareBlocks({ shard, offset, size }: WeightRange): void {
    for (let at = offset; at < offset + size; at += SQUARES_BLOCK) {
      const block = { shard, offset: at, size: Math.min(SQUARES_BLOCK, offset + size - at) };
      this.#squares[shard][at / SQUARES_BLOCK] = this.store.gradSquares(block);
    }
  }

  #reduce(bucket: OpenBucket): void {
    const gradients = this.store.gradShards[bucket.shard];
    const { offset, counts, part } = bucket;
    bucket.transfer = this.ranks.reduceScatter(gradients, offset, counts, gradients, part.offset);
  }
}
