/** A conversation's answers from a server of OpenAI's API. */
import { SgemoeError } from '../../base/errors';
import type { ChatMessage } from '../../text/chatTemplate';
import type { ChatAnswerer, ChatPiece } from './chat';

export interface ChatServerOptions {
  /** URL of the server, with or without '/v1'. */
  url: string;
  /** Name of a model there; undefined takes the first. */
  model: string | undefined;
  /** undefined sends none. */
  apiKey: string | undefined;
  /** Fields of each request. */
  fields: Readonly<Record<string, unknown>>;
}

interface ServerModel {
  id: string;
  aliases?: string[] | undefined;
  max_model_len?: number | undefined;
}

interface ServerChunk {
  choices?: { delta?: { content?: string | null } }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
  error?: { message?: string };
}

/** Answers of a server. */
export class ChatServer implements ChatAnswerer {
  private constructor(
    private readonly options: ChatServerOptions,
    readonly model: string,
    readonly contextLength: number | null,
  ) {}

  /** Asks the server for its models. @throws SgemoeError SGEMOE_SERVER if it can't be reached or has no such model. */
  static async open(options: ChatServerOptions): Promise<ChatServer> {
    const response = await ask(options, '/models', {});
    const { data = [] } = (await jsonOf(response)) as { data?: ServerModel[] };
    const wanted = options.model;
    const found = data.find(
      ({ id, aliases }) => wanted === undefined || id === wanted || aliases?.includes(wanted),
    );
    if (found !== undefined) return new ChatServer(options, found.id, found.max_model_len ?? null);
    const names = data.map(({ id }) => id).join(', ');
    throw failure(`${options.url} has no model ${wanted ?? ''}; it has: ${names === '' ? 'none' : names}.`);
  }

  async *stream(messages: readonly ChatMessage[], signal: AbortSignal): AsyncGenerator<ChatPiece> {
    const { fields } = this.options;
    const stream = { stream: true, stream_options: { include_usage: true } };
    const body = JSON.stringify({ ...fields, model: this.model, messages, ...stream });
    try {
      const response = await ask(this.options, '/chat/completions', { method: 'POST', body, signal });
      for await (const data of eventsOf(response)) {
        if (data === '[DONE]') return;
        const { choices = [], usage, error } = parsed(data);
        if (error) throw failure(error.message ?? 'The server ended the answer with an error.');
        const pair = usage && {
          promptTokens: usage.prompt_tokens,
          completionTokens: usage.completion_tokens,
        };
        yield { text: choices[0]?.delta?.content ?? '', usage: pair ?? null };
      }
    } catch (error) {
      if (signal.aborted) return;
      throw error instanceof SgemoeError
        ? error
        : failure('The connection broke before the answer ended.', error);
    }
    throw failure('The connection ended before the answer did.');
  }
}

async function ask({ url, apiKey }: ChatServerOptions, path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.body ? { 'content-type': 'application/json' } : {});
  if (apiKey !== undefined) headers.set('authorization', `Bearer ${apiKey}`);
  const target = `${url.replace(/\/+$/, '').replace(/\/v1$/, '')}/v1${path}`;
  let response: Response;
  try {
    response = await fetch(target, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    const { cause, message } = error as Error;
    throw failure(`${target} can't be reached: ${(cause as Error | undefined)?.message || message}.`, error);
  }
  if (response.ok) return response;
  const { error } = (await response.json().catch(() => ({}))) as {
    error?: { message?: string; code?: string | null };
  };
  const message = error?.message ?? `${target} answered ${response.status} ${response.statusText}.`;
  if (error?.code === 'context_length_exceeded') throw new SgemoeError('SGEMOE_CONTEXT_FULL', message);
  throw failure(message);
}

async function jsonOf(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch (cause) {
    throw failure(`${response.url} answers no JSON: it is no server of OpenAI's API.`, cause);
  }
}

function parsed(data: string): ServerChunk {
  try {
    return JSON.parse(data) as ServerChunk;
  } catch (cause) {
    throw failure('The server streams what is no JSON.', cause);
  }
}

/** The data of each server-sent event. */
async function* eventsOf({ body }: Response): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let pending = '';
  for await (const bytes of body ?? []) {
    pending += decoder.decode(bytes as Uint8Array, { stream: true });
    const lines = pending.split(/\r?\n/);
    pending = lines.pop()!;
    for (const line of lines) if (line.startsWith('data:')) yield line.slice('data:'.length).trim();
  }
}

function failure(message: string, cause?: unknown): SgemoeError {
  return new SgemoeError('SGEMOE_SERVER', message, { cause });
}
