import { type FastifyInstance, fastify } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { built } from '../helpers/built';
import { openEngine } from './engines';
import { errorOf, eventually, post, slowEngine } from './servers';

const engine = await openEngine({ maxBatch: 4 });
afterAll(() => engine.close());

describe('the plugin on an app of fastify', () => {
  let app: FastifyInstance;
  let url: string;
  const lines: string[] = [];
  beforeAll(async () => {
    app = fastify({ logger: { stream: { write: (line: string) => lines.push(line) } } });
    app.addHook('onRequest', async (_request, reply) => {
      reply.header('x-mine', 'yes');
    });
    app.post('/mine', async (request) => ({ got: request.body }));
    const options = { apiKeys: ['secret'], corsOrigins: ['https://good.example'] };
    await app.register(built.httpPlugin, { ...options, engine, prefix: '/llm' });
    url = await app.listen({ port: 0, host: '127.0.0.1' });
  });
  afterAll(() => app.close());
  const ask = (path: string, body: object, headers = {}) =>
    post(url + path, body, { authorization: 'Bearer secret', ...headers });

  it('serves below a prefix and leaves the other routes alone', async () => {
    const body = { prompt: 'a', max_tokens: 1 };
    const answer = await ask('/llm/v1/completions', body);
    expect(await answer.json()).toMatchObject({ object: 'text_completion' });
    expect(answer.headers.get('x-mine')).toBe('yes');
    expect(await (await ask('/mine', body)).json()).toEqual({ got: body });
    const authorization = 'Bearer secret';
    const models = await fetch(`${url}/llm/v1/models/sgemoe`, { headers: { authorization } });
    expect(await models.json()).toMatchObject({ id: 'sgemoe' });
    expect((await fetch(`${url}/llm/health`)).status).toBe(200);
  });

  it("streams, under the headers of the app's hooks", async () => {
    const answer = await ask('/llm/v1/completions', { prompt: 'a', max_tokens: 3, stream: true });
    expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(answer.headers.get('x-mine')).toBe('yes');
    expect(await answer.text()).toMatch(/^data: \{[\s\S]*\n\ndata: \[DONE\]\n\n$/);
  });

  it.each<[string, number, RequestInit]>([
    ['a key that is wrong', 401, { headers: { authorization: 'Bearer wrong' } }],
    ['a field that is wrong', 400, { body: '{"prompt":"my secret","temperature":"my secret"}' }],
    ['no JSON', 400, { body: '{' }],
    ['another type', 415, { headers: { 'content-type': 'text/plain' } }],
    ['a type that is none', 415, { headers: { 'content-type': ';;' } }],
    ['too large', 413, { body: 'x'.repeat(2 ** 20 + 1) }],
  ])("refuses %s in the API's shape: %i", async (_, status, init) => {
    const headers = { authorization: 'Bearer secret', 'content-type': 'application/json', ...init.headers };
    const request = { method: 'POST', body: '{}', ...init, headers };
    const answer = await fetch(`${url}/llm/v1/completions`, request);
    expect(answer.status).toBe(status);
    expect((await errorOf(answer)).message).toMatch(/\.$/);
  });

  it('answers preflights', async () => {
    const preflight = (origin: string) =>
      fetch(`${url}/llm/v1/completions`, { method: 'OPTIONS', headers: { origin } });
    expect((await preflight('https://good.example')).status).toBe(204);
    expect((await preflight('https://evil.example')).status).toBe(403);
  });

  it("names requests by the client's x-request-id or the app's id, and logs refusals under it", async () => {
    const body = { prompt: 'my secret', max_tokens: -1 };
    const named = await ask('/llm/v1/completions', body, { 'x-request-id': 'trace-7' });
    expect(named.headers.get('x-request-id')).toBe('trace-7');
    const other = await ask('/llm/v1/completions', body);
    const id = other.headers.get('x-request-id');
    const entries = lines.map((line) => JSON.parse(line));
    const error = { param: 'max_tokens', message: expect.stringMatching(/must be an integer/) };
    expect(entries).toContainEqual(
      expect.objectContaining({ requestId: 'trace-7', error: expect.objectContaining(error) }),
    );
    expect(entries).toContainEqual(expect.objectContaining({ requestId: id, reqId: id, statusCode: 400 }));
    expect(lines.join('')).not.toContain('my secret');
  });

  it('ends the computation when the client of a stream leaves', async () => {
    const slow = await slowEngine();
    // fetch opens a spare connection when a request is aborted, for which fastify would wait more than a minute.
    const other = fastify({ forceCloseConnections: true });
    await other.register(built.httpPlugin, { engine: slow });
    const at = await other.listen({ port: 0, host: '127.0.0.1' });
    const leaving = new AbortController();
    const body = JSON.stringify({ prompt: 'x', max_tokens: 4000, stream: true });
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`${at}/v1/completions`, {
      method: 'POST',
      headers,
      body,
      signal: leaving.signal,
    });
    expect(answer.status).toBe(200);
    leaving.abort();
    await eventually(() => slow.metrics().requests.aborted === 1);
    await other.close();
    await slow.close();
  });
});
