import type { Collectives } from '../../backend/collectives';
import type { Preferences } from '../../base/batch';
import { SgemoeError } from '../../base/errors';
import type { LossSums } from '../../model/loss';
import type { BatchIds } from '../checkBatch';
import { METRICS, type PreferenceSums } from '../preferenceLoss';

/** Losses of a micro-batch: cross-entropy, balance loss, z-loss. */
const LOSSES = 3;

/** Numbers of a micro-batch: its losses, and of pairs the sums of their metrics. */
const NUMBERS = LOSSES + METRICS.length;

/** Checksums of a rank: its batch, its state without what is divided over ranks, and that. */
const CHECKS = 3;

/**
 * The sums of a step over the micro-batches of all ranks. Each micro-batch has its own numbers, which are added in their order, so
 * that the sums have the same bits for any number of ranks.
 */
export class StepSums {
  /** Those of each micro-batch; with several ranks the experts' loads and three checksums of each rank follow. */
  readonly #numbers: Float64Array;
  readonly #loadAt: number;
  readonly #checksAt: number;

  /** @param loads number of experts in all layers. @param groupSize neighbouring ranks that together have what is divided once. */
  constructor(
    private readonly ranks: Collectives,
    private readonly microBatches: number,
    loads: number,
    private readonly groupSize = 1,
  ) {
    this.#loadAt = NUMBERS * microBatches;
    this.#checksAt = this.#loadAt + loads;
    const { size } = ranks;
    this.#numbers = new Float64Array(size === 1 ? this.#loadAt : this.#checksAt + CHECKS * size);
  }

  /** Keeps the losses of a micro-batch, and begins those of the next. @param pairs of a batch of pairs. */
  take(microBatch: number, sums: LossSums, pairs: PreferenceSums | undefined): void {
    const at = NUMBERS * microBatch;
    this.#numbers[at] = sums.crossEntropy;
    this.#numbers[at + 1] = sums.auxLoss;
    this.#numbers[at + 2] = sums.zLoss;
    sums.crossEntropy = 0;
    sums.auxLoss = 0;
    sums.zLoss = 0;
    if (pairs === undefined) return;
    this.#numbers.set(pairs.numbers, at + LOSSES);
    pairs.numbers.fill(0);
  }

  /**
   * Replaces this rank's sums, whose losses were taken, by those of all ranks.
   * @param state numbers below 2^53 that say in which state this rank began the step: what all ranks have, and what is divided.
   * @throws SgemoeError SGEMOE_RANKS_MISMATCH on all ranks if they don't have the same batch, or not the same state.
   */
  exchange(
    sums: LossSums,
    pairs: PreferenceSums | undefined,
    batch: BatchIds,
    state: readonly [number, number],
  ): void {
    if (this.ranks.size > 1) this.#exchange(sums.load, batch, state);
    for (let m = 0; m < this.microBatches; m++) {
      const at = NUMBERS * m;
      sums.crossEntropy += this.#numbers[at];
      sums.auxLoss += this.#numbers[at + 1];
      sums.zLoss += this.#numbers[at + 2];
      if (pairs === undefined) continue;
      for (let i = 0; i < pairs.numbers.length; i++) pairs.numbers[i] += this.#numbers[at + LOSSES + i];
    }
    this.#numbers.fill(0);
  }

  #exchange(load: number[][], batch: BatchIds, state: readonly [number, number]): void {
    const numbers = this.#numbers;
    const { rank } = this.ranks;
    numbers.set(load.flat(), this.#loadAt);
    const batchSum = checksum([batch.ids, batch.targets, batch.positions ?? [], bitsOf(batch.preferences)]);
    numbers.set([batchSum, ...state], this.#checksAt + CHECKS * rank);
    this.ranks.sumDoubles(numbers, 0, numbers.length).wait();
    this.#requireAlike();
    let at = this.#loadAt;
    for (const ofLayer of load) for (let e = 0; e < ofLayer.length; e++) ofLayer[e] = numbers[at++];
  }

  #requireAlike(): void {
    const differ = (check: number, a: number, b: number) =>
      this.#numbers[this.#checksAt + CHECKS * a + check] !==
      this.#numbers[this.#checksAt + CHECKS * b + check];
    for (let r = 1; r < this.ranks.size; r++) {
      if (differ(0, r, 0)) throw mismatch(r, 'another batch', 0);
      if (differ(1, r, 0)) throw mismatch(r, 'other weights, options or counters', 0);
      const like = r % this.groupSize;
      if (this.groupSize > 1 && differ(2, r, like)) throw mismatch(r, 'other experts', like);
    }
  }
}

function mismatch(rank: number, what: string, like: number): SgemoeError {
  return new SgemoeError('SGEMOE_RANKS_MISMATCH', `Rank ${rank} has ${what} than rank ${like}.`);
}

/** The bits of the numbers that pairs have, as integers; none of other batches. */
function bitsOf(preferences: Preferences | undefined): ArrayLike<number> {
  if (preferences === undefined) return [];
  const { beta, reference } = preferences;
  return new Int32Array(Float64Array.from([beta, ...Array.from(reference)]).buffer);
}

/** FNV-1a over integers: a number in [0, 2^32). */
export function checksum(parts: readonly ArrayLike<number>[]): number {
  let hash = 0x811c9dc5;
  for (const numbers of parts) {
    for (let i = 0; i < numbers.length; i++) hash = Math.imul(hash ^ numbers[i], 0x01000193);
  }
  return hash >>> 0;
}
