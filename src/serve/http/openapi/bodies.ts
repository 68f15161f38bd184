/** Schemas of the bodies, from the tables that check them. */
import type { JsonSchemaObject, OptionRow } from '../../../base/options';
import type { JsonObject } from '../fields';
import { MESSAGE_FIELDS, OF_ANSWERS } from '../messages';
import { IDLE_CHAT, IDLE_COMMON, IDLE_EMBEDDING, type IdleFields, REFUSED_CHAT } from '../otherFields';
import {
  BOOLEAN,
  CHAT_FIELDS,
  COMMON_FIELDS,
  COMPLETION_FIELDS,
  choiceSchema,
  closed,
  EMBEDDING_FIELDS,
  type FieldRow,
  FUNCTION,
  IDS,
  STRING,
} from '../requestFields';
import {
  IDLE_RESPONSE,
  INCLUDABLE,
  MAX_METADATA,
  REFUSED_RESPONSE,
  RESPONSE_FIELDS,
} from '../responses/fields';

// biome-ignore lint/suspicious/noExplicitAny: rows of any type.
type Rows = Readonly<Record<string, OptionRow<any>>>;

/** `text.format` of /v1/responses. */
const RESPONSE_FORMAT = {
  ...closed(
    {
      type: { enum: ['text', 'json_object', 'json_schema'] },
      name: STRING,
      description: STRING,
      strict: BOOLEAN,
      schema: { type: ['object', 'null'] },
    },
    ['type'],
  ),
  if: { properties: { type: { const: 'json_schema' } } },
  else: {},
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema.
  then: { required: ['schema'], properties: { schema: { type: 'object' } } },
};

const MODEL = { model: COMMON_FIELDS.model };
const MESSAGE = messageSchema();
const MESSAGES = { type: 'array', minItems: 1, items: MESSAGE };

/** The schemas by the path of their route. */
export const BODIES = {
  '/v1/completions': body({ ...COMPLETION_FIELDS, ...COMMON_FIELDS }, IDLE_COMMON),
  '/v1/chat/completions': body(
    { ...CHAT_FIELDS, ...COMMON_FIELDS },
    { ...IDLE_COMMON, ...IDLE_CHAT },
    REFUSED_CHAT,
    { messages: MESSAGES },
  ),
  '/v1/responses': body({ ...samplingRows(), ...RESPONSE_FIELDS }, IDLE_RESPONSE, REFUSED_RESPONSE, {
    input: { anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'object' } }] },
    text: orNull(closed({ format: orNull(RESPONSE_FORMAT), verbosity: {} })),
    tools: orNull({
      type: 'array',
      maxItems: RESPONSE_FIELDS.tools.schema!.maxItems,
      items: closed({ type: { const: 'function' }, ...FUNCTION }, ['type', 'name']),
    }),
    tool_choice: orNull(choiceSchema({ name: { type: 'string' } })),
    truncation: { enum: ['auto', 'disabled', null] },
    reasoning: orNull(closed({ effort: STRING, summary: {}, generate_summary: {} })),
    include: orNull({ type: 'array', items: { enum: INCLUDABLE } }),
    metadata: orNull({
      type: 'object',
      maxProperties: MAX_METADATA,
      additionalProperties: { type: 'string' },
    }),
  }),
  '/v1/embeddings': body({ ...EMBEDDING_FIELDS, ...MODEL }, IDLE_EMBEDDING),
  '/tokenize': {
    ...closed({
      ...propertiesOf(MODEL),
      prompt: { type: ['string', 'null'], description: 'text' },
      messages: orNull(MESSAGES),
      add_special_tokens: { type: ['boolean', 'null'], default: true },
    }),
    oneOf: [
      { required: ['prompt'], properties: { prompt: { type: 'string' } } },
      { required: ['messages'], properties: { messages: { type: 'array' } } },
    ],
  },
  '/detokenize': closed({ ...propertiesOf(MODEL), tokens: IDS }, ['tokens']),
};

/** The fields that are options of sampling. */
function samplingRows(): Rows {
  // biome-ignore lint/suspicious/noExplicitAny: rows of any type.
  const rows = Object.entries<FieldRow<any>>(COMMON_FIELDS);
  return Object.fromEntries(rows.filter(([, { option }]) => option !== undefined));
}

/** @param more schemas that are more exact than those of the rows. */
function body(
  rows: Rows,
  idle: IdleFields,
  refused: Readonly<Record<string, string>> = {},
  more: JsonObject = {},
): JsonObject {
  const own = propertiesOf(rows);
  for (const [name, schema] of Object.entries(more))
    own[name] = { ...(own[name] as object), ...(schema as object) };
  const properties = { ...own, ...idleOf(idle), ...refusedOf(refused) };
  return closed(properties, requiredOf(rows));
}

function propertiesOf(rows: Rows): Record<string, unknown> {
  const required = requiredOf(rows);
  const entries = Object.entries(rows).map(([name, row]) => {
    const { schema = {}, doc, note, default: value } = row;
    const own = required.includes(name) ? schema : orNull(schema);
    const description = note === undefined ? doc : `${doc}; ${note}`;
    const isTold = row.absent === undefined && value !== undefined;
    return [name, { ...own, description, ...(isTold && { default: value }) }];
  });
  return Object.fromEntries(entries);
}

/** The fields that have neither a default nor a meaning when they are absent. */
function requiredOf(rows: Rows): string[] {
  return Object.entries(rows)
    .filter(([, row]) => row.default === undefined && row.absent === undefined)
    .map(([name]) => name);
}

function idleOf(idle: IdleFields): JsonObject {
  const entries = Object.entries(idle).map(([name, { doc, values = [] }]) => {
    const only = values.length === 0 ? {} : { enum: [...values, null] };
    return [name, { ...only, description: `without effect: ${doc}` }];
  });
  return Object.fromEntries(entries);
}

/** Refused fields: null counts as absent. */
function refusedOf(refused: Readonly<Record<string, string>>): JsonObject {
  const entries = Object.entries(refused).map(([name, why]) => [
    name,
    { type: 'null', description: `not supported: ${why}` },
  ]);
  return Object.fromEntries(entries);
}

/** Null counts as absent. */
function orNull(schema: JsonSchemaObject): JsonObject {
  if (typeof schema.type === 'string') return { ...schema, type: [schema.type, 'null'] };
  if (Array.isArray(schema.type) || Object.keys(schema).length === 0) return schema;
  if (Array.isArray(schema.enum)) return { ...schema, enum: [...schema.enum, null] };
  return { anyOf: [schema, { type: 'null' }] };
}

/** A message: only one of an assistant may have no content. */
function messageSchema(): JsonObject {
  const { content } = MESSAGE_FIELDS;
  const properties = { ...propertiesOf(MESSAGE_FIELDS), ...idleOf(withDocs(OF_ANSWERS)) };
  return {
    ...closed(properties, requiredOf(MESSAGE_FIELDS)),
    if: { properties: { role: { const: 'assistant' } } },
    else: { required: ['content'], properties: { content: content.schema } },
  };
}

function withDocs(fields: Readonly<Record<string, object>>): IdleFields {
  return Object.fromEntries(Object.keys(fields).map((name) => [name, { doc: 'part of an answer' }]));
}
