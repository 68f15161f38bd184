import type { Batch } from '../base/batch';
import { checkInteger, checkOptions } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { IGNORE_INDEX } from '../config/trainConfig';
import type { BatchOptions, OrderedBatchOptions, Split, TokenDataset, TrainBatchOptions } from './data';

/** Copies the window from a token on, and its targets one token later, into a row of a batch. */
export type CopyWindow = (start: number, batch: Batch, row: number) => void;

/** Yields the batches that `TokenDataset.batchesInOrder` describes. */
export function* windowsInOrder(
  tokens: number,
  copyWindow: CopyWindow,
  { batchSize, seqLen, stride = seqLen, maxBatches = Infinity }: OrderedBatchOptions,
): Generator<Batch, void> {
  const targets = tokens - 1;
  const wholeWindows = targets < seqLen ? 0 : Math.floor((targets - seqLen) / stride) + 1;
  const known = seqLen - stride;
  const copy = (start: number, batch: Batch, row: number) => {
    copyWindow(start, batch, row);
    if (start > 0) batch.targets.fill(IGNORE_INDEX, row * batch.seqLen, row * batch.seqLen + known);
  };
  let drawn = 0;
  for (let window = 0; window < wholeWindows && drawn < maxBatches; drawn++) {
    const batch = emptyBatch(Math.min(batchSize, wholeWindows - window), seqLen);
    for (let row = 0; row < batch.batch; row++, window++) copy(window * stride, batch, row);
    yield batch;
  }
  const rest = emptyBatch(1, targets - wholeWindows * stride);
  const restCounts = wholeWindows === 0 || rest.seqLen > known;
  if (!restCounts || drawn === maxBatches) return;
  copy(wholeWindows * stride, rest, 0);
  yield rest;
}

export function emptyBatch(batch: number, seqLen: number): Batch {
  return { ids: new Int32Array(batch * seqLen), targets: new Int32Array(batch * seqLen), batch, seqLen };
}

/** @throws TypeError or RangeError for invalid options, SgemoeError SGEMOE_DATA_TOO_SHORT */
export function checkTraining(data: TokenDataset, options: TrainBatchOptions): void {
  checkOptions('batches', options, ['batchSize', 'seqLen', 'seed']);
  checkSizes(options);
  requireTokens(data, 'train', options.seqLen + 1);
}

/** As `checkTraining`. */
export function checkOrdered(data: TokenDataset, split: Split, options: OrderedBatchOptions): void {
  checkOptions('batchesInOrder', options, ['batchSize', 'seqLen', 'stride', 'maxBatches']);
  if (split !== 'train' && split !== 'validation') {
    throw new RangeError(`split must be 'train' or 'validation', got ${String(split)}`);
  }
  checkSizes(options);
  const { seqLen, stride = seqLen, maxBatches = Infinity } = options;
  checkInteger('stride', stride, 1);
  if (stride > seqLen) throw new RangeError(`stride must be at most seqLen (${seqLen}), got ${stride}`);
  if (maxBatches !== Infinity) checkInteger('maxBatches', maxBatches, 1);
  requireTokens(data, split, 2);
}

/** Checks that the splits that exist are long enough for windows of this length; errors as above. */
export function checkSeqLen(data: TokenDataset, seqLen: number, validates: boolean): void {
  checkInteger('seqLen', seqLen, 1);
  requireTokens(data, 'train', seqLen + 1);
  if (validates) requireTokens(data, 'validation', 2);
}

function checkSizes({ batchSize, seqLen }: BatchOptions): void {
  checkInteger('batchSize', batchSize, 1);
  checkInteger('seqLen', seqLen, 1);
}

function requireTokens(data: TokenDataset, split: Split, needed: number): void {
  const tokens = split === 'train' ? data.trainTokens : data.validationTokens;
  if (tokens >= needed) return;
  const total = data.trainTokens + data.validationTokens;
  throw new SgemoeError(
    'SGEMOE_DATA_TOO_SHORT',
    `The ${split === 'train' ? 'training' : 'validation'} split has ${tokens} of the text's ${total} tokens, but ${needed} are needed ` +
      'for one window and its targets. Give more text, a shorter sequence length or another ' +
      'validation fraction.',
  );
}
