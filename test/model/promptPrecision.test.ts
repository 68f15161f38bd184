/** Prompts in mixed precision: the oracles are float32's decoder and `forward` in the same precision. */
import { describe, expect, test } from 'vitest';
import { Decoder, type DecoderOptions, generate, Lcg64, MoETransformer, Tensor } from '../../src';
import { getKernels } from '../../src/backend';
import { sameBits } from '../helpers/close';
import { ALL_DENSE, EVERYTHING, SMALL } from '../helpers/smallModel';

// Every token chooses every expert, since a router turns rounding into another choice.
const KINDS = [
  ['mixtures', { topKExperts: 3 }],
  ['all that is off by default', { ...EVERYTHING, topKExperts: 3 }],
  ['dense layers', ALL_DENSE],
] as const;

const MIXED = { precision: 'bfloat16' } as const;
const T = 40;
const V = SMALL.vocabSize;
const rng = new Lcg64(5);
const ids = Array.from({ length: T + 8 }, () => rng.nextInt(V));
const prompt = ids.slice(0, T);

const create = (extra: object) => MoETransformer.create({ ...SMALL, maxSeqLen: 64, ...extra }, { seed: 16 });

/** Logits of `count` tokens from `start` on, in one step. */
function step(decoder: Decoder, start: number, count: number, logits: 'all' | 'last' = 'all'): Float32Array {
  const out = new Float32Array((logits === 'all' ? count : 1) * V);
  decoder.step([{ slot: 0, tokens: ids, start, end: start + count, logits }], { logits: out });
  return out;
}

const open = (model: MoETransformer, options: DecoderOptions = MIXED) =>
  new Decoder(model, { maxStepTokens: 64, ...options });

const norm = (x: Float32Array) => Math.hypot(...x);
/** |got - want| / |want| */
const distance = (got: Float32Array, want: Float32Array) => norm(got.map((g, i) => g - want[i])) / norm(want);

// A product of two numbers rounded to 8 bits, each off by 1.6e-3 of itself (rms), is off by sqrt(2) times that. Logits come after 4
// products of each block and lm_head's; independent errors add in squares, and norms and softmaxes may amplify them.
const BOUND = 4 * Math.sqrt(4 * SMALL.nLayers + 1) * Math.SQRT2 * 1.6e-3;

describe.each(KINDS)('a prompt in mixed precision by a model of %s', (_, extra) => {
  const model = create(extra);
  const exact = step(open(model, {}), 0, T);
  const got = step(open(model), 0, T);

  test("has float32's logits within the bound of bfloat16, and those of forward in the same precision", () => {
    const error = distance(got, exact);
    expect(error).toBeLessThan(BOUND);
    expect(error).toBeGreaterThan(1e-4);
    const forward = model.forward(Tensor.fromIds([prompt]), MIXED).data as Float32Array;
    expect(distance(got, forward)).toBeLessThan(error / 8);
  });

  test('keeps keys and values that chunks keep too, and from which decoding goes on in float32', () => {
    const whole = open(model);
    const chunks = open(model);
    step(whole, 0, T, 'last');
    step(chunks, 0, 32);
    step(chunks, 32, T - 32);
    const [afterWhole, afterChunks] = [whole, chunks].map((each) => step(each, T, 1));
    const float32 = open(model, {});
    step(float32, 0, T);
    const want = step(float32, T, 1);
    // The second chunk is shorter than what is rounded.
    for (const each of [afterWhole, afterChunks]) {
      expect(distance(each, want)).toBeLessThan(BOUND);
      expect(distance(each, want)).toBeGreaterThan(1e-5);
    }
  });

  test('the number of threads changes no bit', () => {
    const kernels = getKernels();
    const threads = kernels.info.threads;
    for (const count of [1, 2]) {
      kernels.setThreads(count);
      expect(sameBits(step(open(model), 0, T), got)).toBe(true);
    }
    kernels.setThreads(threads);
  });
});

describe('in mixed precision', () => {
  const model = create({});

  test('steps of fewer than 32 new tokens of a sequence are those of float32, to the bit', () => {
    const [mixed, float32] = [MIXED, {}].map((options) => open(model, { slots: 3, ...options }));
    for (const count of [31, 1, 7]) {
      // Together more than 32.
      const rows = [0, 1, 2].map((slot) => ({ slot, tokens: ids, end: count, logits: 'all' as const }));
      const [a, b] = [mixed, float32].map((decoder) => {
        for (const slot of [0, 1, 2]) decoder.truncate(slot, 0);
        const logits = new Float32Array(3 * count * V);
        decoder.step(rows.slice(0, count === 31 ? 2 : 3), { logits });
        return logits;
      });
      expect(sameBits(a, b)).toBe(true);
    }
  });

  test('few wanted logits are computed by the float32 lm_head', () => {
    const decoder = open(model);
    const hidden = new Float32Array(T * SMALL.hiddenDim);
    const logits = new Float32Array(V);
    decoder.step([{ slot: 0, tokens: prompt, logits: 'last' }], { hidden, logits });
    const { grad: _, data } = new Map(model.namedParameters()).get('lm_head.weight')!;
    const last = hidden.subarray((T - 1) * SMALL.hiddenDim);
    const want = Float32Array.from({ length: V }, (_, v) =>
      last.reduce((sum, x, h) => sum + x * data[v * SMALL.hiddenDim + h], 0),
    );
    expect(distance(logits, want)).toBeLessThan(1e-6);
  });

  test("generate's prompt and window have it, and the same tokens follow as from the decoder", () => {
    const tokens = generate(model, prompt, T + 3, undefined, { ...MIXED, endTokens: [] });
    const decoder = open(model);
    const logits = new Float32Array(V);
    decoder.prefill(0, prompt, logits);
    const chosen = [...prompt];
    while (chosen.length < T + 3) {
      chosen.push(logits.indexOf(Math.max(...logits)));
      decoder.step([{ slot: 0, tokens: chosen, start: chosen.length - 1 }], { logits });
    }
    expect(tokens).toEqual(chosen);
    // What the window of a long text computes is one prompt.
    const window = model.nextTokenLogits(prompt, undefined, 'bfloat16');
    expect(distance(window, step(open(model), 0, T, 'last'))).toBeLessThan(1e-3);
    expect(sameBits(window, model.nextTokenLogits(prompt))).toBe(false);
    const seen: unknown[] = [];
    const spied = {
      vocabSize: V,
      maxSeqLen: 8,
      nextTokenLogits: (_: ArrayLike<number>, out: Float32Array, precision?: string) => {
        seen.push(precision);
        return out;
      },
    };
    generate(spied, [1], 10, undefined, { ...MIXED, slidingWindow: true });
    expect(new Set(seen)).toEqual(new Set(['bfloat16']));
  });

  test('another precision is refused by name', () => {
    const options = { precision: 'float16' } as never;
    const message = "precision must be 'float32' or 'bfloat16', got float16";
    expect(() => new Decoder(model, options)).toThrow(new TypeError(`Decoder: ${message}`));
    expect(() => generate(model, [1], 2, undefined, options)).toThrow(new TypeError(`generate: ${message}`));
    expect(() => model.nextTokenLogits([1], undefined, 'float16' as never)).toThrow(TypeError);
  });
});
