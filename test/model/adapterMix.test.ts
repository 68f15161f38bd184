import { describe, expect, test } from 'vitest';
import { type DecodeRow, Decoder, Lora, type LoraOptions, MoETransformer, Tensor } from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { expectRelative } from '../helpers/close';
import { ALL_DENSE, EVERYTHING, SMALL, SOME_DENSE, smallModel } from '../helpers/smallModel';

const SLOTS = { slots: 4, contextLength: 16, maxStepTokens: 16 };

/** Adapters whose B isn't 0, so that they change what is computed. */
function makeLora(model: MoETransformer, options: LoraOptions): Lora {
  const lora = Lora.create(model, options);
  for (const [i, { data, size }] of lora.store.parameters.entries()) {
    const noise = Tensor.randn([size], { seed: 10 * i + (options.seed ?? 0) }).data;
    for (let j = 0; j < size; j++) data[j] += 0.1 * (noise[j] as number);
  }
  return lora;
}

/** The logits of a sequence whose tokens are all computed with `lora`. */
function logitsAlone(model: MoETransformer, lora: Lora | null, ids: number[]): Float32Array {
  if (lora === null) return model.nextTokenLogits(ids, floatsFor(model, 1));
  model.addLora(lora);
  try {
    return model.nextTokenLogits(ids, floatsFor(model, 1));
  } finally {
    model.removeLora();
  }
}

function floatsFor({ kernels, vocabSize }: MoETransformer, rows: number): Float32Array {
  return kernels.memory.floats(rows * vocabSize);
}

const PROMPTS = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5], [8]];

describe.each([
  ['float64', createReferenceKernels({ floatType: 'float64' }), 1e-12],
  // Sums of the same products in another order, in float32.
  ['float32', smallModel().kernels, 1e-4],
] as const)('rows of one step with different adapters, in %s', (_, kernels, limit) => {
  test.each([
    ['a mixture', {}],
    ['everything on', EVERYTHING],
    ['a dense layer', SOME_DENSE],
    ['dense layers alone', ALL_DENSE],
  ])('compute what each computes alone: %s', (_, extra) => {
    const model = MoETransformer.create({ ...SMALL, ...extra }, { kernels, seed: 3 });
    const all = { targets: ['all', 'lm_head', 'embedding'] };
    const [a, b] = [
      makeLora(model, { ...all, rank: 3, seed: 1 }),
      makeLora(model, { ...all, rank: 5, alpha: 3, seed: 2 }),
    ];
    for (const adapters of [
      [a, b, null, a],
      [null, null, b, b],
      [a, a, a, a],
    ]) {
      const decoder = new Decoder(model, SLOTS);
      const logits = floatsFor(model, 4);
      const texts = PROMPTS.map((ids) => [...ids]);
      const rows = texts.map((tokens, slot): DecodeRow => ({ slot, tokens, adapter: adapters[slot] }));
      for (let step = 0; step < 2; step++) {
        expect(decoder.step(rows, { logits })).toBe(4);
        texts.forEach((ids, slot) => {
          const got = logits.subarray(slot * model.vocabSize, (slot + 1) * model.vocabSize);
          const want = logitsAlone(model, adapters[slot], ids);
          expectRelative(`row ${slot} of step ${step}`, got, want, limit);
          const plain = logitsAlone(model, null, ids);
          if (adapters[slot] !== null) expect(() => expectRelative('', got, plain, 1e-3)).toThrow();
          ids.push((7 * slot + step) % 20);
          rows[slot].start = ids.length - 1;
        });
      }
    }
  });
});

test('adapters of a few matrices, and rows that ask for all logits or none', () => {
  const model = smallModel(SOME_DENSE);
  const a = makeLora(model, { targets: ['layers.1.*.experts.down', 'k_proj'], rank: 2 });
  const b = makeLora(model, { targets: ['lm_head', 'embedding'], rank: 2, seed: 1 });
  const decoder = new Decoder(model, SLOTS);
  const logits = floatsFor(model, 6);
  const asked = ['all', 'last', 'none', 'last'] as const;
  const adapters = [a, b, b, null];
  decoder.step(
    PROMPTS.map((tokens, slot) => ({ slot, tokens, logits: asked[slot], adapter: adapters[slot] })),
    { logits: floatsFor(model, 7) },
  );
  for (let slot = 0; slot < 4; slot++) decoder.truncate(slot, 0);
  expect(
    decoder.step(
      PROMPTS.map((tokens, slot) => ({
        slot,
        tokens: tokens.slice(0, 4),
        logits: asked[slot],
        adapter: adapters[slot],
      })),
      { logits },
    ),
  ).toBe(6);
  const rowAt = (row: number) => logits.subarray(row * model.vocabSize, (row + 1) * model.vocabSize);
  expectRelative('all', rowAt(2), logitsAlone(model, a, PROMPTS[0].slice(0, 3)), 1e-4);
  expectRelative('last', rowAt(4), logitsAlone(model, b, PROMPTS[1]), 1e-4);
  expectRelative('without', rowAt(5), logitsAlone(model, null, PROMPTS[3]), 1e-4);
});

