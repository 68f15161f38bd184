import { describe, expect, it } from 'vitest';
import { RateLimits } from '../../src/serve/http/rateLimits';
import { errorOf, eventually, openServer, post, slowEngine } from './servers';

const limited = (retryAfterSeconds: number) =>
  expect.objectContaining({ status: 429, code: 'rate_limit_exceeded', retryAfterSeconds });

describe('limits of a caller', () => {
  it('count requests until they leave, for each caller apart', () => {
    const limits = new RateLimits({ maxRequestsPerKey: 2 });
    const first = limits.enter('a');
    limits.enter('a');
    expect(() => limits.enter('a')).toThrow(limited(1));
    limits.enter('b');
    first.leave();
    limits.enter('a');
    expect(() => limits.enter('a')).toThrow(limited(1));
  });

  it('count tokens by a bucket that fills evenly, and say when there are more', () => {
    let now = 0;
    const limits = new RateLimits({ maxTokensPerMinute: 600 }, () => now);
    limits.enter('a').charge(700);
    expect(() => limits.enter('a')).toThrow(limited(11));
    limits.enter('b');
    now = 9_000;
    expect(() => limits.enter('a')).toThrow(limited(2));
    now = 11_000;
    limits.enter('a').charge(9);
    now = 10_000_000;
    limits.enter('a').charge(600);
    expect(() => limits.enter('a')).toThrow(limited(1));
  });

  it('are none by default', () => {
    const limits = new RateLimits({});
    for (let i = 0; i < 100; i++) limits.enter('a').charge(1e9);
  });

  it('are forgotten where nothing is owed', () => {
    let now = 0;
    const limits = new RateLimits({ maxTokensPerMinute: 60 }, () => now);
    limits.enter('owes').charge(1_000_000);
    for (let i = 0; i < 10_000; i++) limits.enter(`${i}`).leave();
    now = 1;
    limits.enter('one more');
    expect(() => limits.enter('owes')).toThrow(limited(999_940));
  });
});

describe('a server with limits', () => {
  const authorization = (key: string) => ({ authorization: `Bearer ${key}` });
  const LONG = { prompt: 'a', max_tokens: 4000, ignore_eos: true };

  it('answers 429 with retry-after beyond the requests of a key, until one has ended', async () => {
    const server = await openServer({
      engine: await slowEngine(),
      apiKeys: ['one', 'two'],
      maxRequestsPerKey: 1,
    });
    try {
      const url = `${server.url}/v1/completions`;
      const abort = new AbortController();
      const running = fetch(url, {
        method: 'POST',
        body: JSON.stringify(LONG),
        headers: { 'content-type': 'application/json', ...authorization('one') },
        signal: abort.signal,
      }).catch(() => null);
      await eventually(() => server.engine.metrics().running === 1);
      const refused = await post(url, { prompt: 'b' }, authorization('one'));
      expect(refused.status).toBe(429);
      expect(refused.headers.get('retry-after')).toBe('1');
      expect(await errorOf(refused)).toMatchObject({ type: 'rate_limit_error', code: 'rate_limit_exceeded' });
      expect((await post(url, { prompt: 'b' }, authorization('two'))).status).toBe(200);
      expect((await fetch(`${server.url}/v1/models`, { headers: authorization('one') })).status).toBe(200);
      abort.abort();
      await running;
      await eventually(() => server.engine.metrics().running === 0);
      expect((await post(url, { prompt: 'b' }, authorization('one'))).status).toBe(200);
    } finally {
      await server.close();
    }
  });

  it('charges prompts, completions and embeddings, by address where there are no keys', async () => {
    const server = await openServer({ maxTokensPerMinute: 20 });
    try {
      const completion = { prompt: 'a prompt', max_tokens: 4, ignore_eos: true, n: 2 };
      expect((await post(`${server.url}/v1/completions`, completion)).status).toBe(200);
      const refused = await post(`${server.url}/v1/embeddings`, { input: 'a' });
      expect(refused.status).toBe(429);
      // 24 of 20 tokens are used, and one comes every 3 s.
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(10);
      expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(13);
    } finally {
      await server.close();
    }
  });
});
