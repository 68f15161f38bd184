import { describe, expect, test } from 'vitest';
import type { Completion, Engine, EngineOptions } from '../../src';
import { openEngine, sleep } from './engines';
import { eventually, slowEngine } from './servers';

const PROMPT = 'The same instructions stand at the beginning of each of these prompts. ';
const ENDLESS = { prompt: [1], maxTokens: 4000, ignoreEos: true };

async function withEngine(options: EngineOptions, run: (engine: Engine) => Promise<void>) {
  const engine = await openEngine(options, { maxSeqLen: 256 });
  try {
    await run(engine);
  } finally {
    await engine.close();
  }
}

/** Runs on a model whose long completions don't end by themselves while a test looks at them. */
async function withSlow(options: EngineOptions, run: (engine: Engine) => Promise<void>) {
  const engine = await slowEngine(options);
  try {
    await run(engine);
  } finally {
    await engine.close();
  }
}

const reused = (completions: readonly Completion[]) => completions.map(({ usage }) => usage.reusedTokens);

describe('prompts that arrive together', () => {
  test('are computed once where they are the same, with the same texts as alone', () =>
    withEngine({ maxStepTokens: 16, maxBatch: 8 }, async (engine) => {
      const request = { prompt: PROMPT, maxTokens: 8, ignoreEos: true };
      const seeds = [1n, 2n, 3n, 4n];
      const together = await Promise.all(seeds.map((seed) => engine.generate({ ...request, seed })));
      expect(reused(together).sort((a, b) => a - b)).toEqual([0, ...[1, 2, 3].map(() => PROMPT.length - 1)]);
      const alone: Completion[] = [];
      for (const seed of seeds) alone.push(await engine.generate({ ...request, seed }));
      expect(together.map(({ text }) => text)).toEqual(alone.map(({ text }) => text));
    }));

  test('share a beginning that a running one is computing', () =>
    withEngine({ maxStepTokens: 16, maxBatch: 8 }, async (engine) => {
      // Ids begin at once; texts might arrive when the first one's are done, and then share whole blocks only.
      const endings = ['one', 'two', 'three'].map((end) => ({
        prompt: [...Buffer.from(`${PROMPT}${end}`)],
        maxTokens: 4,
      }));
      const all = await Promise.all(endings.map((each) => engine.generate(each)));
      const [first, second, third] = reused(all);
      expect(first).toBe(0);
      expect(second).toBeGreaterThanOrEqual(PROMPT.length);
      expect(third).toBeGreaterThanOrEqual(PROMPT.length);
    }));

  test('go on when the one that computes for them is given up, and can be given up themselves', () =>
    withSlow({ maxStepTokens: 8, maxBatch: 8 }, async (engine) => {
      const [leader, follower] = [new AbortController(), new AbortController()];
      // Ids begin at once, and take some hundred steps.
      const prompt = Array.from({ length: 2000 }, (_, i) => i % 200);
      const request = { prompt, maxTokens: 4, ignoreEos: true };
      const first = engine.generate({ ...request, signal: leader.signal }).catch((error: unknown) => error);
      const given = engine.generate({ ...request, signal: follower.signal }).catch((error: unknown) => error);
      const kept = engine.generate(request);
      await sleep(20);
      leader.abort();
      follower.abort();
      expect((await kept).tokens).toHaveLength(4);
      await Promise.all([first, given]);
      expect(engine.metrics().requests).toMatchObject({ accepted: 3, completed: 1, aborted: 2 });
    }));
});

describe('places', () => {
  test('are left to others by requests that belong together', () =>
    withSlow({ maxBatch: 4 }, async (engine) => {
      const many = Array.from({ length: 8 }, () =>
        engine.generate({ ...ENDLESS, group: 'n: 8' }).catch(() => null),
      );
      expect(engine.metrics()).toMatchObject({ running: 3, waiting: 5 });
      await engine.generate({ prompt: 'short', maxTokens: 3 });
      expect(engine.metrics()).toMatchObject({ running: 3, waiting: 5 });
      await engine.close();
      await Promise.all(many);
    }));

  test('go first to the client that has the fewest', () =>
    withSlow({ maxBatch: 2 }, async (engine) => {
      const ended: string[] = [];
      const ask = (client: string, name: string, maxTokens: number) =>
        engine.generate({ ...ENDLESS, maxTokens, client }).then(() => ended.push(name));
      const all = [1, 2, 3, 4, 5].map((i) => ask('a', `a${i}`, 50 * i));
      await Promise.all([...all, ask('b', 'b', 5)]);
      expect(ended.slice(0, 2)).toEqual(['a1', 'b']);
    }));

  test('are taken by all requests of a client where no one else waits', () =>
    withSlow({ maxBatch: 4 }, async (engine) => {
      const all = Array.from({ length: 4 }, () =>
        engine.generate({ ...ENDLESS, client: 'a' }).catch(() => null),
      );
      await eventually(() => engine.metrics().running === 4);
      await engine.close();
      await Promise.all(all);
    }));

  test('of a worker that holds the beginning of a prompt are preferred', () =>
    withEngine({ workers: 2, maxBatch: 4 }, async (engine) => {
      const other = `${'Another beginning, which has nothing in common with it. '}`;
      await Promise.all(
        [PROMPT, other].map((prompt) => engine.generate({ prompt, maxTokens: 60, ignoreEos: true })),
      );
      const again = [];
      for (const prompt of [`${PROMPT}a`, `${other}b`])
        again.push(await engine.generate({ prompt, maxTokens: 1 }));
      expect(reused(again)[0]).toBeGreaterThanOrEqual(PROMPT.length);
      expect(reused(again)[1]).toBeGreaterThanOrEqual(other.length);
    }));
});

test('names of clients and groups must be texts', () =>
  withEngine({}, async (engine) => {
    expect(() => engine.stream({ prompt: 'a', client: 5 as never })).toThrow(/client must be a text/);
    await expect(engine.embed(['a'], { group: 5 as never })).rejects.toThrow(/group must be a text/);
  }));
