import type { Collectives } from '../../backend/collectives';
import { SgemoeError } from '../../base/errors';
import type { LossSums } from '../../model/loss';
import type { BatchIds } from '../checkBatch';

/** Numbers of a micro-batch: cross-entropy, balance loss, z-loss. */
const LOSSES = 3;

/**
 * The sums of a step over the micro-batches of all ranks. Each micro-batch has its own numbers, which are added in their order, so
 * that the sums have the same bits for any number of ranks.
 */
export class StepSums {
  /** The losses of each micro-batch; with several ranks the experts' loads and two checksums of each rank follow. */
  readonly #numbers: Float64Array;
  readonly #loadAt: number;
  readonly #checksAt: number;

  /** @param loads number of experts in all layers. */
  constructor(
    private readonly ranks: Collectives,
    private readonly microBatches: number,
    loads: number,
  ) {
    this.#loadAt = LOSSES * microBatches;
    this.#checksAt = this.#loadAt + loads;
    const { size } = ranks;
    this.#numbers = new Float64Array(size === 1 ? this.#loadAt : this.#checksAt + 2 * size);
  }

  /** Keeps the losses of a micro-batch, and begins those of the next. */
  take(microBatch: number, sums: LossSums): void {
    const at = LOSSES * microBatch;
    this.#numbers[at] = sums.crossEntropy;
    this.#numbers[at + 1] = sums.auxLoss;
    this.#numbers[at + 2] = sums.zLoss;
    sums.crossEntropy = 0;
    sums.auxLoss = 0;
    sums.zLoss = 0;
  }

  /**
   * Replaces this rank's sums, whose losses were taken, by those of all ranks.
   * @param state a number below 2^53 that says in which state this rank began the step.
   * @throws SgemoeError SGEMOE_RANKS_MISMATCH on all ranks if they don't have the same batch, or not the same state.
   */
  exchange(sums: LossSums, batch: BatchIds, state: number): void {
    if (this.ranks.size > 1) this.#exchange(sums.load, batch, state);
    for (let m = 0; m < this.microBatches; m++) {
      sums.crossEntropy += this.#numbers[LOSSES * m];
      sums.auxLoss += this.#numbers[LOSSES * m + 1];
      sums.zLoss += this.#numbers[LOSSES * m + 2];
    }
    this.#numbers.fill(0);
  }

  #exchange(load: number[][], batch: BatchIds, state: number): void {
    const numbers = this.#numbers;
    const { rank } = this.ranks;
    numbers.set(load.flat(), this.#loadAt);
    numbers[this.#checksAt + 2 * rank] = checksum([batch.ids, batch.targets, batch.positions ?? []]);
    numbers[this.#checksAt + 2 * rank + 1] = state;
    this.ranks.sumDoubles(numbers, 0, numbers.length).wait();
    this.#requireAlike();
    let at = this.#loadAt;
    for (const ofLayer of load) for (let e = 0; e < ofLayer.length; e++) ofLayer[e] = numbers[at++];
  }

  #requireAlike(): void {
    const at = this.#checksAt;
    const numbers = this.#numbers;
    for (let r = 1; r < this.ranks.size; r++) {
      const what =
        numbers[at + 2 * r] !== numbers[at]
          ? 'another batch'
          : numbers[at + 2 * r + 1] !== numbers[at + 1]
            ? 'other weights, options or counters'
            : null;
      if (what !== null) throw new SgemoeError('SGEMOE_RANKS_MISMATCH', `Rank ${r} has ${what} than rank 0.`);
    }
  }
}

/** FNV-1a over integers: a number in [0, 2^32). */
export function checksum(parts: readonly ArrayLike<number>[]): number {
  let hash = 0x811c9dc5;
  for (const numbers of parts) {
    for (let i = 0; i < numbers.length; i++) hash = Math.imul(hash ^ numbers[i], 0x01000193);
  }
  return hash >>> 0;
}
