import { joinCalls } from '../../text/toolCalls/parser';
import type { JobOwner } from './job';
import { fromWire, type WorkerChunk, type WorkerEvent } from './messages';
import type { Completion, StreamChunk, Usage } from './types';

interface Reader {
  done: (result: IteratorResult<StreamChunk, undefined>) => void;
  fail: (error: unknown) => void;
}

/**
 * The chunks of a completion as an iterator. Unread chunks are joined into one, so a slow reader delays nothing and needs no
 * more memory than the completion.
 */
export class CompletionStream implements AsyncIterableIterator<StreamChunk>, JobOwner {
  /** Called with each chunk of the worker and the usage before it. */
  onChunk: (chunk: WorkerChunk, before: Usage | null) => void = () => {};
  /** Called when the reader leaves before the end. */
  onLeave: () => void = () => {};
  #unread: StreamChunk | null = null;
  #usage: Usage | null = null;
  #ended = false;
  #error: { error: unknown } | null = null;
  readonly #readers: Reader[] = [];
  #onEnd: (() => void) | null = null;

  /** @param returns whether an abort ends it with what exists, instead of throwing. */
  constructor(private readonly returns: boolean) {}

  onEvent({ chunk, error, end }: WorkerEvent): void {
    if (chunk) {
      const before = this.#usage;
      this.#usage = chunk.usage;
      const usage = chunk.finishReason === null ? null : chunk.usage;
      this.#add({ ...chunk, usage, usageSoFar: chunk.usage });
      this.onChunk(chunk, before);
    }
    if (error) this.onError(fromWire(error));
    else if (end) this.#end();
    else this.#serve();
  }

  onError(error: unknown): void {
    this.#error = { error };
    this.#end();
  }

  onAbort(finishReason: 'abort' | 'timeout', error: unknown): void {
    if (this.returns) {
      const usage = this.#usage ?? { promptTokens: 0, reusedTokens: 0, completionTokens: 0 };
      const nothing = {
        text: '',
        tokens: [],
        texts: [],
        logprobs: null,
        routing: null,
        toolCalls: [],
        endToken: null,
      };
      this.#add({ ...nothing, finishReason, usage, usageSoFar: usage });
      this.#end();
    } else this.onError(error);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<StreamChunk, undefined>> {
    return new Promise((done, fail) => {
      this.#readers.push({ done, fail });
      this.#serve();
    });
  }

  async return(): Promise<IteratorResult<StreamChunk, undefined>> {
    this.#unread = null;
    this.#error = null;
    if (!this.#ended) {
      this.#end();
      this.onLeave();
    }
    return { done: true, value: undefined };
  }

  /** Waits for the end and returns everything unread as one completion. */
  async collect(): Promise<Completion> {
    if (!this.#ended) {
      await new Promise<void>((done) => {
        this.#onEnd = done;
      });
    }
    if (this.#error !== null) throw this.#error.error;
    return this.#unread as Completion;
  }

  #add(chunk: StreamChunk): void {
    if (this.#unread === null) this.#unread = chunk;
    else append(this.#unread, chunk);
  }

  #end(): void {
    this.#ended = true;
    this.#onEnd?.();
    this.#serve();
  }

  /** Answers waiting readers with what there is. */
  #serve(): void {
    while (this.#readers.length > 0) {
      if (this.#unread !== null) {
        this.#readers.shift()!.done({ done: false, value: this.#unread });
        this.#unread = null;
      } else if (this.#error !== null) {
        this.#readers.shift()!.fail(this.#error.error);
        this.#error = null;
      } else if (this.#ended) this.#readers.shift()!.done({ done: true, value: undefined });
      else return;
    }
  }
}

function append(
  to: StreamChunk,
  { text, tokens, texts, logprobs, routing, toolCalls, ...end }: StreamChunk,
): void {
  to.text += text;
  to.tokens.push(...tokens);
  to.texts.push(...texts);
  if (logprobs) to.logprobs?.push(...logprobs);
  if (routing) to.routing?.push(...routing);
  joinCalls(to.toolCalls, toolCalls);
  Object.assign(to, end);
}
