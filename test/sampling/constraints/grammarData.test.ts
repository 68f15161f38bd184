import { describe, expect, it } from 'vitest';
import { Automaton } from '../../../src/sampling/constraints/automaton';
import { compileConstraint } from '../../../src/sampling/constraints/compile';
import { TokenVocabulary } from '../../../src/sampling/constraints/constraint';
import { packGrammar, unpackGrammar } from '../../../src/sampling/constraints/grammarData';
import type { ConstraintSource } from '../../../src/sampling/constraints/options';
import { packVocabulary } from '../../../src/sampling/constraints/vocabularyData';

const SCHEMA = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 2, maxLength: 5 },
    next: { $ref: '#' },
    tags: { type: 'array', items: { enum: ['a', 'b', 3] }, maxItems: 2 },
  },
  required: ['name'],
  additionalProperties: false,
};

/** A constraint with texts of which some fit it. */
const CASES: [ConstraintSource, string[]][] = [
  [{ kind: 'regex', text: '(ab?|é){2,4}' }, ['', 'a', 'aba', 'ababab', 'éé', 'ababababab', 'ac']],
  [{ kind: 'choice', text: '["yes","no"]' }, ['yes', 'no', 'ye', 'yesno']],
  [{ kind: 'grammar', text: 'root ::= "(" root ")" | [0-9]+' }, ['(1)', '((12))', '((1)', '()', '7']],
  [
    { kind: 'jsonSchema', text: JSON.stringify(SCHEMA) },
    [
      '{"name":"ab"}',
      '{"name":"a"}',
      '{"name":"ab","next":{"name":"xyz"},"tags":["a",3]}',
      '{"tags":[]}',
      '{}',
    ],
  ],
];

/** What an automaton says of each beginning of a text, and whether the text may end. */
function read(automaton: Automaton, text: string) {
  const bytes = Buffer.from(text, 'utf8');
  let state = automaton.start as ReturnType<Automaton['read']>;
  const fits = Array.from(bytes, (byte) => {
    automaton.begin();
    state = state && automaton.read(state, Uint8Array.of(byte));
    return state !== null;
  });
  return [...fits, state !== null && automaton.accepts(state)];
}

describe('a grammar as data', () => {
  it.each(CASES)('of %j reads texts as the grammar does', (source, texts) => {
    const data = structuredClone(packGrammar(compileConstraint(source)));
    const own = new Automaton(compileConstraint(source));
    const again = new Automaton(unpackGrammar(data));
    const told = texts.map((text) => read(again, text));
    expect(told).toEqual(texts.map((text) => read(own, text)));
    expect(told.some((each) => each.at(-1) === true)).toBe(true);
    expect(told.some((each) => each.at(-1) === false)).toBe(true);
  });

  it('gives the masks of the grammar, and is taken in place of compiling', () => {
    const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
    const [own, other] = [new TokenVocabulary(bytes), new TokenVocabulary(bytes)];
    for (const [source] of CASES) {
      // The source itself can't be compiled.
      const wrong = { kind: 'regex', text: `(${source.kind}` } as const;
      expect(() => other.tableOf(wrong)).toThrow();
      other.take({ source: wrong, grammar: packGrammar(compileConstraint(source)) });
      const [table, taken] = [own.tableOf(source), other.tableOf(wrong)];
      expect(taken.mask(taken.automaton.start)).toEqual(table.mask(table.automaton.start));
    }
  });

  it('keeps long sequences, which a copy of nested objects would not', () => {
    const source = { kind: 'choice', text: JSON.stringify(['x'.repeat(50_000), 'y']) } as const;
    const again = new Automaton(unpackGrammar(structuredClone(packGrammar(compileConstraint(source)))));
    expect(read(again, 'x'.repeat(50_000)).at(-1)).toBe(true);
    expect(read(again, 'x'.repeat(49_999)).at(-1)).toBe(false);
  });
});

describe('a vocabulary as data', () => {
  it('is on shared memory and has the tokens, bytes and masks of the vocabulary', () => {
    const bytes = [
      null,
      new Uint8Array(0),
      ...['a', 'ab', '{"', '"name"', 'é', 'yes', '(', '1', '12', '))', ')'].map((text) => Buffer.from(text)),
      Uint8Array.of(0xc3),
    ];
    const data = packVocabulary(bytes);
    for (const array of [data.bytes, data.starts, data.lengths, data.trie.ends, data.trie.depths]) {
      expect(array.buffer).toBeInstanceOf(SharedArrayBuffer);
    }
    const own = new TokenVocabulary(bytes);
    const packed = TokenVocabulary.packed(structuredClone(data));
    expect(packed.size).toBe(bytes.length);
    for (const [id, each] of bytes.entries()) {
      expect(packed.bytesOf(id) && [...packed.bytesOf(id)!]).toEqual(each && [...each]);
    }
    expect(packed.bytesOf(bytes.length)).toBe(null);
    for (const [source] of CASES) {
      const [table, other] = [own.tableOf(source), packed.tableOf(source)];
      expect(other.mask(other.automaton.start)).toEqual(table.mask(table.automaton.start));
      expect(other.mask(other.automaton.start)!.some((word) => word !== 0)).toBe(true);
    }
  });
});
