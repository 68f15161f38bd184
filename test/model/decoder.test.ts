/** The oracle of a decoder is the forward without a cache. */
import { describe, expect, test } from 'vitest';
import { type DecodeRow, Decoder, type ModelConfigOptions, MoETransformer, Tensor } from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { ARCHITECTURES } from '../../src/hf/architectures';
import { expectRelative, sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { hfDir } from '../helpers/hfFixture';
import { ALL_DENSE, EVERYTHING, SMALL, SOME_DENSE, smallModel } from '../helpers/smallModel';

/**
 * Both ways add up the same products, cut differently: a sum of n products is off by about sqrt(n) 2^-24 of its largest
 * terms, n < 300 here, once for each of the 7 sums a block has, and the layers pass it on. 2e-5 is what the comparisons with
 * other implementations allow too; a wrong position or key moves the logits by 1e-2.
 */
const LOGITS = 2e-5;

const SHAPES: Record<string, Partial<ModelConfigOptions>> = {
  'one kv head': {},
  'a kv head each': { nKvHeads: 2 },
  'two kv heads of four': { nHeads: 4, nKvHeads: 2 },
  'all options on': { ...EVERYTHING, nHeads: 4, nKvHeads: 2 },
  'experts chosen by a bias': { nExperts: 3 },
  'a dense layer': SOME_DENSE,
  'dense layers alone': ALL_DENSE,
  'queries and keys normed over all heads': { qkNorm: 'full', attentionBias: 'qkv' },
};

/** n ids in a fixed pattern. */
const idsOf = (n: number, seed = 1, vocab = SMALL.vocabSize) =>
  Array.from({ length: n }, (_, i) => (i * i * 7 + i * 3 + seed * 11) % vocab);

/** [S,V] logits of a text, from one forward. */
const oracle = (model: MoETransformer, ids: readonly number[]) => model.forwardIds(ids, 1, ids.length).data;

/** [S,V] logits of a text, in steps of `chunk` tokens. */
function inChunks(
  model: MoETransformer,
  decoder: Decoder,
  slot: number,
  ids: readonly number[],
  chunk: number,
) {
  const V = model.vocabSize;
  const all = model.forwardIds([], 0, 0).data.constructor as Float32ArrayConstructor;
  const logits = new all(ids.length * V);
  for (let start = 0; start < ids.length; start += chunk) {
    const end = Math.min(start + chunk, ids.length);
    const part = logits.subarray(start * V, end * V);
    expect(decoder.step([{ slot, tokens: ids, start, end, logits: 'all' }], { logits: part })).toBe(
      end - start,
    );
  }
  return logits;
}

describe.each(Object.keys(SHAPES))('%s', (shape) => {
  const model = smallModel(SHAPES[shape]);
  if (shape === 'experts chosen by a bias') {
    for (const [, { data }] of model.namedBuffers()) data.set([0.3, -0.2, 0.1]);
  }
  const ids = idsOf(29);
  const want = oracle(model, ids);

  test.each([1, 2, 3, 5, 7, 16, 29])('logits in steps of %i tokens are those of a forward', (chunk) => {
    const decoder = new Decoder(model, { slots: 2 });
    expectRelative('logits', inChunks(model, decoder, 1, ids, chunk), want, LOGITS);
  });

  test('a frozen model too', () => {
    model.freeze({ pack: true });
    expectRelative('logits', inChunks(model, new Decoder(model), 0, ids, 5), want, LOGITS);
    model.unfreeze();
  });

  test('sequences of mixed lengths in one step are each as if alone', () => {
    const decoder = new Decoder(model, { slots: 5 });
    const texts = [3, 1, 17, 4, 9].map((n, i) => idsOf(n + 6, i + 1));
    const V = model.vocabSize;
    const logits = new Float32Array(5 * V);
    const done = texts.map(() => 0);
    // Steps mix prompts of different lengths with chunks of others; then come single tokens, with some sequences left out.
    for (const counts of [
      [3, 1, 5, 0, 4],
      [1, 1, 12, 4, 0],
      [1, 1, 1, 1, 5],
      [1, 0, 1, 1, 1],
      [1, 1, 1, 1, 1],
    ]) {
      const rows: DecodeRow[] = counts
        .map((count, slot) => ({ slot, tokens: texts[slot], start: done[slot], end: done[slot] + count }))
        .filter(({ start, end }) => end > start);
      expect(decoder.step(rows, { logits })).toBe(rows.length);
      rows.forEach(({ slot, tokens, end }, i) => {
        done[slot] = end!;
        const alone = oracle(model, Array.from(tokens).slice(0, end)).subarray((end! - 1) * V);
        expectRelative(`slot ${slot}, token ${end}`, logits.subarray(i * V, (i + 1) * V), alone, LOGITS);
        expect(decoder.length(slot)).toBe(end);
      });
    }
  });
});

describe.each(ARCHITECTURES)('%s', (architecture) => {
  test('decodes to the logits of a forward, and to the same greedy tokens where the margin allows a comparison', async () => {
    const model = await MoETransformer.load(hfDir(architecture));
    const V = model.vocabSize;
    const decoder = new Decoder(model, { slots: 3, contextLength: 24 });
    const ids = idsOf(8, 2, V);
    decoder.prefill(2, ids.slice(0, -1));
    const logits = new Float32Array(V);
    let compared = 0;
    while (ids.length <= 24) {
      decoder.step([{ slot: 2, tokens: ids, start: ids.length - 1 }], { logits });
      const want = model.nextTokenLogits(ids);
      expectRelative(`token ${ids.length}`, logits, want, LOGITS);
      const [best, second] = Array.from(want).sort((a, b) => b - a);
      const token = want.indexOf(best);
      if (best - second > 2 * LOGITS * Math.max(...want.map(Math.abs))) {
        expect(logits.indexOf(Math.max(...logits))).toBe(token);
        compared++;
      }
      ids.push(token);
    }
    expect(compared).toBeGreaterThan(10);
  });
});

test('in float64 the cache changes nothing but rounding: 1e-13', () => {
  const kernels = createReferenceKernels({ floatType: 'float64' });
  const model = MoETransformer.create({ ...SMALL, ...EVERYTHING }, { kernels });
  const ids = idsOf(20);
  expectRelative('logits', inChunks(model, new Decoder(model), 0, ids, 3), oracle(model, ids), 1e-13);
});

describe('slots', () => {
  const model = smallModel();
  const V = model.vocabSize;
  const a = idsOf(12, 1);
  const b = [...a.slice(0, 7), (a[7] + 1) % V, ...idsOf(5, 5)];
  const next = (decoder: Decoder, slot: number, ids: readonly number[], start = 0) => {
    const logits = new Float32Array(V);
    decoder.prefill(slot, ids, logits, start);
    return logits;
  };

  test('a slot that was emptied serves another sequence', () => {
    const decoder = new Decoder(model, { slots: 2 });
    const fresh = next(decoder, 1, b);
    next(decoder, 0, a);
    decoder.truncate(0, 0);
    expect(decoder.length(0)).toBe(0);
    expect(sameBits(next(decoder, 0, b), fresh)).toBe(true);
  });

  test('a common prefix is not computed again, in the same slot or copied to another', () => {
    const decoder = new Decoder(model, { slots: 3 });
    const fresh = next(decoder, 0, b);
    next(decoder, 1, a);
    expect(decoder.commonPrefix(1, b)).toBe(7);
    expect(decoder.commonPrefix(2, b)).toBe(0);
    decoder.copyPrefix(1, 2, 7);
    expect(decoder.length(2)).toBe(7);
    expect(decoder.commonPrefix(2, a)).toBe(7);
    expectRelative('copied', next(decoder, 2, b, 7), fresh, LOGITS);
    decoder.truncate(1, 7);
    expectRelative('kept', next(decoder, 1, b, 7), fresh, LOGITS);
    expect(decoder.commonPrefix(1, b)).toBe(b.length);
  });

  test('sequences do not see each other', () => {
    const decoder = new Decoder(model, { slots: 3 });
    const alone = next(new Decoder(model, { slots: 3 }), 1, a);
    for (const slot of [0, 2]) next(decoder, slot, b);
    expect(sameBits(next(decoder, 1, a), alone)).toBe(true);
  });

  test('a full slot is a coded error before anything is computed', async () => {
    const decoder = new Decoder(model, { slots: 2, contextLength: 8 });
    decoder.prefill(0, a.slice(0, 8));
    const logits = new Float32Array(2 * V);
    const rows = [
      { slot: 1, tokens: [1] },
      { slot: 0, tokens: [1] },
    ];
    await expectError('SGEMOE_CONTEXT_FULL', /slot 0 holds 8 tokens, 1 more exceed the context of 8/, () =>
      decoder.step(rows, { logits }),
    );
    await expectError('SGEMOE_CONTEXT_FULL', /12 more exceed/, () => decoder.prefill(1, a));
    expect([decoder.length(0), decoder.length(1)]).toEqual([8, 0]);
    expect(logits.every((x) => x === 0)).toBe(true);
  });
});

describe('outputs', () => {
  const model = smallModel();
  const { vocabSize: V, hiddenDim: H, nLayers: L, topKExperts: K } = model.config;

  test('hidden states and experts of every new token are those of a trace', () => {
    const texts = [idsOf(5, 3), idsOf(2, 4)];
    const decoder = new Decoder(model, { slots: 2 });
    const hidden = new Float32Array(7 * H);
    const experts = new Int32Array(L * 7 * K);
    const gateWeights = new Float32Array(L * 7 * K);
    const rows = texts.map((tokens, slot): DecodeRow => ({ slot, tokens, logits: 'none' }));
    expect(decoder.step(rows, { hidden, experts, gateWeights })).toBe(0);
    let t = 0;
    for (const text of texts) {
      const trace = model.trace(Tensor.fromIds([text]));
      expectRelative('hidden', hidden.subarray(t * H, (t + text.length) * H), trace.norm.data, LOGITS);
      trace.routing.forEach((routing, layer) => {
        const { indices, weights } = routing!;
        const from = (layer * 7 + t) * K;
        const to = from + text.length * K;
        expect(experts.subarray(from, to)).toEqual(indices.data);
        expectRelative('gate weights', gateWeights.subarray(from, to), weights.data, LOGITS);
      });
      t += text.length;
    }
  });

  test('a dense layer chose no expert: -1, with weight 0', () => {
    const tokens = idsOf(3, 3);
    const trace = smallModel(SOME_DENSE).trace(Tensor.fromIds([tokens]));
    const decoder = new Decoder(smallModel(SOME_DENSE));
    const experts = new Int32Array(L * 3 * K).fill(7);
    const gateWeights = new Float32Array(L * 3 * K).fill(7);
    decoder.step([{ slot: 0, tokens, logits: 'none' }], { experts, gateWeights });
    expect([...experts]).toEqual([...new Array(3 * K).fill(-1), ...trace.routing[1]!.indices.data]);
    expect([...gateWeights.subarray(0, 3 * K)]).toEqual(new Array(3 * K).fill(0));
    expect(trace.routing[0]).toBeNull();
  });

  test('rows choose the tokens whose logits they want', () => {
    const decoder = new Decoder(model, { slots: 3 });
    const [a, b, c] = [idsOf(4, 1), idsOf(3, 2), idsOf(2, 3)];
    const logits = new Float32Array(3 * V);
    const rows: DecodeRow[] = [
      { slot: 0, tokens: a, logits: 'none' },
      { slot: 2, tokens: b },
      { slot: 1, tokens: c, logits: 'all' },
    ];
    expect(decoder.step(rows, { logits })).toBe(3);
    expectRelative('last', logits.subarray(0, V), oracle(model, b).subarray(2 * V), LOGITS);
    expectRelative('all', logits.subarray(V), oracle(model, c), LOGITS);
  });
});

test('impossible arguments are named, before anything is computed', () => {
  const model = smallModel();
  const decoder = new Decoder(model, { slots: 2, maxStepTokens: 4 });
  const logits = new Float32Array(2 * model.vocabSize);
  const step = (row: object) => () => decoder.step([{ slot: 0, tokens: [1], ...row }], { logits });
  expect(step({ slot: 2 })).toThrow(/step: slot must be an integer in \[0, 2\), got 2/);
  expect(step({ tokens: [20] })).toThrow(/token id 20 at position 0 must be an integer in \[0, 20\)/);
  expect(step({ tokens: [] })).toThrow(/step: end must be an integer >= 1, got 0/);
  expect(step({ end: 2 })).toThrow(/step: end must be at most 1, got 2/);
  expect(step({ start: -1 })).toThrow(/step: start must be an integer >= 0, got -1/);
  expect(step({ tokens: [1, 2, 3, 4, 5] })).toThrow(/at most 4 tokens \(maxStepTokens\), got 5/);
  expect(step({ logits: 'some' })).toThrow(/logits must be 'last', 'all' or 'none', got some/);
  const twice = [0, 0].map((slot) => ({ slot, tokens: [1] }));
  expect(() => decoder.step(twice, { logits })).toThrow(/slot 0 occurs twice/);
  const one = [{ slot: 0, tokens: [1] }];
  expect(() => decoder.step(one, { logits: new Float32Array(3) })).toThrow(/logits must hold 20 numbers/);
  expect(() => decoder.step(one, { experts: logits as never })).toThrow(/experts must be a Int32Array/);
  expect(() => decoder.step(one, { logit: logits } as never)).toThrow(/unknown option 'logit'/);
  expect(() => decoder.truncate(0, 1)).toThrow(/length must be at most 0, got 1/);
  expect(() => decoder.copyPrefix(0, 1, 1)).toThrow(/length must be at most 0, got 1/);
  expect(() => decoder.commonPrefix(-1, [])).toThrow(/slot must be/);
  expect(decoder.length(0)).toBe(0);
  for (const options of [{ slots: 0 }, { contextLength: 33 }, { slots: 3, maxStepTokens: 2 }]) {
    expect(() => new Decoder(model, options)).toThrow(RangeError);
  }
});
