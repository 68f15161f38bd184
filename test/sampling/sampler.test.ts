import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { typedArraysOf } from '../../bench/lib/javascriptSide';
import { Sampler, type SamplingOptions } from '../../src';

const PROBS = [0.1, 0.4, 0.2, 0.3];
const log = (probs: number[]) => Float32Array.from(probs, Math.log);
const LOGITS = log(PROBS);
const DRAWS = 20_000;

const make = (options: SamplingOptions = {}, vocabSize = 4) => new Sampler(options, { vocabSize });

function frequencies(sampler: Sampler, logits = LOGITS): number[] {
  const counts = new Array(sampler.vocabSize).fill(0);
  for (let i = 0; i < DRAWS; i++) counts[sampler.next(logits).token]++;
  return counts.map((count) => count / DRAWS);
}

/** Five standard deviations of a frequency, sqrt(p (1 - p) / DRAWS) each; 0 where p is 0. */
function expectFrequencies(got: number[], want: number[]): void {
  got.forEach((frequency, token) => {
    const p = want[token];
    const bound = 5 * Math.sqrt((p * (1 - p)) / DRAWS);
    expect(Math.abs(frequency - p), `token ${token}: ${frequency}, want ${p}`).toBeLessThanOrEqual(bound);
  });
}

/** Probabilities, proportional to e^logit. */
function normalised(weights: number[]): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
}

describe('a Sampler draws', () => {
  test.each<[string, SamplingOptions, number[]]>([
    ['from the model by default', {}, PROBS],
    ['sharper below temperature 1', { temperature: 0.5 }, normalised(PROBS.map((p) => p * p))],
    ['the largest at temperature 0', { temperature: 0 }, [0, 1, 0, 0]],
    ['from the k most probable', { topK: 2 }, [0, 4 / 7, 0, 3 / 7]],
    ['the most probable one of an empty nucleus', { topP: 0 }, [0, 1, 0, 0]],
    ['from the nucleus', { topP: 0.71 }, [0, 4 / 9, 2 / 9, 3 / 9]],
    ['from what min-p leaves', { minP: 0.5 }, [0, 4 / 9, 2 / 9, 3 / 9]],
    ['the best alone at min-p 1', { minP: 1 }, [0, 1, 0, 0]],
    ['top-k before top-p', { topK: 2, topP: 0.5 }, [0, 1, 0, 0]],
    ['temperature before top-p', { temperature: 0.5, topP: 0.6 }, [0, 16 / 25, 0, 9 / 25]],
    ['with biases', { logitBias: { 0: Math.log(4), 1: Number.NEGATIVE_INFINITY } }, [4 / 9, 0, 2 / 9, 3 / 9]],
    ['with biases from a Map', { logitBias: new Map([[2, Math.log(2)]]) }, normalised([0.1, 0.4, 0.4, 0.3])],
  ])('%s', (_, options, want) => {
    expectFrequencies(frequencies(make(options)), want);
  });

  test('only from the vocabulary, and from where the logits begin', () => {
    const padded = Float32Array.from([...LOGITS, 9, ...log([1, 1e-9, 1e-9, 1e-9]), 9]);
    expectFrequencies(frequencies(make(), padded), PROBS);
    const { token } = make().next(padded, 5);
    expect(token).toBe(0);
  });

  test('the same with the same seed, otherwise with another, whatever other samplers do meanwhile', () => {
    const draw = (seed: number, other?: Sampler) => {
      const sampler = make({ seed, topK: 3 });
      return Array.from({ length: 50 }, () => {
        other?.next(LOGITS);
        return sampler.next(LOGITS).token;
      });
    };
    expect(draw(7)).toEqual(draw(7, make({ seed: 1, frequencyPenalty: 1 })));
    expect(draw(7)).not.toEqual(draw(8));
  });
});

