/** Schemas of the answers. */
import type { JsonObject } from '../fields';

const string = { type: 'string' };
const integer = { type: 'integer' };
const number = { type: 'number' };
const listOf = (items: object) => ({ type: 'array', items });
const orNull = (schema: object) => ({ anyOf: [schema, { type: 'null' }] });

/** An object that has these fields, and may have others. */
function fields(properties: JsonObject, optional: JsonObject = {}): JsonObject {
  return {
    type: 'object',
    properties: { ...properties, ...optional },
    required: Object.keys(properties),
  };
}

const USAGE = fields({
  prompt_tokens: integer,
  completion_tokens: integer,
  total_tokens: integer,
  prompt_tokens_details: fields({ cached_tokens: integer }),
});

const LOGPROB = { token: string, logprob: orNull(number), bytes: orNull(listOf(integer)) };
const CHAT_LOGPROBS = fields({
  content: listOf(fields({ ...LOGPROB, top_logprobs: listOf(fields(LOGPROB)) })),
});
const LISTED_LOGPROBS = fields({
  tokens: listOf(string),
  token_logprobs: listOf(orNull(number)),
  top_logprobs: listOf(orNull({ type: 'object', additionalProperties: number })),
  text_offset: listOf(integer),
});

const EXTENSION = { sgemoe: fields({ tokens: listOf(fields({ id: integer, text: string })) }) };
const CHOICE = { index: integer, finish_reason: { type: ['string', 'null'] } };
const HEAD = { id: string, object: string, created: integer, model: string, system_fingerprint: string };

const completion = (choice: JsonObject) => fields({ ...HEAD, choices: listOf(choice), usage: USAGE });

const MODEL = fields({
  id: string,
  object: { const: 'model' },
  created: integer,
  owned_by: string,
  parent: { type: ['string', 'null'] },
  aliases: listOf(string),
  max_model_len: integer,
  chat_template: { type: 'boolean' },
  n_layers: integer,
  n_experts: integer,
  experts_per_token: integer,
  dense_layers: listOf(integer),
});

const RESPONSE = fields({
  id: string,
  object: { const: 'response' },
  created_at: number,
  status: string,
  model: string,
  output: listOf(fields({ type: string, id: string })),
  usage: orNull(fields({ input_tokens: integer, output_tokens: integer, total_tokens: integer })),
});

const STATUS = fields({ status: string });

/** The whole answers, by the path of their route, or by method and path. */
export const ANSWERS = {
  '/v1/completions': completion(
    fields({ ...CHOICE, text: string, logprobs: orNull(LISTED_LOGPROBS) }, EXTENSION),
  ),
  '/v1/chat/completions': completion(
    fields(
      {
        ...CHOICE,
        message: fields({ role: string, content: { type: ['string', 'null'] } }),
        logprobs: orNull(CHAT_LOGPROBS),
      },
      EXTENSION,
    ),
  ),
  'POST /v1/responses': RESPONSE,
  'GET /v1/responses/*': RESPONSE,
  'DELETE /v1/responses/*': fields({ id: string, object: string, deleted: { const: true } }),
  '/v1/embeddings': fields({
    object: { const: 'list' },
    model: string,
    usage: fields({ prompt_tokens: integer, total_tokens: integer }),
    data: listOf(
      fields({
        object: { const: 'embedding' },
        index: integer,
        embedding: { anyOf: [listOf(number), string] },
      }),
    ),
  }),
  '/tokenize': fields({ count: integer, max_model_len: integer, tokens: listOf(integer) }),
  '/detokenize': fields({ prompt: string }),
  '/v1/models': fields({ object: { const: 'list' }, data: listOf(MODEL) }),
  '/v1/models/*': MODEL,
  '/version': fields({ version: string }),
  '/health': STATUS,
  '/ping': STATUS,
  '/ready': STATUS,
};

/** An error, as problem.ts writes it. */
export const ERROR = fields({
  error: fields({
    message: string,
    type: string,
    param: { type: ['string', 'null'] },
    code: { type: ['string', 'null'] },
  }),
});
