/** Tokenizers whose tokens are texts with signs for spaces, and single bytes for what no token has. */
import { default as Ajv } from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import { describe, expect, test } from 'vitest';
import { generate, HuggingFaceTokenizer, Sampler, type SamplingOptions, TokenVocabulary } from '../../../src';
import { Lcg64 } from '../../../src/base/random';
import { TextStream } from '../../../src/text/textStream';
import { randomModel } from './randomModel';
import { RandomSchemas } from './randomSchema';

const MOST_TOKENS = 300;
const SPECIAL = ['<unk>', '<s>', '</s>'];
const BYTE_TOKENS = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
);
const PIECES = [
  '{"',
  '":',
  '▁"',
  '",▁"',
  '"}',
  '▁{"',
  '[]',
  '▁',
  '▁▁',
  '\n▁▁',
  '▁true',
  'null',
  '▁12',
  '0.5',
  'é',
];
const CHARACTERS = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).filter(
  (each) => each !== ' ',
);
const TOKENS = [...SPECIAL, ...BYTE_TOKENS, ...CHARACTERS, ...PIECES];
const VOCAB = Object.fromEntries(TOKENS.map((token, id) => [token, id]));
const END = 2;
/** Bytes of a character that no token but those of bytes has. */
const EURO = [...Buffer.from('€')].map((byte) => SPECIAL.length + byte);

const ADDED = SPECIAL.map((content, id) => ({ id, content, special: true }));
const BPE = { type: 'BPE', vocab: VOCAB, merges: [], unk_token: '<unk>', byte_fallback: true };
const METASPACE = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true };

const TOKENIZERS: [string, object][] = [
  [
    'BPE with byte fallback, as Llama 2',
    {
      model: BPE,
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
    },
  ],
  [
    'Unigram with Metaspace and byte fallback',
    {
      model: { type: 'Unigram', vocab: TOKENS.map((token) => [token, -1]), unk_id: 0, byte_fallback: true },
      pre_tokenizer: METASPACE,
      decoder: { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, METASPACE] },
    },
  ],
  [
    'Metaspace alone',
    { model: { ...BPE, byte_fallback: false }, pre_tokenizer: METASPACE, decoder: METASPACE },
  ],
];

describe.each(TOKENIZERS)('%s', (name, json) => {
  const tokenizer = new HuggingFaceTokenizer({ added_tokens: ADDED, ...json });
  const bytes = tokenizer.tokenBytes();
  const vocabulary = new TokenVocabulary(bytes);
  const hasBytes = name !== 'Metaspace alone';
  const prompt = tokenizer.encode('ab');
  const rng = new Lcg64(4);
  const model = randomModel(bytes, END, MOST_TOKENS, () => rng.nextFloat());

  /** A text that ended by itself; null for one that was cut. */
  function write(options: SamplingOptions): string | null {
    const sampler = new Sampler(options, { vocabSize: bytes.length, vocabulary, endTokens: [END] });
    const tokens = generate(model, prompt, MOST_TOKENS, sampler).slice(prompt.length);
    if (tokens.length === MOST_TOKENS - prompt.length && !sampler.ended) return null;
    const stream = new TextStream(tokenizer, { prompt });
    return tokens.map((token) => stream.push(token)).join('') + stream.flush();
  }

  test('tokens are the bytes that they add behind others', () => {
    expect(bytes.slice(0, SPECIAL.length)).toEqual([null, null, null]);
    expect(String(Buffer.from(bytes[VOCAB['▁true']]!))).toBe(' true');
    expect(String(Buffer.from(bytes[VOCAB['\n▁▁']]!))).toBe('\n  ');
    if (hasBytes) expect(Buffer.concat(EURO.map((token) => bytes[token]!)).toString()).toBe('€');
  });

  test('every answer that ends by itself validates, as the text that a client sees', () => {
    const uniform = () => rng.nextFloat();
    const schemas = new RandomSchemas(uniform);
    let whole = 0;
    for (let seed = 0; seed < 30; seed++) {
      const jsonSchema = schemas.next();
      const ajv = new Ajv({ strict: false });
      addFormats(ajv);
      const validate = ajv.compile(jsonSchema as object);
      let text: string | null;
      try {
        text = write({ jsonSchema, seed });
      } catch (error) {
        // Such as joins that aren't supported; a vocabulary without bytes lacks characters.
        expect(error).toMatchObject({ code: expect.stringMatching(/CONSTRAINT_(INVALID|STUCK)/) });
        continue;
      }
      if (text === null) continue;
      whole++;
      expect(validate(JSON.parse(text)), `${JSON.stringify(jsonSchema)} wrote ${text}`).toBe(true);
    }
    // Most schemas lead to a whole answer, so the test tests something.
    expect(whole).toBeGreaterThan(10);
  });

  test('spaces, and characters that only bytes have, stand where a pattern wants them', () => {
    const wanted = hasBytes ? /^ [€é]{2} {2}x ?$/ : /^ é{2} {2}x ?$/;
    for (let seed = 0; seed < 20; seed++) expect(write({ regex: wanted.source, seed })).toMatch(wanted);
  });
});
