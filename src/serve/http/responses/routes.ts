import { SgemoeError } from '../../../base/errors';
import type { ChatMessage } from '../../../text/chatMessage';
import type { GenerateRequest, StreamChunk } from '../../engine/types';
import type { Answer, Call, Route } from '../exchange';
import { asObject } from '../fields';
import type { Models } from '../models';
import type { ModelOptions, ResolvedHttpOptions } from '../options';
import { Problem, toProblem } from '../problem';
import { type ResponseOrder, responseOrder } from './order';
import { ResponseStore } from './store';
import { ResponseWriter } from './writer';

type Chunks = AsyncIterableIterator<StreamChunk, undefined>;

/** /v1/responses, as OpenAI documents it. */
export function responseRoutes(
  { maxResponses, maxResponseBytes }: ResolvedHttpOptions,
  models: Models,
): Route[] {
  const store = new ResponseStore(maxResponses, maxResponseBytes);
  const path = '/v1/responses/*';
  return [
    {
      method: 'POST',
      path: '/v1/responses',
      answer(call) {
        const options = models.of(call.body);
        return respond(responseOrder(asObject(call.body), options, store), call, options, store);
      },
    },
    { method: 'GET', path, answer: ({ rest }) => ({ body: (store.get(rest) ?? missing()).response }) },
    {
      method: 'DELETE',
      path,
      answer({ rest }) {
        if (!store.delete(rest)) missing();
        return { body: { id: rest, object: 'response', deleted: true } };
      },
    },
  ];
}

function missing(): never {
  throw new Problem(404, 'No response of this id is kept here.', null, 'not_found');
}

async function respond(
  order: ResponseOrder,
  call: Call,
  options: ModelOptions,
  store: ResponseStore,
): Promise<Answer> {
  const writer = new ResponseWriter(options.model, order.repeated);
  // An error of the prompt appears at the first chunk, while the answer can still be an error.
  const { chunks, first } = await start(order, call, options);
  const finish = (finishReason: string) => {
    const { response, message } = writer;
    if (order.store) store.add({ response, messages: [...order.messages, message] });
    const contents = options.logPrompts ? { prompts: [order.messages], output: response.output } : {};
    const entry = { model: options.model, finishReasons: [finishReason], usage: response.usage, ...contents };
    call.log.info(entry, 'completion');
  };
  const events = eventsOf(writer, first, chunks, call, finish);
  if (order.stream) return { events, named: true };
  for await (const _event of events);
  return { body: writer.response };
}

async function* eventsOf(
  writer: ResponseWriter,
  first: IteratorResult<StreamChunk, undefined>,
  chunks: Chunks,
  call: Call,
  finish: (finishReason: string) => void,
): AsyncGenerator<object, void> {
  try {
    yield* writer.begin();
    for (let next = first; !next.done; next = await chunks.next()) {
      const { finishReason } = next.value;
      const events = [...writer.write(next.value)];
      // Once the client reads the last event, it may go on from the response.
      if (finishReason !== null) finish(finishReason);
      yield* events;
    }
  } catch (error) {
    const { code, message } = toProblem(error);
    yield writer.fail(code ?? 'server_error', message);
    throw error;
  } finally {
    call.cancel.abort();
    await chunks.return?.();
  }
}

/** Starts the answer; where the conversation may be cut, its oldest messages are left out until the context has room. */
async function start(
  order: ResponseOrder,
  call: Call,
  { engine, timeoutMs }: ModelOptions,
): Promise<{ chunks: Chunks; first: IteratorResult<StreamChunk, undefined> }> {
  const { instructions, truncates } = order;
  const system = instructions === undefined ? [] : [{ role: 'system', content: instructions }];
  let left: readonly ChatMessage[] = order.messages;
  for (;;) {
    const request: GenerateRequest = { ...order.request, messages: [...system, ...left] };
    const chunks = engine.stream({ ...request, signal: call.cancel.signal, timeoutMs });
    try {
      return { chunks, first: await chunks.next() };
    } catch (error) {
      const isFull = error instanceof SgemoeError && error.code === 'SGEMOE_CONTEXT_FULL';
      const shorter = isFull && truncates ? withoutOldest(left) : null;
      if (shorter === null) throw error;
      left = shorter;
    }
  }
}

/** The messages from the second question on, behind those of the system; null if there is none. */
function withoutOldest(messages: readonly ChatMessage[]): ChatMessage[] | null {
  const isSystem = ({ role }: ChatMessage) => role === 'system' || role === 'developer';
  const turns = messages.filter((message) => !isSystem(message));
  const next = turns.findIndex(({ role }, i) => i > 0 && role === 'user');
  return next < 0 ? null : [...messages.filter(isSystem), ...turns.slice(next)];
}
