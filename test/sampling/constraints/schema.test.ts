import { default as Ajv } from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import { describe, expect, test } from 'vitest';
import type { JsonSchema } from '../../../src';
import { matcher } from './match';

const LIST = {
  $ref: '#/$defs/list',
  $defs: {
    list: {
      type: 'object',
      properties: {
        value: { type: 'number' },
        next: { anyOf: [{ $ref: '#/$defs/list' }, { type: 'null' }] },
      },
      required: ['value', 'next'],
      additionalProperties: false,
    },
  },
};
const RECORD = {
  type: 'object',
  properties: { a: { type: 'integer' }, b: { type: 'string', maxLength: 3 } },
  required: ['a'],
};
const TAGGED = ['x', 'y'].map((tag) => ({
  type: 'object',
  properties: { tag: { const: tag }, [tag]: { type: 'integer' } },
  required: ['tag', tag],
}));

/** A schema, texts that are written by it, and texts that aren't. */
const CASES: [schema: JsonSchema, good: string[], bad: string[]][] = [
  [
    RECORD,
    ['{"a":1}', '{"a": -20, "b": "x\\n"}', '{\n  "a": 1,\n  "b": "é𝄞€"\n}'],
    ['{}', '{"a":1,"b":"xxxx"}', '{"a":1.5}', '{"a":1,"c":2}', '{"b":"x","a":1}', '{ "a" : 1 }', '{"a":1} '],
  ],
  [
    { type: 'number', minimum: -1.5, exclusiveMaximum: 20.25 },
    ['-1.5', '0', '-1.49', '20.2499', '20.24', '20', '19.99', '-0.5', '1.25'],
    ['-1.51', '20.25', '20.250', '21', '-2', '1e1', '-1.500001'],
  ],
  [
    { type: 'number', minimum: 0.1, maximum: 0.3 },
    ['0.1', '0.3', '0.2', '0.300', '0.29999'],
    ['0', '0.0999', '0.31', '1'],
  ],
  [{ type: 'number', exclusiveMinimum: 2 }, ['2.1', '3', '2.0001', '100'], ['2', '2.0', '2.000', '1', '-3']],
  [{ type: 'number', maximum: -0.5 }, ['-0.5', '-1', '-0.75'], ['-0.49', '0', '-0', '1']],
  [{ type: 'number' }, ['-2.5e3', '1E+9', '0.5'], ['1e400', '.5', '01', '+1']],
  [
    { type: 'integer', minimum: -12, maximum: 345 },
    ['-12', '0', '345', '99', '-9'],
    ['-13', '346', '1000', '01', '1.0'],
  ],
  [{ type: 'integer', minimum: 1, maximum: 100, multipleOf: 7 }, ['7', '98', '14'], ['8', '105', '0']],
  [
    { type: 'array', items: { type: 'boolean' }, minItems: 1, maxItems: 3 },
    ['[true]', '[true, false,true]'],
    ['[]', '[true,true,true,true]', '[1]'],
  ],
  [{ prefixItems: [{ type: 'null' }, { type: 'string' }] }, ['[null, "a"]'], ['[null,1]', '[null,"a",1]']],
  [{ enum: ['a', 1, null, { x: 1 }] }, ['"a"', '1', 'null', '{"x":1}'], ['"b"', '2']],
  [{ type: 'string', enum: ['a', 1] }, ['"a"'], ['1']],
  [{ type: ['integer', 'null'] }, ['1', 'null'], ['"1"']],
  [{ type: 'string', minLength: 2 }, ['"ab"', '"\\u00e9𝄞"'], ['"a"', '"\\ud83d\\ude00"', '"a\nb"']],
  [{ type: 'string', pattern: '^[A-Z]{2}"\\d+$' }, ['"AB\\"12"'], ['"AB12"', '"xAB\\"12"']],
  [{ type: 'string', pattern: 'b' }, ['"abc"', '"b"'], ['"ac"']],
  [LIST, ['{"value":1,"next":{"value":-2.5e3,"next":null}}'], ['{"value":1}', '{"value":1,"next":{}}']],
  [
    { ...RECORD, additionalProperties: { type: 'integer' } },
    ['{"a":1,"ab":2,"":3}'],
    ['{"a":1,"a":2}', '{"a":1,"b":2}', '{"a":1,"c":"x"}'],
  ],
  [
    { type: 'object', additionalProperties: { type: 'integer' }, minProperties: 1, maxProperties: 2 },
    ['{"x":1}', '{"x":1,"y":2}'],
    ['{}', '{"x":1,"y":2,"z":3}'],
  ],
  [{ oneOf: TAGGED }, ['{"tag":"x","x":1}', '{"tag":"y","y":1}'], ['{"tag":"x","y":1}']],
  [
    { allOf: [RECORD, { properties: { a: { minimum: 5 } }, required: ['b'] }] },
    ['{"a":5,"b":""}'],
    ['{"a":4,"b":""}', '{"a":5}'],
  ],
  [{ $ref: '#/$defs/n', maximum: 3, $defs: { n: { type: 'integer', minimum: 1 } } }, ['1', '3'], ['0', '4']],
  [true, ['{"a":[1,2,{"b":null}]}', '1e5', '"x"', '[]', '{}'], ['[1,]', '{a:1}', '']],
  [
    { format: 'date-time' },
    ['"2024-02-29T23:59:59Z"', '"2023-12-31T00:00:00.123+01:30"'],
    ['"2023-02-29T00:00:00Z"', '"2023-13-01T00:00:00Z"'],
  ],
  [{ format: 'date' }, ['"2000-02-29"'], ['"1900-02-29"', '"2000-04-31"']],
  [{ format: 'time' }, ['"12:00:00Z"'], ['"24:00:00Z"']],
  [{ format: 'duration' }, ['"P1Y2M3DT4H5M6S"', '"PT5M"', '"P2W"'], ['"P"', '"PT"']],
  [{ format: 'uuid' }, ['"123e4567-e89b-12d3-a456-426614174000"'], ['"123e4567"']],
  [{ format: 'email' }, ['"a.b@example.com"'], ['"a@b"', '".a@b.c"']],
  [{ format: 'hostname' }, ['"example.com"'], ['"-a.com"']],
  [{ format: 'ipv4' }, ['"10.0.0.255"'], ['"10.0.0.256"', '"1.2.3"']],
  [{ format: 'ipv6' }, ['"::1"', '"1:2:3:4:5:6:7:8"', '"fe80::1:2"', '"1::"'], ['"1:2"', '"1::2::3"']],
  [{ format: 'uri' }, ['"https://example.com:80/a?b=c#d"'], ['"example.com"']],
];

