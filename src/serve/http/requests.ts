/** Turns bodies of /v1/completions and /v1/chat/completions, as OpenAI documents them, into requests of the engine. */
import { integer } from '../../base/options';
import type { SamplingOptions } from '../../sampling/options';
import type { ChatOptions } from '../../text/chatTemplate';
import { infillTokens } from '../../text/infill';
import type { Tokenizer } from '../../text/tokenizer';
import { drawSeed } from '../engine/drawSeed';
import type { GenerateRequest } from '../engine/types';
import type { BestOf } from './bestOf';
import { Fields, type JsonObject } from './fields';
import { messagesOf } from './messages';
import { IDLE_CHAT, IDLE_COMMON, REFUSED_CHAT } from './otherFields';
import { badRequest } from './problem';
import {
  CHAT_FIELDS,
  COMMON_FIELDS,
  COMPLETION_FIELDS,
  type FieldRow,
  faultOf,
  isIds,
} from './requestFields';
import { responseFormat } from './responseFormat';
import { toolOptions } from './toolFields';

/** OpenAI's default max_tokens of /v1/completions; a chat's answer may be as long as the context allows. */
const COMPLETION_TOKENS = 16;

export interface RequestLimits {
  /** The largest number of new tokens that a request may ask for. */
  maxTokens: number;
  /** The largest number of choices of a request, over all prompts. */
  maxChoices: number;
}

/** A client's request. */
export interface Order {
  /** An engine request for each choice. */
  requests: GenerateRequest[];
  stream: boolean;
  /** Whether the usage comes at the end of a stream, and with each chunk. */
  includeUsage: boolean;
  continuousUsage: boolean;
  /** Of each `of` requests, those of one prompt, the best `keep` are returned; null returns all. */
  bestOf: BestOf | null;
  /** Whether texts begin with their prompts. */
  echo: boolean;
  /** Whether the answer has the routing of each token. */
  routing: boolean;
}

/**
 * @param tokenizer the model's; null for none.
 * @throws Problem for a field that is wrong, unknown or not supported.
 */
export function completionOrder(body: JsonObject, limits: RequestLimits, tokenizer: Tokenizer | null): Order {
  const fields = new Fields(body);
  fields.take('model'); // Models.of has read it.
  const prompts = promptsOf(fields);
  const { n, seed, ...shared } = common(fields);
  const maxTokens = tokensOf(fields, 'max_tokens', limits);
  const topLogprobs = fields.read('logprobs', COMPLETION_FIELDS.logprobs);
  const echo = fields.read('echo', COMPLETION_FIELDS.echo);
  const suffix = suffixOf(fields, prompts, echo ?? false, tokenizer);
  fields.idle(IDLE_COMMON);
  const how = delivery(fields);
  const bestOf = bestOfOf(fields, n, how.stream, topLogprobs !== undefined);
  fields.refuseOthers();
  const made = bestOf?.of ?? n;
  checkChoices(prompts.length * made, limits);
  const scored = bestOf === null ? topLogprobs : (topLogprobs ?? 0);
  const sampling = { ...shared, topLogprobs: scored, echo, suffix, routing: how.routing };
  const limit = maxTokens ?? Math.min(COMPLETION_TOKENS, limits.maxTokens);
  const requests = prompts.flatMap((prompt) =>
    choices({ ...sampling, prompt, maxTokens: limit }, made, seed),
  );
  return { requests, bestOf, echo: echo ?? false, ...how };
}

/** @throws Problem as completionOrder. */
export function chatOrder(body: JsonObject, limits: RequestLimits): Order {
  const fields = new Fields(body);
  fields.take('model'); // Models.of has read it.
  const messages = messagesOf(fields);
  const chat = chatOptions(fields);
  const { n, seed, ...shared } = common(fields);
  const older = tokensOf(fields, 'max_tokens', limits);
  const maxTokens = tokensOf(fields, 'max_completion_tokens', limits) ?? older ?? limits.maxTokens;
  const topLogprobs = alternatives(fields);
  const format = responseFormat(fields);
  const tools = toolOptions(fields);
  fields.idle({ ...IDLE_COMMON, ...IDLE_CHAT });
  fields.refuse(REFUSED_CHAT);
  const how = delivery(fields);
  fields.refuseOthers();
  checkChoices(n, limits);
  const request = {
    ...shared,
    ...format,
    ...tools,
    messages,
    chat,
    maxTokens,
    topLogprobs,
    routing: how.routing,
  };
  return { requests: choices(request, n, seed), bestOf: null, echo: false, ...how };
}

function promptsOf(fields: Fields): (string | number[])[] {
  const prompt = fields.read('prompt', COMPLETION_FIELDS.prompt);
  if (prompt === undefined) return fields.fail('prompt', COMPLETION_FIELDS.prompt.must, prompt);
  return typeof prompt === 'string' || isIds(prompt) ? [prompt] : prompt;
}

