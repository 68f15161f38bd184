/** A request and its answer in the form that routes use, independent of the server. */
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { Caller } from './rateLimits';

/** The log of a request. */
export interface Log {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** A log that adds these fields to each line. */
export function withFields(log: Log, bound: object): Log {
  return {
    info: (fields, message) => log.info({ ...bound, ...fields }, message),
    error: (fields, message) => log.error({ ...bound, ...fields }, message),
  };
}

export interface Call {
  readonly headers: IncomingHttpHeaders;
  /** The target of the request, as it came. */
  readonly url: string;
  /** The decoded part of the path that the route's '*' matches; '' without one. */
  readonly rest: string;
  /** The JSON of the body; undefined without one. */
  readonly body: unknown;
  /** Aborts when the client has left or has its whole answer. A route may abort it to end what it has begun. */
  readonly cancel: AbortController;
  readonly log: Log;
  readonly caller: Caller;
}

export type Headers = Readonly<Record<string, string>>;

/** A complete answer. A body that is neither text nor bytes is sent as JSON. */
export interface WholeAnswer {
  /** HTTP status. Default 200. */
  readonly status?: number | undefined;
  readonly headers?: Headers | undefined;
  readonly body: object | string;
}

/** A streamed answer: server-sent events, each with a JSON value, and '[DONE]' after the last unless they have names. */
export interface StreamedAnswer {
  /** The events. They are read at the client's pace, at least one always, and no longer once the client has gone. */
  readonly events: AsyncGenerator<object, void>;
  /** Whether the `type` of each event is its name, too. Such a stream tells an error by an event of its own. Default false. */
  readonly named?: boolean | undefined;
}

export type Answer = WholeAnswer | StreamedAnswer;

export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** The path, which begins with '/'; a '*' at its end matches any text that isn't empty. */
  readonly path: string;
  /** Whether the route needs no key. */
  readonly open?: boolean | undefined;
  answer(call: Call): Answer | Promise<Answer>;
}

/** A whole answer in the form that is sent. */
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

/** A controller that aborts when the response closes, because it was sent or the client has gone. */
export function cancelOnClose(response: ServerResponse): AbortController {
  const cancel = new AbortController();
  response.once('close', () => cancel.abort());
  return cancel;
}

/** Accepted request ids: letters, digits and the separators of tracers and proxies, all harmless in a log. */
const SANE_ID = /^[\w.:+/=@-]{1,128}$/;

/** The client's `x-request-id` if it is acceptable, else `other()`. */
export function requestIdOf(headers: IncomingHttpHeaders, other: () => string = randomUUID): string {
  const given = headers['x-request-id'];
  return typeof given === 'string' && SANE_ID.test(given) ? given : other();
}

/** A traceparent of W3C's Trace Context: version, trace, span of the caller, flags; only later versions go on after that. */
const TRACE_PARENT =
  /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/**
 * The trace that a request belongs to by its `traceparent`, under the names that OpenTelemetry gives these fields in logs;
 * nothing without a valid one. The span is the caller's.
 */
export function traceOf({ traceparent }: IncomingHttpHeaders): object {
  const [, version, trace_id, span_id, trace_flags, more] =
    (typeof traceparent === 'string' ? TRACE_PARENT.exec(traceparent) : null) ?? [];
  if (version === undefined || (version === '00' && more !== undefined)) return {};
  return { trace_id, span_id, trace_flags };
}
