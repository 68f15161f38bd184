import { Bins } from './bins';

/** The mean values of consecutive steps. */
export interface Bin {
  firstStep: number;
  lastStep: number;
  mean: Float64Array;
}

/**
 * The course of some values over a run, in bounded memory. Each bin is a mean over equally many steps; when there are too
 * many bins, pairs are merged.
 */
export class BinnedSeries {
  readonly #bins: Bins<Bin & { count: number }>;

  /** @param maxBins an even number */
  constructor(maxBins: number) {
    this.#bins = new Bins(maxBins, merge);
  }

  get bins(): readonly Bin[] {
    return this.#bins.all;
  }

  /** Adds the values of one step; every step must have the same number of values. */
  add(step: number, values: ArrayLike<number>): void {
    this.#bins.add({ firstStep: step, lastStep: step, mean: Float64Array.from(values), count: 1 });
  }
}

function merge(into: Bin & { count: number }, from: Bin & { count: number }): void {
  const count = into.count + from.count;
  into.mean.forEach((mean, i) => {
    into.mean[i] = (mean * into.count + from.mean[i] * from.count) / count;
  });
  into.count = count;
  into.lastStep = from.lastStep;
}
