import { lookup } from 'node:dns/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { type AddressInfo, connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prometheusText } from '../../src/serve/http/prometheus';
import { built } from '../helpers/built';
import { readMetrics } from '../helpers/prometheus';
import { errorOf, eventually, openServer, post, slowEngine } from './servers';

let server: Awaited<ReturnType<typeof openServer>>;
beforeAll(async () => {
  server = await openServer();
});
afterAll(() => server.close());

const complete = (body: object) =>
  post(`${server.url}/v1/completions`, { prompt: 'ab', max_tokens: 2, ...body });
describe('a request that is not one', () => {
  it.each<[string, number, RegExp, RequestInit]>([
    ['no JSON', 400, /not valid JSON/, { body: '{' }],
    ['no UTF-8', 400, /not valid UTF-8/, { body: Uint8Array.of(0x22, 0xff, 0x22) }],
    ['no object', 400, /must be a JSON object, got an array/, { body: '[]' }],
    ['deep nesting', 400, /more than 64 levels/, { body: `${'['.repeat(9999)}${']'.repeat(9999)}` }],
    ['no body', 400, /got nothing/, {}],
    ['another type', 415, /must be JSON/, { body: '{}', headers: { 'content-type': 'text/plain' } }],
    [
      'another charset',
      415,
      /must be UTF-8/,
      { body: '{}', headers: { 'content-type': 'application/json; charset=latin1' } },
    ],
    [
      'its own charset',
      400,
      /'prompt'/,
      { body: '{}', headers: { 'content-type': 'application/json;charset="UTF-8"' } },
    ],
    ['compressed', 415, /compressed/, { body: '{}', headers: { 'content-encoding': 'gzip' } }],
    ['too large', 413, /at most 1048576 bytes/, { body: 'x'.repeat(2 ** 20 + 1) }],
    ['a prototype', 400, /no field '__proto__'/, { body: '{"prompt":"a","__proto__":{"n":2}}' }],
  ])('%s: %i', async (_, status, message, init) => {
    const headers = init.body === undefined ? {} : { 'content-type': 'application/json', ...init.headers };
    const response = await fetch(`${server.url}/v1/completions`, { method: 'POST', ...init, headers });
    expect(response.status).toBe(status);
    expect((await errorOf(response)).message).toMatch(message);
  });

  it('at an unknown path, or outside of the page, is a 404 in the same shape', async () => {
    for (const path of ['/v1/nothing', '/..%2f..%2fpackage.json', '/%2e%2e/package.json', '/v1/models/x/y']) {
      const response = await fetch(server.url + path);
      expect(response.status, path).toBe(404);
      expect((await errorOf(response)).message, path).toMatch(/There is no/);
    }
  });

  it('with another method than the path has is a 405 that names those', async () => {
    for (const [path, method, allow] of [
      ['/v1/completions', 'GET', 'POST'],
      ['/v1/models', 'DELETE', 'GET, HEAD'],
    ]) {
      const response = await fetch(server.url + path, { method });
      expect(response.status).toBe(405);
      expect(response.headers.get('allow')).toBe(allow);
      expect((await errorOf(response)).message).toBe(`This path takes ${allow} only.`);
    }
  });

  it('that is not HTTP gets a 400 with a sentence', async () => {
    const { port } = new URL(server.url);
    const socket = connect(Number(port), '127.0.0.1').end('NOT HTTP\r\n\r\n');
    let text = '';
    for await (const part of socket) text += part;
    expect(text).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*"This is not a valid HTTP request\."/);
  });
});

describe('texts', () => {
  it('are tokenized and put together again', async () => {
    const ids = await (await post(`${server.url}/tokenize`, { prompt: 'naïve' })).json();
    expect(ids).toEqual({ count: 6, max_model_len: 128, tokens: [...new TextEncoder().encode('naïve')] });
    const { tokens } = ids as { tokens: number[] };
    expect(await (await post(`${server.url}/detokenize`, { tokens })).json()).toEqual({ prompt: 'naïve' });
    const conversation = { messages: [{ role: 'user', content: 'x' }] };
    expect(await (await post(`${server.url}/tokenize`, conversation)).json()).toMatchObject({ count: 18 });
  });
});

describe('what answers', () => {
  it('is told: the version, and a fingerprint that is the same for each answer of an engine', async () => {
    const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
    expect(await (await fetch(`${server.url}/version`)).json()).toEqual({ version });
    const answers = [await complete({}), await complete({ prompt: 'c' })].map((answer) => answer.json());
    const [one, two] = (await Promise.all(answers)) as { system_fingerprint: string }[];
    expect(one.system_fingerprint).toMatch(/^fp_[0-9a-f]{12}$/);
    expect(two.system_fingerprint).toBe(one.system_fingerprint);
    const other = await openServer({}, { contextLength: 64 });
    expect(other.engine.fingerprint).not.toBe(server.engine.fingerprint);
    await other.close();
  });
});

