import { describe, expect, test } from 'vitest';
import type { Engine, GenerateRequest, StreamChunk } from '../../src';
import { Engine as BuiltEngine, byteModel, openEngine, sleep, workersStarted } from './engines';

const workers = workersStarted();

/** Takes some hundred steps, long enough to be ended in between. */
const LONG = { prompt: 'a long one', maxTokens: 4000 };
const DEEP = { maxSeqLen: 4096, nLayers: 4 };

async function withEngine(
  options: Parameters<typeof openEngine>[0],
  use: (engine: Engine) => Promise<void>,
  overrides: Parameters<typeof openEngine>[1] = {},
): Promise<void> {
  const engine = await openEngine(options, { ...DEEP, ...overrides });
  try {
    await use(engine);
  } finally {
    await engine.close();
  }
}

/** Waits until the engine has nothing left to do and knows of every aborted request. */
async function idle(engine: Engine): Promise<void> {
  const { requests, waiting, running } = engine.metrics();
  expect(waiting + running).toBe(0);
  expect(requests.completed + requests.failed + requests.aborted).toBe(requests.accepted);
  await engine.generate({ prompt: 'still there', maxTokens: 1 });
}

const coded = (code: string) => expect.objectContaining({ code });

describe('a request ends early', () => {
  test('by its signal, which throws its reason', () =>
    withEngine({}, async (engine) => {
      const reason = new Error('enough');
      const controller = new AbortController();
      const got: StreamChunk[] = [];
      const reading = (async () => {
        for await (const chunk of engine.stream({ ...LONG, signal: controller.signal })) {
          got.push(chunk);
          controller.abort(reason);
        }
      })();
      await expect(reading).rejects.toBe(reason);
      expect(got.length).toBeGreaterThan(0);
      await idle(engine);
    }));

  test('with many others by one signal, without a warning of a leak', () =>
    withEngine({ maxBatch: 2 }, async (engine) => {
      const warnings: Error[] = [];
      const onWarning = (warning: Error) => void warnings.push(warning);
      process.on('warning', onWarning);
      const controller = new AbortController();
      const { signal } = controller;
      const all = Array.from({ length: 20 }, () => engine.generate({ ...LONG, signal, onAbort: 'return' }));
      await sleep(5);
      controller.abort();
      const reasons = (await Promise.all(all)).map(({ finishReason }) => finishReason);
      process.off('warning', onWarning);
      expect(new Set(reasons)).toEqual(new Set(['abort']));
      expect(warnings).toEqual([]);
      await idle(engine);
    }));

  test('by its signal, and returns what exists', () =>
    withEngine({}, async (engine) => {
      const controller = new AbortController();
      const promise = engine.generate({ ...LONG, signal: controller.signal, onAbort: 'return' });
      while (engine.metrics().completionTokens === 0) await sleep(1);
      controller.abort();
      const { finishReason, tokens, usage } = await promise;
      expect(finishReason).toBe('abort');
      expect(tokens.length).toBeGreaterThan(0);
      expect(usage).toMatchObject({ promptTokens: LONG.prompt.length, completionTokens: tokens.length });
      await idle(engine);
    }));

  test('by a signal that was aborted before', () =>
    withEngine({}, async (engine) => {
      const signal = AbortSignal.abort();
      await expect(engine.generate({ ...LONG, signal })).rejects.toBe(signal.reason);
      const returned = await engine.generate({ ...LONG, signal, onAbort: 'return' });
      expect(returned).toMatchObject({ text: '', tokens: [], finishReason: 'abort' });
      await expect(engine.embed(['a'], { signal })).rejects.toBe(signal.reason);
      await idle(engine);
    }));

  test('by its time, running or waiting', () =>
    withEngine({ maxBatch: 1 }, async (engine) => {
      const running = engine.generate({ ...LONG, timeoutMs: 30 });
      const waiting = engine.generate({ ...LONG, timeoutMs: 20, onAbort: 'return' });
      // Both are awaited together, since on a busy machine either may end first.
      const [thrown, returned] = await Promise.allSettled([running, waiting]);
      expect(thrown).toMatchObject({ reason: coded('SGEMOE_TIMEOUT') });
      expect(returned).toMatchObject({ value: { finishReason: 'timeout', tokens: [] } });
      await idle(engine);
    }));

  test('when its reader leaves the iteration', () =>
    withEngine({ maxBatch: 1 }, async (engine) => {
      for await (const chunk of engine.stream(LONG)) {
        expect(chunk.finishReason).toBeNull();
        break;
      }
      expect(engine.metrics().requests.aborted).toBe(1);
      await idle(engine);
      expect(engine.metrics().completionTokens).toBeLessThan(LONG.maxTokens);
    }));
});

