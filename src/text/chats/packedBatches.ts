import type { Batch } from '../../base/batch';
import type { DataPosition, TrainingBatches } from '../data';
import { epochRandom, Shuffle } from '../prepared/shuffle';
import { bestFit } from './bestFit';
import type { ItemForm } from './itemForm';

const POSITION_KIND = 'packed-samples';

interface PackedOptions {
  batchSize: number;
  seqLen: number;
  seed: number | bigint;
}

/**
 * Rows of packed items (samples, or pairs) for ever. Each pass over the items packs them by best fit, those of one length in random order, and
 * takes the rows in random order, so that passes differ in what stands together. The order follows from the seed and the
 * number of the pass alone, so a position is three numbers. A batch may hold rows of two passes.
 */
export class PackedBatches<T> implements TrainingBatches {
  #epoch = 0;
  #row = 0;
  #rows: T[][];

  constructor(
    private readonly items: readonly T[],
    private readonly form: ItemForm<T>,
    private readonly options: PackedOptions,
  ) {
    this.#rows = this.#pass();
  }

  next(): { done: false; value: Batch } {
    const { batchSize, seqLen } = this.options;
    const rows: T[][] = [];
    while (rows.length < batchSize) {
      if (this.#row === this.#rows.length) {
        this.#epoch++;
        this.#row = 0;
        this.#rows = this.#pass();
      }
      rows.push(this.#rows[this.#row++]);
    }
    return { done: false, value: this.form.pack(rows, seqLen) };
  }

  [Symbol.iterator](): this {
    return this;
  }

  getState(): DataPosition {
    return { kind: POSITION_KIND, epoch: this.#epoch, row: this.#row, rows: this.#rows.length };
  }

  setState({ kind, epoch, row, rows }: DataPosition): void {
    const isWhole = [epoch, row].every((value) => Number.isSafeInteger(value) && (value as number) >= 0);
    if (kind !== POSITION_KIND || !isWhole) {
      throw new RangeError(
        `position must be of kind "${POSITION_KIND}" with a pass and a row, got kind "${kind}"`,
      );
    }
    this.#epoch = epoch as number;
    this.#rows = this.#pass();
    if (rows !== this.#rows.length || (row as number) > this.#rows.length) {
      throw new RangeError(`position is of ${rows} rows, and these samples fill ${this.#rows.length}`);
    }
    this.#row = row as number;
  }

  /** The rows of the current pass. */
  #pass(): T[][] {
    const { items, form } = this;
    const { seqLen, seed } = this.options;
    const random = epochRandom(seed, this.#epoch);
    const shuffle = new Shuffle(items.length, random);
    const shuffled = items.map((_, i) => items[shuffle.at(i)]);
    const bins = bestFit(shuffled.map(form.inputs), seqLen);
    const places = new Shuffle(bins.length, random);
    return bins.map((_, i) => bins[places.at(i)].map((index) => shuffled[index]));
  }
}
