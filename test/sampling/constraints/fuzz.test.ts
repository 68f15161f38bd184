import { default as Ajv } from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import { expect, test } from 'vitest';
import { generate, Sampler, type SgemoeError, TokenVocabulary } from '../../../src';
import { Lcg64 } from '../../../src/base/random';
import { randomModel } from './randomModel';
import { RandomSchemas } from './randomSchema';

const SCHEMAS = 100 * Number(process.env.SGEMOE_TEST_SCALE ?? 1);
const PROMPT = 0;
const MOST_TOKENS = 400;

/** Bytes, pieces of JSON that span its parts, pieces of characters, a special token, and the end of text. */
const PIECES = [
  '{"',
  '":',
  '", "',
  '"}',
  '},',
  '[]',
  '{}',
  ']}',
  '\n  ',
  'true',
  'null',
  '12',
  '0.5',
  '-',
  'ab',
  '\\"',
  'é',
  '"a"',
];
const BYTES: (Uint8Array | null)[] = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...PIECES.map((piece) => Buffer.from(piece)),
  Buffer.from('é€').subarray(1, 4),
  null,
  null,
];
const END = BYTES.length - 1;

test(`what random models write by ${SCHEMAS} random schemas parses and validates`, () => {
  const rng = new Lcg64(15);
  const uniform = () => rng.nextFloat();
  const schemas = new RandomSchemas(uniform);
  const model = randomModel(BYTES, END, MOST_TOKENS + 1, uniform);
  const vocabulary = new TokenVocabulary(BYTES);
  const counts = { whole: 0, cut: 0, refused: 0 };
  for (let i = 0; i < SCHEMAS; i++) {
    const jsonSchema = schemas.next();
    const ajv = new Ajv({ strict: false });
    addFormats(ajv);
    const validate = ajv.compile(jsonSchema as object);
    let sampler: Sampler;
    try {
      sampler = new Sampler(
        { jsonSchema, seed: i },
        { vocabSize: BYTES.length, vocabulary, endTokens: [END] },
      );
    } catch (error) {
      // Such as schemas that no value fulfils, and joins that aren't supported.
      expect((error as SgemoeError).code, String(error)).toBe('SGEMOE_CONSTRAINT_INVALID');
      counts.refused++;
      continue;
    }
    const tokens = generate(model, [PROMPT], MOST_TOKENS, sampler).slice(1);
    if (tokens.length === MOST_TOKENS - 1 && !sampler.ended) {
      counts.cut++;
      continue;
    }
    const text = Buffer.concat(tokens.map((token) => BYTES[token]!)).toString('utf8');
    const where = `${JSON.stringify(jsonSchema)} wrote ${text}`;
    expect(() => JSON.parse(text), where).not.toThrow();
    expect(validate(JSON.parse(text)), `${where}: ${JSON.stringify(validate.errors)}`).toBe(true);
    counts.whole++;
  }
  // Most schemas lead to a whole answer, so the test tests something.
  expect(counts.whole, JSON.stringify(counts)).toBeGreaterThan(SCHEMAS / 2);
});
