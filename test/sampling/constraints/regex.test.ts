import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matcher } from './match';

const SAMPLES = [
  '',
  'a',
  'b',
  'ab',
  'abc',
  'aab',
  'aaa',
  'ba',
  'é',
  '€',
  '𝄞',
  '\n',
  ' ',
  '7',
  '42',
  'A_9',
  '"',
  '-',
  'x-y',
];

describe('a regular expression', () => {
  test.each([
    'abc',
    'a|b',
    '(?:ab|c)*',
    'a+b?',
    'a{2}',
    'a{2,}',
    'a{1,2}b',
    '[a-c]+',
    '[^a]',
    '.',
    '.*',
    '\\d+',
    '\\w+',
    '\\W',
    '\\s',
    '\\S+',
    'é|€',
    '[à-€]',
    '[^\\d\\s]',
    '\\u{1d11e}',
    '\\u00e9',
    '\\x61',
    '(a|ab)(c|b)?',
    '(?<name>a)b',
    'a??b',
    '[\\w-]+',
    '',
    '|a',
    '[\\u{0}-\\u{10ffff}]',
    '(a*)*b',
    '(a?){3}',
  ])('/%s/ matches whole texts as JavaScript does', (source) => {
    const matches = matcher({ regex: source });
    const oracle = new RegExp(`^(?:${source})$`, 'u');
    for (const text of SAMPLES) expect(matches(text), JSON.stringify(text)).toBe(oracle.test(text));
  });

  test('random expressions match what JavaScript matches', () => {
    const atom = fc.constantFrom('a', 'b', '[ab]', '[^b]', '.', 'é', '\\d');
    const { pattern } = fc.letrec<{ pattern: string; part: string }>((tie) => ({
      part: fc.oneof(
        { depthSize: 'small' },
        atom,
        fc
          .tuple(tie('pattern'), fc.constantFrom('*', '+', '?', '{2}', '{0,2}', '{1,}'))
          .map(([p, q]) => `(?:${p})${q}`),
      ),
      pattern: fc.oneof(
        { depthSize: 'small' },
        tie('part'),
        fc.tuple(tie('part'), tie('pattern')).map((parts) => parts.join('')),
        fc.tuple(tie('pattern'), tie('pattern')).map((parts) => `(?:${parts.join('|')})`),
      ),
    }));
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '7'), maxLength: 8 });
    fc.assert(
      fc.property(pattern, fc.array(text, { minLength: 5, maxLength: 5 }), (source, texts) => {
        const matches = matcher({ regex: source });
        const oracle = new RegExp(`^(?:${source})$`, 'u');
        for (const each of texts) expect(matches(each), `${source} ${each}`).toBe(oracle.test(each));
      }),
      { numRuns: 100 },
    );
  });

  test('^ and $ at its ends say nothing more', () => {
    const matches = matcher({ regex: '^a|b$' });
    expect([matches('a'), matches('b'), matches('ax')]).toEqual([true, true, false]);
  });

  test.each([
    ['(a)\\1', 'backreferences are not supported'],
    ['(?=a)a', 'lookahead is not supported'],
    ['(?<!a)b', 'lookbehind is not supported'],
    ['\\bword', 'the border of a word'],
    ['\\p{L}', 'a property of Unicode'],
    ['a^b', "'^' is supported at the beginning only"],
    ['(a$)b', "'$' is supported at the end only"],
    ['a{2', 'a count must be'],
    ['a{3,1}', 'must not end below its beginning'],
    ['a{9999999}', 'counts go up to'],
    ['[a', "a class has no ']'"],
    ['(a', "a group has no ')'"],
    ['a)', 'is in the wrong place'],
    ['*a', 'is in the wrong place'],
    ['[z-a]', 'must not end below its beginning'],
    ['a\\', 'ends in a backslash'],
    [`${'('.repeat(200)}a${')'.repeat(200)}`, 'nested more than 100 deep'],
    ['[^\\s\\S]', 'No text at all matches'],
  ])('%s is refused with the reason', (source, reason) => {
    expect(() => matcher({ regex: source })).toThrow(
      expect.objectContaining({
        code: 'SGEMOE_CONSTRAINT_INVALID',
        message: expect.stringContaining(reason),
      }),
    );
  });

  test.each(['(a+)+b', '(a|a)*b', '(a|aa)+b', '(.*a){20}b', '((a*)*)*b'])(
    '%s, which makes backtracking explode, is followed in linear time',
    (source) => {
      const matches = matcher({ regex: source });
      expect([matches('a'.repeat(5000)), matches(`${'a'.repeat(5000)}b`)]).toEqual([false, true]);
    },
  );

  test('one that must be followed in too many ways is refused while it is', () => {
    const matches = matcher({ regex: '(?:(?:a{0,900}){0,900}){0,900}b' });
    expect(() => matches('a'.repeat(3000))).toThrow(
      expect.objectContaining({ code: 'SGEMOE_CONSTRAINT_LIMIT' }),
    );
  });

  test('two escapes of a surrogate pair are one character', () => {
    const matches = matcher({ regex: '[\\ud83d\\ude00-\\uD83D\\uDE02]x' });
    expect(['😀x', '😂x', '😃x'].map(matches)).toEqual([true, true, false]);
  });

  test('large counts take no room', () => {
    const matches = matcher({ regex: '[a-z]{3,100000}' });
    expect([matches('ab'), matches('a'.repeat(4000))]).toEqual([false, true]);
  });
});
