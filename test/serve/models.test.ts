/** Several models behind one address, aliases, and a base path. */
import { fastify } from 'fastify';
import { afterAll, describe, expect, it } from 'vitest';
import type { ServeOptions } from '../../src';
import { built } from '../helpers/built';
import { ByteTokenizer, byteModel, Engine, openEngine } from './engines';
import { errorOf, post } from './servers';

const book = await openEngine({ maxBatch: 2 });
const chat = await openEngine({ maxBatch: 2, contextLength: 64 }, { nLayers: 1 });
const models = [
  { name: 'book', engine: book },
  { name: 'org/chat', engine: chat },
];
const server = await built.serve({
  models,
  aliases: { small: 'org/chat', 'gpt-4o': 'org/chat' },
  basePath: '/llm/',
  port: 0,
});
afterAll(async () => {
  await server.close({ graceMs: 0 });
  await Promise.all([book.close(), chat.close()]);
});

const complete = async (fields: object) => {
  const answer = await post(`${server.url}/v1/completions`, { prompt: 'ab', max_tokens: 2, ...fields });
  return (await answer.json()) as { model: string; system_fingerprint: string };
};

describe('several models', () => {
  it('are chosen by name or alias; without a name the first one answers', async () => {
    const asked = [{}, { model: 'book' }, { model: 'org/chat' }, { model: 'gpt-4o' }];
    const answers = await Promise.all(asked.map(complete));
    expect(answers.map(({ model }) => model)).toEqual(['book', 'book', 'org/chat', 'org/chat']);
    expect(answers[3].system_fingerprint).toBe(chat.fingerprint);
    expect(answers[0].system_fingerprint).toBe(book.fingerprint);
  });

  it.each(['/v1/completions', '/v1/chat/completions', '/v1/embeddings', '/tokenize', '/detokenize'])(
    'a name that none has is a 404 that lists them: %s',
    async (path) => {
      const answer = await post(server.url + path, { model: 'other' });
      expect(answer.status).toBe(404);
      const message = 'There is no model "other" here, only "book", "org/chat".';
      expect(await errorOf(answer)).toMatchObject({ message, param: 'model', code: 'model_not_found' });
      expect((await post(server.url + path, { model: 7 })).status).toBe(400);
      expect((await post(server.url + path, { model: '__proto__' })).status).toBe(404);
    },
  );

  it('have their own limits, texts and embeddings', async () => {
    const { count, max_model_len } = (await (
      await post(`${server.url}/tokenize`, { model: 'small', prompt: 'abc' })
    ).json()) as { count: number; max_model_len: number };
    expect([count, max_model_len]).toEqual([3, 64]);
    const long = { prompt: 'a', max_tokens: 100 };
    expect((await post(`${server.url}/v1/completions`, { ...long, model: 'book' })).status).toBe(200);
    const refused = await post(`${server.url}/v1/completions`, { ...long, model: 'small' });
    expect((await errorOf(refused)).message).toMatch(/integer >= 0 and <= 64/);
    const embedded = await post(`${server.url}/v1/embeddings`, { model: 'small', input: 'a' });
    expect(await embedded.json()).toMatchObject({ model: 'org/chat' });
  });

  it('are listed once, with their aliases, and told apart in the metrics', async () => {
    const list = await (await fetch(`${server.url}/v1/models`)).json();
    expect(list).toMatchObject({
      data: [
        { id: 'book', aliases: [], max_model_len: 128 },
        { id: 'org/chat', aliases: ['small', 'gpt-4o'], max_model_len: 64, n_layers: 1 },
      ],
    });
    const one = await fetch(`${server.url}/v1/models/${encodeURIComponent('gpt-4o')}`);
    expect(await one.json()).toMatchObject({ id: 'org/chat' });
    const text = await (await fetch(`${server.url}/metrics`)).text();
    expect(text).toMatch(/^sgemoe_requests_running\{model="book"\} \d+\n.*\{model="org\/chat"\} \d+$/m);
    const families = Array.from(text.matchAll(/^# TYPE (\w+)/gm), ([, name]) => name);
    expect(new Set(families).size).toBe(families.length);
  });

  it('are ready when all are', async () => {
    const closing = await openEngine();
    const both = await built.serve({ models: [models[0], { name: 'b', engine: closing }], port: 0 });
    expect((await fetch(`${both.url}/ready`)).status).toBe(200);
    await closing.close();
    expect((await fetch(`${both.url}/ready`)).status).toBe(503);
    await both.close({ graceMs: 0 });
  });

  it.each<[string, Partial<ServeOptions>, RegExp]>([
    ['neither', {}, /either an engine or models/],
    ['both', { engine: book, models }, /either an engine or models/],
    ['none', { models: [] }, /models must be an array of/],
    ['a name beside them', { models, model: 'a' }, /model must be absent beside models/],
    ['a name twice', { models: [models[0], models[0]] }, /'book' twice/],
    ['an alias that is a name', { models, aliases: { book: 'org/chat' } }, /'book' twice/],
    [
      'an alias of no model',
      { models, aliases: { a: 'b' } },
      /'a' must name one of book, org\/chat, got 'b'/,
    ],
    [
      'a base path that is none',
      { engine: book, basePath: 'llm' },
      /basePath must be a path such as '\/llm'/,
    ],
  ])('are refused: %s', async (_, options, message) => {
    await expect(built.serve({ ...options, port: 0 })).rejects.toThrow(message);
  });
});

describe('a base path', () => {
  it('stands in front of every route, the page too, which is found without a slash at its end', async () => {
    expect(server.url).toMatch(/:\d+\/llm$/);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    expect((await fetch(new URL('/health', server.url))).status).toBe(404);
    const page = await fetch(server.url);
    expect(page.url).toBe(`${server.url}/`);
    expect(await page.text()).toContain('<title>sgemoe');
    expect((await fetch(`${server.url}/main.js`)).status).toBe(200);
  });

  it("of a plugin of fastify is the app's prefix", async () => {
    const app = fastify();
    await app.register(built.httpPlugin, { models, prefix: '/a/b' });
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    const page = await fetch(`${url}/a/b`);
    expect(page.url).toBe(`${url}/a/b/`);
    expect(page.status).toBe(200);
    await app.close();
  });
});

it("engines count each other's caches where memory is checked, until they are closed", async () => {
  const options = { maxBatch: 16, contextLength: 128 };
  const { cache, activations } = built.memoryBytes(byteModel().config, {
    mode: 'decode',
    slots: 16,
    contextLength: 128,
    maxStepTokens: 128,
  });
  const before = process.env.SGEMOE_MEMORY_LIMIT;
  // The two engines above have caches, too.
  const others = (cache * (2 + 1)) / 16;
  process.env.SGEMOE_MEMORY_LIMIT = String(Math.ceil(cache * 1.5 + activations + others));
  try {
    const open = () => Engine.create(byteModel(), new ByteTokenizer(), options);
    const first = await open();
    await expect(open()).rejects.toThrow(/caches of other engines/);
    await first.close();
    await (await open()).close();
  } finally {
    if (before === undefined) delete process.env.SGEMOE_MEMORY_LIMIT;
    else process.env.SGEMOE_MEMORY_LIMIT = before;
  }
});
