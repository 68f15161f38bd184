import { expect, test } from 'vitest';
import { Sampler, type SamplingOptions } from '../../src';
import { getKernels } from '../../src/backend';
import { RowDraws } from '../../src/sampling/rowDraws';

const V = 50;
const LD = 64;
const ROWS = 6;
const STEPS = 20;

/** Options of the samplers, whose rows of logits are 0, 1, 2, 4, 5: row 3 is nobody's. */
const OPTIONS: SamplingOptions[] = [
  { seed: 1n },
  { seed: 2n, temperature: 0 },
  { seed: 3n, temperature: 0.7, topK: 5, topP: 0.9, minP: 0.02 },
  { seed: 4n, topP: 0.5 },
  { seed: 5n, repetitionPenalty: 1.5, logitBias: { 3: 4 } },
];
const ROW_OF = [0, 1, 2, 4, 5];

const make = (kernels = getKernels(), vocabSizes = OPTIONS.map(() => V)) =>
  OPTIONS.map((options, i) => new Sampler(options, { vocabSize: vocabSizes[i], kernels }));

/** Logits of a step; they differ from step to step. */
function logitsOf(step: number): Float32Array {
  return Float32Array.from({ length: ROWS * LD }, (_, i) => 3 * Math.sin(i * 12.9898 + step * 78.233));
}

/** Kernels that count the rows of each call of sampleRows. */
function counting() {
  const kernels = { ...getKernels() };
  const calls: number[] = [];
  const draw = kernels.sampleRows;
  kernels.sampleRows = (...args) => {
    calls.push(args[9]);
    draw(...args);
  };
  return { kernels, calls };
}

test.each([
  ['of one vocabulary', OPTIONS.map(() => V), [3, 1, 1]],
  ['of several vocabularies', [V, V - 20, V - 20, V, V], [1, 2, 1, 1]],
])(
  'rows %s are drawn in a call for each run, and each sampler gets what it draws alone',
  (_, sizes, want) => {
    const { kernels, calls } = counting();
    const [alone, together] = [make(getKernels(), sizes), make(kernels, sizes)];
    const draws = new RowDraws(kernels, OPTIONS.length);
    for (let step = 0; step < STEPS; step++) {
      const logits = logitsOf(step);
      calls.length = 0;
      for (const [i, sampler] of together.entries()) draws.add(sampler, ROW_OF[i]);
      draws.draw(logits, LD);
      const got = together.map((sampler, i) => ({ ...sampler.next(logits, ROW_OF[i] * LD) }));
      expect(calls).toEqual(want);
      const expected = alone.map((sampler, i) => ({ ...sampler.next(logits, ROW_OF[i] * LD) }));
      expect(got).toEqual(expected);
    }
    for (const [i, { rng }] of together.entries()) expect(rng.nextUint32()).toBe(alone[i].rng.nextUint32());
  },
);

test('a row without a number above -Infinity fails for its sampler alone', () => {
  const draws = new RowDraws(getKernels(), 2);
  const samplers = [new Sampler({}, { vocabSize: 4 }), new Sampler({ temperature: 0 }, { vocabSize: 4 })];
  const logits = Float32Array.from([...new Array(4).fill(Number.NEGATIVE_INFINITY), 0, 1, 9, 2]);
  for (const [r, sampler] of samplers.entries()) draws.add(sampler, r);
  draws.draw(logits, 4);
  expect(() => samplers[0].next(logits, 0)).toThrow(RangeError);
  expect(samplers[1].next(logits, 4).token).toBe(2);
  // The failed draw is forgotten.
  expect(samplers[0].next(logits, 4).token).toBeGreaterThanOrEqual(0);
});

test('no end token is drawn together before minTokens are there', () => {
  const draws = new RowDraws(getKernels(), 1);
  const sampler = new Sampler({ temperature: 0, minTokens: 2 }, { vocabSize: 4, endTokens: [2] });
  const logits = Float32Array.of(0, 1, 9, 2);
  const tokens = [0, 1, 2].map(() => {
    draws.add(sampler, 0);
    draws.draw(logits, 4);
    return sampler.choose(logits);
  });
  expect(tokens).toEqual([3, 3, 2]);
});
