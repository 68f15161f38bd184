/** The fields of a completion's body: one row each, as OpenAI documents them, then what is taken beside. */
import { boolean, choice, integer, number, type OptionInfo, type OptionRow, other } from '../../base/options';
import type { SamplingOptions } from '../../sampling/options';
import { TOOL_NAME } from '../../text/toolCalls/tools';
import { EMBEDDING_OPTIONS } from '../engine/embedOptions';
import { isObject, type JsonObject } from './fields';

const MAX_ALTERNATIVES = 20;
const MAX_STOPS = 128;
const MAX_STOP_LENGTH = 256;
const MAX_STOP_TOKENS = 64;
const MAX_BIAS = 100;
const MAX_TOOLS = 128;
/** The largest number of texts of a request for embeddings, as OpenAI's. */
const MAX_INPUTS = 2048;
const STOP = { type: 'string', maxLength: MAX_STOP_LENGTH };
export const IDS = {
  type: 'array',
  items: { type: 'integer', minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
};
const TEXT_LIST = { type: 'array', minItems: 1, items: { anyOf: [{ type: 'string' }, IDS] } };
const TEXTS = { anyOf: [{ type: 'string' }, { ...IDS, minItems: 1 }, TEXT_LIST] };
export const BOOLEAN = { type: ['boolean', 'null'] };
export const STRING = { type: ['string', 'null'] };
/** `response_format` as responseFormat.ts reads it. */
const FORMAT = {
  anyOf: [
    closed({ type: { enum: ['text', 'json_object'] }, json_schema: { type: ['object', 'null'] } }, ['type']),
    closed(
      {
        type: { const: 'json_schema' },
        json_schema: closed(
          { name: STRING, description: STRING, strict: BOOLEAN, schema: { type: 'object' } },
          ['schema'],
        ),
      },
      ['type', 'json_schema'],
    ),
  ],
};
const NAMED = { name: { type: 'string' } };
/** What a function has, as toolFields.ts reads it. */
export const FUNCTION = {
  name: { type: 'string', pattern: TOOL_NAME.source },
  description: STRING,
  parameters: { type: ['object', 'null'] },
  strict: BOOLEAN,
};
const TOOL = closed({ type: { const: 'function' }, function: closed(FUNCTION, ['name']) }, [
  'type',
  'function',
]);
const OF_THE_SERVER = { absent: "the server's" };

/** A field, and the option of sampling that it is, where it is one. */
export interface FieldRow<T> extends OptionRow<T> {
  readonly option?: keyof SamplingOptions | undefined;
  /** The option's value, where it is another one; undefined for none. */
  readonly toOption?: ((value: T) => unknown) | undefined;
}

function sampling<T>(
  option: keyof SamplingOptions,
  row: OptionRow<T>,
  toOption?: (value: T) => unknown,
): FieldRow<T> {
  return { ...row, option, toOption };
}

const MAX_TOKENS = { doc: 'most new tokens', note: "at most the server's `maxTokens`" };
const UP_TO = { min: 0, max: MAX_ALTERNATIVES };
const PENALTY = { min: -2, max: 2 };

/** Fields of both routes. */
export const COMMON_FIELDS = {
  model: text({ doc: 'name of the model that is served', absent: 'that name' }),
  n: integer(
    { min: 1 },
    {
      doc: 'choices for each prompt, with the seeds `seed`, `seed` + 1, ...',
      note: "over all prompts at most the server's `maxChoices`",
      default: 1,
    },
  ),
  temperature: sampling(
    'temperature',
    number(
      { min: 0, max: 100 },
      { doc: 'divides the logits', note: '0 takes the most probable token', default: 1 },
    ),
  ),
  top_p: sampling(
    'topP',
    number(
      { min: 0, max: 1 },
      {
        doc: 'draw from the fewest tokens that together have probability p',
        note: '0 takes the most probable token',
        default: 1,
      },
    ),
  ),
  presence_penalty: sampling(
    'presencePenalty',
    number(PENALTY, { doc: 'subtracted from the logits of tokens that the text has', default: 0 }),
  ),
  frequency_penalty: sampling(
    'frequencyPenalty',
    number(PENALTY, { doc: 'subtracted once for each time that the text has a token', default: 0 }),
  ),
  logit_bias: sampling(
    'logitBias',
    other<JsonObject>(
      `an object from token ids to numbers from -${MAX_BIAS} to ${MAX_BIAS}`,
      (value) => isObject(value) && wrongBias(value) === undefined,
      {
        doc: 'added to logits',
        absent: 'none',
        schema: {
          type: 'object',
          propertyNames: { pattern: '^(0|[1-9][0-9]{0,9})$' },
          additionalProperties: { type: 'number', minimum: -MAX_BIAS, maximum: MAX_BIAS },
        },
      },
    ),
    (biases) => new Map(Object.entries(biases).map(([id, bias]) => [Number(id), bias])),
  ),
  seed: integer({}, { doc: 'seed of the random choices', absent: 'drawn anew' }),
  stop: sampling(
    'stop',
    other<string | string[]>(`up to ${MAX_STOPS} strings of at most ${MAX_STOP_LENGTH} characters`, isStop, {
      doc: 'texts before which the completion ends',
      note: 'empty ones have no effect',
      absent: 'none',
      schema: { anyOf: [STOP, { type: 'array', items: STOP, maxItems: MAX_STOPS }] },
    }),
    (stop) => (typeof stop === 'string' ? [stop] : stop).filter((each) => each !== ''),
  ),
  min_tokens: sampling(
    'minTokens',
    integer(
      { min: 0 },
      { doc: 'fewest new tokens: before them no end token is chosen, and no stop text counts', default: 0 },
    ),
  ),
  ignore_eos: sampling('ignoreEos', flag({ doc: 'go on after end tokens', default: false })),
  stream: flag({ doc: 'send text as it comes', default: false }),
  stream_options: object({
    doc: '`include_usage`: return the usage at the end of a stream; `continuous_usage_stats`: with each chunk, too',
    absent: 'none',
    schema: closed({
      include_usage: BOOLEAN,
      continuous_usage_stats: BOOLEAN,
      include_obfuscation: { enum: [false, null] },
    }),
  }),
  top_k: sampling(
    'topK',
    integer(
      { min: -1 },
      { doc: 'draw from the k most probable tokens', note: '0 and -1 mean all', absent: 'all' },
    ),
    (k) => (k > 0 ? k : Number.POSITIVE_INFINITY),
  ),
  min_p: sampling(
    'minP',
    number(
      { min: 0, max: 1 },
      { doc: 'draw from tokens at least p times as probable as the best one', default: 0 },
    ),
  ),
  repetition_penalty: sampling(
    'repetitionPenalty',
    number(
      { above: 0, max: 100 },
      { doc: 'makes tokens of the prompt and the text less probable', default: 1 },
    ),
  ),
  stop_token_ids: sampling(
    'stopTokens',
    other<number[]>(
      `an array of up to ${MAX_STOP_TOKENS} token ids`,
      (value) => isIds(value) && value.length <= MAX_STOP_TOKENS,
      {
        doc: 'token ids that end the completion',
        absent: 'none',
        schema: { ...IDS, maxItems: MAX_STOP_TOKENS },
      },
    ),
  ),
  grammar: sampling(
    'grammar',
    text({ doc: "grammar in llama.cpp's form (GBNF) that the text follows", absent: 'none' }),
  ),
  json_schema: sampling(
    'jsonSchema',
    object({ doc: 'JSON Schema by which the text is valid', absent: 'none' }),
  ),
  sgemoe: object({
    doc: '`routing`: return the experts of each token',
    absent: 'none',
    schema: closed({ routing: BOOLEAN }),
  }),
};

/** Fields of /v1/completions only. */
export const COMPLETION_FIELDS = {
  prompt: other<string | number[] | (string | number[])[]>(
    'a string, an array of token ids, or an array of these',
    isPrompt,
    { doc: 'text to continue; several prompts give several choices', schema: TEXTS },
  ),
  max_tokens: integer({ min: 0 }, { ...MAX_TOKENS, absent: '16' }),
  logprobs: integer(UP_TO, {
    doc: 'return log-probabilities, with this many alternatives',
    absent: 'none',
  }),
  echo: flag({
    doc: 'begin the text with the prompt',
    note: 'with `logprobs` its tokens are scored, with `max_tokens` 0 nothing else',
    default: false,
  }),
  best_of: integer(
    { min: 1 },
    {
      doc: 'compute this many choices for each prompt and return the `n` of the highest mean log-probability',
      note: 'not in a stream',
      absent: '`n`',
    },
  ),
  suffix: text({
    doc: 'text behind the gap that the completion fills',
    note: 'for models with tokens for that, such as `<fim_prefix>`',
    absent: 'none',
  }),
};

/** Fields of /v1/chat/completions only. */
export const CHAT_FIELDS = {
  response_format: object({
    doc: '`type`: `text`, `json_object` or `json_schema`; the last with `json_schema`: `schema`, `name`, `strict`',
    absent: 'any text',
    schema: FORMAT,
  }),
  messages: other<unknown[]>(
    'an array with one message at least',
    (value) => Array.isArray(value) && value.length > 0,
    { doc: 'conversation to answer', schema: { type: 'array', minItems: 1 } },
  ),
  max_completion_tokens: integer({ min: 0 }, { ...MAX_TOKENS, absent: '`max_tokens`' }),
  max_tokens: integer({ min: 0 }, { ...MAX_TOKENS, absent: 'as many as the context has room for' }),
  logprobs: flag({ doc: 'return log-probabilities', default: false }),
  top_logprobs: integer(UP_TO, { doc: 'alternatives of each token, with `logprobs`', absent: '0' }),
  tools: other<JsonObject[]>(
    `an array of up to ${MAX_TOOLS} objects`,
    (value) => Array.isArray(value) && value.length <= MAX_TOOLS && value.every(isObject),
    {
      doc: 'functions that the model may call: `type` `function`, and `function` with `name`, `description`, `parameters`, `strict`',
      absent: 'none',
      schema: { type: 'array', maxItems: MAX_TOOLS, items: TOOL },
    },
  ),
  tool_choice: other<string | JsonObject>(
    "'auto', 'none', 'required' or the function to call",
    (value) => value === 'auto' || value === 'none' || value === 'required' || isObject(value),
    {
      doc: 'whether a function is called: as the model likes, not, at least one, or this one',
      absent: '`auto`',
      schema: choiceSchema({ function: { type: 'object', properties: NAMED, required: ['name'] } }),
    },
  ),
  parallel_tool_calls: flag({ doc: 'whether an answer may have more than one call', default: true }),
  add_generation_prompt: flag({
    doc: 'begin an answer',
    default: true,
    absent: 'true, unless the last message is continued',
  }),
  continue_final_message: flag({ doc: 'continue the last message instead of answering it', default: false }),
  chat_template_kwargs: object({ doc: 'variables of the chat template', absent: 'none' }),
  reasoning_effort: text({ doc: 'variable of the chat template, where it has a use for it', absent: 'none' }),
};

/** Fields of /v1/embeddings, beside `model`. */
export const EMBEDDING_FIELDS = {
  input: other<string | number[] | (string | number[])[]>(
    `a string, an array of token ids, or an array of up to ${MAX_INPUTS} of these`,
    (value) =>
      isPrompt(value) &&
      (isIds(value) || typeof value === 'string' || (value as unknown[]).length <= MAX_INPUTS),
    {
      doc: 'text to embed, or several',
      schema: {
        anyOf: [{ type: 'string' }, { ...IDS, minItems: 1 }, { ...TEXT_LIST, maxItems: MAX_INPUTS }],
      },
    },
  ),
  encoding_format: choice(['float', 'base64'], {
    doc: 'numbers, or little-endian float32 in base64',
    default: 'float',
  }),
  dimensions: EMBEDDING_OPTIONS.dimensions,
  pooling: { ...EMBEDDING_OPTIONS.pooling, ...OF_THE_SERVER },
  normalize: { ...flag(EMBEDDING_OPTIONS.normalize), ...OF_THE_SERVER },
};

/** The part of a value that is wrong, for the message. */
export function faultOf(name: string, value: unknown): unknown {
  if (name === 'logit_bias' && isObject(value)) return wrongBias(value);
  if (name === 'stop' && Array.isArray(value)) return value.find((each) => !isStop(each)) ?? value;
  return value;
}

export const isInteger = (value: unknown): value is number => Number.isSafeInteger(value);
export const isIds = (value: unknown): value is number[] => Array.isArray(value) && value.every(isInteger);

type WithSchema<T> = OptionInfo<T> & Pick<OptionRow<T>, 'schema'>;

function flag(info: OptionInfo<boolean>): OptionRow<boolean> {
  return { ...boolean(info), must: 'true or false' };
}

export function text(info: WithSchema<string>): OptionRow<string> {
  return other('a string', (value) => typeof value === 'string', { schema: { type: 'string' }, ...info });
}

function object(info: WithSchema<JsonObject>): OptionRow<JsonObject> {
  return other('an object', isObject, { schema: { type: 'object' }, ...info });
}

/** The first key that is no token id, or names one again ("1" and "01"), or bias that is out of range. */
function wrongBias(biases: JsonObject): unknown {
  const seen = new Set<number>();
  for (const [id, bias] of Object.entries(biases)) {
    if (!/^\d{1,10}$/.test(id) || seen.has(Number(id))) return id;
    seen.add(Number(id));
    if (!(typeof bias === 'number' && Math.abs(bias) <= MAX_BIAS)) return bias;
  }
  return undefined;
}

function isStop(value: unknown): boolean {
  if (Array.isArray(value))
    return value.length <= MAX_STOPS && value.every((each) => typeof each === 'string' && isStop(each));
  return typeof value === 'string' && value.length <= MAX_STOP_LENGTH;
}

function isPrompt(value: unknown): boolean {
  if (typeof value === 'string') return true;
  if (!Array.isArray(value) || value.length === 0) return false;
  return isIds(value) || value.every((each) => typeof each === 'string' || isIds(each));
}

/** The schema of `tool_choice`. @param named what names a function beside `type`. */
export function choiceSchema(named: JsonObject): JsonObject {
  const properties = { type: { const: 'function' }, ...named };
  const chosen = { type: 'object', properties, required: Object.keys(properties) };
  return { anyOf: [{ enum: ['auto', 'none', 'required'] }, chosen] };
}

/** The schema of an object with these fields and no others. */
export function closed(properties: JsonObject, required: readonly string[] = []): JsonObject {
  return { type: 'object', properties, required, additionalProperties: false };
}