/** Reads the fields that both kinds of completion share. */
function common(fields: Fields) {
  return {
    ...samplingOf(fields),
    n: fields.read('n', COMMON_FIELDS.n) ?? 1,
    seed: fields.read('seed', COMMON_FIELDS.seed) ?? drawSeed(),
  };
}

/** Reads a sampling option for each row that is one. */
export function samplingOf(fields: Fields): SamplingOptions {
  const sampling: Record<string, unknown> = {};
  // biome-ignore lint/suspicious/noExplicitAny: rows of any type.
  for (const [name, row] of Object.entries<FieldRow<any>>(COMMON_FIELDS)) {
    if (row.option === undefined) continue;
    const value = fields.read(name, row, (whole) => faultOf(name, whole));
    if (value !== undefined) sampling[row.option] = row.toOption === undefined ? value : row.toOption(value);
  }
  return sampling as SamplingOptions;
}

function tokensOf(fields: Fields, name: string, { maxTokens }: RequestLimits): number | undefined {
  return fields.read(name, integer({ min: 0, max: maxTokens }, { doc: '' }));
}

function delivery(fields: Fields) {
  const stream = fields.read('stream', COMMON_FIELDS.stream) ?? false;
  const options = fields.object('stream_options');
  const continuousUsage = options?.boolean('continuous_usage_stats') ?? false;
  const includeUsage = options?.boolean('include_usage') ?? continuousUsage;
  options?.idle({ include_obfuscation: { values: [false] } });
  options?.refuseOthers();
  if (options !== undefined && !stream) {
    throw badRequest("'stream_options' needs 'stream': true.", 'stream_options');
  }
  const extension = fields.object('sgemoe');
  const routing = extension?.boolean('routing') ?? false;
  extension?.refuseOthers();
  return { stream, includeUsage, continuousUsage, routing };
}

function alternatives(fields: Fields): number | undefined {
  const logprobs = fields.read('logprobs', CHAT_FIELDS.logprobs) ?? false;
  const top = fields.read('top_logprobs', CHAT_FIELDS.top_logprobs);
  if (top !== undefined && !logprobs)
    throw badRequest("'top_logprobs' needs 'logprobs': true.", 'top_logprobs');
  return logprobs ? (top ?? 0) : undefined;
}

/** How the template writes the conversation. */
function chatOptions(fields: Fields): ChatOptions {
  const add = fields.read('add_generation_prompt', CHAT_FIELDS.add_generation_prompt);
  const continueFinalMessage = fields.read('continue_final_message', CHAT_FIELDS.continue_final_message);
  const effort = fields.read('reasoning_effort', CHAT_FIELDS.reasoning_effort);
  const variables = fields.read('chat_template_kwargs', CHAT_FIELDS.chat_template_kwargs);
  if (add && continueFinalMessage) {
    const name = 'add_generation_prompt';
    throw badRequest(`'${name}' must be false beside 'continue_final_message', got true.`, name);
  }
  const chat: ChatOptions = {};
  if (add !== undefined) chat.addGenerationPrompt = add;
  if (continueFinalMessage !== undefined) chat.continueFinalMessage = continueFinalMessage;
  chat.variables = { ...(effort !== undefined && { reasoning_effort: effort }), ...variables };
  return chat;
}

function checkChoices(count: number, { maxChoices }: RequestLimits): void {
  if (count <= maxChoices) return;
  throw badRequest(
    `A request may ask for ${maxChoices} choices, 'n' (or 'best_of') for each prompt; it asks for ${count}.`,
    'n',
  );
}

/** @throws Problem for a suffix that the model can't take, or beside more than the text in front of the gap. */
function suffixOf(
  fields: Fields,
  prompts: readonly (string | number[])[],
  echo: boolean,
  tokenizer: Tokenizer | null,
): string | undefined {
  const suffix = fields.read('suffix', COMPLETION_FIELDS.suffix);
  // An empty one asks for nothing else than its absence.
  if (suffix === undefined || suffix === '') return undefined;
  if (echo || prompts.some((prompt) => typeof prompt !== 'string')) {
    throw badRequest("'suffix' needs a prompt that is a text, without 'echo'.", 'suffix');
  }
  if (tokenizer !== null && infillTokens(tokenizer) !== null) return suffix;
  const message =
    "'suffix' is not supported: the model has no tokens for filling gaps, such as <|fim_prefix|>.";
  throw badRequest(message, 'suffix');
}

function bestOfOf(fields: Fields, n: number, stream: boolean, showsLogprobs: boolean): BestOf | null {
  const of = fields.read('best_of', COMPLETION_FIELDS.best_of) ?? n;
  if (of < n) fields.fail('best_of', `at least 'n' (${n})`, of);
  if (of === n) return null;
  if (stream) throw badRequest("'best_of' above 'n' needs 'stream': false.", 'best_of');
  return { keep: n, of, showsLogprobs };
}

/** The same request n times with different seeds, so that each choice can be reproduced alone. */
function choices(request: GenerateRequest, n: number, seed: number): GenerateRequest[] {
  const given = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined));
  return Array.from({ length: n }, (_, i) => ({ ...given, seed: BigInt(seed) + BigInt(i) }));
}
