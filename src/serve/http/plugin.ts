import type { FastifyInstance } from 'fastify';
import { crossOrigin, hostCheck, keyCheck } from './access';
import { chatFormat, completionFormat, unixSeconds } from './answers';
import { complete } from './completions';
import { asObject, parseBody } from './fields';
import { type HttpOptions, type ResolvedHttpOptions, resolveHttpOptions } from './options';
import { PAGE_HEADERS, readPlayground } from './page';
import { Problem, toProblem } from './problem';
import { PROMETHEUS_TYPE, prometheusText } from './prometheus';
import { chatOrder, completionOrder } from './requests';
import { addTextRoutes } from './textRoutes';

/** What fastify hands on beside a plugin's own options. */
const REGISTER_OPTIONS = ['prefix', 'logLevel', 'logSerializers'];

/**
 * A fastify plugin with the routes of `sgemoe serve`: `app.register(httpPlugin, { engine, prefix: '/llm' })`. Hooks, parsers
 * and errors are its own, the app's other routes are not touched. Close the engine in the app's onClose hook.
 * @throws TypeError or RangeError for an option that is wrong, when the app gets ready.
 */
export async function httpPlugin(app: FastifyInstance, options: HttpOptions): Promise<void> {
  const resolved = resolveHttpOptions(options, REGISTER_OPTIONS);
  const responses = new Map<number, number>();
  readJsonOnly(app, resolved.maxBodyBytes);
  answerErrors(app, resolved);
  app.addHook('onResponse', async (_request, { statusCode }) => {
    responses.set(statusCode, (responses.get(statusCode) ?? 0) + 1);
  });
  guard(app, resolved);
  addOpenRoutes(app, resolved);
  await app.register(async (inner) => {
    if (resolved.apiKeys.length > 0) {
      const check = keyCheck(resolved.apiKeys);
      inner.addHook('onRequest', async (request) => check(request));
    }
    addModelRoutes(inner, resolved);
    addCompletionRoutes(inner, resolved);
    addTextRoutes(inner, resolved);
    inner.get('/metrics', async (_request, reply) => {
      reply.type(PROMETHEUS_TYPE);
      return prometheusText(resolved.engine.metrics(), responses);
    });
  });
}

function readJsonOnly(app: FastifyInstance, bodyLimit: number): void {
  app.removeAllContentTypeParsers();
  const settings = { parseAs: 'buffer', bodyLimit } as const;
  app.addContentTypeParser('application/json', settings, async (_request: unknown, body: Buffer) =>
    parseBody(body),
  );
  app.addHook('preParsing', async ({ headers }) => {
    if ((headers['content-encoding'] ?? 'identity') === 'identity') return;
    throw new Problem(415, 'The body must not be compressed.');
  });
}

function answerErrors(app: FastifyInstance, { engine, maxBodyBytes }: ResolvedHttpOptions): void {
  app.setErrorHandler(async (error, request, reply) => {
    let problem = toProblem(error);
    if (reply.raw.destroyed) problem = new Problem(499, 'The client is gone.');
    if (problem.status === 413)
      problem = new Problem(413, `The body must have at most ${maxBodyBytes} bytes.`);
    if (problem.status === 429) reply.header('retry-after', String(secondsUntilRoom(engine.metrics())));
    if (problem.status === 401) reply.header('www-authenticate', 'Bearer');
    if (problem.status === 500) request.log.error(error);
    return reply.code(problem.status).send(problem.toJSON());
  });
}

/** As long as a request has taken on average, within reason. */
function secondsUntilRoom({ duration }: { duration: { sum: number; count: number } }): number {
  return Math.min(60, Math.max(1, Math.ceil(duration.sum / Math.max(1, duration.count))));
}

function guard(app: FastifyInstance, { allowedHosts, corsOrigins }: ResolvedHttpOptions): void {
  if (allowedHosts !== undefined) {
    const check = hostCheck(allowedHosts);
    app.addHook('onRequest', async (request) => check(request));
  }
  if (corsOrigins.length === 0) return;
  app.addHook('onRequest', async (request, reply) => {
    if (crossOrigin(corsOrigins, request, reply)) return reply;
  });
  // The hook answers preflights; this makes them reach it.
  app.options('/*', async () => {
    throw new Problem(403, 'Pages of this origin may not read the answers.', null, 'origin');
  });
}

/** Those that need no key. */
function addOpenRoutes(app: FastifyInstance, { engine, playground }: ResolvedHttpOptions): void {
  app.get('/health', async () => ({ status: 'ok' }));
  app.get('/ready', async (_request, reply) => {
    if (!engine.ready) reply.code(503);
    return { status: engine.ready ? 'ready' : 'not ready' };
  });
  for (const { path, type, content } of playground ? readPlayground() : []) {
    app.get(path, async (_request, reply) => reply.headers(PAGE_HEADERS).type(type).send(content));
  }
}

function addModelRoutes(app: FastifyInstance, { engine, model }: ResolvedHttpOptions): void {
  const { nLayers, nExperts, topKExperts } = engine.config;
  const description = {
    ...{ id: model, object: 'model', created: unixSeconds(), owned_by: 'sgemoe' },
    ...{ max_model_len: engine.contextLength, n_layers: nLayers },
    ...{ n_experts: nExperts, experts_per_token: topKExperts },
  };
  app.get('/v1/models', async () => ({ object: 'list', data: [description] }));
  app.get<{ Params: { '*': string } }>('/v1/models/*', async ({ params }) => {
    if (params['*'] === model) return description;
    throw new Problem(404, 'There is no model of this name here.', 'model', 'model_not_found');
  });
}

function addCompletionRoutes(app: FastifyInstance, options: ResolvedHttpOptions): void {
  const { tokenizer } = options.engine;
  app.post('/v1/completions', async (request, reply) => {
    const order = completionOrder(asObject(request.body), options);
    return complete(order, completionFormat(tokenizer, order.routing), request, reply, options);
  });
  app.post('/v1/chat/completions', async (request, reply) => {
    const order = chatOrder(asObject(request.body), options);
    return complete(order, chatFormat(tokenizer, order.routing), request, reply, options);
  });
}
