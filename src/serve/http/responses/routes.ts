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
        const earlierOf = (id: string) => store.get(id, call.caller.client)?.messages;
        return respond(responseOrder(asObject(call.body), options, earlierOf), call, options, store);
      },
    },
    {
      method: 'GET',
      path,
      answer: ({ rest, caller }) => ({ body: (store.get(rest, caller.client) ?? missing()).response }),
    },
    {
      method: 'DELETE',
      path,
      answer({ rest, caller }) {
        if (!store.delete(rest, caller.client)) missing();
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
  const { client: owner } = call.caller;
  // An error of the prompt appears at the first chunk, while the answer can still be an error.
  const { chunks, first } = await start(order, call, writer.id, options);
  const keep = () => {
    const { response, message } = writer;
    if (order.store) store.add({ response, owner, messages: [...order.messages, message] });
  };
  const log = ({ usageSoFar, finishReason }: StreamChunk) => {
    const { promptTokens, completionTokens } = usageSoFar;
    call.caller.charge(promptTokens + completionTokens);
    const contents = options.logPrompts ? { prompts: [order.messages], output: writer.response.output } : {};
    const usage = { promptTokens, completionTokens };
    call.log.info({ model: options.model, finishReasons: [finishReason], usage, ...contents }, 'completion');
  };
  const events = eventsOf(writer, { first, chunks, keep, log, cancel: call.cancel });
  if (order.stream) return { events, named: true };
  for await (const _event of events);
  return { body: writer.response };
}

interface RunningAnswer {
  chunks: Chunks;
  /** The first of them, which was read. */
  first: IteratorResult<StreamChunk, undefined>;
  /** Called when the response is whole. */
  keep: () => void;
  /** Called at the end, whatever it is, with the last chunk. */
  log: (last: StreamChunk) => void;
  cancel: AbortController;
}

async function* eventsOf(
  writer: ResponseWriter,
  { chunks, first, keep, log, cancel }: RunningAnswer,
): AsyncGenerator<object, void> {
  let last = first.value;
  try {
    yield* writer.begin();
    for (let next = first; !next.done; next = await chunks.next()) {
      last = next.value;
      const events = [...writer.write(last)];
      // Once the client reads the last event, it may go on from the response.
      if (last.finishReason !== null) keep();
      yield* events;
    }
  } catch (error) {
    const { code, message } = toProblem(error);
    yield writer.fail(code ?? 'server_error', message);
    throw error;
  } finally {
    cancel.abort();
    await chunks.return?.();
    if (last !== undefined) log(last);
  }
}

/** Starts the answer; where the conversation may be cut, its oldest messages are left out until the context has room. */
async function start(
  order: ResponseOrder,
  call: Call,
  id: string,
  { engine, adapter, timeoutMs }: ModelOptions,
): Promise<{ chunks: Chunks; first: IteratorResult<StreamChunk, undefined> }> {
  const { instructions, truncates } = order;
  // Without keys, each answer counts as a client.
  const { client = id } = call.caller;
  const system = instructions === undefined ? [] : [{ role: 'system', content: instructions }];
  let left: readonly ChatMessage[] = order.messages;
  for (;;) {
    const request: GenerateRequest = { ...order.request, adapter, messages: [...system, ...left] };
    const chunks = engine.stream({ ...request, client, signal: call.cancel.signal, timeoutMs });
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
