import { describe, expect, test } from 'vitest';
import { Sampler, TokenVocabulary, trainBpe } from '../../../src';
import { Lcg64 } from '../../../src/base/random';
import { Constraint } from '../../../src/sampling/constraints/constraint';
import { type ConstraintOptions, constraintOf } from '../../../src/sampling/constraints/options';

const BYTES = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
const PIECES = [
  '{"',
  '":',
  '", "',
  '"}',
  '},',
  '[]',
  ']]',
  '\n  ',
  'true',
  '12',
  'ab',
  'abab',
  '\\"',
  'é',
  'x"y',
  'aaaaaaaaaa',
];
const OPTIONS: ConstraintOptions[] = [
  { jsonSchema: true },
  { jsonSchema: { type: 'array', items: { $ref: '#' } } },
  {
    jsonSchema: {
      type: 'object',
      properties: { a: { type: 'array', items: { type: 'string', maxLength: 4 } }, b: { type: 'integer' } },
      required: ['a'],
    },
  },
  { jsonSchema: { type: 'string', minLength: 2, maxLength: 30 } },
  { grammar: 'root ::= "a" root "b" | [é-€]+ | x{2,5}\nx ::= "ab" | "a"' },
  { regex: '(ab|a)*[^a]{0,20}' },
  { choice: ['true', 'tru', 'ab', ''] },
];

/** Walks random texts; at each place the mask must be what every single token's bytes say. */
function compare(bytes: (Uint8Array | null)[], options: ConstraintOptions, seed: number): void {
  const rng = new Lcg64(seed);
  const END = bytes.length;
  const all = [...bytes, null];
  const vocabulary = new TokenVocabulary(all);
  const { automaton } = vocabulary.tableOf(constraintOf(options)!);
  for (let run = 0; run < 3; run++) {
    const constraint = new Constraint(constraintOf(options)!, vocabulary, [END]);
    let state = automaton.start;
    for (let step = 0; step < 25 && !constraint.ended; step++) {
      const logits = new Float32Array(all.length);
      constraint.apply(logits, all.length);
      automaton.begin();
      const want = all.map((each, token) =>
        token === END ? automaton.accepts(state) : each !== null && automaton.read(state, each) !== null,
      );
      expect(Array.from(logits, (logit) => logit === 0)).toEqual(want);
      const allowed = [...want.keys()].filter((token) => want[token]);
      const token = allowed[Math.floor(rng.nextFloat() * allowed.length)];
      constraint.accept(token);
      if (token === END) break;
      state = automaton.read(state, all[token]!)!;
    }
  }
}

describe('masks', () => {
  const vocabulary = [
    ...BYTES,
    ...PIECES.map((piece) => Buffer.from(piece)),
    Buffer.from('é€').subarray(1, 4),
    null,
  ];

  test.each(OPTIONS)('of %j are what each token by itself says', (options) =>
    compare(vocabulary, options, 3),
  );

  test('of a BPE tokenizer, too, with tokens that are parts of characters', async () => {
    const text = '{"name": "été", "list": [1, 2, 3], "€€": {"name": "où"}}\n'.repeat(50);
    const tokenizer = await trainBpe([text], { vocabSize: 330 });
    const bytes = tokenizer.tokenBytes();
    expect(bytes[tokenizer.endOfText!]).toBeNull();
    for (const options of OPTIONS.slice(0, 4)) compare(bytes, options, 5);
  });
});

describe('a Sampler with a constraint', () => {
  const vocabulary = new TokenVocabulary([...BYTES, null]);
  const END = 256;
  const setup = { vocabSize: 257, vocabulary, endTokens: [END] };
  const logits = () => Float32Array.from({ length: 257 }, (_, token) => (token === END ? 9 : token / 100));

  test('takes the most probable token that fits, and ends where nothing can follow', () => {
    const sampler = new Sampler({ regex: '[a-d]x[0-9]', temperature: 0, topLogprobs: 1 }, setup);
    const tokens: number[] = [];
    while (!sampler.ended) tokens.push(sampler.next(logits()).token);
    expect(String.fromCharCode(...tokens)).toBe('dx9');
    // Log-probabilities are the model's own: an end of text is most probable, though it can't come.
    expect([...sampler.last.top.tokens]).toEqual([END]);
    expect(sampler.last.logprob).toBeLessThan(-8);
  });

  test('chooses end tokens only where the text may end', () => {
    const sampler = new Sampler({ regex: 'ab*' }, setup);
    expect(sampler.next(logits()).token).toBe('a'.charCodeAt(0));
    expect(sampler.ended).toBe(false);
    expect(new Sampler({ regex: 'ab*', temperature: 0, seed: 1 }, setup).next(logits()).token).toBe(97);
    while (sampler.next(logits()).token !== END);
    expect(sampler.ended).toBe(true);
  });

  test('says when the vocabulary has nothing that fits', () => {
    const few = new TokenVocabulary([Buffer.from('a')]);
    const sampler = new Sampler({ regex: 'é' }, { vocabSize: 1, vocabulary: few });
    expect(() => sampler.next(new Float32Array(1))).toThrow(
      expect.objectContaining({ code: 'SGEMOE_CONSTRAINT_STUCK' }),
    );
  });

  test('refuses two constraints, other types, and one without a vocabulary', () => {
    expect(() => new Sampler({ regex: 'a', choice: ['a'] }, setup)).toThrow(
      /at most one constraint must be given, got regex and choice/,
    );
    expect(() => new Sampler({ jsonSchema: 'x' as never }, setup)).toThrow(
      /jsonSchema must be an object or a boolean/,
    );
    expect(() => new Sampler({ choice: [] }, setup)).toThrow(TypeError);
    expect(() => new Sampler({ regex: 'a' }, { vocabSize: 257 })).toThrow(/regex needs a vocabulary/);
  });
});
