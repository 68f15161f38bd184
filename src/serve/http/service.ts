import type { IncomingHttpHeaders } from 'node:http';
import { packageVersion } from '../../base/version';
import type { EngineMetrics } from '../engine/types';
import { type AccessCheck, CrossOrigin, hostCheck, keyCheck } from './access';
import { chatFormat, completionFormat, unixSeconds } from './answers';
import { complete } from './completions';
import type { Headers, Route, WholeAnswer } from './exchange';
import { asObject } from './fields';
import type { ResolvedHttpOptions } from './options';
import { PAGE_HEADERS, readPlayground } from './page';
import { Problem } from './problem';
import { PROMETHEUS_TYPE, prometheusText } from './prometheus';
import { chatOrder, completionOrder } from './requests';
import { textRoutes } from './textRoutes';

/** The API of one engine: its routes and access checks. A server only carries requests and answers. */
export class Service {
  readonly routes: readonly Route[];
  readonly crossOrigin: CrossOrigin;
  readonly #checkHost: AccessCheck | null;
  readonly #checkKey: AccessCheck | null;
  /** Number of answers by status code. */
  readonly #responses = new Map<number, number>();

  constructor(readonly options: ResolvedHttpOptions) {
    const { apiKeys, allowedHosts, corsOrigins } = options;
    this.crossOrigin = new CrossOrigin(corsOrigins);
    this.#checkHost = allowedHosts === undefined ? null : hostCheck(allowedHosts);
    this.#checkKey = apiKeys.length === 0 ? null : keyCheck(apiKeys);
    this.routes = [
      ...openRoutes(options),
      ...modelRoutes(options),
      ...completionRoutes(options),
      ...textRoutes(options),
      { method: 'GET', path: '/version', answer: () => ({ body: { version: packageVersion() } }) },
      { method: 'GET', path: '/metrics', answer: () => this.#metrics() },
    ];
  }

  /** Headers of each answer, refusals included. */
  headersFor(request: IncomingHttpHeaders, requestId: string): Headers {
    return { 'x-request-id': requestId, ...this.crossOrigin.headersFor(request) };
  }

  /** @throws Problem unless the request names this host and has a key, if the route needs one. */
  admit(request: IncomingHttpHeaders, route: Route | null): void {
    this.#checkHost?.(request);
    if (route !== null && !route.open) this.#checkKey?.(request);
  }

  /** The answer to a refused request. */
  refuse(problem: Problem): WholeAnswer {
    return { status: problem.status, headers: this.#headersOf(problem), body: problem.toJSON() };
  }

  count(status: number): void {
    this.#responses.set(status, (this.#responses.get(status) ?? 0) + 1);
  }

  #headersOf({ status }: Problem): Headers {
    if (status === 401) return { 'www-authenticate': 'Bearer' };
    if (status === 429) return { 'retry-after': String(secondsUntilRoom(this.options.engine.metrics())) };
    return {};
  }

  #metrics(): WholeAnswer {
    const body = prometheusText(this.options.engine.metrics(), this.#responses);
    return { headers: { 'content-type': PROMETHEUS_TYPE }, body };
  }
}

/** The mean duration of requests in seconds, within bounds. */
function secondsUntilRoom({ duration }: EngineMetrics): number {
  return Math.min(60, Math.max(1, Math.ceil(duration.sum / Math.max(1, duration.count))));
}

/** The routes that need no key. */
function openRoutes({ engine, playground }: ResolvedHttpOptions): Route[] {
  const files = playground ? readPlayground() : [];
  const routes: Omit<Route, 'method' | 'open'>[] = [
    { path: '/ping', answer: () => ({ body: { status: 'ok' } }) },
    { path: '/health', answer: () => ({ body: { status: 'ok' } }) },
    {
      path: '/ready',
      answer: () => ({
        status: engine.ready ? 200 : 503,
        body: { status: engine.ready ? 'ready' : 'not ready' },
      }),
    },
    ...files.map(({ path, type, content: body }) => {
      const headers = { ...PAGE_HEADERS, 'content-type': type };
      return { path, answer: () => ({ headers, body }) };
    }),
  ];
  return routes.map((route) => ({ ...route, method: 'GET', open: true }));
}

function modelRoutes({ engine, model }: ResolvedHttpOptions): Route[] {
  const { nLayers, nExperts, topKExperts, denseLayers } = engine.config;
  const description = {
    id: model,
    object: 'model',
    created: unixSeconds(),
    owned_by: 'sgemoe',
    max_model_len: engine.contextLength,
    n_layers: nLayers,
    n_experts: nExperts,
    experts_per_token: topKExperts,
    dense_layers: denseLayers,
  };
  return [
    {
      method: 'GET',
      path: '/v1/models',
      answer: () => ({ body: { object: 'list', data: [description] } }),
    },
    {
      method: 'GET',
      path: '/v1/models/*',
      answer({ rest }) {
        if (rest === model) return { body: description };
        throw new Problem(404, 'There is no model of this name here.', 'model', 'model_not_found');
      },
    },
  ];
}

function completionRoutes(options: ResolvedHttpOptions): Route[] {
  return [
    {
      method: 'POST',
      path: '/v1/completions',
      answer(call) {
        const order = completionOrder(asObject(call.body), options, options.engine.tokenizer);
        return complete(order, completionFormat(order.routing, order.echo), call, options);
      },
    },
    {
      method: 'POST',
      path: '/v1/chat/completions',
      answer(call) {
        const order = chatOrder(asObject(call.body), options);
        return complete(order, chatFormat(order.routing), call, options);
      },
    },
  ];
}
