/** What a bin tells of the values in it. */
interface Counted {
  /** Values in it. */
  count: number;
}

/**
 * Values in order, gathered in a bounded number of bins of equally many values: of twice as many whenever there are more bins
 * than fit.
 */
export class Bins<B extends Counted> {
  readonly all: B[] = [];
  readonly #most: number;
  readonly #merge: (into: B, from: B) => void;
  #valuesPerBin = 1;

  /** @param most an even number. @param merge adds what `from` tells to `into`, its count too */
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
