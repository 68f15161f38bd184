import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { bytesToCharacters } from '../../src/base/byteAlphabet';
import { trainBpe } from '../../src/text/bpe/trainBpe';
import { HuggingFaceTokenizer } from '../../src/text/huggingFaceTokenizer';
import { loadTokenizer } from '../../src/text/loadTokenizer';

const TEXT =
  "The quick brown fox doesn't jump. It'll say: 1,234 naïve words\r\n\r\n  indented\tline \u3000 全角 😀😀 don't\n".repeat(
    4,
  );

type Json = Record<string, unknown> & { model: { vocab: Record<string, number> }; added_tokens: object[] };
let bpe: HuggingFaceTokenizer;
let json: Json;
beforeAll(async () => {
  bpe = await trainBpe([TEXT], { vocabSize: 320, specialTokens: ['<|endoftext|>', '<|user|>'] });
  json = JSON.parse(JSON.stringify(bpe));
});

/** The ids of a text that is encoded whole, as tokens with look-around need it. */
function wholeIds(content: Json, text: string): number[] {
  const known = new HuggingFaceTokenizer(content).vocabSize;
  const added = [{ id: known, content: '\u0001\u0002', single_word: true, special: true }];
  const whole = new HuggingFaceTokenizer({ ...content, added_tokens: [...content.added_tokens, ...added] });
  expect(whole.piecewise).toBe(false);
  return [...whole.encode(text)];
}

/** Well-formed texts with many characters that matter to words and to BPE. */
const texts = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc
    .array(
      fc.constantFrom(
        "don't",
        "'ll",
        ' the',
        'THE',
        ' quick',
        '  ',
        '\n',
        '\r\n',
        '\t',
        ' ',
        '1234',
        '...',
        '😀',
        '👩‍👩‍👧',
        'é',
        'e\u0301',
        '\u00a0',
        '\u3000',
        '\u2028',
        '全角',
        '<|endoftext|>',
        '<|user|>',
        '<|user',
        '\ufffd',
        '\ud7ff',
        'ſ',
        'Ⅷ',
        '\0',
      ),
      { maxLength: 30 },
    )
    .map((parts) => parts.join('')),
);
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 100 }),
  texts.map((text) => new TextEncoder().encode(text)),
  fc
    .tuple(texts, fc.uint8Array({ maxLength: 5 }), texts)
    .map(([a, b, c]) => Buffer.concat([Buffer.from(a), b, Buffer.from(c)])),
);

