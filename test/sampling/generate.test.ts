import { describe, expect, test } from 'vitest';
import {
  GreedySampling,
  generate,
  generateTokens,
  Lcg64,
  MoETransformer,
  type NextTokenModel,
  RandomSampling,
  Sampler,
  type SamplingStrategy,
  TemperatureSampling,
  TopKSampling,
  TopPSampling,
} from '../../src';
import { getKernels } from '../../src/backend';
import { SMALL, smallModel } from '../helpers/smallModel';

/** How often each token is drawn from these logits. */
function frequencies(strategy: SamplingStrategy, logits: number[], draws = 20_000): number[] {
  const counts = new Array(logits.length).fill(0);
  for (let i = 0; i < draws; i++) counts[strategy.pickToken(logits)]++;
  return counts.map((count) => count / draws);
}

/** Four standard deviations of a frequency near 1/4 over 20,000 draws are 0.012. */
function expectFrequencies(got: number[], want: number[]): void {
  got.forEach((frequency, i) => {
    expect(Math.abs(frequency - want[i]), `token ${i}: ${frequency}, want ${want[i]}`).toBeLessThan(0.015);
    if (want[i] === 0) expect(frequency).toBe(0);
  });
}

const log = (probs: number[]) => probs.map(Math.log);

describe('sampling', () => {
  test('greedy takes the largest, the lower index of equals, never NaN', () => {
    const greedy = new GreedySampling();
    expect(greedy.pickToken([1, 3, 2])).toBe(1);
    expect(greedy.pickToken([3, 1, 3])).toBe(0);
    expect(greedy.pickToken([Number.NaN, -5, Number.NEGATIVE_INFINITY])).toBe(1);
    expect(() => greedy.pickToken([Number.NaN, Number.NEGATIVE_INFINITY])).toThrow(RangeError);
  });

  test('temperature divides the logits', () => {
    const logits = log([0.1, 0.2, 0.3, 0.4]);
    expectFrequencies(frequencies(new TemperatureSampling(1), logits), [0.1, 0.2, 0.3, 0.4]);
    expectFrequencies(frequencies(new TemperatureSampling(0.5), logits), [1 / 30, 4 / 30, 9 / 30, 16 / 30]);
    expect(frequencies(new TemperatureSampling(0), logits, 10)).toEqual([0, 0, 0, 1]);
    expect(frequencies(new TemperatureSampling(1e-6), logits, 10)).toEqual([0, 0, 0, 1]);
  });

  test('top-k keeps the k most probable; ties at the border keep the lower index', () => {
    const logits = log([0.1, 0.2, 0.3, 0.4]);
    expectFrequencies(frequencies(new TopKSampling(2), logits), [0, 0, 3 / 7, 4 / 7]);
    expectFrequencies(frequencies(new TopKSampling(9), logits), [0.1, 0.2, 0.3, 0.4]);
    expectFrequencies(frequencies(new TopKSampling(2), [0, 0, 0, 0]), [0.5, 0.5, 0, 0]);
    expectFrequencies(frequencies(new TopKSampling(3), [0, 1, 0, 0, 1]), [
      1 / (1 + 2 * Math.E),
      Math.E / (1 + 2 * Math.E),
      0,
      0,
      Math.E / (1 + 2 * Math.E),
    ]);
  });

  test('top-p keeps the smallest set that reaches p', () => {
    const logits = log([0.1, 0.4, 0.2, 0.3]);
    expectFrequencies(frequencies(new TopPSampling(0.69), logits), [0, 4 / 7, 0, 3 / 7]);
    expectFrequencies(frequencies(new TopPSampling(0.71), logits), [0, 4 / 9, 2 / 9, 3 / 9]);
    expectFrequencies(frequencies(new TopPSampling(1e-9), logits), [0, 1, 0, 0]);
    expectFrequencies(frequencies(new TopPSampling(1), logits), [0.1, 0.4, 0.2, 0.3]);
  });

  test('top-k comes before top-p', () => {
    const sampler = new RandomSampling({ topK: 2, topP: 0.5 });
    // Of the two best, the first alone has 0.4/0.7 > 0.5.
    expectFrequencies(frequencies(sampler, log([0.1, 0.4, 0.2, 0.3])), [0, 1, 0, 0]);
  });

  test('top-k agrees with a full sort on random logits with ties', () => {
    for (let seed = 1; seed < 60; seed++) {
      const logits = Array.from({ length: 50 }, (_, i) => Math.floor(Math.sin(seed * 97 + i * 31) * 6));
      const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
      const k = (seed % 49) + 1;
      const seen = new Set(
        Array.from({ length: 400 }, (_, i) =>
          new TopKSampling(k, { seed: i, temperature: 50 }).pickToken(logits),
        ),
      );
      for (const token of seen) expect(order.indexOf(token)).toBeLessThan(k);
    }
  });

  test('a seed reproduces the choices', () => {
    const draw = (seed: number) => {
      const sampler = new TemperatureSampling(1, { seed });
      return Array.from({ length: 50 }, () => sampler.pickToken([0, 0, 0, 0, 0, 0, 0, 0]));
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
  });

  test('a seed gives the choices that it gave before the strategies became samplers', () => {
    const rng = new Lcg64(9);
    const logits = Float32Array.from({ length: 100 }, () => 6 * rng.nextFloat() - 3);
    const seed = 5;
    const before: [SamplingStrategy, number[]][] = [
      [new TemperatureSampling(0.8, { seed }), [62, 24, 95, 59, 73, 81, 33, 15, 7, 24, 98, 24]],
      [new TopKSampling(9, { seed }), [40, 17, 73, 40, 62, 69, 20, 7, 7, 20, 73, 17]],
      [new TopPSampling(0.7, { seed, temperature: 0.9 }), [62, 20, 95, 52, 73, 77, 24, 15, 7, 22, 98, 20]],
      [
        new RandomSampling({ topK: 20, topP: 0.9, temperature: 1.5, seed }),
        [62, 22, 95, 62, 73, 87, 32, 15, 7, 24, 95, 22],
      ],
    ];
    for (const [strategy, tokens] of before)
      expect(tokens.map(() => strategy.pickToken(logits))).toEqual(tokens);
    const sampler = new Sampler({ topK: 9, seed }, { vocabSize: 100 });
    expect(before[1][1].map(() => sampler.pickToken(logits))).toEqual(before[1][1]);
  });

  test('impossible options are named', () => {
    for (const options of [
      { temperature: -1 },
      { temperature: Number.NaN },
      { topK: 0 },
      { topK: 1.5 },
      { topP: -0.1 },
      { topP: 1.1 },
    ]) {
      const [[key, value]] = Object.entries(options);
      expect(() => new RandomSampling(options)).toThrow(new RegExp(`${key} must be .*, got ${value}`));
    }
  });
});

describe('generate', () => {
  const model = MoETransformer.tiny({ seed: 42 });

  test('greedy up to a total length, prompt included', () => {
    const tokens = model.generate([1, 2, 3], 10);
    expect(tokens).toHaveLength(10);
    expect(tokens.slice(0, 3)).toEqual([1, 2, 3]);
    expect(model.generateGreedy([1, 2, 3], 10)).toEqual(tokens);
    expect(generate(model, [1, 2, 3], 10)).toEqual(tokens);
    expect([...generateTokens(model, [1, 2, 3], 10)]).toEqual(tokens.slice(3));
    expect(model.generate([1, 2, 3], 2)).toEqual([1, 2, 3]);
  });

  test('the next token is the argmax of the last row of a forward', () => {
    const tokens = model.generate([5, 6], 8);
    const logits = model.forwardIds(tokens.slice(0, 7), 1, 7).data;
    expect(new GreedySampling().pickToken(logits.subarray(6 * 1000))).toBe(tokens[7]);
  });

  test('the sampling methods are reproducible and differ by seed', () => {
    const seeded = (seed: number) => [
      model.generateSample([1], 12, 1, seed),
      model.generateTopK([1], 12, 50, 1, seed),
      model.generateTopP([1], 12, 0.9, 1, seed),
    ];
    expect(seeded(1)).toEqual(seeded(1));
    for (const [i, tokens] of seeded(1).entries()) expect(tokens).not.toEqual(seeded(2)[i]);
  });

  test('beyond maxSeqLen only with a sliding window, which shows the last maxSeqLen tokens', () => {
    const seen: number[][] = [];
    const counter: NextTokenModel = {
      vocabSize: 100,
      maxSeqLen: 4,
      nextTokenLogits(tokens, out) {
        seen.push(Array.from(tokens));
        out.fill(0);
        out[tokens[tokens.length - 1] + 1] = 1;
        return out;
      },
    };
    expect(() => generate(counter, [1], 5)).toThrow(/5 tokens exceed maxSeqLen \(4\)/);
    expect(() => generate(counter, [1, 2, 3, 4, 5], 1)).toThrow(RangeError);
    expect(generate(counter, [1], 7, new GreedySampling(), { slidingWindow: true })).toEqual([
      1, 2, 3, 4, 5, 6, 7,
    ]);
    expect(seen.at(-1)).toEqual([3, 4, 5, 6]);
  });

  test('with the key-value cache, the same tokens as without one, also beyond maxSeqLen', () => {
    // 32 tokens of context; margins between the two best logits are far above rounding.
    const small = smallModel();
    const cacheFree: NextTokenModel = {
      vocabSize: small.vocabSize,
      maxSeqLen: small.maxSeqLen,
      nextTokenLogits: (tokens, out) => small.nextTokenLogits(tokens, out),
    };
    const strategy = () => new TemperatureSampling(1, { seed: 3 });
    for (const [prompt, maxLen] of [
      [[1, 2, 3], 32],
      [[4], 40],
      [Array(32).fill(5), 36],
      [Array(35).fill(6), 38],
    ] as const) {
      const sliding = { slidingWindow: true };
      const want = generate(cacheFree, prompt, maxLen, strategy(), sliding);
      expect(generate(small, prompt, maxLen, strategy(), sliding)).toEqual(want);
    }
  });

  test('a token costs the same number of rows wherever it stands', () => {
    const rows: number[] = [];
    const kernels = { ...getKernels() };
    kernels.gatherRows = (...args) => {
      rows.push(args[7]);
      getKernels().gatherRows(...args);
    };
    const counted = MoETransformer.create({ ...SMALL, nLayers: 1 }, { kernels });
    counted.generate([1, 2, 3, 4], 8);
    // Rows of the embedding, of the experts (two per token), and of the head, which gets only the prompt's last row.
    expect(rows).toEqual([4, 8, 1, 1, 2, 1, 2, 1, 2]);
  });

  test('a strategy that wants to know the prompt is told', () => {
    const sampler = new Sampler({ temperature: 0, repetitionPenalty: 1e6 }, { vocabSize: 1000 });
    const tokens = model.generate([1, 2, 3], 30, sampler);
    expect(new Set(tokens).size).toBe(30);
  });

  test('an empty prompt and an impossible length are refused', () => {
    expect(() => model.generate([], 5)).toThrow(/at least one token/);
    expect(() => model.generate([1], -1)).toThrow(RangeError);
    expect(() => model.generate([1], 2.5)).toThrow(RangeError);
    expect(() => model.generate([1000], 5)).toThrow(/token id 1000/);
  });
});