describe('the queue', () => {
  test('refuses what is beyond maxQueue, takes it once there is room', () =>
    withEngine({ maxBatch: 1, maxQueue: 1 }, async (engine) => {
      const first = new AbortController();
      const running = engine.generate({ ...LONG, signal: first.signal, onAbort: 'return' });
      const waiting = engine.generate({ prompt: 'b', maxTokens: 2 });
      expect(() => engine.stream({ prompt: 'c' })).toThrow(coded('SGEMOE_QUEUE_FULL'));
      await expect(engine.generate({ prompt: 'c' })).rejects.toThrow(coded('SGEMOE_QUEUE_FULL'));
      expect(engine.metrics().requests.refused).toBe(2);
      first.abort();
      expect((await running).finishReason).toBe('abort');
      expect((await waiting).tokens).toHaveLength(2);
      await idle(engine);
    }));

  test('answers in the order of the requests', () =>
    withEngine({ maxBatch: 1 }, async (engine) => {
      const order: number[] = [];
      const make = (i: number) => engine.generate({ prompt: `${i}`, maxTokens: 3 }).then(() => order.push(i));
      await Promise.all([0, 1, 2, 3, 4].map(make));
      expect(order).toEqual([0, 1, 2, 3, 4]);
    }));

  test('a text is tokenized while all places are taken', () =>
    withEngine({ maxBatch: 1, maxQueue: 0 }, async (engine) => {
      const stream = engine.stream(LONG);
      expect([...(await engine.tokenize('ab'))]).toEqual([97, 98]);
      expect(engine.metrics().running).toBe(1);
      const many = await Promise.allSettled(Array.from({ length: 9 }, () => engine.tokenize('ab')));
      expect(many.some(({ status }) => status === 'rejected')).toBe(true);
      await stream.return!();
      await idle(engine);
    }));
});

