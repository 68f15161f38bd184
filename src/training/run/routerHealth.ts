/** How evenly a step used each layer's experts; every array has an entry per layer, null for a dense one. */
export interface RouterHealth {
  /** Entropy of the load over ln E: 1 for even shares, 0 when one expert gets every token. */
  loadEntropy: (number | null)[];
  /** Largest share over the mean share: 1 for even shares, E when one expert gets every token. */
  maxOverMean: (number | null)[];
  /** Experts without a token. */
  deadExperts: (number | null)[];
}

type Shares = readonly number[];

/** @param expertLoad for each layer the shares of its experts, which add up to 1; none for a dense layer. */
export function routerHealth(expertLoad: readonly Shares[]): RouterHealth {
  const ofLayers = (measure: (shares: Shares) => number) =>
    expertLoad.map((shares) => (shares.length === 0 ? null : measure(shares)));
  return {
    loadEntropy: ofLayers(relativeEntropy),
    maxOverMean: ofLayers((shares) => Math.max(...shares) * shares.length),
    deadExperts: ofLayers((shares) => shares.filter((share) => share === 0).length),
  };
}

function relativeEntropy(shares: Shares): number {
  if (shares.length === 1) return 1;
  const entropy = shares.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);
  return entropy / Math.log(shares.length);
}

const WINDOW_STEPS = 100;
/** The fraction of the even share 1/E below which an expert, over a whole window, learns almost nothing. */
const STARVING_SHARE = 0.02;

/** An expert that gets almost no tokens. */
export interface StarvingExpert {
  layer: number;
  expert: number;
  /** Its share of the layer's assignments, mean over `windowSteps` steps. */
  share: number;
  /** 1 / E. */
  evenShare: number;
  windowSteps: number;
}

/** Finds the first expert that gets almost no tokens over 100 steps, and reports it once. */
export class StarvationWatch {
  #sums: number[][] = [];
  #steps = 0;
  #told = false;

  /** Adds a step; returns the starving expert at the end of the first window that has one, otherwise null. */
  add(expertLoad: readonly (readonly number[])[]): StarvingExpert | null {
    if (this.#told) return null;
    if (this.#steps === 0) this.#sums = expertLoad.map((shares) => shares.map(() => 0));
    expertLoad.forEach((shares, layer) => {
      shares.forEach((share, expert) => {
        this.#sums[layer][expert] += share;
      });
    });
    if (++this.#steps < WINDOW_STEPS) return null;
    this.#steps = 0;
    for (const [layer, sums] of this.#sums.entries()) {
      const expert = sums.findIndex((sum) => sum / WINDOW_STEPS < STARVING_SHARE / sums.length);
      if (expert < 0) continue;
      this.#told = true;
      const share = sums[expert] / WINDOW_STEPS;
      return { layer, expert, share, evenShare: 1 / sums.length, windowSteps: WINDOW_STEPS };
    }
    return null;
  }
}
