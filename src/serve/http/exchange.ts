/** A request and its answer as the routes see them, whatever server they stand in. */
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';

/** Takes what a request has to tell beside its answer. */
export interface Log {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** A log each of whose lines has these fields, too. */
export function withFields(log: Log, bound: object): Log {
  return {
    info: (fields, message) => log.info({ ...bound, ...fields }, message),
    error: (fields, message) => log.error({ ...bound, ...fields }, message),
  };
}

export interface Call {
  readonly headers: IncomingHttpHeaders;
  /** What the '*' of the route's path stands for, decoded; '' without one. */
  readonly rest: string;
  /** The JSON of the body, undefined without one. */
  readonly body: unknown;
  /** Aborts when the client has left, or has all of its answer. A route may abort it to end what it has begun. */
  readonly cancel: AbortController;
  readonly log: Log;
}

export type Headers = Readonly<Record<string, string>>;

/** An answer that is complete. A body that is neither text nor bytes is sent as JSON. */
export interface WholeAnswer {
  /** Default 200. */
  readonly status?: number | undefined;
  readonly headers?: Headers | undefined;
  readonly body: object | string;
}

/** An answer that comes bit by bit: server-sent events, each with a JSON value, '[DONE]' after the last one. */
export interface StreamedAnswer {
  /** Is read at the client's pace, and left when the client has gone. At least one step of it is always taken. */
  readonly events: AsyncGenerator<object, void>;
}

export type Answer = WholeAnswer | StreamedAnswer;

export interface Route {
  readonly method: 'GET' | 'POST';
  /** Begins with '/'; '*' at the end stands for any text that is not empty. */
  readonly path: string;
  /** Whether it needs no key. */
  readonly open?: boolean | undefined;
  answer(call: Call): Answer | Promise<Answer>;
}

/** A whole answer as it goes over the wire. */
export interface EncodedAnswer {
  status: number;
  headers: Headers;
  body: string | Buffer;
}

export function encode({ status = 200, headers = {}, body }: WholeAnswer): EncodedAnswer {
  if (typeof body === 'string' || Buffer.isBuffer(body)) return { status, headers, body };
  const type = { 'content-type': 'application/json; charset=utf-8' };
  return { status, headers: { ...type, ...headers }, body: JSON.stringify(body) };
}

/** Aborts when the response is closed: sent, or its client gone. */
export function cancelOnClose(response: ServerResponse): AbortController {
  const cancel = new AbortController();
  response.once('close', () => cancel.abort());
  return cancel;
}

/** Letters, digits and what stands between them in the ids of tracers and proxies: nothing that a log could take amiss. */
const SANE_ID = /^[\w.:+/=@-]{1,128}$/;

/** The client's `x-request-id` where it is sane, else another. */
export function requestIdOf(headers: IncomingHttpHeaders, other: () => string = randomUUID): string {
  const given = headers['x-request-id'];
  return typeof given === 'string' && SANE_ID.test(given) ? given : other();
}
