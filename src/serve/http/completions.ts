import type { FastifyReply, FastifyRequest } from 'fastify';
import type { StreamChunk, Usage } from '../engine/types';
import { type AnswerFormat, usageOf } from './answers';
import { clientController } from './clientController';
import { EventStream } from './eventStream';
import type { ResolvedHttpOptions } from './options';
import { toProblem } from './problem';
import type { Order } from './requests';

type Streams = readonly AsyncIterableIterator<StreamChunk, undefined>[];

/** Answers an order, whole or as a stream. When the client leaves, or one choice fails, all of it is cancelled. */
export async function complete(
  order: Order,
  format: AnswerFormat,
  request: FastifyRequest,
  reply: FastifyReply,
  options: ResolvedHttpOptions,
): Promise<unknown> {
  const { engine, timeoutMs } = options;
  const cancel = clientController(reply);
  const requests = order.requests.map((each) => ({ ...each, signal: cancel.signal, timeoutMs }));
  const record = new CompletionRecord(order.requests.length);
  try {
    if (order.stream) {
      const streams = requests.map((each) => engine.stream(each));
      await sendStream(streams, order, format, reply, record, options);
      return reply;
    }
    const completions = await Promise.all(requests.map((each) => engine.generate(each)));
    for (const [i, completion] of completions.entries()) record.add(i, completion);
    return {
      ...{ ...format.head(options.model), object: format.object },
      choices: completions.map((completion, i) => format.whole(i, completion)),
      usage: usageOf(record.usages),
    };
  } finally {
    cancel.abort();
    const { finishReasons, usages, texts } = record;
    const prompts = order.requests.map(({ prompt, messages }) => prompt ?? messages);
    const contents = options.logPrompts ? { prompts, texts } : {};
    request.log.info({ finishReasons, usage: usageOf(usages), ...contents }, 'completion');
  }
}

async function sendStream(
  streams: Streams,
  order: Order,
  format: AnswerFormat,
  reply: FastifyReply,
  record: CompletionRecord,
  options: ResolvedHttpOptions,
): Promise<void> {
  const chunks = merge(streams);
  // What is wrong with a prompt shows here, while the answer can still be an error.
  let next = await chunks.next();
  const head = { ...format.head(options.model), object: format.chunkObject };
  const writers = streams.map((_, i) => format.chunkWriter(i));
  const noUsage = order.includeUsage ? { usage: null } : {};
  const events = new EventStream(reply.raw, options.stallMs);
  reply.hijack();
  try {
    events.begin(reply.getHeaders());
    for (; !next.done; next = await chunks.next()) {
      const { index, chunk } = next.value;
      record.add(index, chunk);
      await events.send({ ...head, choices: [writers[index](chunk)], ...noUsage });
    }
    if (order.includeUsage) await events.send({ ...head, choices: [], usage: usageOf(record.usages) });
    await events.done();
  } catch (error) {
    const problem = toProblem(error);
    if (problem.status === 500 && !reply.raw.destroyed) reply.log.error(error);
    events.fail(problem);
  } finally {
    await chunks.return();
  }
}

interface ChoiceChunk {
  index: number;
  chunk: StreamChunk;
}

/** The chunks of several streams as they come. Leaving it ends them all. */
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
    // The others are of no interest any more, nor is how they end.
    for (const promise of pending.values()) promise.catch(() => undefined);
    await Promise.allSettled(streams.map((stream) => stream.return?.()));
  }
}

/** What the log tells of a completion, by choice. */
class CompletionRecord {
  readonly finishReasons: (string | null)[];
  readonly texts: string[];
  readonly #usages: (Usage | null)[];

  constructor(choices: number) {
    this.finishReasons = new Array(choices).fill(null);
    this.texts = new Array(choices).fill('');
    this.#usages = new Array(choices).fill(null);
  }

  /** Of the choices that have come to their end. */
  get usages(): Usage[] {
    return this.#usages.filter((usage) => usage !== null);
  }

  add(index: number, { text, finishReason, usage }: StreamChunk): void {
    this.texts[index] += text;
    this.finishReasons[index] ??= finishReason;
    this.#usages[index] ??= usage;
  }
}
