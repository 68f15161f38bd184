/**
 * Several samples in a row of a batch (Krell et al. 2021, without their block masks): the tokens of all rows stand one behind
 * the other without padding, and attention runs over each sample by itself, so that none sees another.
 */
import type { IndexView } from '../memory/matrixView';
import type { SequenceSlots } from './attention';

/** The position of padding. */
export const PADDING = -1;

/** The number of tokens among positions [from, from + count), which padding isn't. */
export function countTokens(positions: ArrayLike<number>, from: number, count: number): number {
  let tokens = 0;
  for (let t = from; t < from + count; t++) if (positions[t] !== PADDING) tokens++;
  return tokens;
}

/** Copies the values of the next tokens from `from` on, padding left out, until `to` is full. */
export function copyTokens(
  { data, at, rows }: IndexView,
  source: ArrayLike<number>,
  positions: ArrayLike<number>,
  from: number,
): void {
  for (let t = from, done = 0; done < rows; t++) {
    if (positions[t] !== PADDING) data[at + done++] = source[t];
  }
}

/** Writes the samples' positions and lengths. Neighbours of one length form a run, which attention computes in one call. */
export function fillSamples(
  slots: SequenceSlots,
  positions: ArrayLike<number>,
  from: number,
  count: number,
): void {
  const { data: ints } = slots.positions;
  let token = 0;
  let samples = 0;
  slots.reach = 0;
  slots.runs.length = 0;
  for (let t = from; t < from + count; t++) {
    const position = positions[t];
    if (position === PADDING) continue;
    if (position === 0) samples++;
    ints[slots.positions.at + token++] = position;
    slots.reach = Math.max(slots.reach, position + 1);
    const isLast = t + 1 === from + count || positions[t + 1] <= 0;
    if (isLast) addSample(slots, samples - 1, token, position + 1);
  }
}

/** Adds the sample of `length` tokens that ends before `end`. */
function addSample(
  { runs, queryStarts, kvLengths }: SequenceSlots,
  index: number,
  end: number,
  length: number,
): void {
  queryStarts.data[queryStarts.at + index] = 0;
  kvLengths.data[kvLengths.at + index] = length;
  const last = runs[runs.length - 1];
  if (last?.newTokens === length) {
    last.sequences++;
    return;
  }
  const token = end - length;
  runs.push({ sequence: index, token, sequences: 1, newTokens: length, kvRow: token, kvRows: length });
}
