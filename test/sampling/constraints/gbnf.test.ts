import { describe, expect, test } from 'vitest';
import { matcher } from './match';

const ARITHMETIC = `
# sums of products
root  ::= (expr "=" ws term "\\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \\t\\n]*
`;

const LISTS = `root ::= list
list ::= "[" ( list ("," list)* )? "]"
  | item
item ::= "\\u00e9"{1,2} | [^\\]\\[,]`;

describe('a grammar in GBNF', () => {
  test.each([
    [ARITHMETIC, ['a=1\n', 'x1 +(2*y) = 3\n', '(((1)))=z\n7=7\n'], ['a=\n', '(1=1\n', 'A=1\n', 'a=1']],
    [LISTS, ['[]', '[[],[x,é]]', 'éé', 'x'], ['[', '[x', 'ééé', '[x,]', ']']],
    ['root ::= .', ['a', '\n', '𝄞'], ['', 'ab']],
    ['root ::= "a" root "b" | ""', ['', 'ab', 'aaabbb'], ['a', 'aab', 'ba']],
    ['root ::= x\nx ::= "a" x | "b"', ['b', 'aaab'], ['a', 'ba']],
    ['root ::= "\\x41\\U0001d11e"', ['A𝄞'], ['A']],
    ['root ::= "a"{2,3} ("b" | "c"){2}', ['aabb', 'aaabc'], ['abb', 'aab', 'aaaabb']],
    ['root ::= a | b\na ::= "x" never\nb ::= "y"\nnever ::= "z" never', ['y'], ['x', 'xz']],
    ['root ::= [a-]+', ['a-a'], ['b']],
  ])('%j follows its rules', (grammar, good, bad) => {
    const matches = matcher({ grammar });
    expect(good.filter((text) => !matches(text))).toEqual([]);
    expect(bad.filter(matches)).toEqual([]);
  });

  test('an ambiguous one is followed all the same: stacks with the same top are one', () => {
    const matches = matcher({ grammar: 'root ::= "a" root "b" | "a" root "c" | "a"' });
    expect([matches('a'.repeat(200)), matches(`${'a'.repeat(200)}${'bc'.repeat(99)}b`)]).toEqual([
      false,
      true,
    ]);
  });

  test.each([
    ['', "must have a rule 'root'"],
    ['foo ::= "a"', "must have a rule 'root'"],
    ['root ::= foo', "no rule 'foo'"],
    ['root ::= root "a" | "b"', "'root' begins with itself"],
    ['root ::= a\na ::= "x"? b\nb ::= a "y" | "z"', 'begins with itself'],
    ['root ::= "a', "a literal has no '\"' at its end (line 1)"],
    ['root ::= ("a"', "a group has no ')'"],
    ['root ::= [a', "a class has no ']'"],
    ['root = "a"', "'::=' must follow the name of a rule (line 1)"],
    ['root ::= "a"\nroot ::= "b"', "two rules 'root'"],
    ['root ::= "a" )', 'is in the wrong place'],
    ['root ::= "\\q"', "'\\q' is not known"],
    ['root ::= <[12]>', 'tokens in a grammar'],
    ['root ::= "a" root', 'No text at all matches'],
    [`root ::= ${'('.repeat(200)}"a"${')'.repeat(200)}`, 'nested more than 100 deep'],
  ])('%j is refused with the reason', (grammar, reason) => {
    expect(() => matcher({ grammar })).toThrow(
      expect.objectContaining({
        code: 'SGEMOE_CONSTRAINT_INVALID',
        message: expect.stringContaining(reason),
      }),
    );
  });

  test.each([
    ['more characters than are read', `root ::= "${'a'.repeat(300_000)}"`],
    ['more parts than are kept', `root ::= ${`"${'ab'.repeat(120)}" | `.repeat(1000)}"y"`],
  ])('one with %s is refused as too large', (_, grammar) => {
    expect(() => matcher({ grammar })).toThrow(expect.objectContaining({ code: 'SGEMOE_CONSTRAINT_LIMIT' }));
  });

  test('texts that are nested too deeply end with an error of the limit, not of the call stack', () => {
    const matches = matcher({ grammar: 'root ::= "(" root ")" | "x"' });
    expect(matches(`${'('.repeat(300)}x${')'.repeat(300)}`)).toBe(true);
    expect(() => matches('('.repeat(5000))).toThrow(
      expect.objectContaining({ code: 'SGEMOE_CONSTRAINT_LIMIT' }),
    );
  });

  test('rules that call each other in long chains need no deep call stack', () => {
    const rules = Array.from({ length: 5000 }, (_, i) => `r${i} ::= r${i + 1}`);
    const matches = matcher({ grammar: `root ::= r0\n${rules.join('\n')}\nr5000 ::= "a"` });
    expect([matches('a'), matches('b')]).toEqual([true, false]);
  });
});
