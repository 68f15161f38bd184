import type { Batch } from '../../base/batch';

/** How items of a data set become batches. */
export interface ItemForm<T> {
  /** Tokens of an item in a row. */
  readonly inputs: (item: T) => number;
  /** Tokens of an item, with those that are only targets. */
  readonly tokens: (item: T) => number;
  readonly pack: (rows: readonly (readonly T[])[], seqLen: number) => Batch;
}
