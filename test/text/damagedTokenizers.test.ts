import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { HuggingFaceTokenizer, loadTokenizer, SgemoeError } from '../../src';
import { translateRegExp } from '../../src/text/pipeline/regex';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const path = join(__dirname, '../fixtures/tokenizers/tokenizers.json');
const { shapes } = JSON.parse(readFileSync(path, 'utf8')) as { shapes: Record<string, { file: Json }> };

/** Models of a few tokens, so that every field can be damaged. */
const vocab = Object.fromEntries(
  ['<unk>', 'a', 'b', 'ab', '▁', '<0x41>', '[UNK]', '##b'].map((token, id) => [token, id]),
);
const MODELS: Json[] = [
  {
    type: 'BPE',
    vocab,
    merges: [['a', 'b']],
    unk_token: '<unk>',
    byte_fallback: true,
    fuse_unk: true,
    dropout: null,
  },
  {
    type: 'WordPiece',
    vocab,
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 10,
  },
  { type: 'WordLevel', vocab, unk_token: '<unk>' },
  { type: 'Unigram', vocab: Object.keys(vocab).map((token) => [token, -1]), unk_id: 0, byte_fallback: false },
];
const PARTS = ['normalizer', 'pre_tokenizer', 'decoder', 'post_processor'];
const DAMAGES: Json[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e300,
  '',
  'x',
  '\ud800',
  [],
  [null],
  [[]],
  {},
  { type: 'Sequence' },
];

/** Every way to replace one field of `json`, or to leave it out. */
function* damaged(json: Json): Generator<Json> {
  yield* DAMAGES;
  if (typeof json !== 'object' || json === null) return;
  for (const key of Object.keys(json)) {
    for (const value of damaged((json as { [key: string]: Json })[key]))
      yield Object.assign(structuredClone(json), { [key]: value });
    if (Array.isArray(json)) continue;
    const { [key]: _, ...rest } = json;
    yield rest;
  }
}

/** Either refused as it should be, or usable. */
function tryOut(json: unknown): void {
  try {
    const tokenizer = loadTokenizer(json);
    const ids = tokenizer.encode(' ab <s>Aé\ud83d 12.', { addSpecialTokens: true });
    const known = ids.filter((id) => id < tokenizer.vocabSize);
    tokenizer.decode(known, { skipSpecialTokens: true });
    tokenizer.decodeBytes(known);
    tokenizer.countBytes(known);
    const decoder = tokenizer.createDecoder({ prompt: known });
    decoder.peek(0);
    decoder.push(0);
    decoder.flush();
  } catch (error) {
    if (error instanceof SgemoeError && error.code === 'SGEMOE_TOKENIZER_INVALID') return;
    throw new Error(`${JSON.stringify(json)}: ${error}`, { cause: error });
  }
}

describe('a damaged tokenizer.json is refused or works', () => {
  test.each(PARTS)('every field of the %s', (part) => {
    const seen = new Set<string>();
    for (const { file } of Object.values(shapes)) {
      const stage = (file as { [part: string]: Json })[part] ?? null;
      const text = JSON.stringify(stage);
      if (seen.has(text)) continue;
      seen.add(text);
      for (const value of damaged(stage)) tryOut({ model: MODELS[0], [part]: value });
    }
    expect(seen.size).toBeGreaterThan(3);
  });

  test('every field of the models', () => {
    for (const model of MODELS) for (const value of damaged(model)) tryOut({ model: value });
  });

  test('every field of added tokens', () => {
    const flags = { single_word: false, lstrip: true, rstrip: true, normalized: true, special: true };
    for (const value of damaged([{ id: 8, content: '<s>', ...flags }]))
      tryOut({ model: MODELS[0], added_tokens: value });
  });

  test('stages nested without end', () => {
    for (const [part, list] of [
      ['normalizer', 'normalizers'],
      ['pre_tokenizer', 'pretokenizers'],
      ['decoder', 'decoders'],
      ['post_processor', 'processors'],
    ]) {
      let stage: object = { type: 'Fuse' };
      for (let i = 0; i < 5000; i++) stage = { type: 'Sequence', [list]: [stage] };
      expect(() => loadTokenizer({ model: MODELS[0], [part]: stage })).toThrow(/more than 32 levels deep/);
    }
  });

  test('expressions that are malformed, or that JavaScript has no words for', () => {
    const bad = [
      '(',
      ')',
      '[',
      '[]',
      '[a',
      '(?<n>a)\\k<n>',
      '(a)\\1',
      '\\G',
      '\\R',
      '\\X',
      '\\p{Nothing}',
      '*',
      'a**?(',
      '(?x)a',
    ];
    for (const Regex of [
      ...bad,
      '('.repeat(1e5),
      '['.repeat(1e5),
      'a{5,2}',
      '[b-a]',
      '\\x{110000}',
      '\\',
      '(?',
      '(?<',
    ]) {
      const pre_tokenizer = { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false };
      const load = () => new HuggingFaceTokenizer({ model: MODELS[0] as object, pre_tokenizer });
      expect(load, Regex.slice(0, 20)).toThrow(/"pre_tokenizer.pattern.Regex" is not supported/);
    }
  });
});

describe('expressions of Oniguruma', () => {
  /** What Python's `tokenizers` matches, through Split. */
  const cases: [source: string, text: string, matches: string[]][] = [
    ["(?i:'s)", "x'ſ's'S", ["'ſ", "'s", "'S"]],
    ['(?i)k[a-c]', 'KA\u212ab ka', ['KA', '\u212ab', 'ka']],
    ['\\s++$', 'a  \nb \n', [' \n']],
    ['x(?i)a|B', 'xA b B', ['xA']],
    ['(?i:[à-ï])', 'É', ['É']],
    ['(?>a+)ab|b', 'aaab', ['b']],
    ['a{2}+', 'aaaaa', ['aaaa']],
    ['^a', 'a\naa', ['a', 'a']],
    ['.', 'a\n', ['a']],
    ['(?m:.)', 'a\n', ['a', '\n']],
    ['[\\p{L}&&[^a]]', 'abc', ['b', 'c']],
    ['[^(\\s|[.,])]+', 'ab (c|.d', ['ab', 'c', 'd']],
    ['[[:alpha:]]+', "aé'漢 ", ['aé', '漢']],
    ['\\w+', 'a²_é٣ ', ['a²_é٣']],
    ['[\\w]+', 'a²b', ['a', 'b']],
    ['\\h', 'xaF', ['a', 'F']],
    ['[]a]', 'a]', ['a', ']']],
    ['[a\\-z-]', 'a-bz', ['a', '-', 'z']],
    ['\\p{^L}', 'a1', ['1']],
    ['\\p{Han}+', 'a漢字', ['漢字']],
    ['\\x41\\u0042\\x{43}', 'ABC', ['ABC']],
    ['a{,2}', 'aaa', ['aa', 'a']],
  ];
  test.each(cases)('%s', (source, text, matches) => {
    const found = text.match(translateRegExp(source)) ?? [];
    expect(found.filter((match) => match !== '')).toEqual(matches);
  });
});
