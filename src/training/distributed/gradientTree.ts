import type { ParameterStore, WeightRange } from '../../memory/parameters';
import { treeLevels } from '../../memory/partition';

/**
 * Sums the gradients of a rank's micro-batches in the tree of `addTree`: 0 + 1, 2 + 3, ..; then (0 + 1) + (2 + 3), and so on.
 * A micro-batch writes its gradients to the store; `keep` puts them aside, and the last one's are completed in place. Level l
 * holds the sum of 2^l micro-batches, as the digits of a binary counter do, so n of them take floor(log2(n - 1)) + 1 levels.
 */
export class GradientTree {
  /** Each level's buffers, which mirror the gradients. */
  #levels: Float32Array[][] = [];
  #choices: number;

  /** @param microBatches of this rank, at least 1. */
  constructor(
    private readonly store: ParameterStore,
    private readonly microBatches: number,
  ) {
    this.#choices = store.choices;
  }

  /** Bytes of levels that aren't allocated yet. */
  get missingBytes(): number {
    return (treeLevels(this.microBatches) - this.#levels.length) * this.store.mirrorBytes;
  }

  /** Puts the store's gradients aside, which are those of micro-batch k and not the last. */
  keep(k: number): void {
    this.#ensureLevels();
    const { gradShards } = this.store;
    let level = 0;
    for (; ((k >> level) & 1) === 1; level++) {
      for (let s = 0; s < gradShards.length; s++) this.#addLevel(level, s, 0, gradShards[s].length);
    }
    for (let s = 0; s < gradShards.length; s++) this.#levels[level][s].set(gradShards[s]);
  }

  /** Adds what was put aside to a range of the last micro-batch's gradients, which is final. */
  complete({ shard, offset, size }: WeightRange): void {
    const last = this.microBatches - 1;
    for (let level = 0; level < this.#levels.length; level++) {
      if (((last >> level) & 1) === 1) this.#addLevel(level, shard, offset, size);
    }
  }

  #addLevel(level: number, shard: number, at: number, size: number): void {
    const { kernels, gradShards } = this.store;
    kernels.axpy(size, 1, this.#levels[level][shard], at, gradShards[shard], at);
  }

  #ensureLevels(): void {
    const { store } = this;
    if (this.#choices !== store.choices) this.#levels = [];
    this.#choices = store.choices;
    while (this.#levels.length < treeLevels(this.microBatches)) this.#levels.push(store.mirror());
  }
}
