import type { Batch } from '../base/batch';
import type { Tokenizer } from './tokenizer';

/** Tokens for training and validation, in memory or on disk. */
export interface TokenDataset {
  readonly tokenizer: Tokenizer;
  readonly trainTokens: number;
  /** Number of validation tokens; 0 without a validation split. */
  readonly validationTokens: number;
  /** The files that were read. */
  readonly files: readonly string[];

  /**
   * An endless sequence of training batches. Each has its own arrays, which drawing the next one doesn't change.
   * @throws SgemoeError SGEMOE_DATA_TOO_SHORT if the training split is shorter than one window.
   */
  batches(options: TrainBatchOptions): TrainingBatches;

  /**
   * The windows of a split in order. Every token except the first is a target that counts exactly once. Window i begins at
   * token i * stride. Targets that the previous window already has are ignored (-100): their ids are context, at least
   * seqLen - stride tokens before each target that counts.
   * Batches have batchSize windows. The last whole windows may form a smaller batch, and the remaining tokens a batch of one
   * shorter window, so a mean over batches must weigh them by the targets that count.
   * @throws SgemoeError SGEMOE_DATA_TOO_SHORT if the split has fewer than 2 tokens.
   */
  batchesInOrder(split: Split, options: OrderedBatchOptions): IterableIterator<Batch>;

  /** `batchesInOrder` of the validation split. */
  validationBatches(options: OrderedBatchOptions): IterableIterator<Batch>;
}

export interface TrainingBatches extends IterableIterator<Batch> {
  next(): { done: false; value: Batch };
  /** The position in the sequence. */
  getState(): DataPosition;
  /**
   * Continues exactly at the position of another sequence with the same data and options. @throws RangeError for a position
   * of another kind or of other options.
   */
  setState(position: DataPosition): void;
}

/** A position in a sequence of batches: a small JSON object. */
export type DataPosition = Readonly<Record<string, string | number>>;

export interface BatchOptions {
  batchSize: number;
  seqLen: number;
}

export interface TrainBatchOptions extends BatchOptions {
  /** Seed of the order of windows, see `Lcg64`. Default 42. */
  seed?: number | bigint | undefined;
}

export type Split = 'train' | 'validation';

export interface OrderedBatchOptions extends BatchOptions {
  /**
   * Tokens from one window's start to the next, in 1..seqLen. Default seqLen, which puts windows side by side. Smaller
   * strides give targets more context and take seqLen / stride times the work.
   */
  stride?: number | undefined;
  /** The largest number of batches. Default: the whole split. */
  maxBatches?: number | undefined;
}