describe('a JSON Schema', () => {
  test.each(CASES)('%j holds texts to it', (schema, good, bad) => {
    const ajv = new Ajv({ strict: false });
    addFormats(ajv);
    const validate = ajv.compile(schema as object);
    expect(good.filter((text) => !validate(JSON.parse(text)))).toEqual([]);
    const matches = matcher({ jsonSchema: schema });
    expect(good.filter((text) => !matches(text))).toEqual([]);
    expect(bad.filter(matches)).toEqual([]);
  });

  test.each<[JsonSchema, string]>([
    [{ not: { type: 'string' } }, "'not' at # is not supported"],
    [{ properties: { a: { if: {} } } }, "'if' at #/properties/a is not supported"],
    [{ items: { uniqueItems: true } }, "'uniqueItems' at #/items is not supported"],
    [{ patternProperties: {} }, "'patternProperties' at #"],
    [{ type: 'number', multipleOf: 0.01 }, "'multipleOf' at #"],
    [{ type: 'string', format: 'regex' }, "'format' at # must be one of"],
    [{ type: 'string', pattern: '(?=a)' }, 'lookahead'],
    [{ type: 'string', pattern: '^a*$', maxLength: 3 }, "'maxLength' at # is not supported beside 'pattern'"],
    [{ type: 'file' }, "'type' at # must be one of object"],
    [{ minLength: -1 }, "'minLength' at # must be an integer >= 0"],
    [{ $ref: 'https://example.com/schema' }, "'$ref' at # must be a pointer"],
    [{ $ref: '#/$defs/none' }, "'$ref' at # names nothing"],
    [{ $ref: '#' }, 'begins with itself'],
    [
      { oneOf: [{ type: 'integer' }, { type: 'number' }] },
      "'oneOf' at #/oneOf must have options of different types",
    ],
    [{ allOf: [{ pattern: 'a' }, { pattern: 'b' }] }, "can't be joined: 'pattern' differs"],
    [
      { allOf: [{ properties: { a: true }, additionalProperties: false }, { properties: { b: true } }] },
      "'additionalProperties' differs",
    ],
    [{ allOf: [{ prefixItems: [{ type: 'string' }] }, { items: { type: 'integer' } }] }, "'items' differs"],
    [{ enum: ['a'], minLength: 1 }, "'minLength' at # is not supported beside constants"],
    [{ type: 'integer', minimum: 5, maximum: 4 }, 'No text at all matches'],
    [{ type: 'object', properties: {}, minProperties: 2 }, "'minProperties' at #"],
    [false, 'No text at all matches'],
    [
      {
        $ref: '#/$defs/a',
        $defs: { a: { type: 'object', properties: { a: { $ref: '#/$defs/a' } }, required: ['a'] } },
      },
      'No text at all matches',
    ],
  ])('%j is refused by name', (jsonSchema, reason) => {
    expect(() => matcher({ jsonSchema })).toThrow(
      expect.objectContaining({
        code: 'SGEMOE_CONSTRAINT_INVALID',
        message: expect.stringContaining(reason),
      }),
    );
  });

  test('tags within tags that never end tell nothing apart', () => {
    const tagged = (name: string) => ({
      type: 'object',
      properties: { x: { $ref: `#/$defs/${name}` } },
      required: ['x'],
    });
    const jsonSchema = {
      oneOf: [{ $ref: '#/$defs/a' }, { $ref: '#/$defs/b' }],
      $defs: { a: tagged('a'), b: tagged('b') },
    };
    expect(() => matcher({ jsonSchema })).toThrow(
      expect.objectContaining({ code: 'SGEMOE_CONSTRAINT_INVALID' }),
    );
  });

  test('one that is nested too deeply, or grows by its joins, is refused as too large', () => {
    let deep: JsonSchema = true;
    for (let i = 0; i < 200; i++) deep = { type: 'array', items: deep };
    const a = { $ref: '#/$defs/a', allOf: [{ $ref: '#/$defs/a' }] };
    for (const jsonSchema of [deep, { $ref: '#/$defs/a', $defs: { a } }]) {
      expect(() => matcher({ jsonSchema })).toThrow(
        expect.objectContaining({ code: 'SGEMOE_CONSTRAINT_LIMIT' }),
      );
    }
  });
});
