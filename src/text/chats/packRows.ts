import type { Batch } from '../../base/batch';
import { IGNORE_INDEX } from '../../config/trainConfig';
import { emptyBatch } from '../windows';
import type { Sample } from './samples';

/** Tokens of a sample that the model reads: all but the last, which is only a target. */
export function inputs({ ids }: Sample): number {
  return ids.length - 1;
}

/** A batch of rows: their samples side by side, then padding. */
export function packRows(rows: readonly (readonly Sample[])[], seqLen: number): Batch {
  const batch = emptyBatch(rows.length, seqLen);
  const { ids, targets } = batch;
  const positions = new Int32Array(ids.length).fill(-1);
  targets.fill(IGNORE_INDEX);
  rows.forEach((samples, row) => {
    let at = row * seqLen;
    for (const sample of samples) {
      for (let i = 0; i < inputs(sample); i++, at++) {
        ids[at] = sample.ids[i];
        positions[at] = i;
        if (sample.counts[i + 1] === 1) targets[at] = sample.ids[i + 1];
      }
    }
  });
  return { ...batch, positions };
}
