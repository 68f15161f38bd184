import type { Collectives } from '../backend/collectives';
import type { Preferences } from '../base/batch';

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

/** @throws RangeError on several ranks, which would have to share the pairs' losses before the gradients. */
export function requireOneRank({ size }: Collectives): void {
  if (size === 1) return;
  throw new RangeError('preferences: pairs are trained by one process, not by several ranks');
}

/** Sums of the metrics over pairs. */
export class PreferenceSums {
  #pairs = 0;
  readonly #sums: PreferenceMetrics = {
    loss: 0,
    accuracy: 0,
    margin: 0,
    chosenReward: 0,
    rejectedReward: 0,
  };

  /**
   * Adds the pair whose chosen answer is sample `chosen`. @param losses of the samples: -log p(y).
   * @returns -d loss / d r(chosen) = sigmoid(r(rejected) - r(chosen)).
   */
  add({ reference, beta }: Preferences, losses: ArrayLike<number>, chosen: number): number {
    const reward = (sample: number) => beta * (-losses[sample] - reference[sample]);
    const [chosenReward, rejectedReward] = [reward(chosen), reward(chosen + 1)];
    const margin = chosenReward - rejectedReward;
    const sums = this.#sums;
    this.#pairs++;
    // log(1 + e^-m) without overflow for a margin far below 0.
    sums.loss += Math.max(-margin, 0) + Math.log1p(Math.exp(-Math.abs(margin)));
    if (margin > 0) sums.accuracy++;
    sums.margin += margin;
    sums.chosenReward += chosenReward;
    sums.rejectedReward += rejectedReward;
    return 1 / (1 + Math.exp(margin));
  }

  get result(): PreferenceResult {
    const { loss, accuracy, margin, chosenReward, rejectedReward } = this.#sums;
    const pairs = this.#pairs;
    return {
      loss: loss / pairs,
      accuracy: accuracy / pairs,
      margin: margin / pairs,
      chosenReward: chosenReward / pairs,
      rejectedReward: rejectedReward / pairs,
      pairs,
    };
  }
}

/**
 * The loss of a step's pairs: mean over them of -log sigmoid(beta (log p(c)/p_ref(c) - log p(r)/p_ref(r))) (Rafailov et al. 2023,
 * eq. 7). With s = sigmoid(r(rejected) - r(chosen)), the gradient by -log p of the chosen answer is s beta / P, by that of the
 * rejected one -s beta / P; so each sample's tokens get the gradient of their cross-entropy, scaled. docs/gradients/preferences.md
 */
export class PreferenceLoss {
  readonly #sums = new PreferenceSums();
  readonly #scales: number[] = [];
  #done = 0;

  constructor(private readonly preferences: Preferences) {}

  /**
   * Adds the pairs of the next part. @param losses of the samples of all parts so far: -log p(y).
   * @returns the gradient by the loss of each sample of the part; valid until the next part.
   */
  addPart(losses: readonly number[]): readonly number[] {
    const { beta, reference } = this.preferences;
    const scales = this.#scales;
    scales.length = 0;
    for (; this.#done < losses.length; this.#done += 2) {
      const scale = (this.#sums.add(this.preferences, losses, this.#done) * beta * 2) / reference.length;
      scales.push(scale, -scale);
    }
    return scales;
  }

  get metrics(): PreferenceMetrics {
    const { pairs, ...metrics } = this.#sums.result;
    return metrics;
  }
}
