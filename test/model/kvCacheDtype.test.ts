/** Keys and values kept in fewer bits: the oracle is the decoder that keeps float32. */
import { describe, expect, test } from 'vitest';
import { Decoder, type DecoderOptions, generate, MoETransformer } from '../../src';
import { memoryBytes } from '../../src/model/memoryBytes';
import { expectRelative, sameBits } from '../helpers/close';
import { hfDir } from '../helpers/hfFixture';
import { ALL_DENSE, smallModel } from '../helpers/smallModel';

/** Dense: a router turns rounding into another choice of experts, for which there is no bound. */
const model = smallModel({ ...ALL_DENSE, nHeads: 4, nKvHeads: 2, headDim: 32 });
const { vocabSize: V, nLayers, maxSeqLen } = model.config;
const ids = Array.from({ length: 29 }, (_, i) => (i * i * 7 + i * 3 + 11) % V);

/**
 * Rounding moves a number by at most `step` of the largest in its block: half an ulp of float16, half of max/127. Keys move the
 * weights and values what is added up, by about as much relative to the largest, and each layer does it once more.
 */
const TYPES = [
  { kvCacheDtype: 'float16', step: 2 ** -11, bitsPerNumber: 16 },
  { kvCacheDtype: 'q8_0', step: 1 / 254, bitsPerNumber: 8.5 },
] as const;

/** Logits of the last token after steps of `chunk` tokens. */
function logitsOf(decoder: Decoder, slot: number, chunk: number, start = 0): Float32Array {
  const logits = new Float32Array(V);
  for (let from = start; from < ids.length; from += chunk) {
    const end = Math.min(from + chunk, ids.length);
    decoder.step([{ slot, tokens: ids, start: from, end }], { logits });
  }
  return logits;
}

describe.each(TYPES)('$kvCacheDtype', ({ kvCacheDtype, step, bitsPerNumber }) => {
  const open = (options: DecoderOptions = {}) => new Decoder(model, { kvCacheDtype, slots: 3, ...options });
  const want = logitsOf(new Decoder(model), 0, 1);

  test.each([1, 3, 29])(
    'in steps of %i tokens the logits differ from float32 by the rounding, and do differ',
    (chunk) => {
      const got = logitsOf(open(), 1, chunk);
      expectRelative('logits', got, want, 2 * nLayers * step);
      expect(sameBits(got, want)).toBe(false);
    },
  );

  test('takes the bytes of its bits, as was told before', () => {
    const decoder = open({ contextLength: 20 });
    const numbers = 2 * nLayers * 3 * 20 * model.config.nKvHeads * model.config.headDim;
    const idBytes = 3 * 20 * 4;
    expect(decoder.bytes.cache).toBe((numbers * bitsPerNumber) / 8 + idBytes);
    const told = memoryBytes(model.config, { mode: 'decode', slots: 3, contextLength: 20, kvCacheDtype });
    expect(told.cache).toBe(decoder.bytes.cache);
    const float32 = new Decoder(model, { slots: 3, contextLength: 20 });
    const saved = (numbers * (32 - bitsPerNumber)) / 8;
    const whole = (of: Decoder) => of.bytes.cache + of.bytes.activations;
    expect(Math.abs(whole(float32) - whole(decoder) - saved)).toBeLessThan(64);
  });

  test('a prefix that is kept or copied to another slot gives the same bits as computing it', () => {
    const decoder = open();
    const fresh = logitsOf(decoder, 0, 1);
    decoder.copyPrefix(0, 2, 17);
    expect(sameBits(logitsOf(decoder, 2, 1, 17), fresh)).toBe(true);
    decoder.truncate(0, 9);
    expect(decoder.commonPrefix(0, ids)).toBe(9);
    expect(sameBits(logitsOf(decoder, 0, 1, 9), fresh)).toBe(true);
  });

  test('sequences of other slots change nothing', () => {
    const decoder = open();
    const fresh = logitsOf(open(), 1, 1);
    const logits = new Float32Array(2 * V);
    decoder.prefill(0, [...ids].reverse());
    decoder.prefill(2, ids.slice(3));
    ids.forEach((_, i) => {
      decoder.step([{ slot: 1, tokens: ids, start: i, end: i + 1 }], { logits });
    });
    expect(sameBits(logits.subarray(0, V), fresh)).toBe(true);
  });

  test('generate takes it', () => {
    const options = { kvCacheDtype };
    const tokens = generate(model, ids.slice(0, 3), maxSeqLen, undefined, options);
    expect(tokens).toHaveLength(maxSeqLen);
  });
});

test('float16 chooses the tokens that float32 chooses where the margin is beyond its rounding', async () => {
  const { step } = TYPES[0];
  const loaded = await MoETransformer.load(hfDir('qwen3_moe'));
  const size = loaded.vocabSize;
  const decoders = [new Decoder(loaded), new Decoder(loaded, { kvCacheDtype: 'float16' })];
  const tokens = [1, 5, 9];
  const [exact, rounded] = decoders.map(() => new Float32Array(size));
  let compared = 0;
  for (let start = 0; tokens.length < 24; start = tokens.length - 1) {
    decoders[0].prefill(0, tokens, exact, start);
    decoders[1].prefill(0, tokens, rounded, start);
    const [best, second] = Array.from(exact).sort((a, b) => b - a);
    const token = exact.indexOf(best);
    if (best - second > 4 * loaded.config.nLayers * step * Math.max(...exact.map(Math.abs))) {
      expect(rounded.indexOf(Math.max(...rounded))).toBe(token);
      compared++;
    }
    tokens.push(token);
  }
  expect(compared).toBeGreaterThan(8);
});

test('an unknown type and a head that is no whole blocks are refused by name', () => {
  const options = { kvCacheDtype: 'q4_0' } as unknown as DecoderOptions;
  expect(() => new Decoder(model, options)).toThrow(
    new RangeError("Decoder: kvCacheDtype must be float32, float16, q8_0, got 'q4_0'"),
  );
  expect(() => new Decoder(model, { kvCacheDtype: 8 as never })).toThrow(TypeError);
  expect(() => new Decoder(smallModel(), { kvCacheDtype: 'q8_0' })).toThrow(
    /^Decoder: kvCacheDtype 'q8_0' needs a headDim that is a multiple of 32, the model's is 8; 'float16' takes any$/,
  );
  expect(() => memoryBytes(smallModel().config, { mode: 'decode', kvCacheDtype: 'q8_0' })).toThrow(
    /multiple of 32/,
  );
});
