/** Mean values of some steps in a row. */
export interface Bin {
  firstStep: number;
  lastStep: number;
  mean: Float64Array;
}

/**
 * The course of some values over a run, in bounded memory: means over equally many steps, over twice as many whenever
 * there are more bins than fit.
 */
export class BinnedSeries {
  readonly #maxBins: number;
  readonly #bins: (Bin & { count: number })[] = [];
  #stepsPerBin = 1;

  /** @param maxBins an even number */
  constructor(maxBins: number) {
    this.#maxBins = maxBins;
  }

  get bins(): readonly Bin[] {
    return this.#bins;
  }

  /** Adds the values of one step: always the same number of them. */
  add(step: number, values: ArrayLike<number>): void {
    const last = this.#bins.at(-1);
    if (last !== undefined && last.count < this.#stepsPerBin) {
      merge(last, { firstStep: step, lastStep: step, mean: Float64Array.from(values), count: 1 });
      return;
    }
    if (this.#bins.length === this.#maxBins) this.#halve();
    this.#bins.push({ firstStep: step, lastStep: step, mean: Float64Array.from(values), count: 1 });
  }

  #halve(): void {
    for (let i = 0; i < this.#bins.length; i += 2) {
      const bin = this.#bins[i];
      merge(bin, this.#bins[i + 1]);
      this.#bins[i / 2] = bin;
    }
    this.#bins.length /= 2;
    this.#stepsPerBin *= 2;
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
