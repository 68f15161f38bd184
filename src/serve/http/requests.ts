/** Bodies of /v1/completions and /v1/chat/completions, as OpenAI documents them, to requests of the engine. */
import { randomInt } from 'node:crypto';
import type { ChatMessage } from '../../text/chatTemplate';
import type { GenerateRequest } from '../engine/types';
import { describe, Fields, isObject, type JsonObject } from './fields';
import { badRequest, Problem } from './problem';

/** Choices of one request: `n` for each prompt. */
export const MAX_CHOICES = 16;
const MAX_ALTERNATIVES = 20;
const MAX_STOPS = 16;
const MAX_STOP_LENGTH = 256;
const MAX_STOP_TOKENS = 64;
/** As OpenAI has it, of /v1/completions; an answer of a chat may be as long as the context allows. */
const COMPLETION_TOKENS = 16;
const SEEDS = 2 ** 48 - 1;

export interface RequestLimits {
  /** The one that is served. */
  model: string;
  /** Most new tokens that may be asked for. */
  maxTokens: number;
}

/** What a client asks for. */
export interface Order {
  /** One for each choice. */
  requests: GenerateRequest[];
  stream: boolean;
  includeUsage: boolean;
  /** Whether the routing of each token is told. */
  routing: boolean;
}

/** Names without an effect on what is computed, with the values that have none. */
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
  const maxTokens = fields.integer('max_tokens', { min: 0, max: limits.maxTokens });
  const topLogprobs = fields.integer('logprobs', { min: 0, max: MAX_ALTERNATIVES });
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
  const range = { min: 0, max: limits.maxTokens };
  const older = fields.integer('max_tokens', range);
  const maxTokens = fields.integer('max_completion_tokens', range) ?? older ?? limits.maxTokens;
  const topLogprobs = alternatives(fields);
  refuseChatFields(fields);
  const { stream, includeUsage, routing } = delivery(fields);
  fields.refuseOthers();
  checkChoices(n);
  const request = { ...shared, messages, maxTokens, topLogprobs, routing };
  return { requests: choices(request, n, seed), stream, includeUsage, routing };
}

/** A conversation whose contents are texts. @throws Problem for anything else, such as images and calls of tools. */
export function messagesOf(fields: Fields): ChatMessage[] {
  const messages = fields.take('messages');
  if (!Array.isArray(messages) || messages.length === 0) {
    fields.fail('messages', 'an array with one message at least', messages);
  }
  return (messages as unknown[]).map((message, i) => {
    if (!isObject(message)) return fields.fail('messages', 'an array of objects', message);
    return messageOf(new Fields(message, `messages[${i}].`));
  });
}

/** @throws Problem 404 for another model than the one that is served; a request may leave the name out. */
export function checkModel(fields: Fields, served: string): void {
  const model = fields.text('model');
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
  const prompt = fields.take('prompt');
  if (typeof prompt === 'string') return [prompt];
  if (Array.isArray(prompt) && prompt.length > 0) {
    if (prompt.every(isInteger)) return [prompt];
    if (prompt.every((each) => typeof each === 'string' || isIds(each))) return prompt;
  }
  return fields.fail('prompt', 'a string, an array of token ids, or an array of these', prompt);
}

/** What both kinds of completion take. */
function common(fields: Fields) {
  const topK = fields.integer('top_k', { min: -1 });
  return {
    n: fields.integer('n', { min: 1, max: MAX_CHOICES }) ?? 1,
    seed: fields.integer('seed', {}) ?? randomInt(SEEDS),
    temperature: fields.number('temperature', { min: 0, max: 100 }),
    topP: fields.number('top_p', { above: 0, max: 1 }),
    topK: topK !== undefined && topK > 0 ? topK : undefined,
    minP: fields.number('min_p', { min: 0, max: 1 }),
    repetitionPenalty: fields.number('repetition_penalty', { above: 0, max: 100 }),
    presencePenalty: fields.number('presence_penalty', { min: -2, max: 2 }),
    frequencyPenalty: fields.number('frequency_penalty', { min: -2, max: 2 }),
    logitBias: biasOf(fields),
    stop: stopsOf(fields),
    stopTokens: stopTokensOf(fields),
  };
}

function delivery(fields: Fields) {
  const stream = fields.boolean('stream') ?? false;
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
  const logprobs = fields.boolean('logprobs') ?? false;
  const top = fields.integer('top_logprobs', { min: 0, max: MAX_ALTERNATIVES });
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
    ...{ tools, functions: tools, audio: text, prediction: 'nothing would be gained by it' },
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

function biasOf(fields: Fields): Map<number, number> | undefined {
  const given = fields.take('logit_bias');
  if (given === undefined) return undefined;
  if (!isObject(given)) return fields.fail('logit_bias', 'an object from token ids to numbers', given);
  return new Map(
    Object.entries(given).map(([id, bias]) => {
      if (!/^\d{1,10}$/.test(id)) fields.fail('logit_bias', 'an object whose keys are token ids', id);
      if (typeof bias === 'number' && bias >= -100 && bias <= 100) return [Number(id), bias];
      return fields.fail('logit_bias', 'an object of numbers from -100 to 100', bias);
    }),
  );
}

function stopsOf(fields: Fields): string[] | undefined {
  const stop = fields.take('stop');
  if (stop === undefined) return undefined;
  const stops = Array.isArray(stop) ? stop : [stop];
  const fits = (text: unknown) => typeof text === 'string' && text !== '' && text.length <= MAX_STOP_LENGTH;
  if (stops.length <= MAX_STOPS && stops.every(fits)) return stops;
  const must = `up to ${MAX_STOPS} strings of 1 to ${MAX_STOP_LENGTH} characters`;
  return fields.fail('stop', must, stops.find((text) => !fits(text)) ?? stops);
}

function stopTokensOf(fields: Fields): number[] | undefined {
  const tokens = fields.take('stop_token_ids');
  if (tokens === undefined) return undefined;
  if (Array.isArray(tokens) && tokens.length <= MAX_STOP_TOKENS && tokens.every(isInteger)) return tokens;
  return fields.fail('stop_token_ids', `an array of up to ${MAX_STOP_TOKENS} token ids`, tokens);
}

function checkChoices(count: number): void {
  if (count <= MAX_CHOICES) return;
  throw badRequest(
    `A request may ask for ${MAX_CHOICES} choices, 'n' for each prompt; it asks for ${count}.`,
    'n',
  );
}

/** n times the same request but for the seed, so that a choice can be had again alone. */
function choices(request: GenerateRequest, n: number, seed: number): GenerateRequest[] {
  const given = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined));
  return Array.from({ length: n }, (_, i) => ({ ...given, seed: BigInt(seed) + BigInt(i) }));
}

const isInteger = (value: unknown): value is number => Number.isSafeInteger(value);
export const isIds = (value: unknown): value is number[] => Array.isArray(value) && value.every(isInteger);
