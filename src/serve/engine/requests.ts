/** Checks users' requests and turns them into work for a worker. */
import { checkIds, checkOptions } from '../../base/checks';
import { namesOf, withChanges } from '../../base/options';
import { resolveSampling, SAMPLING_OPTIONS, type SamplingOptions } from '../../sampling/options';
import type { Tokenizer } from '../../text/tokenizer';
import type { ToolCallFormatName } from '../../text/toolCalls/formats';
import type { GenerateWork, TextSource } from './messages';
import { samplingBeside, toolWork } from './toolRequest';
import type { GenerateRequest, RequestControl } from './types';

/** The longest delay that setTimeout takes, in milliseconds. */
const MOST_MS = 2 ** 31 - 1;

export const CONTROL: readonly (keyof RequestControl)[] = ['signal', 'timeoutMs', 'client', 'group'];

const REQUEST: readonly string[] = [
  'adapter',
  'prompt',
  'addSpecialTokens',
  'messages',
  'chat',
  'tools',
  'toolChoice',
  'parallelToolCalls',
  'skipSpecialTokens',
  'suffix',
  'echo',
  'routing',
  'onAbort',
  ...CONTROL,
];

export interface VocabularySizes {
  /** Size of the model's vocabulary: the ids that prompts may hold. */
  model: number;
  /** The ids that may be chosen: those of the tokenizer, if there is one. */
  chosen: number;
}

/**
 * @param adapter the number of the request's adapter. @param defaults the sampling where the request is silent. @param formatOf returns the form in which the model writes calls.
 * @throws TypeError or RangeError for an invalid request.
 */
export function generateWork(
  request: GenerateRequest,
  adapter: number | null,
  vocabulary: VocabularySizes,
  defaults: SamplingOptions,
  formatOf: () => ToolCallFormatName,
): GenerateWork {
  checkOptions('generate', request, [...REQUEST, ...namesOf(SAMPLING_OPTIONS)]);
  const { skipSpecialTokens = true, echo = false, routing = false, onAbort = 'throw' } = request;
  checkBoolean('generate: skipSpecialTokens', skipSpecialTokens);
  checkBoolean('generate: routing', routing);
  checkBoolean('generate: echo', echo);
  if (onAbort !== 'throw' && onAbort !== 'return') {
    throw new RangeError(`generate: onAbort must be 'throw' or 'return', got ${String(onAbort)}`);
  }
  const given = Object.entries(request).filter(([name]) => !REQUEST.includes(name));
  const asked = withChanges(defaults, Object.fromEntries(given) as SamplingOptions);
  const tools = toolWork(request, formatOf);
  const sampling = resolveSampling(samplingBeside(asked, tools), vocabulary.chosen);
  const logprobs = request.topLogprobs !== undefined;
  const chat = tools === null ? request.chat : { ...request.chat, tools: request.tools };
  const source = sourceOf({ ...request, chat }, vocabulary.model);
  return { kind: 'generate', source, adapter, sampling, skipSpecialTokens, echo, logprobs, routing, tools };
}

function sourceOf(request: GenerateRequest, vocabSize: number): TextSource {
  const { prompt, messages, chat, addSpecialTokens, suffix } = request;
  if ((prompt === undefined) === (messages === undefined)) {
    throw new TypeError('generate: a request must have either a prompt or messages');
  }
  checkSuffix(request);
  if (messages !== undefined) return chatSource(messages, chat);
  const source = textSource('generate: prompt', prompt, addSpecialTokens ?? true, vocabSize);
  return suffix === undefined
    ? source
    : { ...(source as { text: string; addSpecialTokens: boolean }), suffix };
}

/** @throws TypeError for a suffix that isn't a text, or beside anything but the text in front of the gap. */
function checkSuffix({ prompt, suffix, echo }: GenerateRequest): void {
  if (suffix === undefined) return;
  if (typeof suffix !== 'string')
    throw new TypeError(`generate: suffix must be a text, got ${String(suffix)}`);
  if (typeof prompt === 'string' && !echo) return;
  throw new TypeError('generate: suffix must stand beside a prompt that is a text, without echo');
}

/** @throws TypeError unless `text` is a text or ids, RangeError for an id outside the vocabulary. */
export function textSource(
  what: string,
  text: unknown,
  addSpecialTokens: boolean,
  vocabSize: number,
): TextSource {
  checkBoolean(`${what}: addSpecialTokens`, addSpecialTokens);
  if (typeof text === 'string') return { text, addSpecialTokens };
  return { ids: idsOf(what, text, vocabSize) };
}

/** A copy of ids. @throws as textSource. */
export function idsOf(what: string, ids: unknown, vocabSize: number): Int32Array {
  if (!Array.isArray(ids) && !(ArrayBuffer.isView(ids) && 'length' in ids)) {
    throw new TypeError(`${what} must be a text or an array of token ids, got ${String(ids)}`);
  }
  checkIds(what, ids as ArrayLike<number>, vocabSize);
  return Int32Array.from(ids as ArrayLike<number>);
}

/** A copy of a conversation: what the caller does with it later changes nothing. */
export function chatSource(messages: unknown, chat: unknown = {}): TextSource {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new TypeError(`messages must be an array with one message at least, got ${String(messages)}`);
  }
  for (const message of messages) {
    if (typeof message?.role === 'string') continue;
    throw new TypeError(`messages: each must have a role that is a text, got ${String(message?.role)}`);
  }
  if (typeof chat !== 'object' || chat === null)
    throw new TypeError(`chat must be an object, got ${String(chat)}`);
  try {
    return structuredClone({ messages, chat });
  } catch (cause) {
    throw new TypeError('messages and chat must be plain data', { cause });
  }
}

/** @throws TypeError or RangeError for what isn't a signal, a time or a name. */
export function checkControl(what: string, { signal, timeoutMs, ...names }: RequestControl): void {
  for (const name of ['client', 'group'] as const) {
    if (names[name] === undefined || typeof names[name] === 'string') continue;
    throw new TypeError(`${what}: ${name} must be a text, got ${typeof names[name]}`);
  }
  if (signal !== undefined && typeof signal?.addEventListener !== 'function') {
    throw new TypeError(`${what}: signal must be an AbortSignal, got ${String(signal)}`);
  }
  if (timeoutMs === undefined) return;
  if (typeof timeoutMs !== 'number')
    throw new TypeError(`${what}: timeoutMs must be a number, got ${typeof timeoutMs}`);
  if (timeoutMs > 0 && timeoutMs <= MOST_MS) return;
  throw new RangeError(`${what}: timeoutMs must be in (0, ${MOST_MS}], got ${timeoutMs}`);
}

/** @throws TypeError unless `value` is a tokenizer whose files a worker can make it from again, or null. */
export function checkTokenizer(what: string, value: Tokenizer | null): void {
  if (value === null || typeof value?.files === 'function') return;
  throw new TypeError(`${what} must be a Tokenizer, or null for none, got ${String(value)}`);
}

export function checkBoolean(what: string, value: unknown): void {
  if (typeof value !== 'boolean') throw new TypeError(`${what} must be a boolean, got ${String(value)}`);
}
