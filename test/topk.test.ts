import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RandomSampling } from '../src';
import { getKernels } from '../src/backend';

/** The k best of `scores`, best first, ties: lower index, by a full sort. */
function bestOf(scores: readonly number[], k: number): number[] {
  return scores
    .map((_, i) => i)
    .sort((a, b) => scores[b] - scores[a] || a - b)
    .slice(0, k);
}

// Few distinct values over many places: nearly every case has ties, also at the border.
const scores = fc.array(fc.integer({ min: -2, max: 2 }), { minLength: 1, maxLength: 40 });
const cases = scores.chain((values) =>
  fc.tuple(fc.constant(values), fc.integer({ min: 1, max: values.length })),
);

describe('top-k with ties', () => {
  test('the router takes the best experts, lower index first among equals', () => {
    fc.assert(
      fc.property(cases, ([logits, k]) => {
        const n = logits.length;
        const floats = (size: number) => new Float32Array(size);
        const ints = (size: number) => new Int32Array(size);
        const indices = ints(k);
        getKernels().routeForward(
          Float32Array.from(logits),
          0,
          null,
          0,
          floats(n),
          0,
          floats(1),
          0,
          indices,
          0,
          floats(k),
          0,
          ints(n + 1),
          0,
          ints(k),
          0,
          ints(k),
          0,
          floats(n),
          0,
          1,
          n,
          k,
          true,
        );
        expect(Array.from(indices)).toEqual(bestOf(logits, k));
      }),
      { numRuns: 300 },
    );
  });

  test('sampling draws from exactly the k best', () => {
    fc.assert(
      fc.property(cases, fc.integer({ min: 0, max: 1000 }), ([logits, k], seed) => {
        // Hot enough that all kept tokens are nearly equally likely: missing one in 60 k draws has probability e^-60.
        const sampler = new RandomSampling({ topK: k, temperature: 1e6, seed });
        const seen = new Set<number>();
        for (let i = 0; i < 60 * k; i++) seen.add(sampler.pickToken(logits));
        expect([...seen].sort((a, b) => a - b)).toEqual(bestOf(logits, k).sort((a, b) => a - b));
      }),
      { numRuns: 200 },
    );
  });

  test('a nucleus is exactly the best tokens that together reach p', () => {
    fc.assert(
      fc.property(cases, fc.integer({ min: 0, max: 1000 }), ([logits, k], seed) => {
        // So hot that n tokens have 1/n each up to 1e-5: k of them are needed to reach (k - 1/2) / n.
        const sampler = new RandomSampling({ topP: (k - 0.5) / logits.length, temperature: 1e6, seed });
        const seen = new Set<number>();
        for (let i = 0; i < 60 * k; i++) seen.add(sampler.pickToken(logits));
        expect([...seen].sort((a, b) => a - b)).toEqual(bestOf(logits, k).sort((a, b) => a - b));
      }),
      { numRuns: 200 },
    );
  });
});
