import type { Collectives, Transfer } from '../../backend/collectives';
import type { ParameterStore, WeightRange } from '../../memory/parameters';
import { type Bucket, bucketsOf, partOf } from './partition';

interface OpenBucket extends Bucket {
  /** This rank's part. */
  readonly part: WeightRange;
  /** Elements that aren't final yet. */
  missing: number;
  transfer: Transfer | null;
}

/**
 * Sums gradients over the ranks, bucket by bucket while the backward still runs: a bucket leaves once all of it is final. Each
 * rank sums its part of a bucket in the tree over ranks. With one rank nothing moves.
 */
export class GradientExchange {
  #buckets: OpenBucket[] = [];
  /** The choice of trained weights whose gradients the buckets are. */
  #choices = -1;

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

  /** Waits until this rank's parts of the gradients are summed. */
  finish(): void {
    for (const { transfer } of this.#buckets) transfer!.wait();
  }

  /** Gives all ranks the sums of all parts. */
  gatherGradients(): void {
    const { gradShards } = this.store;
    const transfers = this.#buckets.map(({ shard, offset, counts }) =>
      this.ranks.allGather(gradShards[shard], offset, counts),
    );
    for (const transfer of transfers) transfer.wait();
  }

  #cut(): void {
    const { rank, size } = this.ranks;
    this.#choices = this.store.choices;
    this.#buckets = bucketsOf(this.store.mirrorSizes, size).map((bucket) => {
      return { ...bucket, part: partOf(bucket, rank), missing: 0, transfer: null };
    });
  }

  #reduce(bucket: OpenBucket): void {
    const gradients = this.store.gradShards[bucket.shard];
    const { offset, counts, part } = bucket;
    bucket.transfer = this.ranks.reduceScatter(gradients, offset, counts, gradients, part.offset);
  }
}
