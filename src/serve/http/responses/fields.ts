/** The fields of a body of /v1/responses, beside those of sampling. */
import { boolean, integer, type OptionInfo, other } from '../../../base/options';
import { isObject, type JsonObject } from '../fields';
import type { IdleField } from '../otherFields';
import { CHAT_FIELDS, COMMON_FIELDS, text } from '../requestFields';

export const MAX_METADATA = 16;

/** What `include` may name. */
export const INCLUDABLE = ['message.output_text.logprobs', 'reasoning.encrypted_content'];

export const RESPONSE_FIELDS = {
  model: COMMON_FIELDS.model,
  input: other<string | JsonObject[]>(
    'a string or an array of items',
    (value) => typeof value === 'string' || (Array.isArray(value) && value.every(isObject)),
    { doc: 'text to answer, or items: messages, `function_call`, `function_call_output`' },
  ),
  instructions: text({
    doc: 'system message in front of the conversation; not kept for the next response',
    absent: 'none',
  }),
  previous_response_id: text({ doc: 'response that the input goes on from', absent: 'none' }),
  store: flag({ doc: 'keep the response, in memory, for `previous_response_id` and GET', default: true }),
  max_output_tokens: integer(
    { min: 1 },
    { doc: 'most new tokens', absent: 'as many as the context has room for' },
  ),
  text: object({
    doc: '`format`: `type` `text`, `json_object`, or `json_schema` with `schema`, `name`, `strict`',
    absent: 'any text',
  }),
  tools: {
    ...CHAT_FIELDS.tools,
    doc: 'functions that the model may call: `type` `function`, `name`, `description`, `parameters`, `strict`',
  },
  tool_choice: CHAT_FIELDS.tool_choice,
  parallel_tool_calls: CHAT_FIELDS.parallel_tool_calls,
  truncation: other<string>("'auto' or 'disabled'", (value) => value === 'auto' || value === 'disabled', {
    doc: '`auto` leaves out the oldest messages where the context has no room',
    default: 'disabled',
  }),
  reasoning: object({ doc: "`effort`: the template's variable `reasoning_effort`", absent: 'none' }),
  include: other<string[]>(
    `an array of ${INCLUDABLE.map((each) => `'${each}'`).join(', ')}`,
    (value) => Array.isArray(value) && value.every((each) => INCLUDABLE.includes(each as string)),
    { doc: '`message.output_text.logprobs`: return log-probabilities', absent: 'nothing' },
  ),
  top_logprobs: CHAT_FIELDS.top_logprobs,
  metadata: other<JsonObject>(
    `an object of up to ${MAX_METADATA} texts`,
    (value) =>
      isObject(value) &&
      Object.keys(value).length <= MAX_METADATA &&
      Object.values(value).every((each) => typeof each === 'string'),
    { doc: 'returned with the response', absent: 'none' },
  ),
  stream: COMMON_FIELDS.stream,
  seed: COMMON_FIELDS.seed,
};

/** Taken without effect. */
export const IDLE_RESPONSE: Readonly<Record<string, IdleField>> = {
  user: { doc: 'nothing is kept by user' },
  safety_identifier: { doc: 'nothing is kept by user' },
  prompt_cache_key: { doc: 'every common beginning is reused' },
  prompt_cache_retention: { doc: 'a beginning is kept until its place is needed' },
  prompt_cache_options: { doc: 'every common beginning is reused' },
  service_tier: { doc: 'all requests are served alike' },
  background: { doc: 'a response is computed while the client waits', values: [false] },
  stream_options: { doc: 'events are not padded' },
  max_tool_calls: { doc: 'the client runs all calls' },
};

export const REFUSED_RESPONSE: Readonly<Record<string, string>> = {
  conversation: '`previous_response_id` continues a conversation',
  prompt: 'there are no stored prompts',
  context_management: '`truncation` shortens a conversation',
  moderation: 'nothing moderates here',
};

function flag(info: OptionInfo<boolean>) {
  return { ...boolean(info), must: 'true or false' };
}

function object(info: OptionInfo<JsonObject>) {
  return other('an object', isObject, info);
}
