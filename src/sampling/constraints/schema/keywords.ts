/** The keywords of JSON Schema that are supported. */
export interface KeywordRow {
  /** What its value must be; it completes "must be ...". */
  readonly must: string;
  readonly fits: (value: unknown) => boolean;
  /** Whether the value asks for something that is not supported. */
  readonly refuses?: (value: unknown) => boolean;
  /** The type of values that it speaks of, where it speaks of one. */
  readonly type?: string;
}

const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'];

const isSchema = (value: unknown) =>
  typeof value === 'boolean' || (typeof value === 'object' && value !== null && !Array.isArray(value));
const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const isNumber = (value: unknown) => typeof value === 'number' && Number.isFinite(value);
const isText = (value: unknown) => typeof value === 'string';
const isTexts = (value: unknown) => Array.isArray(value) && value.every(isText);
const isType = (value: unknown) => isText(value) && TYPES.includes(value as string);

const SCHEMA = { must: 'a schema', fits: isSchema };
const SCHEMAS = {
  must: 'an array of schemas, one at least',
  fits: (value: unknown) => Array.isArray(value) && value.length > 0 && value.every(isSchema),
};
const COUNT = { must: 'an integer >= 0', fits: isCount };
const NUMBER = { must: 'a number', fits: isNumber, type: 'number' };
const TEXT = { must: 'a string', fits: isText };

export const KEYWORDS: Readonly<Record<string, KeywordRow>> = {
  $ref: TEXT,
  allOf: SCHEMAS,
  anyOf: SCHEMAS,
  oneOf: SCHEMAS,
  const: { must: 'a value', fits: () => true },
  enum: { must: 'an array', fits: Array.isArray },
  type: {
    must: `one of ${TYPES.join(', ')}, or an array of these`,
    fits: (value) => isType(value) || (Array.isArray(value) && value.length > 0 && value.every(isType)),
  },
  properties: {
    must: 'an object of schemas',
    fits: (value) =>
      isSchema(value) && typeof value === 'object' && Object.values(value as object).every(isSchema),
    type: 'object',
  },
  required: { must: 'an array of strings', fits: isTexts, type: 'object' },
  additionalProperties: { ...SCHEMA, type: 'object' },
  unevaluatedProperties: { ...SCHEMA, refuses: (value) => value !== true, type: 'object' },
  minProperties: { ...COUNT, type: 'object' },
  maxProperties: { ...COUNT, type: 'object' },
  items: { ...SCHEMA, type: 'array' },
  prefixItems: { ...SCHEMAS, type: 'array' },
  minItems: { ...COUNT, type: 'array' },
  maxItems: { ...COUNT, type: 'array' },
  uniqueItems: { must: 'a boolean', fits: (value) => typeof value === 'boolean', type: 'array' },
  minLength: { ...COUNT, type: 'string' },
  maxLength: { ...COUNT, type: 'string' },
  pattern: { ...TEXT, type: 'string' },
  format: { ...TEXT, type: 'string' },
  minimum: NUMBER,
  maximum: NUMBER,
  exclusiveMinimum: NUMBER,
  exclusiveMaximum: NUMBER,
  multipleOf: {
    must: 'a number > 0',
    fits: (value) => isNumber(value) && (value as number) > 0,
    type: 'number',
  },
};