describe('penalties', () => {
  const choose = (options: SamplingOptions, logits: number[], times: number, prompt: number[] = []) => {
    const sampler = make({ temperature: 0, ...options }, logits.length);
    sampler.acceptPrompt(prompt);
    return Array.from({ length: times }, () => sampler.next(Float32Array.from(logits)).token);
  };

  test('frequency counts generated tokens each time, presence once', () => {
    // Logits 5, 4.5, 3: after n occurrences token 0 has 5 - n (frequency) or 5 - 1 (presence).
    expect(choose({ frequencyPenalty: 1 }, [5, 4.4, 3], 5)).toEqual([0, 1, 0, 1, 0]);
    expect(choose({ presencePenalty: 1 }, [5, 4.4, 3], 5)).toEqual([0, 1, 0, 0, 0]);
    expect(choose({ presencePenalty: -1 }, [5, 5.5, 3], 2, [0])).toEqual([1, 1]);
  });

  test('repetition counts the prompt too, divides positive logits and multiplies negative ones', () => {
    expect(choose({ repetitionPenalty: 2 }, [5, 4, 3], 4, [0, 0, 9])).toEqual([1, 2, 0, 0]);
    expect(choose({ repetitionPenalty: 2 }, [-1, -1.5, -3], 3)).toEqual([0, 1, 0]);
    expect(choose({ presencePenalty: 3, frequencyPenalty: 3 }, [5, 4, 3], 1, [0])).toEqual([0]);
  });
});

describe('log-probabilities', () => {
  test('are those of the model, whatever the options', () => {
    const options = {
      temperature: 0.3,
      topK: 1,
      logitBias: { 0: 100 },
      frequencyPenalty: 0.5,
      topLogprobs: 3,
    };
    const { token, logprob, top } = make(options).next(LOGITS);
    expect(token).toBe(0);
    // float32: a few units of 2^-24 of a logarithm below 3.
    expect(logprob).toBeCloseTo(Math.log(0.1), 5);
    expect(Array.from(top.tokens)).toEqual([1, 3, 2]);
    [0.4, 0.3, 0.2].forEach((p, i) => {
      expect(top.logprobs[i]).toBeCloseTo(Math.log(p), 5);
    });
  });

  test('the top ones are in the order of a full sort, ties by index, NaN last', () => {
    const value = fc.oneof(fc.integer({ min: -3, max: 3 }), fc.constant(Number.NaN));
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 20 }), fc.nat(20), (values, count) => {
        const logits = Float32Array.from([...values, 0]);
        const topLogprobs = Math.min(count, logits.length);
        const { top } = make({ topLogprobs, temperature: 0 }, logits.length).next(logits);
        const rank = (x: number) => (Number.isNaN(x) ? Number.NEGATIVE_INFINITY : x);
        const sorted = Array.from(logits, (_, i) => i).sort(
          (a, b) => rank(logits[b]) - rank(logits[a]) || a - b,
        );
        expect(Array.from(top.tokens)).toEqual(sorted.slice(0, topLogprobs));
      }),
    );
  });
});