describe('requests side by side', () => {
  test('a long prompt does not hold up a short one', () =>
    withEngine({ maxBatch: 2, maxStepTokens: 8 }, async (engine) => {
      const order: string[] = [];
      const long = engine.generate({ prompt: 'x'.repeat(2000), maxTokens: 1 }).then(() => order.push('long'));
      const short = engine.generate({ prompt: 'short', maxTokens: 20 }).then(() => order.push('short'));
      await Promise.all([long, short]);
      expect(order).toEqual(['short', 'long']);
    }));

  test('the same seed gives the same text, whatever else runs', () =>
    withEngine({ maxBatch: 8 }, async (engine) => {
      const request = { prompt: 'the same', maxTokens: 40, seed: 11 };
      const alone = await engine.generate(request);
      const others = Array.from({ length: 12 }, (_, i) =>
        engine.generate({ prompt: 'o'.repeat(1 + 7 * i), maxTokens: 10 + 5 * i, seed: i }),
      );
      expect((await engine.generate(request)).tokens).toEqual(alone.tokens);
      await Promise.all(others);
    }));

  test('several workers give the text of one', () =>
    withEngine({ workers: 2, maxBatch: 2 }, async (engine) => {
      const request = { prompt: 'which worker', maxTokens: 10 };
      const all = await Promise.all(Array.from({ length: 6 }, () => engine.generate(request)));
      for (const { tokens } of all) expect(tokens).toEqual(all[0].tokens);
      expect(engine.metrics().workers).toEqual({ ready: 2, replaced: 0 });
    }));

  test('the beginning of a kept sequence is not computed again, and gives the same text', () =>
    withEngine({ maxBatch: 2 }, async (engine) => {
      const request = { prompt: `${'instructions '.repeat(20)}first`, maxTokens: 6 };
      const first = await engine.generate(request);
      const again = await engine.generate(request);
      expect(again.usage).toMatchObject({ promptTokens: 265, reusedTokens: 264 });
      expect(again.tokens).toEqual(first.tokens);
      const other = await engine.generate({ ...request, prompt: `${'instructions '.repeat(20)}second` });
      expect(other.usage.reusedTokens).toBe(260);
      expect(engine.metrics().reusedTokens).toBe(264 + 260);
      expect(engine.metrics().cache.tokens).toBeGreaterThan(265);
    }));

  test.each(['float16', 'q8_0'] as const)(
    'a kept beginning in %s is reused, and gives the same text',
    (kvCacheDtype) =>
      withEngine(
        { maxBatch: 2, kvCacheDtype },
        async (engine) => {
          const request = { prompt: 'instructions '.repeat(10), maxTokens: 8 };
          const first = await engine.generate(request);
          const again = await engine.generate(request);
          expect(again.usage).toMatchObject({ promptTokens: 130, reusedTokens: 129 });
          expect(again.tokens).toEqual(first.tokens);
        },
        { headDim: 32 },
      ),
  );

  test('precision rounds in long prompts and leaves short ones as they are', async () => {
    const logprobsOf = async (prompt: string, precision: 'float32' | 'bfloat16') => {
      const seen: number[] = [];
      await withEngine({ precision }, async (engine) => {
        const { logprobs } = await engine.generate({ prompt, maxTokens: 4, temperature: 0, topLogprobs: 0 });
        seen.push(...logprobs!.map(({ logprob }) => logprob));
      });
      return seen;
    };
    const long = 'instructions '.repeat(5);
    const [mixed, single] = [await logprobsOf(long, 'bfloat16'), await logprobsOf(long, 'float32')];
    expect(mixed).not.toEqual(single);
    expect(mixed[0]).toBeCloseTo(single[0], 1);
    expect(await logprobsOf('instructions', 'bfloat16')).toEqual(await logprobsOf('instructions', 'float32'));
  });

  test('a request whose choice is impossible fails alone', () =>
    withEngine({}, async (engine) => {
      const banned = Object.fromEntries(Array.from({ length: 256 }, (_, i) => [i, Number.NEGATIVE_INFINITY]));
      const good = engine.generate({ prompt: 'good', maxTokens: 20 });
      await expect(engine.generate({ prompt: 'bad', logitBias: banned })).rejects.toThrow(RangeError);
      expect((await good).tokens).toHaveLength(20);
      await idle(engine);
    }));
});

describe('a worker that dies', () => {
  test('fails its requests, and is replaced by one that takes what waits', () =>
    withEngine({ maxBatch: 1 }, async (engine) => {
      const running = engine.generate(LONG);
      const waiting = engine.generate({ prompt: 'patience', maxTokens: 3 });
      while (engine.metrics().completionTokens === 0) await sleep(1);
      await workers.at(-1)!.terminate();
      await expect(running).rejects.toThrow(coded('SGEMOE_WORKER_DIED'));
      expect((await waiting).tokens).toHaveLength(3);
      expect(engine.metrics()).toMatchObject({ requests: { failed: 1 }, workers: { ready: 1, replaced: 1 } });
      await idle(engine);
    }));

  test('before it has started fails the opening with its reason', async () => {
    process.env.SGEMOE_MEMORY_LIMIT = 'none';
    try {
      const tooMuch = openEngine({ maxBatch: 2 ** 28 }, DEEP);
      await expect(tooMuch).rejects.toThrow(coded('SGEMOE_WORKER_DIED'));
    } finally {
      delete process.env.SGEMOE_MEMORY_LIMIT;
    }
  });
});

