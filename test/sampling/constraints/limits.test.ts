/** Constraints come from clients: the largest ones are compiled, or refused with a code, never by a full call stack. */
import { describe, expect, test } from 'vitest';
import type { ConstraintOptions } from '../../../src/sampling/constraints/options';
import { matcher } from './match';

const many = <T>(count: number, make: (i: number) => T) => Array.from({ length: count }, (_, i) => make(i));
const text = (part: string, times: number) => part.repeat(times);

describe('a constraint of 260,000 characters', () => {
  test.each<[string, ConstraintOptions]>([
    ['a pattern', { regex: text('a', 260_000) }],
    ['a grammar in a row', { grammar: `root ::= ${text('. ', 130_000)}` }],
    ['grammar alternatives', { grammar: `root ::= ${text('.|', 130_000)}` }],
    ['a choice', { choice: [text('x', 260_000)] }],
    ['a constant', { jsonSchema: { const: text('x', 250_000) } }],
    ['required names', { jsonSchema: { required: many(20_000, (i) => `a${i}`) } }],
    [
      'names that others must differ from',
      {
        jsonSchema: {
          properties: Object.fromEntries(many(9_000, (i) => [`p${10_000 + i}`, false])),
          additionalProperties: true,
        },
      },
    ],
    [
      'a text that each join keeps',
      {
        jsonSchema: {
          properties: { a: { description: text('x', 180_000) } },
          anyOf: many(3_000, (i) => ({ title: `t${i}` })),
        },
      },
    ],
  ])('is refused as too large: %s', (_, options) => {
    expect(() => matcher(options)).toThrow(expect.objectContaining({ code: 'SGEMOE_CONSTRAINT_LIMIT' }));
  });

  test.each<[string, ConstraintOptions, string]>([
    ['empty alternatives of a pattern', { regex: text('|', 260_000) }, ''],
    ['alternatives of a pattern', { regex: text('a|', 130_000) }, 'a'],
    ['empty alternatives of a grammar', { grammar: `root ::= "b" ${text('|', 250_000)}` }, 'b'],
    ['a choice', { choice: many(85_000, () => '') }, ''],
    ['an enumeration', { jsonSchema: { enum: many(120_000, () => 1) } }, '1'],
  ])('is compiled: %s', (_, options, good) => {
    const matches = matcher(options);
    expect([matches(good), matches('?')]).toEqual([true, false]);
  });
});
