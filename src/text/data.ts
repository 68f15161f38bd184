import type { Batch } from '../batch';
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
   * The validation split in order: windows side by side, in which every token but the first is a target exactly once.
   * Batches have batchSize windows; the last of the whole windows may come as a smaller batch, and what is left after them
   * as a [1, rest] batch. So a mean over batches must weigh them by their tokens.
   * @throws SgemoeError SGEMOE_DATA_TOO_SHORT when the validation split has fewer than 2 tokens.
   */
  validationBatches(options: ValidationBatchOptions): IterableIterator<Batch>;
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
  seed?: number | bigint;
}

export interface ValidationBatchOptions extends BatchOptions {
  /** Stop after so many batches. Default: the whole validation split. */
  maxBatches?: number;
}