describe('close', () => {
  test('ends running and waiting requests, and refuses new ones', async () => {
    const engine = await openEngine({ maxBatch: 1 }, DEEP);
    const requests = [engine.generate(LONG), engine.generate(LONG), engine.embed(['a'])];
    const settled = Promise.allSettled(requests);
    await engine.close();
    for (const result of await settled) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'SGEMOE_ENGINE_CLOSED' } });
    }
    expect(engine.ready).toBe(false);
    await expect(engine.generate(LONG)).rejects.toThrow(coded('SGEMOE_ENGINE_CLOSED'));
    await engine.close();
  });

  test('with drain answers what was accepted, unless it is cut short', async () => {
    const engine = await openEngine({ maxBatch: 1 }, DEEP);
    const accepted = [1, 2, 3].map((maxTokens) => engine.generate({ prompt: 'd', maxTokens }));
    const closing = engine.close({ drain: true });
    await expect(engine.generate(LONG)).rejects.toThrow(coded('SGEMOE_ENGINE_CLOSED'));
    expect((await Promise.all(accepted)).map(({ tokens }) => tokens.length)).toEqual([1, 2, 3]);
    await closing;

    const other = await openEngine({ maxBatch: 1 }, DEEP);
    const cut = other.generate(LONG);
    const draining = other.close({ drain: true });
    await Promise.all([expect(cut).rejects.toThrow(coded('SGEMOE_ENGINE_CLOSED')), other.close()]);
    await draining;
  });

  test('happens at the end of an `await using` block', async () => {
    let kept: Engine;
    {
      await using engine = await openEngine();
      kept = engine;
      expect(engine.ready).toBe(true);
    }
    expect(kept.ready).toBe(false);
  });
});

describe('embeddings', () => {
  test('are the mean of the final hidden states, whatever the chunks', () =>
    withEngine({ maxStepTokens: 16, maxBatch: 3 }, async (engine) => {
      const texts = ['short', 'a text that takes more than one step of the engine', 'x'];
      const whole = await openEngine({}, DEEP);
      const { embeddings, promptTokens } = await engine.embed(texts);
      const busy = engine.generate(LONG).catch(() => null);
      const other = await whole.embed(texts);
      expect(promptTokens).toBe(texts.join('').length);
      expect(embeddings.map(({ length }) => length)).toEqual([16, 16, 16]);
      for (const [i, embedding] of embeddings.entries()) {
        for (const [j, value] of embedding.entries()) expect(value).toBeCloseTo(other.embeddings[i][j], 5);
      }
      await Promise.all([engine.close(), whole.close(), busy]);
    }));
});

describe('misuse says what is wrong', () => {
  const bad: [string, unknown, RegExp][] = [
    ['nothing to complete', {}, /either a prompt or messages/],
    ['both', { prompt: 'a', messages: [] }, /either a prompt or messages/],
    ['a misspelt option', { prompt: 'a', temprature: 1 }, /unknown option 'temprature'/],
    ['a temperature', { prompt: 'a', temperature: -1 }, /temperature must be/],
    ['an id outside the vocabulary', { prompt: [256] }, /\[0, 256\)/],
    ['a prompt of another type', { prompt: 5 }, /prompt must be a text or an array/],
    ['a time', { prompt: 'a', timeoutMs: 0 }, /timeoutMs must be in/],
    ['a signal', { prompt: 'a', signal: 1 }, /signal must be an AbortSignal/],
    ['onAbort', { prompt: 'a', onAbort: 'explode' }, /'throw' or 'return'/],
    ['messages without roles', { messages: [{ content: 'a' }] }, /role/],
    ['messages that are not data', { messages: [{ role: 'user', content: () => 1 }] }, /plain data/],
  ];
  test('in requests, at once', () =>
    withEngine({}, async (engine) => {
      for (const [, request, message] of bad) {
        expect(() => engine.stream(request as GenerateRequest)).toThrow(message);
      }
      expect(engine.metrics().requests.accepted).toBe(0);
      await expect(engine.generate({ prompt: '' })).rejects.toThrow(/at least one token/);
      await expect(engine.generate({ prompt: 'x'.repeat(5000) })).rejects.toThrow(
        coded('SGEMOE_CONTEXT_FULL'),
      );
      expect(engine.metrics().requests.failed).toBe(2);
    }));

  test('in options', async () => {
    await expect(openEngine({ workers: 0 })).rejects.toThrow(/workers must be an integer >= 1/);
    await expect(openEngine({ contextLength: 129 })).rejects.toThrow(/contextLength must be at most 128/);
    await expect(openEngine({ maxBatch: 8, maxStepTokens: 4 })).rejects.toThrow(/maxStepTokens must be/);
    await expect(openEngine({ batch: 8 } as object)).rejects.toThrow(/unknown option 'batch'/);
    for (const tokenizer of [undefined, {}, 'gpt2']) {
      const created = BuiltEngine.create(byteModel(), tokenizer as unknown as null);
      await expect(created).rejects.toThrow(/tokenizer must be a Tokenizer, or null for none/);
    }
  });
});