describe('a byte-level tokenizer', () => {
  it('gives any bytes back exactly: emoji, line ends, spaces, what is not UTF-8', () => {
    fc.assert(
      fc.property(bytes, (sequence) => {
        const ids = bpe.encode(sequence);
        expect(Buffer.from(bpe.decodeBytes(ids)).equals(sequence)).toBe(true);
        expect(bpe.decode(ids)).toBe(Buffer.from(sequence).toString('utf8'));
      }),
    );
  });

  it('does not clean up spaces, whatever the configuration says', () => {
    const cleaning = new HuggingFaceTokenizer(json, {
      tokenizerConfig: { clean_up_tokenization_spaces: true },
    });
    const text = " a . b ? c ! d , e ' f n't 'm 's 've 're";
    expect(cleaning.decode(cleaning.encode(text))).toBe(text);
  });

  it('encodes lone surrogates as U+FFFD', () => {
    const lone = fc.string({ unit: fc.constantFrom('\ud83d', '\ude00', 'a', ' ') });
    fc.assert(
      fc.property(lone, (text) => {
        const expected = Buffer.from(text, 'utf8').toString('utf8');
        expect(bpe.decode(bpe.encode(text))).toBe(expected);
      }),
    );
  });

  it('streams what decode gives, in pieces that never split a character', () => {
    const ids = fc.oneof(
      bytes.map((sequence) => [...bpe.encode(sequence)]),
      fc.array(fc.integer({ min: 0, max: 319 }), { maxLength: 40 }),
    );
    fc.assert(
      fc.property(ids, fc.boolean(), (sequence, skipSpecialTokens) => {
        const decoder = bpe.createDecoder({ skipSpecialTokens });
        const pieces = sequence.map((id) => decoder.push(id));
        for (const piece of pieces) expect(piece).not.toMatch(/\p{Surrogate}/u);
        expect(pieces.join('') + decoder.flush()).toBe(bpe.decode(sequence, { skipSpecialTokens }));
        expect(decoder.flush()).toBe('');
      }),
    );
  });

  it('counts the bytes of the text that ids stand for, none for special tokens', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(bpe.countBytes(bpe.encode(text))).toBe(Buffer.byteLength(text));
      }),
    );
    expect(bpe.countBytes(bpe.encode('é<|endoftext|>'))).toBe(2);
  });

  it('leaves special tokens out of the text when asked', () => {
    const ids = bpe.encode('a<|user|>b<|endoftext|>');
    expect(bpe.decode(ids)).toBe('a<|user|>b<|endoftext|>');
    expect(bpe.decode(ids, { skipSpecialTokens: true })).toBe('ab');
  });

  it('encodes long texts in pieces as it does whole', () => {
    // Words of many lengths, so that pieces end in all kinds of places.
    const long = Array.from({ length: 60_000 }, (_, i) => `w${i * 7919}${i % 5 ? ' ' : '\n'}`).join('');
    expect(long.length).toBeGreaterThan(2 ** 18);
    expect(bpe.piecewise).toBe(true);
    expect([...bpe.encode(long)]).toEqual(wholeIds(json, long));
  });

  it('refuses ids outside the vocabulary and other things than text', () => {
    for (const bad of [320, -1, 1.5, Number.NaN]) {
      const message = new RangeError(`ids[1] must be an integer in [0, 320), got ${bad}`);
      expect(() => bpe.decode([0, bad])).toThrow(message);
      expect(() => bpe.countBytes([0, bad])).toThrow(message);
      expect(() => bpe.decodeBytes([0, bad])).toThrow(message);
      expect(() => bpe.createDecoder().push(bad)).toThrow(RangeError);
    }
    expect(() => bpe.encode(5 as unknown as string)).toThrow(TypeError);
    expect(() => bpe.encode('', { addSpecialToken: true } as object)).toThrow(/unknown option/);
  });

  it('is read again from what it wrote', () => {
    const { tokenizer, ...beside } = JSON.parse(JSON.stringify(bpe.files()));
    const again = loadTokenizer(tokenizer, beside) as HuggingFaceTokenizer;
    expect(again).toBeInstanceOf(HuggingFaceTokenizer);
    expect([...again.encode(TEXT)]).toEqual([...bpe.encode(TEXT)]);
    expect(again.endOfText).toBe(0);
    expect(JSON.stringify(again)).toBe(JSON.stringify(bpe));
  });
});

describe('long texts', () => {
  const split = (regex: string, behavior = 'Isolated') => {
    return { type: 'Split', pattern: { Regex: regex }, behavior, invert: false };
  };
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };
  const sequence = (...pretokenizers: object[]) => ({ type: 'Sequence', pretokenizers });
  const CL100K =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const cases: [string, boolean, object][] = [
    ["GPT-4's expression", true, { pre_tokenizer: sequence(split(CL100K), byteLevel) }],
    ['NFC', true, { normalizer: { type: 'NFC' } }],
    ['lower case', false, { normalizer: { type: 'Lowercase' } }],
    ['a space in front', false, { pre_tokenizer: { ...byteLevel, add_prefix_space: true } }],
    [
      'words that end in spaces',
      false,
      { pre_tokenizer: sequence(split(' ', 'MergedWithPrevious'), byteLevel) },
    ],
    ['words of two', false, { pre_tokenizer: sequence(split('\\w+ \\w+'), byteLevel) }],
    ['a token with a space', false, { added_tokens: [{ id: 320, content: ' the', normalized: false }] }],
  ];

  it.each(cases)(
    '%s: cut in front of spaces (%s) or not, the ids are those of the whole',
    (_, piecewise, change) => {
      const content = { ...json, ...change };
      const tokenizer = new HuggingFaceTokenizer(content);
      expect(tokenizer.piecewise).toBe(piecewise);
      const long = TEXT.repeat(800);
      expect(long.length).toBeGreaterThan(2 ** 18);
      expect([...tokenizer.encode(long)]).toEqual(wholeIds(content, long));
    },
  );
});

