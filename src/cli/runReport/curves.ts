import type { Curve } from './data';

interface Bin {
  lastStep: number;
  count: number;
  sum: number;
  low: number;
  high: number;
}

/** What a chart can show, and a file should hold, of one curve. */
const MOST_BINS = 1000;
/** More than a pixel of any chart. */
const DIGITS = 5;

/** Collects a curve in bounded memory. However long the run, its extremes are kept. */
export class CurveBuilder {
  readonly #bins: Bin[] = [];
  readonly #mostBins: number;
  #valuesPerBin = 1;

  /** @param mostBins an even number */
  constructor(mostBins = MOST_BINS) {
    this.#mostBins = mostBins;
  }

  /** Anything but a finite number is left out. */
  add(step: number, value: unknown): void {
    if (typeof value !== 'number' || !Number.isFinite(value)) return;
    const one = { lastStep: step, count: 1, sum: value, low: value, high: value };
    const last = this.#bins.at(-1);
    if (last !== undefined && last.count < this.#valuesPerBin) {
      merge(last, one);
      return;
    }
    if (this.#bins.length === this.#mostBins) this.#halve();
    this.#bins.push(one);
  }

  #halve(): void {
    for (let i = 0; i < this.#bins.length; i += 2) {
      const bin = this.#bins[i];
      merge(bin, this.#bins[i + 1]);
      this.#bins[i / 2] = bin;
    }
    this.#bins.length /= 2;
    this.#valuesPerBin *= 2;
  }

  build(): Curve {
    const round = (value: number) => Number(value.toPrecision(DIGITS));
    const bins = this.#bins;
    const range =
      this.#valuesPerBin === 1
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
