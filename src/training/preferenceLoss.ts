import type { Collectives } from '../backend/collectives';
import type { Preferences } from '../base/batch';
import type { BatchIds } from './checkBatch';

/**
 * How well a model prefers the chosen answers (DPO: Rafailov et al. 2023). The reward of an answer y is
 * r(y) = beta (log p(y) - log p_ref(y)), its log-probabilities summed over its tokens.
 */
export interface PreferenceMetrics {
  /** Mean of -log sigmoid(r(chosen) - r(rejected)) over the pairs. */
  loss: number;
  /** Share of the pairs with r(chosen) > r(rejected). */
  accuracy: number;
  /** Mean of r(chosen) - r(rejected). */
  margin: number;
  chosenReward: number;
  rejectedReward: number;
}

export interface PreferenceResult extends PreferenceMetrics {
  pairs: number;
}

/** The numbers whose means over pairs the metrics are. */
export const METRICS = ['loss', 'accuracy', 'margin', 'chosenReward', 'rejectedReward'] as const;

/** Sums of the metrics over pairs. */
export class PreferenceSums {
  /** Of each metric; others may take them out and add them again. */
  readonly numbers = new Float64Array(METRICS.length);

  /**
   * Adds the pair whose chosen answer is sample `chosen`. @param losses of the samples: -log p(y).
   * @returns -d loss / d r(chosen) = sigmoid(r(rejected) - r(chosen)).
   */
  add({ reference, beta }: Preferences, losses: ArrayLike<number>, chosen: number): number {
    const reward = (sample: number) => beta * (-losses[sample] - reference[sample]);
    const [chosenReward, rejectedReward] = [reward(chosen), reward(chosen + 1)];
    const margin = chosenReward - rejectedReward;
    // log(1 + e^-m) without overflow for a margin far below 0.
    const loss = Math.max(-margin, 0) + Math.log1p(Math.exp(-Math.abs(margin)));
    const added = [loss, Number(margin > 0), margin, chosenReward, rejectedReward];
    for (let i = 0; i < added.length; i++) this.numbers[i] += added[i];
    return 1 / (1 + Math.exp(margin));
  }

  /** The means over so many pairs. */
  over(pairs: number): PreferenceMetrics {
    const means = METRICS.map((name, i) => [name, this.numbers[i] / pairs]);
    return Object.fromEntries(means) as unknown as PreferenceMetrics;
  }
}

/**
 * The loss of a step's pairs: mean over them of -log sigmoid(beta (log p(c)/p_ref(c) - log p(r)/p_ref(r))) (Rafailov et al. 2023,
 * eq. 7). With s = sigmoid(r(rejected) - r(chosen)), the gradient by -log p of the chosen answer is s beta / P, by that of the
 * rejected one -s beta / P; so each sample's tokens get the gradient of their cross-entropy, scaled. docs/gradients/preferences.md
 */
export class PreferenceLoss {
  /** Over the pairs of this rank's parts so far; of those of all ranks once they are exchanged. */
  readonly sums = new PreferenceSums();
  /** -log p(y) of the samples: zeros of those that ranks before this one have, then of its own as far as they are computed. */
  readonly losses: number[];
  readonly #scales: number[] = [];
  #done: number;

  /** @param firstSample this rank's first of the batch. */
  private constructor(
    private readonly preferences: Preferences,
    firstSample: number,
  ) {
    this.losses = new Array(firstSample).fill(0);
    this.#done = firstSample;
  }

  /** Of the rows of a rank's micro-batches; null for a checked batch without preferences. */
  static of(
    { preferences, positions, batch, seqLen }: BatchIds,
    { rank, size }: Pick<Collectives, 'rank' | 'size'>,
  ): PreferenceLoss | null {
    if (preferences === undefined) return null;
    const tokensBefore = Math.floor((rank * batch) / size) * seqLen;
    let samples = 0;
    for (let t = 0; t < tokensBefore; t++) if (positions![t] === 0) samples++;
    return new PreferenceLoss(preferences, samples);
  }

  /**
   * Adds the pairs of the next part, whose samples have come to `losses`.
   * @returns the gradient by the loss of each sample of the part; valid until the next part.
   */
  addPart(): readonly number[] {
    const { beta, reference } = this.preferences;
    const scales = this.#scales;
    scales.length = 0;
    for (; this.#done < this.losses.length; this.#done += 2) {
      const scale = (this.sums.add(this.preferences, this.losses, this.#done) * beta * 2) / reference.length;
      scales.push(scale, -scale);
    }
    return scales;
  }

  get metrics(): PreferenceMetrics {
    return this.sums.over(this.preferences.reference.length / 2);
  }
}
