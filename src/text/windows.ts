import type { Batch } from '../batch';
import { checkInteger, checkOptions } from '../checks';
import { SgemoeError } from '../errors';
import type { BatchOptions, TokenDataset, TrainBatchOptions, ValidationBatchOptions } from './data';

/** Copies the window from a token on, and its targets one token later, into a row of a batch. */
export type CopyWindow = (start: number, batch: Batch, row: number) => void;

/** See `TokenDataset.validationBatches`. */
export function* windowsInOrder(
  tokens: number,
  copyWindow: CopyWindow,
  { batchSize, seqLen, maxBatches = Infinity }: ValidationBatchOptions,
): Generator<Batch, void> {
  const targets = tokens - 1;
  let start = 0;
  for (let drawn = 0; start < targets && drawn < maxBatches; drawn++) {
    const wholeWindows = Math.floor((targets - start) / seqLen);
    const batch =
      wholeWindows > 0
        ? emptyBatch(Math.min(batchSize, wholeWindows), seqLen)
        : emptyBatch(1, targets - start);
    for (let row = 0; row < batch.batch; row++, start += batch.seqLen) copyWindow(start, batch, row);
    yield batch;
  }
}

export function emptyBatch(batch: number, seqLen: number): Batch {
  return { ids: new Int32Array(batch * seqLen), targets: new Int32Array(batch * seqLen), batch, seqLen };
}

/** @throws TypeError or RangeError for options that can't be, SgemoeError SGEMOE_DATA_TOO_SHORT. */
export function checkTraining(data: TokenDataset, options: TrainBatchOptions): void {
  checkOptions('batches', options, ['batchSize', 'seqLen', 'seed']);
  checkSizes(options);
  requireTokens(data, 'training', options.seqLen + 1);
}

/** As `checkTraining`. */
export function checkValidation(data: TokenDataset, options: ValidationBatchOptions): void {
  checkOptions('validationBatches', options, ['batchSize', 'seqLen', 'maxBatches']);
  checkSizes(options);
  if (options.maxBatches !== undefined && options.maxBatches !== Infinity) {
    checkInteger('maxBatches', options.maxBatches, 1);
  }
  requireTokens(data, 'validation', 2);
}

/** Whether both splits, as far as there is one, are long enough for windows of this length; errors as above. */
export function checkSeqLen(data: TokenDataset, seqLen: number, validates: boolean): void {
  checkInteger('seqLen', seqLen, 1);
  requireTokens(data, 'training', seqLen + 1);
  if (validates) requireTokens(data, 'validation', 2);
}

function checkSizes({ batchSize, seqLen }: BatchOptions): void {
  checkInteger('batchSize', batchSize, 1);
  checkInteger('seqLen', seqLen, 1);
}

function requireTokens(data: TokenDataset, split: 'training' | 'validation', needed: number): void {
  const tokens = split === 'training' ? data.trainTokens : data.validationTokens;
  if (tokens >= needed) return;
  const total = data.trainTokens + data.validationTokens;
  throw new SgemoeError(
    'SGEMOE_DATA_TOO_SHORT',
    `The ${split} split has ${tokens} of the text's ${total} tokens, but ${needed} are needed ` +
      'for one window and its targets. Give more text, a shorter sequence length or another ' +
      'validation fraction.',
  );
}
