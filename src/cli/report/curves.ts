import { Bins } from '../../training/run/bins';
import type { Curve } from './reportData';

interface Bin {
  lastStep: number;
  count: number;
  sum: number;
  low: number;
  high: number;
}

/** The largest number of points of a curve, enough for a chart and small enough for a file. */
const MOST_BINS = 1000;
/** Significant digits of a value: finer than a pixel of any chart. */
const DIGITS = 5;

/** Collects a curve in bounded memory; its extremes are kept, however long the run. */
export class CurveBuilder {
  readonly #bins: Bins<Bin>;

  /** @param mostBins an even number */
  constructor(mostBins = MOST_BINS) {
    this.#bins = new Bins(mostBins, merge);
  }

  /** Adds a value; anything that isn't a finite number is left out. */
  add(step: number, value: unknown): void {
    if (typeof value !== 'number' || !Number.isFinite(value)) return;
    this.#bins.add({ lastStep: step, count: 1, sum: value, low: value, high: value });
  }

  build(): Curve {
    const round = (value: number) => Number(value.toPrecision(DIGITS));
    const { all: bins, valuesPerBin } = this.#bins;
    const range =
      valuesPerBin === 1
        ? null
        : { low: bins.map(({ low }) => round(low)), high: bins.map(({ high }) => round(high)) };
    return {
      steps: bins.map(({ lastStep }) => lastStep),
      mean: bins.map(({ sum, count }) => round(sum / count)),
      range,
    };
  }
}

function merge(into: Bin, from: Bin): void {
  into.lastStep = from.lastStep;
  into.count += from.count;
  into.sum += from.sum;
  into.low = Math.min(into.low, from.low);
  into.high = Math.max(into.high, from.high);
}
