/** Client of the server's API: models, and completions and answers as a stream. */

/** @typedef {{ id: number, text: string, logprob: number }} Alternative */
/**
 * A token, its probability and alternatives, and the experts[layer][k] with their gate weights that predicted it.
 * @typedef {Alternative & { top: Alternative[], experts: number[][], weights: number[][] }} Token
 */
/**
 * @typedef {{ id: string, chat_template: boolean, max_model_len: number, n_layers: number, n_experts: number, experts_per_token: number, dense_layers: number[] }} Model
 */
/** @typedef {{ index: number, function?: { name?: string, arguments?: string } }} CallDelta */
/** @typedef {{ text: string, calls?: CallDelta[], finish_reason: string | null, sgemoe?: { tokens: Token[] } }} Choice */
/** @typedef {{ content?: string | null, tool_calls?: CallDelta[] }} Delta */
/** @typedef {{ prompt_tokens: number, prompt_tokens_details?: { cached_tokens: number } }} Usage */
/** @typedef {{ choices: Choice[], usage?: Usage | null, error?: { message: string } }} Chunk */

/** An error whose message is a sentence for the reader. */
export class ServerError extends Error {
  /** @param {string} message @param {number} [status] of HTTP, where there was an answer */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The models that the server has, one at least. @param {string} key @returns {Promise<Model[]>} */
export async function fetchModels(key) {
  const response = await ask('v1/models', key, {});
  return (await response.json()).data;
}

/**
 * Yields the chunks of an answer to a conversation as they arrive, in the form of a completion's.
 * @param {Record<string, unknown>} request
 * @param {string} key
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Chunk>}
 */
export async function* streamChat(request, key, signal) {
  for await (const chunk of stream('v1/chat/completions', request, key, signal)) {
    const choices = chunk.choices.map((choice) => {
      const { delta = {} } = /** @type {{ delta?: Delta }} */ (/** @type {unknown} */ (choice));
      return { ...choice, text: delta.content ?? '', calls: delta.tool_calls ?? [] };
    });
    yield { ...chunk, choices };
  }
}

/**
 * Yields the chunks of a completion as they arrive.
 * @param {Record<string, unknown>} request
 * @param {string} key
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Chunk>}
 */
export function streamCompletion(request, key, signal) {
  return stream('v1/completions', request, key, signal);
}

/**
 * @param {string} path
 * @param {Record<string, unknown>} request
 * @param {string} key
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Chunk>}
 */
async function* stream(path, request, key, signal) {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await ask(path, key, { method: 'POST', body: JSON.stringify(body), signal });
  if (response.body === null) throw new ServerError('The server sent an empty answer.', response.status);
  for await (const data of eventsOf(response.body)) {
    if (data === '[DONE]') return;
    const chunk = /** @type {Chunk} */ (JSON.parse(data));
    if (chunk.error) throw new ServerError(chunk.error.message, response.status);
    yield chunk;
  }
  throw new ServerError('The connection ended before the completion did.');
}

/** @param {string} path @param {string} key @param {RequestInit} init */
async function ask(path, key, init) {
  const headers = new Headers(init.body ? { 'content-type': 'application/json' } : {});
  if (key !== '') headers.set('authorization', `Bearer ${key}`);
  const response = await fetch(path, { ...init, headers }).catch((error) => {
    if (init.signal?.aborted) throw error;
    throw new ServerError('The server does not answer. Is it still running?');
  });
  if (!response.ok) throw new ServerError(await messageOf(response), response.status);
  return response;
}

/** @param {Response} response */
async function messageOf(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `The server answered ${response.status} ${response.statusText}.`;
  const wait = response.headers.get('retry-after');
  return wait === null ? message : `${message} Try again in ${wait} s.`;
}

/** The data of each server-sent event. @param {ReadableStream<BufferSource>} body */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = '';
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (pending + value).split('\n\n');
      pending = events.pop() ?? '';
      for (const event of events) if (event.startsWith('data: ')) yield event.slice('data: '.length);
    }
  } catch (error) {
    if (error instanceof TypeError)
      throw new ServerError('The connection broke before the completion ended.');
    throw error;
  } finally {
    reader.cancel().catch(() => {});
  }
}
