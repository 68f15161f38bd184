import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { packageVersion } from '../../base/version';
import { type AccessCheck, CrossOrigin, hostCheck, keyCheck } from './access';
import { chatFormat, completionFormat, unixSeconds } from './answers';
import { complete } from './completions';
import type { Call, Headers, Route, WholeAnswer } from './exchange';
import { asObject } from './fields';
import { Models } from './models';
import { openApiDocument } from './openapi/document';
import type { ModelOptions, ResolvedHttpOptions } from './options';
import { PAGE_HEADERS, readPlayground } from './page';
import { MethodProblem, Problem } from './problem';
import { PROMETHEUS_TYPE, prometheusText } from './prometheus';
import { type Caller, RateLimits } from './rateLimits';
import { chatOrder, completionOrder } from './requests';
import { responseRoutes } from './responses/routes';
import { textRoutes } from './textRoutes';

/** The part of Node's request that access depends on. */
type AdmittedRequest = Pick<IncomingMessage, 'headers' | 'socket'>;

/** The API of some models: its routes and access checks. A server only carries requests and answers. */
export class Service {
  readonly routes: readonly Route[];
  readonly crossOrigin: CrossOrigin;
  /** Whether the server is about to close: it isn't ready, and its answers close their connections. */
  draining = false;
  readonly #models: Models;
  readonly #checkHost: AccessCheck | null;
  readonly #checkKey: ((headers: IncomingHttpHeaders) => number) | null;
  readonly #limits: RateLimits;
  /** Number of answers by status code. */
  readonly #responses = new Map<number, number>();

  constructor(readonly options: ResolvedHttpOptions) {
    const { apiKeys, allowedHosts, corsOrigins } = options;
    this.crossOrigin = new CrossOrigin(corsOrigins);
    this.#checkHost = allowedHosts === undefined ? null : hostCheck(allowedHosts);
    this.#checkKey = apiKeys.length === 0 ? null : keyCheck(apiKeys);
    this.#limits = new RateLimits(options);
    const models = new Models(options);
    this.#models = models;
    const routes: Route[] = [
      ...openRoutes(options, () => !this.draining && models.ready),
      ...modelRoutes(options, models),
      ...completionRoutes(models),
      ...responseRoutes(options, models),
      ...textRoutes(models),
      { method: 'GET', path: '/version', answer: () => ({ body: { version: packageVersion() } }) },
      { method: 'GET', path: '/metrics', answer: () => this.#metrics() },
      { method: 'GET', path: '/openapi.json', answer: () => ({ body: document }) },
    ];
    const document = openApiDocument(routes, options.basePath, apiKeys.length > 0);
    this.routes = routes.map((route) => ({ ...route, path: options.basePath + route.path }));
  }

  /** Headers of each answer, refusals included. */
  headersFor(request: IncomingHttpHeaders, requestId: string): Headers {
    const closing: Headers = this.draining ? { connection: 'close' } : {};
    return { 'x-request-id': requestId, ...this.crossOrigin.headersFor(request), ...closing };
  }

  /**
   * Lets a request in until its response closes. @throws Problem unless it names this host and has a key, if the route needs
   * one; 429 for more than its key, or without keys its address, may ask.
   */
  admit({ headers, socket }: AdmittedRequest, route: Route | null, response: ServerResponse): Caller {
    this.#checkHost?.(headers);
    const key = route === null || route.open ? undefined : this.#checkKey?.(headers);
    const client = key === undefined ? undefined : `key ${key}`;
    if (route?.method !== 'POST') return { client, charge: () => {} };
    const { leave, charge } = this.#limits.enter(client ?? socket.remoteAddress ?? '');
    response.once('close', leave);
    return { client, charge };
  }

  /** The answer to a refused request. */
  refuse(problem: Problem): WholeAnswer {
    return { status: problem.status, headers: this.#headersOf(problem), body: problem.toJSON() };
  }

  count(status: number): void {
    this.#responses.set(status, (this.#responses.get(status) ?? 0) + 1);
  }

  #headersOf(problem: Problem): Headers {
    const { status, retryAfterSeconds } = problem;
    if (problem instanceof MethodProblem) return { allow: problem.allowed.join(', ') };
    if (status === 401) return { 'www-authenticate': 'Bearer' };
    if (status === 429) return { 'retry-after': String(retryAfterSeconds ?? this.#secondsUntilRoom()) };
    return {};
  }

  /** The mean duration of requests in seconds, within bounds; the longest of all models. */
  #secondsUntilRoom(): number {
    const means = this.#models.all.map(({ engine }) => {
      const { sum, count } = engine.metrics().duration;
      return Math.ceil(sum / Math.max(1, count));
    });
    return Math.min(60, Math.max(1, ...means));
  }

