import type { Collectives, Transfer } from '../../backend/collectives';
import { SQUARES_BLOCK } from '../../backend/kernels/training';
import type { Precision } from '../../base/precision';
import type { ParameterStore, WeightRange } from '../../memory/parameters';
import { type Bucket, bucketsOf, ownPartOf, partOf, stretchWithin } from '../../memory/partition';
import { reduceScatterRounded } from './roundedSums';

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
 *
 * Of experts that are divided over groups of ranks the same happens among those that have the same ones, after the backward: their
 * number may differ within a group, and all ranks have to make each call at the same time.
 */
export class StepExchange {
  #buckets: OpenBucket[] = [];
  /** The ranks that have the same experts as this one. */
  readonly #peers: Collectives;
  /** The buckets of divided weights, and these weights; empty ones behind them, so that all ranks have as many. */
  #divided: { buckets: readonly OpenBucket[]; weights: readonly UpdatedWeights[] } = {
    buckets: [],
    weights: [],
  };
  /** The choice of trained weights whose gradients the buckets are. */
  #choices = -1;
  /** For each buffer of gradients the sums of squares of its blocks. */
  #squares: Float64Array[] = [];
  /** Weights on their way. */
  #sharing: Transfer[] = [];

  /** @param groupSize neighbouring ranks that together have what is divided once. @param commDtype as what gradients travel. */
  constructor(
    private readonly store: ParameterStore,
    private readonly ranks: Collectives,
    private readonly groupSize = 1,
    private readonly commDtype: Precision = 'float32',
  ) {
    const { rank, size } = ranks;
    const members = Array.from({ length: size / groupSize }, (_, i) => (rank % groupSize) + i * groupSize);
    this.#peers = groupSize === 1 ? ranks : ranks.subset(members);
  }

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
      if (bucket.shard !== shard || bucket.isDivided) continue;
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
    // One after another: a sum among some of the ranks takes memory of its own.
    for (const bucket of this.#divided.buckets) {
      this.#reduce(bucket);
      bucket.transfer!.wait();
    }
    for (const { transfer, part } of this.#buckets) {
      transfer?.wait();
      this.#squareBlocks(part);
    }
    const isShared = (_: Float64Array, shard: number) => !this.store.mirrorDivided[shard];
    let total = this.#sumOfDivided();
    for (const squares of this.#squares.filter(isShared)) {
      this.ranks.sumDoubles(squares, 0, squares.length).wait();
      total += sumOf(squares);
    }
    for (const squares of this.#squares) squares.fill(0);
    return Math.sqrt(total);
  }

  /** The sum of the squares of the divided gradients of all ranks, in their order. */
  #sumOfDivided(): number {
    if (!this.store.isPart) return 0;
    const { rank, size } = this.ranks;
    const sums = new Float64Array(size);
    for (const [shard, squares] of this.#squares.entries()) {
      if (this.store.mirrorDivided[shard]) sums[rank] += sumOf(squares);
    }
    this.ranks.sumDoubles(sums, 0, size).wait();
    return sumOf(sums);
  }

  /** Gives all ranks the sums of all parts of the gradients. */
  gatherGradients(): void {
    const { gradShards } = this.store;
    const transfers: Transfer[] = [];
    for (const { isDivided, shard, offset, counts } of this.#buckets) {
      if (!isDivided) transfers.push(this.ranks.allGather(gradShards[shard], offset, counts));
    }
    for (const { shard, offset, counts } of this.#divided.buckets) {
      transfers.push(this.#peers.allGather(gradShards[shard], offset, counts));
    }
    for (const transfer of transfers) transfer.wait();
  }

  /** This rank has updated the weights of its part of a bucket: begins to give them to the others, and to get theirs. */
  shareWeights(bucket: number): void {
    if (this.ranks.size === 1 || this.#buckets[bucket].isDivided) return;
    for (const weights of this.#buckets[bucket].weights) this.#share(weights, this.ranks);
  }

  #share({ shard, offset, counts }: UpdatedWeights, ranks: Collectives): void {
    this.#sharing.push(ranks.allGather(this.store.shards[shard], offset, counts));
  }

  /** Waits until this rank has all weights that `shareWeights` began to share, and those of its experts. */
  finishWeights(): void {
    for (const weights of this.#divided.weights) this.#share(weights, this.#peers);
    for (const transfer of this.#sharing) transfer.wait();
    this.#sharing.length = 0;
  }

  #cut(): void {
    const { store, groupSize } = this;
    const { rank, size } = this.ranks;
    this.#choices = store.choices;
    const stretches = store.stretches(() => null);
    this.#buckets = bucketsOf(store, { size, groupSize }).map((bucket) => {
      const weights = stretches.flatMap((stretch) => {
        const found = stretchWithin(stretch, bucket);
        const countOf = (r: number) => stretchWithin(stretch, partOf(bucket, r))?.size ?? 0;
        return found === null ? [] : { ...found, counts: bucket.counts.map((_, r) => countOf(r)) };
      });
      const part = ownPartOf(bucket, { rank, size, groupSize });
      return { ...bucket, part, weights, missing: 0, transfer: null };
    });
    this.#divided = this.#paddedDivided();
    this.#squares = store.mirrorSizes.map((length) => new Float64Array(Math.ceil(length / SQUARES_BLOCK)));
  }

  #paddedDivided(): { buckets: OpenBucket[]; weights: UpdatedWeights[] } {
    if (this.#peers.size === 1 || !this.store.isPart) return { buckets: [], weights: [] };
    const { rank, size } = this.ranks;
    const buckets = this.#buckets.filter(({ isDivided }) => isDivided);
    const weights = buckets.flatMap((bucket) => bucket.weights);
    const counts = new Int32Array(2 * size);
    counts.set([buckets.length, weights.length], 2 * rank);
    this.ranks.allGather(counts, 0, new Array(size).fill(2)).wait();
    const none = noBucket(this.#peers.size);
    const padded = <T>(own: readonly T[], kind: number, empty: T): T[] => {
      const most = Math.max(...counts.filter((_, i) => i % 2 === kind));
      return Array.from({ length: most }, (_, i) => own[i] ?? empty);
    };
    return { buckets: padded(buckets, 0, none), weights: padded<UpdatedWeights>(weights, 1, none) };
  }

  #squareBlocks({ shard, offset, size }: WeightRange): void {
    for (let at = offset; at < offset + size; at += SQUARES_BLOCK) {
      const block = { shard, offset: at, size: Math.min(SQUARES_BLOCK, offset + size - at) };
      this.#squares[shard][at / SQUARES_BLOCK] = this.store.gradSquares(block);
    }
  }

  #reduce(bucket: OpenBucket): void {
    const gradients = this.store.gradShards[bucket.shard];
    const { offset, counts, part, isDivided } = bucket;
    const ranks = isDivided ? this.#peers : this.ranks;
    bucket.transfer =
      this.commDtype === 'bfloat16'
        ? reduceScatterRounded(this.store.kernels, ranks, gradients, offset, counts)
        : ranks.reduceScatter(gradients, offset, counts, gradients, part.offset);
  }
}

function sumOf(numbers: Float64Array): number {
  return numbers.reduce((sum, each) => sum + each, 0);
}

/** A bucket of divided weights that has none. */
function noBucket(ranks: number): OpenBucket {
  const none = { shard: 0, offset: 0, size: 0 };
  const counts = new Array(ranks).fill(0);
  return { ...none, isDivided: true, counts, part: none, weights: [], missing: 0, transfer: null };
}
