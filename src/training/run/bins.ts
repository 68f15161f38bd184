/** A summary of the values in a bin. */
interface Counted {
  /** The number of values in the bin. */
  count: number;
}

/**
 * Gathers a sequence of values in a bounded number of bins of equally many values. When there are too many bins, pairs are
 * merged, so that each holds twice as many values.
 */
export class Bins<B extends Counted> {
  readonly all: B[] = [];
  readonly #most: number;
  readonly #merge: (into: B, from: B) => void;
  #valuesPerBin = 1;

  /** @param most the largest number of bins, even. @param merge adds `from`, its count included, to `into`. */
  constructor(most: number, merge: (into: B, from: B) => void) {
    this.#most = most;
    this.#merge = merge;
  }

  get valuesPerBin(): number {
    return this.#valuesPerBin;
  }

  /** Adds a bin of one value. */
  add(one: B): void {
    const last = this.all.at(-1);
    if (last !== undefined && last.count < this.#valuesPerBin) {
      this.#merge(last, one);
      return;
    }
    if (this.all.length === this.#most) this.#halve();
    this.all.push(one);
  }

  #halve(): void {
    for (let i = 0; i < this.all.length; i += 2) {
      const bin = this.all[i];
      this.#merge(bin, this.all[i + 1]);
      this.all[i / 2] = bin;
    }
    this.all.length /= 2;
    this.#valuesPerBin *= 2;
  }
}
