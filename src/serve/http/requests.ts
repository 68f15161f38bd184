/** Turns bodies of /v1/completions and /v1/chat/completions, as OpenAI documents them, into requests of the engine. */
import { randomInt } from 'node:crypto';
import { integer } from '../../base/options';
import type { SamplingOptions } from '../../sampling/options';
import type { ChatMessage } from '../../text/chatTemplate';
import type { GenerateRequest } from '../engine/types';
import { describe, Fields, isObject, type JsonObject } from './fields';
import { badRequest, Problem } from './problem';
import {
  CHAT_FIELDS,
  COMMON_FIELDS,
  COMPLETION_FIELDS,
  type FieldRow,
  faultOf,
  isIds,
  MAX_CHOICES,
} from './requestFields';

/** OpenAI's default max_tokens of /v1/completions; a chat's answer may be as long as the context allows. */
const COMPLETION_TOKENS = 16;
const SEEDS = 2 ** 48 - 1;

export interface RequestLimits {
  /** Name of the served model. */
  model: string;
  /** The largest number of new tokens that a request may ask for. */
  maxTokens: number;
}

/** A client's request. */
export interface Order {
  /** An engine request for each choice. */
  requests: GenerateRequest[];
  stream: boolean;
  includeUsage: boolean;
  /** Whether the answer has the routing of each token. */
  routing: boolean;
}

/** Fields without an effect on the computation, with the values that are accepted. */
const NEUTRAL = {
  user: [],
  metadata: [],
  safety_identifier: [],
  prompt_cache_key: [],
  prompt_cache_retention: [],
  service_tier: ['auto', 'default'],
  store: [false],
};

/** @throws Problem for a field that is wrong, unknown or not supported. */
export function completionOrder(body: JsonObject, limits: RequestLimits): Order {
  const fields = new Fields(body);
  checkModel(fields, limits.model);
  const prompts = promptsOf(fields);
  const { n, seed, ...shared } = common(fields);
  const maxTokens = tokensOf(fields, 'max_tokens', limits);
  const topLogprobs = fields.read('logprobs', COMPLETION_FIELDS.logprobs);
  fields.neutral({ ...NEUTRAL, echo: [false], best_of: [1, n] });
  fields.refuse({ suffix: 'the model continues texts, it does not fill gaps' });
  const { stream, includeUsage, routing } = delivery(fields);
  fields.refuseOthers();
  checkChoices(prompts.length * n);
  const sampling = { ...shared, topLogprobs, routing };
  const limit = maxTokens ?? Math.min(COMPLETION_TOKENS, limits.maxTokens);
  const requests = prompts.flatMap((prompt) => choices({ ...sampling, prompt, maxTokens: limit }, n, seed));
  return { requests, stream, includeUsage, routing };
}

/** @throws Problem as completionOrder. */
export function chatOrder(body: JsonObject, limits: RequestLimits): Order {
  const fields = new Fields(body);
  checkModel(fields, limits.model);
  const messages = messagesOf(fields);
  const { n, seed, ...shared } = common(fields);
  const older = tokensOf(fields, 'max_tokens', limits);
  const maxTokens = tokensOf(fields, 'max_completion_tokens', limits) ?? older ?? limits.maxTokens;
  const topLogprobs = alternatives(fields);
  refuseChatFields(fields);
  const { stream, includeUsage, routing } = delivery(fields);
  fields.refuseOthers();
  checkChoices(n);
  const request = { ...shared, messages, maxTokens, topLogprobs, routing };
  return { requests: choices(request, n, seed), stream, includeUsage, routing };
}

/** A conversation whose contents are texts. @throws Problem for other contents, such as images and tool calls. */
export function messagesOf(fields: Fields): ChatMessage[] {
  const messages = fields.read('messages', CHAT_FIELDS.messages);
  if (messages === undefined) return fields.fail('messages', CHAT_FIELDS.messages.must, messages);
  return messages.map((message, i) => {
    if (!isObject(message)) return fields.fail('messages', 'an array of objects', message);
    return messageOf(new Fields(message, `messages[${i}].`));
  });
}

/** @throws Problem 404 for a model that isn't served; a request may leave the name out. */
export function checkModel(fields: Fields, served: string): void {
  const model = fields.read('model', COMMON_FIELDS.model);
  if (model === undefined || model === served) return;
  const message = `There is no model ${describe(model)} here, only ${describe(served)}.`;
  throw new Problem(404, message, 'model', 'model_not_found', 'There is no model of this name here.');
}

