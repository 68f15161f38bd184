import type { IncomingMessage, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { Duplex } from 'node:stream';
import type { ConnectionError, FastifyInstance, FastifyReply, FastifyServerOptions } from 'fastify';
import { checkInteger } from '../../base/checks';
import { type HttpOptions, resolveHttpOptions } from './options';
import { httpPlugin } from './plugin';
import { Problem } from './problem';

type Fastify = typeof import('fastify');

export interface ListenOptions {
  /** Address to listen on. Default '127.0.0.1': this machine only. */
  host?: string;
  /** An integer in [0, 65535]; 0 takes a free one. Default 8000. */
  port?: number;
  /** Takes the log, a line of JSON at a time. Default: none is written. */
  log?: { write(line: string): unknown };
  /** 'trace', 'debug', 'info', 'warn', 'error', 'fatal' or 'silent'. Default 'info'. */
  logLevel?: string;
}

export interface ServeOptions extends HttpOptions, ListenOptions {}

export interface RunningServer {
  /** Such as 'http://127.0.0.1:8000'. */
  readonly url: string;
  readonly port: number;
  /**
   * Stops listening, and lets the requests that run come to their end; those that have not after `graceMs` milliseconds are
   * cut off, an integer >= 0, default 30,000. The engine stays open.
   */
  close(options?: { graceMs?: number }): Promise<void>;
}

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];
const HEADERS_MS = 10_000;
const BODY_MS = 60_000;
const KEEP_ALIVE_MS = 10_000;
const GRACE_MS = 30_000;
const SWEEP_MS = 100;

/** Serves an engine over HTTP. @throws TypeError or RangeError for an option that is wrong; the system's error for an address in use. */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const { host = '127.0.0.1', port = 8000, log, logLevel = 'info', ...http } = options;
  checkInteger('serve: port', port, 0);
  const app = createApp(withLoopbackNames(http, host), log && { stream: log, level: logLevel });
  await app.listen({ host, port });
  const { port: taken } = app.server.address() as { port: number };
  const name = host.includes(':') ? `[${host}]` : host;
  return {
    ...{ url: `http://${name}:${taken}`, port: taken },
    async close({ graceMs = GRACE_MS } = {}) {
      const timer = setTimeout(() => app.server.closeAllConnections(), graceMs);
      // A connection that is kept alive becomes idle only after the answer that is under way.
      const sweep = setInterval(() => app.server.closeIdleConnections(), SWEEP_MS);
      await app.close();
      clearTimeout(timer);
      clearInterval(sweep);
    },
  };
}

export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** The routes as a plain handler, `createServer(await createHandler({ engine }))`. Timeouts of connections are the server's. */
export async function createHandler(options: HttpOptions): Promise<RequestHandler> {
  const app = createApp(options, undefined);
  await app.ready();
  return (request, response) => app.routing(request, response);
}

/** On a loopback address only its own names are meant for it. */
function withLoopbackNames(options: HttpOptions, host: string): HttpOptions {
  if (!LOOPBACK.includes(host) && host !== '::1') return options;
  return { ...options, allowedHosts: [...LOOPBACK, ...(options.allowedHosts ?? [])] };
}

function createApp(options: HttpOptions, logger: FastifyServerOptions['logger']): FastifyInstance {
  // Before fastify is loaded, and not when the app gets ready: as any other argument.
  resolveHttpOptions(options);
  const { fastify } = createRequire(__filename)('fastify') as Fastify;
  const app: FastifyInstance = fastify({
    logger,
    requestTimeout: BODY_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    http: { headersTimeout: HEADERS_MS, connectionsCheckingInterval: HEADERS_MS / 10 },
    clientErrorHandler: (error, socket) => refuse(error, socket),
    frameworkErrors: (_error, _request, reply) => {
      const problem = new Problem(400, 'The path of the request is not a valid URL.');
      void (reply as FastifyReply).code(400).send(problem.toJSON());
    },
    // The engine says so itself once it is closed, in the shape of the API.
    return503OnClosing: false,
  });
  app.server.on('checkExpectation', (_request: IncomingMessage, response: ServerResponse) => {
    const problem = new Problem(417, 'The expect header asks for what this server does not do.');
    const body = JSON.stringify(problem.toJSON());
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    response.writeHead(417, headers).end(body);
  });
  app.setNotFoundHandler(async (_request, reply) => {
    const problem = new Problem(
      404,
      'There is nothing at this path, or not for this method.',
      null,
      'not_found',
    );
    return reply.code(404).send(problem.toJSON());
  });
  void app.register(httpPlugin, options);
  return app;
}

const BROKEN: Readonly<Record<string, readonly [status: number, phrase: string, message: string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large', 'The headers of the request are too long.'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'The request did not arrive in time.'],
};

/** Answers what is not HTTP, and what never became a whole request, and closes the connection. */
function refuse(error: ConnectionError, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, phrase, message] = BROKEN[error.code] ?? [
    400,
    'Bad Request',
    'This is not a valid HTTP request.',
  ];
  const body = JSON.stringify(new Problem(status, message).toJSON());
  const head = [
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ];
  socket.end(`HTTP/1.1 ${status} ${phrase}\r\n${head.join('\r\n')}\r\n\r\n${body}`);
}