test('what was computed with one adapter is no prefix for another, nor for the base', () => {
  const model = smallModel();
  const [a, b] = [1, 2].map((seed) => makeLora(model, { rank: 2, seed }));
  const decoder = new Decoder(model, SLOTS);
  const ids = PROMPTS[0];
  decoder.prefill(0, ids, undefined, 0, a);
  expect([a, b, null].map((each) => decoder.commonPrefix(0, ids, each))).toEqual([5, 0, 0]);
  expect(decoder.commonPrefix(0, ids)).toBe(0);
  decoder.copyPrefix(0, 1, 3);
  expect(decoder.commonPrefix(1, ids, a)).toBe(3);
  expect(decoder.adapterOf(1)).toBe(a);
  for (const adapter of [b, null, undefined]) {
    const row = { slot: 1, tokens: [7], adapter };
    expect(() => decoder.step([row], {})).toThrow(/slot 1 were computed with other adapters/);
  }
  expect(decoder.length(1)).toBe(3);
  decoder.truncate(1, 0);
  expect(decoder.adapterOf(1)).toBeNull();
  decoder.step([{ slot: 1, tokens: [7], adapter: b }], {});
  expect(decoder.adapterOf(1)).toBe(b);
});

test('a step leaves nothing behind for the next, nor for the model, also after an error', () => {
  const model = smallModel();
  const lora = makeLora(model, { rank: 2, targets: ['all', 'lm_head'] });
  const decoder = new Decoder(model, SLOTS);
  const plain = model.nextTokenLogits([1, 2, 3]);
  decoder.step([{ slot: 0, tokens: [1, 2, 3], adapter: lora }], { logits: floatsFor(model, 1) });
  const logits = floatsFor(model, 1);
  decoder.step([{ slot: 1, tokens: [1, 2, 3] }], { logits });
  expectRelative('decoder', logits, plain, 1e-5);
  const { store } = lora;
  const { shards } = store;
  lora.adapters[0].a.values.space.data = new Float32Array(0);
  expect(() => decoder.step([{ slot: 2, tokens: [1], adapter: lora }], { logits })).toThrow();
  expect(store.shards).toBe(shards);
  expect(model.nextTokenLogits([1, 2, 3])).toEqual(plain);
});

test('adapters of another model are refused', () => {
  const other = makeLora(smallModel(), { rank: 2 });
  const decoder = new Decoder(smallModel(), SLOTS);
  expect(() => decoder.step([{ slot: 0, tokens: [1], adapter: other }], {})).toThrow(TypeError);
});

test('shared models carry their adapters, and adapters are shared without a copy', () => {
  const model = smallModel();
  const a = makeLora(model, { rank: 2, targets: ['all', 'lm_head', 'embedding'] });
  const want = logitsAlone(model, a, [1, 2, 3]);
  const twin = MoETransformer.fromShared(model.share());
  expect(twin.lora).toBeNull();
  expectRelative('shared', logitsAlone(twin, Lora.fromShared(twin, a.share()), [1, 2, 3]), want, 1e-6);
  model.addLora(a);
  const adapted = MoETransformer.fromShared(model.share());
  expectRelative('attached', adapted.nextTokenLogits([1, 2, 3]), want, 1e-6);
  a.adapters[0].a.data[0] = 5;
  expect(adapted.lora!.adapters[0].a.data[0]).toBe(5);
});

test('a step whose numbers of tokens have occurred before allocates nothing, with adapters or without', () => {
  const kernels = createReferenceKernels();
  const model = MoETransformer.create(SMALL, { kernels });
  const [a, b] = [1, 2].map((seed) =>
    makeLora(model, { rank: 2, seed, targets: ['all', 'lm_head', 'embedding'] }),
  );
  const decoder = new Decoder(model, SLOTS);
  const logits = floatsFor(model, 4);
  let asked = 0;
  for (const name of ['floats', 'ints'] as const) {
    const own = kernels.memory[name].bind(kernels.memory);
    kernels.memory[name] = ((...args: [number]) => {
      asked++;
      return own(...args);
    }) as never;
  }
  const step = (adapters: (Lora | null)[]) => {
    const before = asked;
    for (let slot = 0; slot < 4; slot++) decoder.truncate(slot, 0);
    decoder.step(
      PROMPTS.map((tokens, slot) => ({ slot, tokens, adapter: adapters[slot] })),
      { logits },
    );
    return asked - before;
  };
  expect(step([null, null, null, null])).toBe(0);
  expect(step([a, a, b, null])).toBeGreaterThan(0);
  expect(step([b, b, a, a])).toBe(0);
  expect(step([null, null, null, null])).toBe(0);
});
