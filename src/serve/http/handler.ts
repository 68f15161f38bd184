/** The service as a handler of Node's http server. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { requireOneHost } from './access';
import { readJson } from './body';
import { sendEvents } from './eventStream';
import {
  type Answer,
  cancelOnClose,
  encode,
  type Headers,
  type Log,
  type Route,
  requestIdOf,
  type StreamedAnswer,
  traceOf,
  type WholeAnswer,
  withFields,
} from './exchange';
import { MethodProblem, Problem, toProblem } from './problem';
import type { Service } from './service';

export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** Answers every request with the routes of the service, or with a 404. */
export function requestHandler(service: Service, log: Log): RequestHandler {
  const find = routeFinder(service.routes);
  return (request, response) => {
    const id = requestIdOf(request.headers);
    const exchange = new Exchange(
      service,
      request,
      response,
      withFields(log, { requestId: id, ...traceOf(request.headers) }),
      find,
    );
    void exchange.run(service.headersFor(request.headers, id));
  };
}

type RouteFinder = (method: string, path: string) => { route: Route; rest: string } | null;

class Exchange {
  /** The error of the request, for the log. */
  #problem: Problem | null = null;

  constructor(
    private readonly service: Service,
    private readonly request: IncomingMessage,
    private readonly response: ServerResponse,
    private readonly log: Log,
    private readonly find: RouteFinder,
  ) {}

  async run(headers: Headers): Promise<void> {
    this.#follow();
    const answer = await this.#answer().catch((error) => this.#refuse(error));
    try {
      if ('events' in answer) await this.#stream(answer, headers);
      else this.#send(answer, headers);
    } catch (error) {
      // The answer can't be written, for example as JSON; the client must not wait for ever.
      this.log.error({ err: error }, 'the answer could not be sent');
      this.response.destroy();
    }
  }

  async #answer(): Promise<Answer> {
    const { service, request, response, log } = this;
    const { method = 'GET', url = '/', headers } = request;
    requireOneHost(request);
    const found = this.find(method, pathOf(url));
    const caller = service.admit(request, found?.route ?? null, response);
    if (method === 'OPTIONS' && service.crossOrigin.any) {
      return { status: 204, headers: service.crossOrigin.preflight(headers), body: '' };
    }
    if (found === null) throw this.#notFound(pathOf(url));
    // 100-continue is the only expectation that exists, and Node answers it.
    if (!/^100-continue$/i.test(headers.expect ?? '100-continue')) {
      throw new Problem(417, 'The expect header asks for what this server does not do.');
    }
    const { route, rest } = found;
    const body =
      route.method === 'POST' ? await readJson(headers, request, service.options.maxBodyBytes) : undefined;
    return route.answer({ headers, url, rest, body, cancel: cancelOnClose(response), log, caller });
  }

  /** The problem of a path that has no route, or none for this method. */
  #notFound(path: string): Problem {
    const known = ['GET', 'POST', 'DELETE'].filter((method) => this.find(method, path) !== null);
    return known.length === 0
      ? new Problem(404, 'There is nothing at this path.', null, 'not_found')
      : new MethodProblem(known.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])));
  }

  #refuse(error: unknown): WholeAnswer {
    const problem = toProblem(error, this.response.destroyed);
    this.#problem = problem;
    if (problem.status === 500) this.log.error({ err: error }, 'request failed');
    return this.service.refuse(problem);
  }

  #send(answer: WholeAnswer, common: Headers): void {
    const { response, request } = this;
    const { status, headers, body } = encode(answer);
    const length = status === 204 ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    response.writeHead(status, { ...common, ...headers, ...length });
    // A client that reads nothing is disconnected, as for a stream.
    response.setTimeout(this.service.options.stallMs, () => response.destroy());
    // This runs before Node sets the idle timeout of the connection, so that the next answer has the time that it needs.
    response.prependOnceListener('finish', () => request.socket.setTimeout(0));
    response.end(request.method === 'HEAD' ? '' : body);
  }

  async #stream(answer: StreamedAnswer, headers: Headers): Promise<void> {
    const failure = await sendEvents(this.response, headers, answer, this.service.options.stallMs);
    if (failure === null) return;
    const { error, problem } = failure;
    this.#problem = problem;
    if (problem.status === 500) this.log.error({ err: error }, 'stream failed');
  }

  /** Counts and logs the answer once it is sent or its client has left. */
  #follow(): void {
    const { request, response, log } = this;
    const { method, url, socket, headers } = request;
    const began = performance.now();
    const from = { method, url, host: headers.host, remoteAddress: socket.remoteAddress };
    log.info({ req: from }, 'incoming request');
    response.once('close', () => {
      const statusCode = response.headersSent ? response.statusCode : 499;
      this.service.count(statusCode);
      const error = this.#problem === null ? {} : { error: this.#problem.logEntry };
      const responseTime = performance.now() - began;
      log.info({ req: { method, url }, res: { statusCode }, responseTime, ...error }, 'request completed');
    });
  }
}

function routeFinder(routes: readonly Route[]): RouteFinder {
  const exact = new Map(routes.map((route) => [`${route.method} ${withoutSlash(route.path)}`, route]));
  const open = routes.filter(({ path }) => path.endsWith('*'));
  return (method, path) => {
    const asked = method === 'HEAD' ? 'GET' : method;
    const route = exact.get(`${asked} ${path}`);
    if (route !== undefined && !open.includes(route)) return { route, rest: '' };
    for (const each of open) {
      const start = each.path.slice(0, -1);
      if (each.method !== asked || !path.startsWith(start) || path === start) continue;
      return { route: each, rest: decode(path.slice(start.length), decodeURIComponent) };
    }
    return null;
  };
}

/**
 * The path of a target without query and without a slash at its end. '%2F' and the like stay encoded, since they don't separate.
 * @throws Problem for an invalid path.
 */
function pathOf(target: string): string {
  const path = target.replace(/^https?:\/\/[^/?#]*/i, '').replace(/[?#].*$/, '');
  return withoutSlash(decode(path, decodeURI)) || '/';
}

/** A path without one slash at its end, unless it is '/'. */
function withoutSlash(path: string): string {
  return path.replace(/(?<=[^/])\/$/, '');
}

function decode(text: string, by: (text: string) => string): string {
  try {
    return by(text);
  } catch {
    throw new Problem(400, 'The path of the request is not a valid URL.');
  }
}
