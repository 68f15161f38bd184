import { randomUUID } from 'node:crypto';
import type { ChatMessage } from '../../../text/chatMessage';
import type { ToolCallDelta } from '../../../text/toolCalls/parser';
import type { StreamChunk, TokenLogprob, Usage } from '../../engine/types';
import { chatLogprob, unixSeconds } from '../answers';
import type { JsonObject } from '../fields';

interface MessageItem {
  id: string;
  type: 'message';
  status: string;
  role: 'assistant';
  content: { type: 'output_text'; text: string; annotations: []; logprobs: object[] }[];
}

interface CallItem {
  id: string;
  type: 'function_call';
  status: string;
  call_id: string;
  name: string;
  arguments: string;
}

type Item = MessageItem | CallItem;

/** Makes a response, and the events of its stream, from the chunks of an answer. */
export class ResponseWriter {
  readonly id = newId('resp');
  readonly #createdAt = unixSeconds();
  readonly #output: Item[] = [];
  /** The item that is being written, the last one. */
  #open: Item | null = null;
  #sequence = 0;
  #status = 'in_progress';
  #usage: Usage | null = null;
  #error: object | null = null;

  constructor(
    private readonly model: string,
    private readonly repeated: JsonObject,
  ) {}

  /** The response as it is now. */
  get response(): JsonObject & { readonly id: string } {
    const isCut = this.#status === 'incomplete';
    return {
      id: this.id,
      object: 'response',
      created_at: this.#createdAt,
      status: this.#status,
      completed_at: this.#status === 'completed' ? unixSeconds() : null,
      error: this.#error,
      incomplete_details: isCut ? { reason: 'max_output_tokens' } : null,
      model: this.model,
      output: structuredClone(this.#output),
      usage: this.#usage && usageOf(this.#usage),
      ...this.repeated,
    };
  }

  /** The answer as a message of the conversation. */
  get message(): ChatMessage {
    const calls = this.#output.filter((item) => item.type === 'function_call');
    const texts = this.#output.flatMap((item) => (item.type === 'message' ? item.content[0].text : []));
    const tool_calls = calls.map(({ call_id, name, arguments: text }) => ({
      ...{ id: call_id, type: 'function' },
      function: { name, arguments: parsed(text) },
    }));
    return { role: 'assistant', content: texts.join(''), ...(calls.length > 0 && { tool_calls }) };
  }

  *begin(): Generator<object, void> {
    yield this.#event('response.created', { response: this.response });
    yield this.#event('response.in_progress', { response: this.response });
  }

  /** Takes a chunk; the last one ends the response. */
  *write({ text, logprobs, toolCalls, finishReason, usage }: StreamChunk): Generator<object, void> {
    // Where chunks were joined, the rest of a call comes before text, and that before another call.
    for (const piece of toolCalls) if (piece.id === null) yield* this.#writeCall(piece);
    if (text !== '' || this.#open?.type === 'message') yield* this.#writeText(text, logprobs ?? []);
    for (const piece of toolCalls) if (piece.id !== null) yield* this.#writeCall(piece);
    if (finishReason === null) return;
    if (this.#output.length === 0) yield* this.#writeText('', []);
    this.#usage = usage;
    const isCut = finishReason === 'length';
    yield* this.#close(isCut ? 'incomplete' : 'completed');
    this.#status = isCut ? 'incomplete' : 'completed';
    yield this.#event(isCut ? 'response.incomplete' : 'response.completed', { response: this.response });
  }

  /** The last event of a response that failed. */
  fail(code: string, message: string): object {
    this.#status = 'failed';
    this.#error = { code, message };
    return this.#event('response.failed', { response: this.response });
  }

  *#writeText(text: string, logprobs: readonly TokenLogprob[]): Generator<object, void> {
    if (this.#open?.type !== 'message') {
      yield* this.#close('completed');
      const item: MessageItem = {
        ...{ id: newId('msg'), type: 'message', status: 'in_progress', role: 'assistant' },
        content: [],
      };
      yield this.#add(item);
      item.content.push({ type: 'output_text', text: '', annotations: [], logprobs: [] });
      yield this.#event('response.content_part.added', this.#part(item, { part: { ...item.content[0] } }));
    }
    const item = this.#open as MessageItem;
    const entries = logprobs.map(chatLogprob);
    item.content[0].text += text;
    item.content[0].logprobs.push(...entries);
    if (text === '') return;
    yield this.#event('response.output_text.delta', this.#part(item, { delta: text, logprobs: entries }));
  }

  *#writeCall({ id, name, arguments: text }: ToolCallDelta): Generator<object, void> {
    if (id !== null) {
      yield* this.#close('completed');
      yield this.#add({
        ...{ id: newId('fc'), type: 'function_call', status: 'in_progress' },
        ...{ call_id: id, name: name!, arguments: '' },
      });
    }
    const item = this.#open as CallItem;
    item.arguments += text;
    if (text !== '')
      yield this.#event('response.function_call_arguments.delta', this.#at(item, { delta: text }));
  }

  #add(item: Item): object {
    this.#output.push(item);
    this.#open = item;
    const added = { output_index: this.#output.length - 1, item: structuredClone(item) };
    return this.#event('response.output_item.added', added);
  }

  *#close(status: string): Generator<object, void> {
    const item = this.#open;
    if (item === null) return;
    this.#open = null;
    item.status = status;
    if (item.type === 'message') {
      const [part] = item.content;
      const { text, logprobs } = part;
      yield this.#event('response.output_text.done', this.#part(item, { text, logprobs }));
      yield this.#event('response.content_part.done', this.#part(item, { part: structuredClone(part) }));
    } else {
      const { name, arguments: text } = item;
      const done = this.#at(item, { name, arguments: text });
      yield this.#event('response.function_call_arguments.done', done);
    }
    const index = this.#output.indexOf(item);
    yield this.#event('response.output_item.done', { output_index: index, item: structuredClone(item) });
  }

  #at({ id }: Item, fields: object): object {
    return { item_id: id, output_index: this.#output.length - 1, ...fields };
  }

  #part(item: Item, fields: object): object {
    return this.#at(item, { content_index: 0, ...fields });
  }

  #event(type: string, fields: object): object {
    return { type, sequence_number: this.#sequence++, ...fields };
  }
}

function usageOf({ promptTokens, reusedTokens, completionTokens }: Usage): object {
  return {
    input_tokens: promptTokens,
    input_tokens_details: { cached_tokens: reusedTokens },
    output_tokens: completionTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: promptTokens + completionTokens,
  };
}

/** Arguments as an object, as templates expect them; the text of those that were cut. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function newId(prefix: string): string {
  return `${prefix}_${randomUUID().replaceAll('-', '')}`;
}
