import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteTokenizer } from '../../src/text/byteTokenizer';
import { loadTokenizer } from '../../src/text/loadTokenizer';
import { expectError } from '../helpers/expectError';

const tokenizer = new ByteTokenizer();
const wellFormed = fc.string({ unit: 'binary' });

describe('ByteTokenizer', () => {
  it('has the bytes of UTF-8 as ids', () => {
    expect([...tokenizer.encode('Aé€😀')]).toEqual([
      65, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80,
    ]);
    expect(tokenizer.encode('')).toEqual(new Int32Array(0));
    expect(tokenizer.vocabSize).toBe(256);
  });

  it('gives every well-formed text back, spaces and byte order marks included', () => {
    fc.assert(
      fc.property(wellFormed, (text) => {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }),
    );
    for (const text of ['  a  b \n\t\r\n ', '\ufeffstart', 'e\u0301', '\0']) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
  });

  it('gives any bytes back exactly, UTF-8 or not', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const ids = tokenizer.encode(bytes);
        expect(tokenizer.decodeBytes(ids)).toEqual(bytes);
        expect(tokenizer.countBytes(ids)).toBe(bytes.length);
      }),
    );
  });

  it('shows bytes that are not UTF-8 as U+FFFD', () => {
    expect(tokenizer.decode([65, 0xff, 66])).toBe('A\ufffdB');
  });

  it('streams what decode gives, in pieces that never split a character', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      wellFormed.map((text) => new TextEncoder().encode(text)),
    );
    fc.assert(
      fc.property(bytes, (sequence) => {
        const decoder = tokenizer.createDecoder();
        let text = '';
        for (const byte of sequence) {
          const piece = decoder.push(byte);
          expect(piece).not.toMatch(/\p{Surrogate}/u);
          text += piece;
        }
        expect(text + decoder.flush()).toBe(tokenizer.decode(sequence));
      }),
    );
  });

  it('holds an incomplete character back until it is whole, or flushed', () => {
    const decoder = tokenizer.createDecoder();
    expect([0xf0, 0x9f, 0x98, 0x80].map((byte) => decoder.push(byte))).toEqual(['', '', '', '😀']);
    expect(decoder.push(0xe2)).toBe('');
    expect(decoder.flush()).toBe('\ufffd');
    expect(decoder.flush()).toBe('');
    expect(decoder.push(65)).toBe('A');
  });

  it('keeps the state of two streams apart', () => {
    const first = tokenizer.createDecoder();
    const second = tokenizer.createDecoder();
    expect(first.push(0xc3)).toBe('');
    expect(second.push(65)).toBe('A');
    expect(first.push(0xa9)).toBe('é');
  });

  it('refuses ids outside the vocabulary and other things than text', () => {
    for (const bad of [256, -1, 1.5, Number.NaN]) {
      expect(() => tokenizer.decode([0, bad])).toThrow(
        new RangeError(`ids[1] must be an integer in [0, 256), got ${bad}`),
      );
      expect(() => tokenizer.countBytes([bad])).toThrow(RangeError);
      expect(() => tokenizer.createDecoder().push(bad)).toThrow(RangeError);
    }
    expect(() => tokenizer.encode(5 as unknown as string)).toThrow(TypeError);
  });
});

describe('loadTokenizer', () => {
  it('reads what toJSON wrote', () => {
    const again = loadTokenizer(JSON.parse(JSON.stringify(tokenizer)));
    expect(again).toBeInstanceOf(ByteTokenizer);
    expect(JSON.stringify(again)).toBe('{"type":"byte","vocab_size":256}');
  });

  it.each([
    [{ type: 'sentencepiece' }, /got "sentencepiece"/],
    [{ version: '1.0' }, /"model", or a "type" that this version knows \("byte"\), got nothing/],
    [{ model: null }, /"model" must be an object/],
    [{ model: { type: 'BPE' } }, /"model.vocab" must be an object, got nothing/],
    [
      { model: { type: 'BPE', vocab: {}, merges: [] }, added_tokens: [{ id: -1, content: 'x' }] },
      /"added_tokens\[0\].id" must be an integer in \[0, 16777215\], got -1/,
    ],
    [{ model: { type: 'BPE', vocab: {}, merges: [] } }, /its ids must lie in \[0, 16777216\)/],
    [
      { model: { type: 'BPE', vocab: { a: 4e9 }, merges: [] } },
      /the id of "a" must be an integer in \[0, 16777216\)/,
    ],
    [{ model: { type: 'BPE', vocab: {}, merges: [] }, pre_tokenizer: { type: 'Magic' } }, /Magic/],
    [{ type: 'byte', vocab_size: 257 }, /"vocab_size" 256, got 257/],
    [[], /must hold a JSON object, got \[\]/],
    [null, /must hold a JSON object, got null/],
    ['byte', /must hold a JSON object, got "byte"/],
  ])('refuses %j', async (json, message) => {
    await expectError('SGEMOE_TOKENIZER_INVALID', message, () => loadTokenizer(json));
  });
});
