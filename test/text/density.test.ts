import { describe, expect, it } from 'vitest';
import { ByteTokenizer, HuggingFaceTokenizer, trainBpe } from '../../src';
import { BYTE_CHARACTERS } from '../../src/base/byteAlphabet';

const vocab = Object.fromEntries(BYTE_CHARACTERS.map((character, id) => [character, id]));
const BYTES = { model: { type: 'BPE', vocab: { ...vocab, ab: 256 }, merges: [['a', 'b']] } };
const LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const withParts = (parts: object) =>
  new HuggingFaceTokenizer({ ...BYTES, pre_tokenizer: LEVEL, decoder: LEVEL, added_tokens: [], ...parts });
const most = (parts: object) => withParts(parts).mostBytesPerToken;
const added = (more: object) => ({ id: 257, content: '<|end|>', special: true, normalized: false, ...more });

describe('mostBytesPerToken', () => {
  it('is the length of the longest token, added ones too, where bytes have tokens', () => {
    expect(new ByteTokenizer().mostBytesPerToken).toBe(1);
    expect(most({})).toBe(2);
    expect(most({ added_tokens: [added({})] })).toBe(7);
  });

  it('allows for what a normalizer shortens', () => {
    expect(most({ normalizer: { type: 'NFC' } })).toBe(8);
    expect(most({ normalizer: { type: 'Replace', pattern: { String: 'abcd' }, content: 'x' } })).toBe(8);
    expect(most({ normalizer: { type: 'Replace', pattern: { String: 'x' }, content: 'abcd' } })).toBe(2);
  });

  it.each([
    [
      'a normalizer may remove text',
      { normalizer: { type: 'Replace', pattern: { String: 'a' }, content: '' } },
    ],
    [
      'a normalizer replaces by a pattern',
      { normalizer: { type: 'Replace', pattern: { Regex: 'a+' }, content: 'b' } },
    ],
    ['a normalizer strips', { normalizer: { type: 'Strip', strip_left: true, strip_right: true } }],
    ['an added token takes the space around it', { added_tokens: [added({ rstrip: true })] }],
    [
      'words are cut by removing spaces',
      { pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'WhitespaceSplit' }, LEVEL] } },
    ],
    ['unknown text is left out', { model: { type: 'BPE', vocab: { a: 0 }, merges: [] } }],
  ])('is Infinity where %s', (_why, parts) => {
    expect(most(parts)).toBe(Number.POSITIVE_INFINITY);
  });

  it('holds for NFC: no character is written in more bytes than allowed', () => {
    let worst = 0;
    for (let code = 0; code < 0x110000; code++) {
      if (code >= 0xd800 && code < 0xe000) continue;
      const composed = String.fromCodePoint(code).normalize('NFC');
      for (const form of [String.fromCodePoint(code), composed.normalize('NFD')]) {
        worst = Math.max(worst, Buffer.byteLength(form) / Buffer.byteLength(composed));
      }
    }
    expect(worst).toBeLessThanOrEqual(4);
  });

  it('is a bound: no text of a trained tokenizer has fewer tokens than it says', async () => {
    const text = 'the cat sat on the mat, and the rat sat on the cat. '.repeat(20);
    const tokenizer = await trainBpe([text], { vocabSize: 400 });
    for (const each of [text, text.slice(0, 51), ' '.repeat(99), 'é漢😀'.repeat(9)]) {
      const tokens = tokenizer.encode(each).length;
      expect(tokens).toBeGreaterThanOrEqual(Buffer.byteLength(each) / tokenizer.mostBytesPerToken);
    }
  });
});

describe('encode with mostTokens', () => {
  it('gives the first tokens of a longer text, and a shorter text whole', () => {
    const tokenizer = withParts({});
    const text = 'some words of a text '.repeat(1000);
    const whole = tokenizer.encode(text);
    const part = tokenizer.encode(text, { mostTokens: 100 });
    expect(part.length).toBeGreaterThan(100);
    expect(part.length).toBeLessThan(200);
    expect(part).toEqual(whole.slice(0, part.length));
    expect(tokenizer.encode(text, { mostTokens: whole.length })).toEqual(whole);
    expect(() => tokenizer.encode(text, { mostTokens: -1 })).toThrow(RangeError);
  });
});
