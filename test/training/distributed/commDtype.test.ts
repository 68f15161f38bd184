/** Gradients that travel between ranks as bfloat16. */
import { describe, expect, it } from 'vitest';
import { Lcg64, type StepResult } from '../../../src';
import { addTree } from '../../../src/backend/collectives';
import { createReferenceKernels } from '../../../src/backend/reference';
import { onRanks } from './ranks';

const kernels = createReferenceKernels();

function rounded(x: Float32Array): Float32Array {
  const bytes = new Uint8Array(2 * x.length);
  kernels.quantize('bfloat16', 1, x.length, x, 0, x.length, bytes, 0);
  const widened = new Float32Array(x.length);
  kernels.dequantize('bfloat16', 1, x.length, bytes, 0, widened, 0, x.length);
  return widened;
}

describe('a rounded sum', () => {
  it.each([
    [2, [5, 8]],
    [3, [4, 0, 9]],
    [4, [7, 1, 2, 16]],
  ])('of %i ranks with parts of %j adds others rounded to what a rank has', async (ranks, counts) => {
    const random = new Lcg64(7);
    const at = 3;
    const length = at + counts.reduce((sum, count) => sum + count, 0);
    const draw = () => Math.fround((random.nextFloat() - 0.5) * 10 ** Math.floor(random.nextFloat() * 6));
    const addends = Array.from({ length: ranks }, () => Float32Array.from({ length }, draw));
    addends[ranks - 1][at] = Number.POSITIVE_INFINITY;
    const options = { counts, addends: addends.map((x) => Array.from(x)), at };
    const found = await onRanks<{ x: Float32Array }>(ranks, { scenario: 'roundedSums', options });
    let from = at;
    for (const [rank, { x }] of found.entries()) {
      const part = (values: Float32Array) => values.slice(from, from + counts[rank]);
      const terms = addends.map((values, r) => (r === rank ? part(values) : rounded(part(values))));
      addTree(terms, counts[rank]);
      expect(part(x), `rank ${rank}`).toEqual(terms[0]);
      from += counts[rank];
    }
    expect(found[0].x[at]).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('a training whose gradients travel as bfloat16', () => {
  interface Trained {
    steps: StepResult[];
    weights: string;
  }
  const train = (ranks: number, commDtype: string, more: object = {}) =>
    onRanks<Trained>(ranks, {
      scenario: 'train',
      options: { steps: 3, train: { microBatches: 4, commDtype }, ...more },
    });

  it('is that of one process up to the rounding, and the same on all ranks', async () => {
    const [one] = await train(1, 'float32');
    for (const ranks of [2, 4]) {
      const [first, ...others] = await train(ranks, 'bfloat16');
      for (const other of others) expect(other).toEqual(first);
      expect(first.weights).not.toBe(one.weights);
      expect(first.steps[0].loss).toBe(one.steps[0].loss);
      // Half a unit in the last of bfloat16's 8 bits is 2^-9 of a gradient.
      const apart = Math.abs(first.steps[0].gradNorm / one.steps[0].gradNorm - 1);
      expect(apart).toBeGreaterThan(0);
      expect(apart).toBeLessThan(2 ** -9);
    }
  });

  it('is that of float32 in one process, which sends nothing', async () => {
    expect(await train(1, 'bfloat16')).toEqual(await train(1, 'float32'));
  });

  it('is the same on all ranks, with experts divided over them', async () => {
    const divided = { model: {}, groupSize: 2 };
    const [first, ...others] = await train(4, 'bfloat16', divided);
    const exact = await train(4, 'float32', divided);
    expect(others.map(({ steps }) => steps)).toEqual([first.steps, first.steps, first.steps]);
    expect(others[1].weights).toBe(first.weights);
    expect(first.weights).not.toBe(exact[0].weights);
    expect(first.steps[2].crossEntropy).toBeCloseTo(exact[0].steps[2].crossEntropy, 1);
  });
});