  #metrics(): WholeAnswer {
    const metrics = this.#models.all.map(({ model, engine }) => [model, engine.metrics()] as const);
    const body = prometheusText(new Map(metrics), this.#responses);
    return { headers: { 'content-type': PROMETHEUS_TYPE }, body };
  }
}

/** The routes that need no key. */
function openRoutes({ playground }: ResolvedHttpOptions, isReady: () => boolean): Route[] {
  const files = playground ? readPlayground() : [];
  const routes: Omit<Route, 'method' | 'open'>[] = [
    { path: '/ping', answer: () => ({ body: { status: 'ok' } }) },
    { path: '/health', answer: () => ({ body: { status: 'ok' } }) },
    {
      path: '/ready',
      answer: () =>
        isReady() ? { body: { status: 'ready' } } : { status: 503, body: { status: 'not ready' } },
    },
    ...files.map(({ path, type, content: body }) => {
      const headers = { ...PAGE_HEADERS, 'content-type': type };
      const answer = () => ({ headers, body });
      return { path, answer: path === '/' ? (call: Call) => besideFiles(call.url) ?? answer() : answer };
    }),
  ];
  return routes.map((route) => ({ ...route, method: 'GET', open: true }));
}

/** The page's files stand beside it: a path without a slash at its end, below a prefix, is sent to the one with it. */
function besideFiles(url: string): WholeAnswer | null {
  const [path] = url.split(/[?#]/, 1);
  if (path.endsWith('/')) return null;
  return { status: 308, headers: { location: `${path.slice(path.lastIndexOf('/') + 1)}/` }, body: '' };
}

function modelRoutes({ aliases }: ResolvedHttpOptions, models: Models): Route[] {
  const created = unixSeconds();
  const describe = ({ engine, model, adapter }: ModelOptions) => ({
    id: model,
    object: 'model',
    created,
    owned_by: 'sgemoe',
    parent: adapter === undefined ? null : model.slice(0, -adapter.length - 1),
    aliases: Object.keys(aliases).filter((alias) => aliases[alias] === model),
    max_model_len: engine.contextLength,
    chat_template: engine.tokenizer?.hasChatTemplate ?? false,
    n_layers: engine.config.nLayers,
    n_experts: engine.config.nExperts,
    experts_per_token: engine.config.topKExperts,
    dense_layers: engine.config.denseLayers,
  });
  return [
    {
      method: 'GET',
      path: '/v1/models',
      answer: () => ({ body: { object: 'list', data: models.withAdapters.map(describe) } }),
    },
    {
      method: 'GET',
      path: '/v1/models/*',
      answer({ rest }) {
        const found = models.named(rest);
        if (found !== undefined) return { body: describe(found) };
        throw new Problem(404, 'There is no model of this name here.', 'model', 'model_not_found');
      },
    },
  ];
}

function completionRoutes(models: Models): Route[] {
  return [
    {
      method: 'POST',
      path: '/v1/completions',
      answer(call) {
        const options = models.of(call.body);
        const order = completionOrder(asObject(call.body), options, options.engine.tokenizer);
        return complete(order, completionFormat(order.routing, order.echo), call, options);
      },
    },
    {
      method: 'POST',
      path: '/v1/chat/completions',
      answer(call) {
        const options = models.of(call.body);
        const order = chatOrder(asObject(call.body), options);
        return complete(order, chatFormat(order.routing), call, options);
      },
    },
  ];
}