describe('a tokenizer that puts tokens around a text', () => {
  it('does so when asked, and not otherwise', () => {
    const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
    const special_tokens = Object.fromEntries(
      [...bpe.specialTokens].map(([id, number]) => [id, { id, ids: [number], tokens: [id] }]),
    );
    const single = [special('<|user|>'), { Sequence: { id: 'A', type_id: 0 } }, special('<|endoftext|>')];
    const tokenizer = new HuggingFaceTokenizer({
      ...json,
      post_processor: { type: 'TemplateProcessing', single, pair: [], special_tokens },
    });
    const alone = [...tokenizer.encode('a fox')];
    expect(alone).toEqual([...bpe.encode('a fox')]);
    expect([...tokenizer.encode('a fox', { addSpecialTokens: true })]).toEqual([1, ...alone, 0]);
    expect([...bpe.encode('a fox', { addSpecialTokens: true })]).toEqual(alone);
  });
});

/** As Llama's and Mixtral's: '▁' for spaces, one in front, bytes as '<0x41>' where a character has no token. */
function sentencePiece(): HuggingFaceTokenizer {
  const byteTokens = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const tokens = ['<unk>', '<s>', '</s>', ...byteTokens, '▁', 'a', 'b', 'ab', '▁ab', '\ufffd'];
  return new HuggingFaceTokenizer({
    added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, special: true })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: ['a b', '▁ ab'],
    },
  });
}

describe('a SentencePiece-like tokenizer', () => {
  const tokenizer = sentencePiece();

  it('goes there and back through its spaces and bytes', () => {
    expect(tokenizer.byteLevel).toBe(false);
    expect(tokenizer.endOfText).toBe(2);
    for (const text of ['ab ab', 'b  a', 'é 😀 ab', 'ab\r\n']) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      expect(tokenizer.countBytes(tokenizer.encode(text))).toBe(Buffer.byteLength(text));
      expect(Buffer.from(tokenizer.decodeBytes(tokenizer.encode(text))).toString()).toBe(text);
    }
    expect(tokenizer.decode([])).toBe('');
  });

  it('streams what decode gives, in pieces that never split a character', () => {
    const words = fc.array(fc.constantFrom('ab', ' ', 'é', '😀', 'a', '</s>'), { maxLength: 20 });
    fc.assert(
      fc.property(words, fc.boolean(), (parts, skipSpecialTokens) => {
        const ids = tokenizer.encode(parts.join(''));
        const decoder = tokenizer.createDecoder({ skipSpecialTokens });
        const pieces = Array.from(ids, (id) => decoder.push(id));
        for (const piece of pieces) expect(piece).not.toContain('\ufffd');
        expect(pieces.join('') + decoder.flush()).toBe(tokenizer.decode(ids, { skipSpecialTokens }));
      }),
    );
  });

  it('gives an incomplete character out as U+FFFD at the end, and starts anew then', () => {
    const decoder = tokenizer.createDecoder();
    const [, first, second] = tokenizer.encode('é');
    expect([decoder.push(first), decoder.flush()]).toEqual(['', '\ufffd']);
    expect(decoder.push(first) + decoder.push(second)).toBe('é');
    expect(() => decoder.push(9999)).toThrow(RangeError);
  });
});

it('ids that no token has stand for no text', () => {
  const vocab = { ...json.model.vocab, gap: 420 };
  const gap = new HuggingFaceTokenizer({ ...json, model: { ...json.model, vocab } });
  expect(gap.vocabSize).toBe(421);
  expect(gap.decode([410, 420])).toBe('gap');
  expect(gap.countBytes([410])).toBe(0);
  expect(gap.idToToken(410)).toBeUndefined();
});

it('an added token with another id than Python would give it is refused', () => {
  const added_tokens = [...json.added_tokens, { id: 420, content: '<far>' }];
  expect(() => new HuggingFaceTokenizer({ ...json, added_tokens })).toThrow(
    `"<far>" has id 420, where Hugging Face's tokenizers gives it 320`,
  );
});

it('the byte alphabet is that of GPT-2', () => {
  expect(bytesToCharacters(Uint8Array.of(0x20, 0x0a, 0x41, 0x7f, 0xa0, 0xad, 0xff))).toBe('ĠĊAġłŃÿ');
});
