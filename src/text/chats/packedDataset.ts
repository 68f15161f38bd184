import type { Batch } from '../../base/batch';
import { checkInteger, checkOptions } from '../../base/checks';
import { DEFAULT_SEED } from '../../base/random';
import type { OrderedBatchOptions, Split, TokenDataset, TrainBatchOptions } from '../data';
import type { Tokenizer } from '../tokenizer';
import { checkOrdered } from '../windows';
import { bestFit } from './bestFit';
import type { ItemForm } from './itemForm';
import { PackedBatches } from './packedBatches';

/** The items of a data set's splits. */
export interface Splits<T> {
  readonly train: readonly T[];
  readonly validation: readonly T[];
}

/** A data set of items (samples, or pairs of them), several of which share a row of a batch. */
export abstract class PackedDataset<T> implements TokenDataset {
  readonly train: readonly T[];
  readonly validation: readonly T[];

  /** @param seqLen the longest item. */
  protected constructor(
    readonly files: readonly string[],
    splits: Splits<T>,
    readonly tokenizer: Tokenizer,
    private readonly seqLen: number,
  ) {
    this.train = splits.train;
    this.validation = splits.validation;
  }

  protected abstract get form(): ItemForm<T>;

  /** Tokens of the training samples. */
  get trainTokens(): number {
    return this.#tokensOf(this.train);
  }

  /** Tokens of the validation samples. */
  get validationTokens(): number {
    return this.#tokensOf(this.validation);
  }

  /** Rows of seqLen tokens that the training samples fill: a pass over the data. */
  get rowsPerEpoch(): number {
    return bestFit(this.train.map(this.form.inputs), this.seqLen).length;
  }

  /** Batches of rows, pass after pass; each pass packs the samples in another order. */
  batches(options: TrainBatchOptions): PackedBatches<T> {
    checkOptions('batches', options, ['batchSize', 'seqLen', 'seed']);
    checkInteger('batchSize', options.batchSize, 1);
    this.#checkSeqLen(options.seqLen);
    const { batchSize, seqLen, seed = DEFAULT_SEED } = options;
    return new PackedBatches(this.train, this.form, { batchSize, seqLen, seed });
  }

  /** The samples of a split, each once. `stride` has no meaning here and must be absent. */
  *batchesInOrder(split: Split, options: OrderedBatchOptions): Generator<Batch, void> {
    checkOrdered(this, split, options);
    this.#checkSeqLen(options.seqLen);
    const { batchSize, seqLen, stride, maxBatches = Infinity } = options;
    if (stride !== undefined) throw new RangeError('batchesInOrder: samples have no stride');
    const items = this[split];
    const rows = bestFit(items.map(this.form.inputs), seqLen);
    for (let row = 0, drawn = 0; row < rows.length && drawn < maxBatches; row += batchSize, drawn++) {
      yield this.form.pack(
        rows.slice(row, row + batchSize).map((row) => row.map((i) => items[i])),
        seqLen,
      );
    }
  }

  validationBatches(options: OrderedBatchOptions): Generator<Batch, void> {
    return this.batchesInOrder('validation', options);
  }

  #tokensOf(items: readonly T[]): number {
    return items.reduce((sum, item) => sum + this.form.tokens(item), 0);
  }

  #checkSeqLen(seqLen: number): void {
    checkInteger('seqLen', seqLen, 1);
    if (seqLen < this.seqLen) {
      throw new RangeError(`seqLen must be at least that of the data set, ${this.seqLen}, got ${seqLen}`);
    }
  }
}
