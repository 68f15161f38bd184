import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { type RequestTarget, requireOneHost } from './access';
import { readJson } from './body';
import { sendEvents } from './eventStream';
import {
  type Answer,
  cancelOnClose,
  encode,
  type Log,
  type Route,
  requestIdOf,
  type WholeAnswer,
  withFields,
} from './exchange';
import { type HttpOptions, resolveHttpOptions } from './options';
import { type Problem, toProblem } from './problem';
import type { Caller } from './rateLimits';
import { Service } from './service';

/** Options that fastify passes beside a plugin's own. */
const REGISTER_OPTIONS = ['prefix', 'logLevel', 'logSerializers'];

/** The part of fastify's app that the plugin uses: the package needs neither fastify nor its types. */
export interface FastifyApp {
  removeAllContentTypeParsers(): unknown;
  addContentTypeParser(
    type: string,
    parser: (request: FastifyCall, body: Readable) => Promise<unknown>,
  ): unknown;
  setErrorHandler(handler: (error: Error, request: FastifyCall, reply: FastifyAnswer) => unknown): unknown;
  addHook(
    name: 'onResponse',
    hook: (request: FastifyCall, reply: FastifyAnswer) => Promise<unknown>,
  ): unknown;
  route(route: FastifyRoute): unknown;
}

export interface FastifyCall {
  id: unknown;
  headers: IncomingHttpHeaders;
  raw: RequestTarget & Pick<IncomingMessage, 'socket'>;
  params: unknown;
  body?: unknown;
  log: Log;
}

export interface FastifyAnswer {
  raw: ServerResponse;
  readonly statusCode: number;
  code(status: number): FastifyAnswer;
  headers(headers: Readonly<Record<string, string>>): FastifyAnswer;
  getHeaders(): Readonly<Record<string, number | string | string[] | undefined>>;
  send(body: string | Buffer): FastifyAnswer;
  hijack(): FastifyAnswer;
}

export interface FastifyRoute {
  method: 'GET' | 'POST' | 'DELETE' | 'OPTIONS';
  url: string;
  onRequest(request: FastifyCall, reply: FastifyAnswer): Promise<unknown>;
  handler(request: FastifyCall, reply: FastifyAnswer): Promise<unknown>;
}

/**
 * A fastify plugin with the routes of `sgemoe serve`: `app.register(httpPlugin, { engine, prefix: '/llm' })`. It has its
 * own parsers and error handler; the app's other routes don't change. Close the engine in the app's onClose hook.
 * @throws TypeError or RangeError for an invalid option, when the app gets ready.
 */
export async function httpPlugin(app: FastifyApp, options: HttpOptions): Promise<void> {
  const service = new Service(resolveHttpOptions(options, REGISTER_OPTIONS));
  const mount = new FastifyMount(service);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', ({ headers }, body) => readJson(headers, body, service.options.maxBodyBytes));
  app.setErrorHandler((error, request, reply) => mount.refuse(error, request, reply));
  app.addHook('onResponse', async (_request, { statusCode }) => service.count(statusCode));
  for (const route of service.routes) app.route(mount.route(route));
  if (service.crossOrigin.any) app.route(mount.preflight());
}

class FastifyMount {
  readonly #callers = new WeakMap<FastifyCall, Caller>();

  constructor(private readonly service: Service) {}

  route(route: Route): FastifyRoute {
    return {
      method: route.method,
      url: route.path,
      onRequest: async (request, reply) => this.#enter(route, request, reply),
      handler: async (request, reply) => {
        const { headers, body, params } = request;
        const rest = (params as { '*'?: string | undefined })['*'] ?? '';
        const { url = '/' } = request.raw;
        const caller = this.#callers.get(request)!;
        const cancel = cancelOnClose(reply.raw);
        const call = { headers, url, rest, body, log: logOf(request), cancel, caller };
        return this.#deliver(await route.answer(call), request, reply);
      },
    };
  }

  preflight(): FastifyRoute {
    return {
      method: 'OPTIONS',
      url: '/*',
      onRequest: async (request, reply) => this.#enter(null, request, reply),
      handler: async ({ headers }, reply) =>
        reply.code(204).headers(this.service.crossOrigin.preflight(headers)).send(''),
    };
  }

  refuse(error: unknown, request: FastifyCall, reply: FastifyAnswer): FastifyAnswer {
    const problem = toProblem(error, reply.raw.destroyed);
    report(request, error, problem);
    return send(this.service.refuse(problem), reply);
  }

  #enter(route: Route | null, request: FastifyCall, reply: FastifyAnswer): void {
    reply.headers(this.service.headersFor(request.headers, idOf(request)));
    requireOneHost(request.raw);
    const { headers } = request;
    const { socket } = request.raw;
    this.#callers.set(request, this.service.admit({ headers, socket }, route, reply.raw));
  }

  async #deliver(answer: Answer, request: FastifyCall, reply: FastifyAnswer): Promise<FastifyAnswer> {
    if (!('events' in answer)) return send(answer, reply);
    const headers = reply.getHeaders();
    reply.hijack();
    const failure = await sendEvents(reply.raw, headers, answer, this.service.options.stallMs);
    if (failure !== null) report(request, failure.error, failure.problem);
    return reply;
  }
}

function send(answer: WholeAnswer, reply: FastifyAnswer): FastifyAnswer {
  const { status, headers, body } = encode(answer);
  return reply.code(status).headers(headers).send(body);
}

/** Logs the problem, since the app's own lines only have a status. */
function report(request: FastifyCall, error: unknown, problem: Problem): void {
  const log = logOf(request);
  if (problem.status === 500) log.error({ err: error }, 'request failed');
  else log.info({ statusCode: problem.status, error: problem.logEntry }, 'request refused');
}

function idOf({ headers, id }: FastifyCall): string {
  return requestIdOf(headers, () => String(id));
}

function logOf(request: FastifyCall): Log {
  return withFields(request.log, { requestId: idOf(request) });
}
