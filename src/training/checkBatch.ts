import type { Preferences } from '../base/batch';
import { checkIds, checkInteger } from '../base/checks';
import { countTokens, PADDING } from '../model/packing';
import { Tensor } from '../tensor/tensor';

/** A `Batch` with any arrays of numbers. */
export interface BatchIds {
  readonly ids: ArrayLike<number>;
  readonly targets: ArrayLike<number>;
  readonly batch: number;
  readonly seqLen: number;
  readonly positions?: ArrayLike<number> | undefined;
  readonly preferences?: Preferences | undefined;
}

/** What `checkBatch` counts. */
export interface BatchCounts {
  /** Targets that count. */
  counted: number;
  /** Tokens without padding. */
  tokens: number;
  /** Tokens without padding of some of the rows. */
  partTokens(firstRow: number, rows: number): number;
}

/** Checks a batch and counts its tokens and targets. @throws TypeError or RangeError that names what doesn't fit. */
export function checkBatch(
  data: BatchIds,
  { vocabSize, maxSeqLen }: { vocabSize: number; maxSeqLen: number },
  ignoreIndex: number,
): BatchCounts {
  const { ids, targets, batch, seqLen, positions } = data;
  checkNoTensor('ids', ids);
  checkNoTensor('targets', targets);
  checkInteger('batch', batch, 0);
  checkInteger('seqLen', seqLen, 0);
  checkTokens('ids', ids, batch * seqLen);
  checkTokens('targets', targets, batch * seqLen);
  checkIds('ids', ids, vocabSize);
  const counted = countTargets(targets, vocabSize, ignoreIndex);
  if (data.preferences !== undefined) checkPreferences(data, data.preferences);
  if (positions === undefined) {
    return { counted, tokens: batch * seqLen, partTokens: (_, rows) => rows * seqLen };
  }
  checkNoTensor('positions', positions);
  checkTokens('positions', positions, batch * seqLen);
  if (seqLen > maxSeqLen) throw new RangeError(`a row of ${seqLen} tokens exceeds maxSeqLen (${maxSeqLen})`);
  for (let row = 0; row < batch; row++) checkSamples(data, positions, row, ignoreIndex);
  const partTokens = (first: number, rows: number) => countTokens(positions, first * seqLen, rows * seqLen);
  return { counted, tokens: partTokens(0, batch), partTokens };
}

/** @throws RangeError unless the samples of each row are pairs, with a number for each sample. */
function checkPreferences({ positions, batch, seqLen }: BatchIds, { reference, beta }: Preferences): void {
  if (!(beta > 0)) throw new RangeError(`preferences: beta must be > 0, got ${beta}`);
  let samples = 0;
  for (let row = 0; row < batch; row++) {
    for (let i = 0; i < seqLen; i++) if (positions?.[row * seqLen + i] === 0) samples++;
    if (samples % 2 === 1) throw new RangeError(`preferences: row ${row} must hold pairs of samples`);
  }
  if (samples > 0 && reference.length === samples) return;
  throw new RangeError(
    `preferences: reference must hold a number for each sample (${samples}), got ${reference.length}`,
  );
}

function checkNoTensor(name: string, array: ArrayLike<number>): void {
  if (array instanceof Tensor) throw new TypeError(`${name} of a batch must be an Int32Array, got a Tensor`);
}

function checkTokens(name: string, array: ArrayLike<number> | undefined, tokens: number): void {
  if (array?.length === tokens) return;
  throw new RangeError(`${name} must hold batch * seqLen = ${tokens} tokens, got ${array?.length}`);
}

/** The number of targets that count. @throws RangeError for a target that is neither a token nor ignoreIndex. */
function countTargets(targets: ArrayLike<number>, vocabSize: number, ignoreIndex: number): number {
  let counted = 0;
  for (let t = 0; t < targets.length; t++) {
    const id = targets[t];
    if (id === ignoreIndex) continue;
    if (!(id >= 0 && id < vocabSize && Number.isInteger(id))) {
      throw new RangeError(`target ${id} at position ${t} must be an integer in [0, ${vocabSize})`);
    }
    counted++;
  }
  return counted;
}

/** @throws RangeError unless a row holds samples, then padding whose targets don't count. */
function checkSamples(
  { targets, seqLen }: BatchIds,
  positions: ArrayLike<number>,
  row: number,
  ignoreIndex: number,
): void {
  const from = row * seqLen;
  for (let t = from; t < from + seqLen; t++) {
    const before = t === from ? null : positions[t - 1];
    const follows = before !== null && before !== PADDING && positions[t] === before + 1;
    const begins = positions[t] === 0 && before !== PADDING;
    const pads = positions[t] === PADDING && before !== null;
    if (!(follows || begins || pads)) {
      throw new RangeError(
        `positions: row ${row} must count from 0 in each sample and end in padding (-1), if any; got ${positions[t]} ` +
          `after ${before ?? 'its beginning'}`,
      );
    }
    if (pads && targets[t] !== ignoreIndex) {
      throw new RangeError(
        `the target of padding at position ${t} must be ${ignoreIndex}, got ${targets[t]}`,
      );
    }
  }
}