describe('who may ask', () => {
  it('with a key: every request needs it, except /health', async () => {
    const guarded = await openServer({ apiKeys: ['secret'], engine: server.engine });
    const status = async (path: string, authorization = '') =>
      (await fetch(guarded.url + path, { headers: { authorization } })).status;
    for (const path of ['/v1/models', '/metrics']) {
      for (const wrong of ['', 'Bearer', 'Bearer wrong', 'secret', 'Bearer secret2']) {
        expect(await status(path, wrong), `${path} ${wrong}`).toBe(401);
      }
      expect(await status(path, 'Bearer secret')).toBe(200);
    }
    expect(await status('/health')).toBe(200);
    expect(await status('/ready')).toBe(200);
  });

  it('on this machine: requests that name it', async () => {
    const { port } = new URL(server.url);
    const ask = async (host: string) => {
      const socket = connect(Number(port), '127.0.0.1');
      socket.end(`GET /v1/models HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      let text = '';
      for await (const part of socket) text += part;
      return text.slice(9, 12);
    };
    expect(await ask(`localhost:${port}`)).toBe('200');
    expect(await ask('evil.example')).toBe('403');
  });

  it('from a page: only of a named origin', async () => {
    const open = await openServer({ corsOrigins: ['https://good.example'], engine: server.engine });
    const preflight = (origin: string) =>
      fetch(`${open.url}/v1/completions`, { method: 'OPTIONS', headers: { origin } });
    const allowed = await preflight('https://good.example');
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get('access-control-allow-origin')).toBe('https://good.example');
    const denied = await preflight('https://evil.example');
    expect(denied.status).toBe(403);
    expect(denied.headers.get('access-control-allow-origin')).toBeNull();
    const headers = { origin: 'https://good.example' };
    expect(
      (await fetch(`${open.url}/v1/models`, { headers })).headers.has('access-control-allow-origin'),
    ).toBe(true);
    const plain = await fetch(`${server.url}/v1/models`, { headers });
    expect(plain.headers.has('access-control-allow-origin')).toBe(false);
  });
});

describe('under load', () => {
  it('a full queue is a 429 that says when to come back, and no choice of the request goes on', async () => {
    const full = await openServer({ engine: await slowEngine({ maxBatch: 1, maxQueue: 1 }) });
    const response = await post(`${full.url}/v1/completions`, { prompt: 'x', n: 4, max_tokens: 4000 });
    expect(response.status).toBe(429);
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(await errorOf(response)).toMatchObject({ type: 'rate_limit_error', code: 'queue_full' });
    await eventually(() => full.engine.metrics().running + full.engine.metrics().waiting === 0);
    await full.close();
  });

  it('a request that takes too long is a 504, or an error at the end of its stream', async () => {
    const hasty = await openServer({ engine: await slowEngine(), timeoutMs: 100 });
    const body = { prompt: 'x', max_tokens: 4000 };
    expect((await post(`${hasty.url}/v1/completions`, body)).status).toBe(504);
    const stream = await (await post(`${hasty.url}/v1/completions`, { ...body, stream: true })).text();
    expect(stream).toMatch(/\ndata: \{"error":\{"message":"The request was not answered within 100 ms\."/);
    expect(stream).not.toContain('[DONE]');
    await hasty.close();
  });

  it('a client that reads nothing is given up, and its completion ends', async () => {
    const strict = await openServer({ engine: await slowEngine(), stallMs: 50 });
    const { hostname, port } = new URL(strict.url);
    const socket = connect(Number(port), hostname).pause();
    // Routing and alternatives make a token so many bytes that the buffers of the system are full before the end.
    const request = {
      prompt: 'x',
      max_tokens: 4000,
      n: 4,
      stream: true,
      logprobs: 20,
      sgemoe: { routing: true },
    };
    const body = JSON.stringify(request);
    const head = ['POST /v1/completions HTTP/1.1', 'host: localhost', 'content-type: application/json'];
    socket.write(`${head.join('\r\n')}\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    await eventually(() => strict.engine.metrics().requests.aborted === 4);
    socket.destroy();
    await strict.close();
  });

  it('closing lets the requests that run come to their end and takes no others', async () => {
    const engine = await slowEngine();
    const closing = await built.serve({ engine, port: 0 });
    const running = post(`${closing.url}/v1/completions`, { prompt: 'x', max_tokens: 100, stream: true });
    const response = await running;
    const closed = Promise.all([engine.close({ drain: true }), closing.close()]);
    expect(engine.ready).toBe(false);
    expect(await response.text()).toMatch(/data: \[DONE\]\n\n$/);
    await closed;
    await expect(fetch(`${closing.url}/health`)).rejects.toThrow();
  });
});

describe('metrics', () => {
  it("are Prometheus' text by a strict reader, with the names that promtool wants", async () => {
    await complete({});
    const response = await fetch(`${server.url}/metrics`);
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    const families = readMetrics(await response.text());
    const firsts = families.get('sgemoe_time_to_first_token_seconds')!;
    expect(firsts.type).toBe('histogram');
    expect(firsts.samples.find(({ name }) => name.endsWith('_count'))!.value).toBeGreaterThan(0);
    const refused = families.get('sgemoe_http_responses_total')!.samples;
    expect(refused.find(({ labels }) => labels.status === '400')!.value).toBeGreaterThan(0);
    const load = families.get('sgemoe_expert_tokens_total')!.samples;
    expect(load).toContainEqual(
      expect.objectContaining({ labels: { model: 'sgemoe', layer: '1', expert: '2' } }),
    );
  });

  it('keep the name of a model, whatever is in it', () => {
    const name = 'a "quoted" \\ name\nof two lines, {with} signs';
    const families = readMetrics(prometheusText(new Map([[name, server.engine.metrics()]]), new Map()));
    for (const { samples } of families.values())
      for (const { labels } of samples) expect(labels.model).toBe(name);
  });
});

describe('targets', () => {
  const raw = async (head: string) => {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    socket.end(`${head}\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    let text = '';
    for await (const part of socket) text += part;
    return text;
  };

  it('may have a query, escapes, or be a whole URL, as HTTP allows', async () => {
    for (const target of ['/health?x=/y', '/he%61lth', '/health/', 'http://localhost/health', '/ping']) {
      expect(await raw(`GET ${target} HTTP/1.1`), target).toMatch(/^HTTP\/1\.1 200 OK/);
    }
    expect(await raw('GET /v1/models/sge%6doe HTTP/1.1')).toMatch(/^HTTP\/1\.1 200 OK/);
  });

  it('must name one host, the one of the host header', async () => {
    for (const head of [
      'GET /health HTTP/1.1\r\nHost: evil.example',
      'GET http://evil.example/health HTTP/1.1',
    ]) {
      expect(await raw(head), head).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*"code":"host"/);
    }
  });

  it('that are no URLs are a 400', async () => {
    for (const target of ['/%zz', '/v1/models/%ff']) {
      const text = await raw(`GET ${target} HTTP/1.1`);
      expect(text, target).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*not a valid URL/);
    }
  });

  it('HEAD gives only the headers of GET', async () => {
    const text = await raw('HEAD /health HTTP/1.1');
    expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*content-length: 15\r\n[\s\S]*\r\n\r\n$/i);
  });

  it('at localhost are reached at each of its addresses', async () => {
    const named = await openServer({ host: 'localhost', engine: server.engine });
    const { port } = new URL(named.url);
    const addresses = await lookup('localhost', { all: true });
    for (const { address, family } of addresses) {
      const host = family === 6 ? `[${address}]` : address;
      expect((await fetch(`http://${host}:${port}/health`)).status, address).toBe(200);
    }
  });
});

describe('the log', () => {
  it('is JSON by line, has no prompt and no text unless asked for', async () => {
    for (const logPrompts of [false, true]) {
      const lines: string[] = [];
      const log = { write: (line: string) => lines.push(line) };
      const logged = await openServer({ engine: server.engine, log, logPrompts });
      await (await post(`${logged.url}/v1/completions`, { prompt: 'my secret', max_tokens: 2 })).text();
      await post(`${logged.url}/v1/completions`, '{"prompt":"my secret"');
      const entries = lines.map((line) => JSON.parse(line));
      expect(entries).toContainEqual(
        expect.objectContaining({ msg: 'completion', finishReasons: ['length'] }),
      );
      expect(lines.join('').includes('my secret')).toBe(logPrompts);
    }
  });
});

describe('in your own program', () => {
  it('the handler serves from a plain server', async () => {
    const handler = await built.createHandler({ engine: server.engine, model: 'mine' });
    const plain = createServer(handler).listen(0, '127.0.0.1');
    await eventually(() => plain.listening);
    const { port } = plain.address() as AddressInfo;
    const models = await (await fetch(`http://127.0.0.1:${port}/v1/models`)).json();
    expect(models).toMatchObject({ data: [{ id: 'mine' }] });
    plain.closeAllConnections();
    plain.close();
  });

  it.each<[object, RegExp]>([
    [{ host: '' }, /^serve: host must be a text that is not empty, got $/],
    [{ port: 65_536 }, /^serve: port must be an integer >= 0 and <= 65535, got 65536$/],
    [{ log: {} }, /^serve: log must be a sink with a method write, got object$/],
    [{ logLevel: 'loud' }, /^serve: logLevel must be 'trace' or .*, got loud$/],
  ])('options of listening are checked: %o', async (options, message) => {
    await expect(built.serve({ engine: server.engine, port: 0, ...options })).rejects.toThrow(message);
  });

  it.each<[object, RegExp]>([
    [{ engine: {} }, /engine must be an Engine/],
    [{ modle: 'x' }, /unknown option 'modle'/],
    [{ apiKeys: 'secret' }, /apiKeys must be an array/],
    [{ apiKeys: [''] }, /apiKeys must be an array of texts that are not empty/],
    [{ maxTokens: 0 }, /maxTokens must be an integer >= 1/],
    [{ timeoutMs: 2 ** 31 }, /timeoutMs must be an integer >= 1 and < 2\^31/],
  ])('options are checked: %o', async (options, message) => {
    await expect(built.serve({ engine: server.engine, port: 0, ...options })).rejects.toThrow(message);
    await expect(built.createHandler({ engine: server.engine, ...options })).rejects.toThrow(message);
  });
});
