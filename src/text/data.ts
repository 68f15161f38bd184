import type { Batch } from '../base/batch';
import type { Tokenizer } from './tokenizer';

/** Tokens to train on and to validate on, wherever they are kept. */
export interface TokenDataset {
  readonly tokenizer: Tokenizer;
  readonly trainTokens: number;
  /** 0 when nothing is kept for validation. */
  readonly validationTokens: number;
  /** What was read. */
  readonly files: readonly string[];

  /**
   * An endless sequence of training batches. Each has arrays of its own, which stay as they are when the next one is drawn.
   * @throws SgemoeError SGEMOE_DATA_TOO_SHORT when the training split is shorter than one window.
   */
  batches(options: TrainBatchOptions): TrainingBatches;

  /**
   * A split in order: windows in which every token but the first is a target that counts exactly once. Window i begins at
   * token i * stride. Where it overlaps the window before, the targets are ignored (-100): there its ids are context, at
   * least seqLen - stride tokens of it before each target that counts.
   * Batches have batchSize windows; the last of the whole windows may come as a smaller batch, and what is left after them
   * as a batch of one shorter window. So a mean over batches must weigh them by the targets that count.
   * @throws SgemoeError SGEMOE_DATA_TOO_SHORT when the split has fewer than 2 tokens.
   */
  batchesInOrder(split: Split, options: OrderedBatchOptions): IterableIterator<Batch>;

  /** `batchesInOrder` of the validation split. */
  validationBatches(options: OrderedBatchOptions): IterableIterator<Batch>;
}

export interface TrainingBatches extends IterableIterator<Batch> {
  next(): { done: false; value: Batch };
  /** Where the sequence stands. */
  getState(): DataPosition;
  /**
   * Goes on exactly where another sequence of the same data and options stood. @throws RangeError for a position of
   * another kind, or of other options.
   */
  setState(position: DataPosition): void;
}

/** A place in a sequence of batches: a small object that JSON keeps. */
export type DataPosition = Readonly<Record<string, string | number>>;

export interface BatchOptions {
  batchSize: number;
  seqLen: number;
}

export interface TrainBatchOptions extends BatchOptions {
  /** Of the order of the windows, see `Lcg64`. Default 42. */
  seed?: number | bigint | undefined;
}

export type Split = 'train' | 'validation';

export interface OrderedBatchOptions extends BatchOptions {
  /**
   * Tokens from one window's beginning to the next one's, in 1..seqLen. Default seqLen: windows side by side. Smaller ones
   * give targets more context and take seqLen / stride times the work.
   */
  stride?: number | undefined;
  /** Stop after so many batches. Default: the whole split. */
  maxBatches?: number | undefined;
}
