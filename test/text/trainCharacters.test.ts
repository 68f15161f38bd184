import { Tokenizer as Engine } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HuggingFaceTokenizer } from '../../src/text/huggingFaceTokenizer';
import { loadTokenizer } from '../../src/text/loadTokenizer';
import { trainCharacters } from '../../src/text/trainCharacters';
import { expectError } from '../helpers/expectError';

/** Line ends, spaces that other tokenizers clean up, and characters of more than one unit or code point. */
const TEXT =
  "a b  c\r\n\td , e n't ? 😀👩‍👩‍👧 e\u0301 é 全角\u3000\u00a0\u2028\0\ufeff0189ÿĀ\uffff\u{10000}\n";

const tokenizer = await trainCharacters([TEXT]);
const json = JSON.parse(JSON.stringify(tokenizer));
const characters = Object.keys(json.model.vocab);
const texts = fc.string({ unit: fc.constantFrom(...characters) });

describe('trainCharacters', () => {
  it('gives the code points of the texts ids in their order, and the newline one', async () => {
    const small = await trainCharacters(['b\uffff', Buffer.from('a😀b'), '']);
    expect(small.vocabSize).toBe(5);
    expect([0, 1, 2, 3, 4].map((id) => small.idToToken(id))).toEqual(['\n', 'a', 'b', '\uffff', '😀']);
  });

  it('is the same for the same characters, in whatever order they come', async () => {
    const other = await trainCharacters([[...TEXT].reverse().join('')]);
    expect(JSON.stringify(other)).toBe(JSON.stringify(tokenizer));
  });

  it('keeps a character whole that lies across two pieces of a long text', async () => {
    const long = await trainCharacters([`${'x'.repeat(2 ** 18 - 2)}😀${'x'.repeat(10)}`]);
    expect([...new Set(long.encode('\nx😀'))]).toEqual([0, 1, 2]);
    expect(long.vocabSize).toBe(3);
  });

  it('refuses a bare text, unknown options, and ends with its signal', async () => {
    await expect(trainCharacters('text')).rejects.toThrow(/^trainCharacters: texts must be an iterable/);
    await expect(trainCharacters([''], { vocabSize: 3 } as object)).rejects.toThrow(
      /unknown option 'vocabSize'/,
    );
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(trainCharacters(['a'], { signal })).rejects.toThrow('enough');
  });
});

describe('a character tokenizer', () => {
  it("encodes as Hugging Face's package does, and decodes there to the same text", () => {
    const engine = new Engine(json, tokenizer.files().tokenizerConfig!);
    fc.assert(
      fc.property(texts, (text) => {
        const ids = [...tokenizer.encode(text)];
        expect(ids).toEqual(engine.encode(text).ids);
        if (ids.length > 0) expect(engine.decode(ids)).toBe(text);
      }),
    );
  });

  it('has one token for each character, and gives every text back: line ends, spaces, emoji', () => {
    expect(tokenizer.decode(tokenizer.encode(TEXT))).toBe(TEXT);
    fc.assert(
      fc.property(texts, (text) => {
        const ids = tokenizer.encode(text);
        expect(ids).toHaveLength([...text].length);
        expect(tokenizer.decode(ids)).toBe(text);
        expect(Buffer.from(tokenizer.decodeBytes(ids)).toString('utf8')).toBe(text);
        expect(tokenizer.countBytes(ids)).toBe(Buffer.byteLength(text));
        const decoder = tokenizer.createDecoder();
        expect(Array.from(ids, (id) => decoder.push(id))).toEqual([...text]);
        expect(decoder.flush()).toBe('');
      }),
    );
  });

  it('is read again from what it wrote', () => {
    const again = loadTokenizer(json, tokenizer.files()) as HuggingFaceTokenizer;
    expect(again.toJSON()).toEqual(tokenizer.toJSON());
    expect(again.encode(TEXT)).toEqual(tokenizer.encode(TEXT));
    expect([again.vocabSize, again.byteLevel, again.piecewise, again.endOfText]).toEqual([
      characters.length,
      true,
      true,
      null,
    ]);
  });

  it('refuses a character that it has no token for, by name', async () => {
    const message = /"ü" \(U\+00FC\), only the \d+ of the text/;
    await expectError('SGEMOE_UNKNOWN_CHARACTER', message, () => tokenizer.encode('a ü'));
    await expectError('SGEMOE_UNKNOWN_CHARACTER', /"😁" \(U\+1F601\)/, () => tokenizer.encode('😁'));
    await expectError('SGEMOE_UNKNOWN_CHARACTER', /U\+FFFD/, () => tokenizer.encode('\ud83d'));
  });

  it('takes bytes that are not UTF-8 for U+FFFD, in the training text and after', async () => {
    const damaged = await trainCharacters([Uint8Array.of(0x61, 0xff)]);
    expect([...damaged.encode(Uint8Array.of(0xfe, 0x61))]).toEqual([2, 1]);
    expect(damaged.decode([2, 1])).toBe('\ufffda');
  });
});