function messageOf(fields: Fields): ChatMessage {
  const role = fields.text('role');
  const name = fields.text('name');
  const content = contentOf(fields);
  fields.neutral({ refusal: [], annotations: [], audio: [] });
  fields.refuse({
    tool_calls: 'tools are not',
    function_call: 'tools are not',
    tool_call_id: 'tools are not',
  });
  fields.refuseOthers();
  if (role === undefined || !['system', 'developer', 'user', 'assistant'].includes(role)) {
    return fields.fail('role', "'system', 'developer', 'user' or 'assistant'", role);
  }
  const known = role === 'developer' ? 'system' : role;
  return name === undefined ? { role: known, content } : { role: known, content, name };
}

function contentOf(fields: Fields): string {
  const content = fields.take('content');
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return fields.fail('content', 'a string or an array of text parts', content);
  return content
    .map((part) => {
      if (isObject(part) && part.type === 'text' && typeof part.text === 'string') return part.text;
      throw badRequest('The parts of a message must be { "type": "text", "text": ... }.', 'messages');
    })
    .join('');
}

function promptsOf(fields: Fields): (string | number[])[] {
  const prompt = fields.read('prompt', COMPLETION_FIELDS.prompt);
  if (prompt === undefined) return fields.fail('prompt', COMPLETION_FIELDS.prompt.must, prompt);
  return typeof prompt === 'string' || isIds(prompt) ? [prompt] : prompt;
}

/** Reads the fields that both kinds of completion share: the choices, and a sampling option for each row that is one. */
function common(fields: Fields) {
  const sampling: Record<string, unknown> = {};
  // biome-ignore lint/suspicious/noExplicitAny: rows of any type.
  for (const [name, row] of Object.entries<FieldRow<any>>(COMMON_FIELDS)) {
    if (row.option === undefined) continue;
    const value = fields.read(name, row, (whole) => faultOf(name, whole));
    if (value !== undefined) sampling[row.option] = row.toOption === undefined ? value : row.toOption(value);
  }
  return {
    ...(sampling as SamplingOptions),
    n: fields.read('n', COMMON_FIELDS.n) ?? 1,
    seed: fields.read('seed', COMMON_FIELDS.seed) ?? randomInt(SEEDS),
  };
}

function tokensOf(fields: Fields, name: string, { maxTokens }: RequestLimits): number | undefined {
  return fields.read(name, integer({ min: 0, max: maxTokens }, { doc: '' }));
}

function delivery(fields: Fields) {
  const stream = fields.read('stream', COMMON_FIELDS.stream) ?? false;
  const options = fields.object('stream_options');
  const includeUsage = options?.boolean('include_usage') ?? false;
  options?.neutral({ include_obfuscation: [false] });
  options?.refuseOthers();
  if (options !== undefined && !stream) {
    throw badRequest("'stream_options' needs 'stream': true.", 'stream_options');
  }
  const extension = fields.object('sgemoe');
  const routing = extension?.boolean('routing') ?? false;
  extension?.refuseOthers();
  return { stream, includeUsage, routing };
}

function alternatives(fields: Fields): number | undefined {
  const logprobs = fields.read('logprobs', CHAT_FIELDS.logprobs) ?? false;
  const top = fields.read('top_logprobs', CHAT_FIELDS.top_logprobs);
  if (top !== undefined && !logprobs)
    throw badRequest("'top_logprobs' needs 'logprobs': true.", 'top_logprobs');
  return logprobs ? (top ?? 0) : undefined;
}

function refuseChatFields(fields: Fields): void {
  fields.neutral({
    ...NEUTRAL,
    tool_choice: ['none', 'auto'],
    function_call: ['none', 'auto'],
    parallel_tool_calls: [true, false],
  });
  const tools = 'calls of tools are not read from the text';
  const text = 'the model reads and writes text only';
  fields.refuse({
    tools,
    functions: tools,
    audio: text,
    prediction: 'nothing would be gained by it',
    web_search_options: 'the server does not search the web',
    reasoning_effort: 'the model has no such setting',
    verbosity: 'the model has no such setting',
    moderation: 'nothing moderates here',
  });
  const modalities = fields.take('modalities');
  if (modalities !== undefined && String(modalities) !== 'text') {
    throw badRequest(`'modalities' must be ["text"]: ${text}.`, 'modalities');
  }
  const format = fields.object('response_format');
  if (format !== undefined && format.take('type') !== 'text') {
    throw badRequest(
      '\'response_format\' must be { "type": "text" }: output is not constrained.',
      'response_format',
    );
  }
}

function checkChoices(count: number): void {
  if (count <= MAX_CHOICES) return;
  throw badRequest(
    `A request may ask for ${MAX_CHOICES} choices, 'n' for each prompt; it asks for ${count}.`,
    'n',
  );
}

/** The same request n times with different seeds, so that each choice can be reproduced alone. */
function choices(request: GenerateRequest, n: number, seed: number): GenerateRequest[] {
  const given = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined));
  return Array.from({ length: n }, (_, i) => ({ ...given, seed: BigInt(seed) + BigInt(i) }));
}