test('a token that the filters leave out is never drawn', () => {
  // Logits are eighths: the sampler can't tell logits apart whose exponentials are equal in float32.
  const logit = fc.integer({ min: -64, max: 64 }).map((n) => n / 8);
  const options = fc.record({
    topK: fc.integer({ min: 1, max: 30 }),
    topP: fc.double({ min: 0.01, max: 1, noNaN: true }),
    minP: fc.double({ min: 0, max: 1, noNaN: true }),
    seed: fc.nat(),
  });
  fc.assert(
    fc.property(
      fc.array(logit, { minLength: 1, maxLength: 30 }),
      options,
      (values, { topK, topP, minP, seed }) => {
        const logits = Float32Array.from(values);
        const order = Array.from(logits, (_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
        const weights = order.slice(0, topK).map((i) => Math.exp(logits[i] - logits[order[0]]));
        const mass = weights.reduce((a, b) => a + b, 0);
        const { token } = make({ topK, topP, minP, seed }, logits.length).next(logits);
        const rank = order.indexOf(token);
        expect(rank).toBeLessThan(topK);
        // float32 weights: the borders may lie 1e-5 off.
        expect(weights[rank]).toBeGreaterThanOrEqual(minP - 1e-5);
        const before = weights.slice(0, rank).reduce((a, b) => a + b, 0);
        expect(before).toBeLessThanOrEqual((topP + 1e-5) * mass);
      },
    ),
  );
});

test('a choice makes no typed array and no view', () => {
  const sampler = make({
    topK: 3,
    topP: 0.9,
    minP: 0.1,
    frequencyPenalty: 0.1,
    logitBias: { 1: 1 },
    topLogprobs: 2,
  });
  sampler.next(LOGITS);
  // The reference's exp is JavaScript, and takes views of its own; WebAssembly's copies the logits in.
  const { backend } = sampler.kernels.info;
  if (backend !== 'reference' && backend !== 'wasm')
    expect(typedArraysOf(() => sampler.next(LOGITS))).toBe(0);
});

test('a stop text may be one text or several, and is kept as a list', () => {
  const setup = { vocabSize: 4 };
  expect(new Sampler({ stop: 'one' }, setup).options.stop).toEqual(['one']);
  expect(new Sampler({ stop: ['one', 'two'] }, setup).options.stop).toEqual(['one', 'two']);
  expect(new Sampler({}, setup).options.stop).toEqual([]);
  expect(() => new Sampler({ stop: '' }, setup)).toThrow(RangeError);
});

test('impossible options are named', () => {
  const cases: [object, RegExp][] = [
    [{ temperature: -1 }, /temperature must be a finite number >= 0, got -1/],
    [{ temperature: '1' }, /temperature must be a number, got string 1/],
    [{ topK: 1.5 }, /topK must be an integer >= 1, got 1.5/],
    [{ topP: -0.1 }, /topP must be a number >= 0 and <= 1, got -0.1/],
    [{ minTokens: 3, maxTokens: 2 }, /minTokens must be an integer >= 0 and <= 2, got 3/],
    [{ minP: 2 }, /minP must be a number >= 0 and <= 1, got 2/],
    [{ repetitionPenalty: 0 }, /repetitionPenalty must be a finite number > 0, got 0/],
    [{ presencePenalty: Number.NaN }, /presencePenalty must be a finite number, got NaN/],
    [{ frequencyPenalty: Number.POSITIVE_INFINITY }, /frequencyPenalty must be a finite number/],
    [{ logitBias: { 4: 1 } }, /logitBias: a key must be an integer >= 0 and < 4, got 4/],
    [{ logitBias: { x: 1 } }, /logitBias: a key must be an integer >= 0 and < 4, got NaN/],
    [{ logitBias: { 1: Number.NaN } }, /logitBias: a value must be a number below Infinity, got NaN/],
    [{ logitBias: 3 }, /logitBias must be an object or a Map, got number 3/],
    [{ topLogprobs: 5 }, /topLogprobs must be an integer >= 0 and <= 4, got 5/],
    [{ maxTokens: -1 }, /maxTokens must be an integer >= 0, got -1/],
    [{ stop: 3 }, /stop must be a text or an array of them, none empty, got number 3/],
    [{ stop: ['a', ''] }, /stop must be a text or an array of them, none empty, got/],
    [{ stopTokens: [7] }, /stopTokens: a token must be an integer >= 0 and < 4, got 7/],
    [{ seed: 1.5 }, /seed must be a safe integer or a bigint, got 1.5/],
    [{ top_k: 1 }, /unknown option 'top_k'; known: maxTokens/],
  ];
  for (const [options, message] of cases) expect(() => make(options)).toThrow(message);
  expect(() => make().next(new Float32Array(4).fill(Number.NaN))).toThrow(/no number above -Infinity/);
});
