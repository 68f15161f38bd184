import { randomUUID } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { namesOf, ownOptions, resolveOptions } from '../../base/options';
import type { Log } from './exchange';
import { type RequestHandler, requestHandler } from './handler';
import { JsonLog } from './log';
import { type HttpOptions, LISTEN_OPTIONS, type ListenOptions, resolveHttpOptions } from './options';
import { Problem } from './problem';
import { Service } from './service';

export type { ListenOptions } from './options';

export interface ServeOptions extends HttpOptions, ListenOptions {}

export interface RunningServer {
  /** The server's URL with its base path, such as 'http://127.0.0.1:8000'. */
  readonly url: string;
  readonly port: number;
  /**
   * Tells balancers to send their requests elsewhere: from now on `/ready` is answered by 503, and each answer closes its
   * connection. Requests are still taken until `close`.
   */
  startDraining(): void;
  /**
   * Stops listening and lets running requests end. After `graceMs` milliseconds, an integer >= 0, default 30,000, the rest
   * is cut off. The engine stays open.
   */
  close(options?: { graceMs?: number | undefined }): Promise<void>;
}

/** Listen options with defaults filled in. */
interface Listening extends ListenOptions {
  host: string;
  port: number;
  logLevel: string;
}

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];
const HEADERS_MS = 10_000;
const BODY_MS = 60_000;
const KEEP_ALIVE_MS = 10_000;
const GRACE_MS = 30_000;
const SWEEP_MS = 100;

/**
 * Serves an engine over HTTP.
 * @throws TypeError or RangeError for an invalid option; the system's Error for an address in use.
 */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const listening = ownOptions<ListenOptions>(LISTEN_OPTIONS, options);
  const { host, port, log: sink, logLevel } = resolveOptions('serve', LISTEN_OPTIONS, listening) as Listening;
  const log = new JsonLog(sink, logLevel);
  const service = new Service(resolveHttpOptions(withLoopbackNames(options, host), namesOf(LISTEN_OPTIONS)));
  const servers = await listen(requestHandler(service, log), log, host, port);
  const { port: taken } = servers[0].address() as AddressInfo;
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${taken}${service.options.basePath}`;
  log.info({}, `Server listening at ${url}`);
  return {
    url,
    port: taken,
    startDraining: () => {
      service.draining = true;
    },
    close: async ({ graceMs = GRACE_MS } = {}) => {
      await Promise.all(servers.map((server) => close(server, graceMs)));
    },
  };
}

/**
 * The routes as a plain handler: `createServer(await createHandler({ engine }))`. The server sets timeouts of
 * connections.
 */
export async function createHandler(options: HttpOptions): Promise<RequestHandler> {
  return requestHandler(new Service(resolveHttpOptions(options)), new JsonLog(undefined, 'silent'));
}

/** On a loopback address, only loopback names are accepted by default. */
function withLoopbackNames(options: HttpOptions, host: string): HttpOptions {
  if (!LOOPBACK.includes(host) && host !== '::1') return options;
  return { ...options, allowedHosts: [...LOOPBACK, ...(options.allowedHosts ?? [])] };
}

/** @returns a server; for 'localhost', which has several addresses, one for each address that can be listened on. */
async function listen(handler: RequestHandler, log: Log, host: string, port: number): Promise<Server[]> {
  const addresses = host === 'localhost' ? await lookup(host, { all: true }) : [{ address: host }];
  const first = await listenAt(handler, log, addresses[0].address, port);
  const { port: taken } = first.address() as AddressInfo;
  const others = addresses.slice(1).map(({ address }) => listenAt(handler, log, address, taken));
  const settled = await Promise.allSettled(others);
  return [first, ...settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))];
}

function listenAt(handler: RequestHandler, log: Log, host: string, port: number): Promise<Server> {
  const server = createServer(
    {
      requestTimeout: BODY_MS,
      headersTimeout: HEADERS_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: HEADERS_MS / 10,
    },
    handler,
  );
  server.on('clientError', (error, socket) => refuse(error, socket, log));
  server.on('checkExpectation', handler);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve(server);
    });
  });
}

async function close(server: Server, graceMs: number): Promise<void> {
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  // A kept-alive connection becomes idle only after its current answer.
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
  // A second close reports that the server isn't listening, which is the wanted state.
  await new Promise<void>((done) => server.close(() => done()));
  clearTimeout(timer);
  clearInterval(sweep);
}

const BROKEN: Readonly<Record<string, readonly [status: number, phrase: string, message: string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large', 'The headers of the request are too long.'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'The request did not arrive in time.'],
};

/** Answers input that isn't HTTP or a whole request, and closes the connection. */
function refuse(error: NodeJS.ErrnoException, socket: Duplex, log: Log): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, phrase, message] = BROKEN[error.code ?? ''] ?? [
    400,
    'Bad Request',
    'This is not a valid HTTP request.',
  ];
  const problem = new Problem(status, message);
  const requestId = randomUUID();
  const body = JSON.stringify(problem.toJSON());
  const head = [
    `HTTP/1.1 ${status} ${phrase}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${requestId}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
  log.info({ requestId, res: { statusCode: status }, error: problem.logEntry }, 'request refused');
}
