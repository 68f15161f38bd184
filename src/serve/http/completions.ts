import type { StreamChunk, Usage } from '../engine/types';
import { type AnswerFormat, type AnswerHead, newHead, usageOf } from './answers';
import { bestOf } from './bestOf';
import type { Answer, Call } from './exchange';
import type { ModelOptions } from './options';
import type { Order } from './requests';

type Streams = readonly AsyncIterableIterator<StreamChunk, undefined>[];

/** Answers an order, whole or as a stream. If the client leaves or one choice fails, all choices are cancelled. */
export async function complete(
  order: Order,
  format: AnswerFormat,
  call: Call,
  options: ModelOptions,
): Promise<Answer> {
  const { engine, timeoutMs, model, adapter } = options;
  const { signal } = call.cancel;
  const head = newHead(format.idPrefix, model, engine.fingerprintOf(adapter));
  // The choices belong together; without keys, each answer counts as a client.
  const { client = head.id } = call.caller;
  const whose = { client, group: head.id };
  const requests = order.requests.map((each) => ({ ...each, ...whose, adapter, signal, timeoutMs }));
  const record = new CompletionRecord(order.requests.length);
  const finish = () => {
    call.cancel.abort();
    call.caller.charge(record.tokens);
    call.log.info({ model, ...record.entry(order, options.logPrompts) }, 'completion');
  };
  let events: AsyncGenerator<object, void> | null = null;
  try {
    if (order.stream) {
      const chunks = merge(requests.map((each) => engine.stream(each)));
      // An error of the prompt appears at the first chunk, while the answer can still be an error.
      const first = await chunks.next();
      events = eventsOf(first, chunks, order, format, head, record, finish);
      return { events };
    }
    const completions = await Promise.all(requests.map((each) => engine.generate(each)));
    for (const [i, completion] of completions.entries()) record.add(i, completion);
    const chosen = order.bestOf === null ? completions : bestOf(completions, order.bestOf);
    const body = {
      ...head,
      object: format.object,
      choices: chosen.map((completion, i) => format.whole(i, completion)),
      usage: usageOf(record.usages),
    };
    return { body };
  } finally {
    if (events === null) finish();
  }
}

async function* eventsOf(
  first: IteratorResult<ChoiceChunk, void>,
  chunks: AsyncGenerator<ChoiceChunk, void>,
  order: Order,
  format: AnswerFormat,
  answerHead: AnswerHead,
  record: CompletionRecord,
  finish: () => void,
): AsyncGenerator<object, void> {
  const head = { ...answerHead, object: format.chunkObject };
  const writers = order.requests.map((_, i) => format.chunkWriter(i));
  try {
    for (let next = first; !next.done; next = await chunks.next()) {
      const { index, chunk } = next.value;
      record.add(index, chunk);
      const usage = order.continuousUsage ? usageOf(record.usages) : null;
      yield { ...head, choices: [writers[index](chunk)], ...(order.includeUsage && { usage }) };
    }
    if (order.includeUsage) yield { ...head, choices: [], usage: usageOf(record.usages) };
  } finally {
    await chunks.return();
    finish();
  }
}

interface ChoiceChunk {
  index: number;
  chunk: StreamChunk;
}

/** Merges the chunks of several streams as they arrive. Leaving the iteration ends all streams. */
async function* merge(streams: Streams): AsyncGenerator<ChoiceChunk, void, undefined> {
  const next = async (index: number) => ({ index, result: await streams[index].next() });
  const pending = new Map(streams.map((_, i) => [i, next(i)]));
  try {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values());
      pending.delete(index);
      if (result.done) continue;
      yield { index, chunk: result.value };
      pending.set(index, next(index));
    }
  } finally {
    // The other streams no longer matter, so their errors are ignored.
    for (const promise of pending.values()) promise.catch(() => undefined);
    await Promise.allSettled(streams.map((stream) => stream.return?.()));
  }
}

/** The log entry of a completion, by choice. */
class CompletionRecord {
  readonly #finishReasons: (string | null)[];
  readonly #texts: string[];
  readonly #usages: (Usage | null)[];

  constructor(choices: number) {
    this.#finishReasons = new Array(choices).fill(null);
    this.#texts = new Array(choices).fill('');
    this.#usages = new Array(choices).fill(null);
  }

  /** Usages of the choices so far. */
  get usages(): Usage[] {
    return this.#usages.filter((usage) => usage !== null);
  }

  /** Tokens of prompts and completions. */
  get tokens(): number {
    return this.usages.reduce(
      (sum, { promptTokens, completionTokens }) => sum + promptTokens + completionTokens,
      0,
    );
  }

  add(index: number, { text, finishReason, usageSoFar }: StreamChunk): void {
    this.#texts[index] += text;
    this.#finishReasons[index] ??= finishReason;
    this.#usages[index] = usageSoFar;
  }

  /** @param withTexts whether prompts and texts are logged too. */
  entry({ requests }: Order, withTexts: boolean): object {
    const prompts = requests.map(({ prompt, messages }) => prompt ?? messages);
    const contents = withTexts ? { prompts, texts: this.#texts } : {};
    return { finishReasons: this.#finishReasons, usage: usageOf(this.usages), ...contents };
  }
}
