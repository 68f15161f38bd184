/** An engine whose experts other ranks have, which are threads here: what it answers, and what happens when one is lost. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '../backend/child';
import { built } from '../helpers/built';
import { byteModel } from './engines';
import { errorOf, openServer, post } from './servers';

const { ByteTokenizer, createThreadGroup, Engine, joinThreadGroup } = built;

let path: string;
beforeAll(async () => {
  path = mkdtempSync(join(tmpdir(), 'sgemoe-engine-ranks-'));
  await byteModel({ maxSeqLen: 2048 }).save(path, { tokenizer: new ByteTokenizer().files().tokenizer });
});
afterAll(() => rmSync(path, { recursive: true, force: true }));

/** An engine as rank 0 of `size`, and the threads of the others. */
async function openLead(size: number, { dieAfter = Number.POSITIVE_INFINITY, workers = 1 } = {}) {
  const group = createThreadGroup(size);
  const collectives = joinThreadGroup(group, 0, { timeoutMs: 60_000 });
  const followers = Array.from({ length: size - 1 }, (_, i) => {
    const own = { dist: join(ROOT, 'dist'), group, rank: i + 1, path };
    const workerData = { ...own, dieAfter: i === 0 ? dieAfter : Number.POSITIVE_INFINITY };
    return new Worker(join(__dirname, 'follower.cjs'), { workerData });
  });
  for (const each of followers) each.on('error', () => {});
  await Promise.all(followers.map((each) => once(each, 'message')));
  const options = { dtype: 'float32', workers, contextLength: 2048, expertRanks: { collectives } } as const;
  return { collectives, followers, open: () => Engine.open(path, options) };
}

describe('an engine with experts on other ranks', () => {
  test.each([2, 4])('answers on %i ranks as one process does, and lets them go', async (size) => {
    const alone = await Engine.open(path, { dtype: 'float32', contextLength: 2048 });
    const { collectives, followers, open } = await openLead(size);
    const engine = await open();
    const prompts = ['Once upon', 'a time there was', 'x'];
    const texts = (of: typeof engine) =>
      Promise.all(prompts.map((prompt) => of.generate({ prompt, temperature: 0, maxTokens: 12 })));
    const [expected, found] = [await texts(alone), await texts(engine)];
    expect(found.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
    await alone.close();
    const gone = Promise.all(followers.map((each) => once(each, 'message')));
    await engine.close();
    await collectives.close().settled();
    expect((await gone).flat()).toEqual(followers.map(() => 'let go'));
  });

  test('closed while it answers, it lets them go between two steps', async () => {
    const { collectives, followers, open } = await openLead(2);
    const engine = await open();
    const stream = engine.stream({ prompt: 'Once', temperature: 0, maxTokens: 2000, ignoreEos: true });
    await stream.next();
    const [gone] = [once(followers[0], 'message'), await engine.close()];
    const rest = async () => {
      for await (const _ of stream);
    };
    await expect(rest()).rejects.toMatchObject({ code: 'SGEMOE_ENGINE_CLOSED' });
    await collectives.close().settled();
    expect(await gone).toEqual(['let go']);
  });

  test('tells its streams and later requests that a rank is lost', async () => {
    const { open } = await openLead(3, { dieAfter: 60 });
    const server = await openServer({ engine: await open() });
    const body = { prompt: 'Once', temperature: 0, max_tokens: 2000, ignore_eos: true };
    const [stream, whole] = await Promise.all(
      [true, false].map((stream) => post(`${server.url}/v1/completions`, { ...body, stream })),
    );
    const events = (await stream.text()).split('\n\n').filter((event) => event !== '');
    expect(events.length).toBeGreaterThan(1);
    const message = 'Rank 1 aborted the run: its thread ended before close()';
    const error = { message, type: 'server_error', param: null, code: 'ranks_lost' };
    expect(JSON.parse(events.at(-1)!.replace(/^data: /, ''))).toEqual({ error });
    expect(whole.status).toBe(503);
    expect(await errorOf(whole)).toEqual(error);
    expect((await fetch(`${server.url}/ready`)).status).toBe(503);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    const later = await post(`${server.url}/v1/completions`, body);
    expect([later.status, (await errorOf(later)).code]).toEqual([503, 'ranks_lost']);
    expect((await server.engine.lost).message).toBe(message);
    await server.close();
  });

  test('hears that a rank is lost while nothing is asked', async () => {
    const { open } = await openLead(2, { dieAfter: 2 });
    const engine = await open();
    expect(engine.ready).toBe(true);
    expect(await engine.lost).toMatchObject({ code: 'SGEMOE_RANKS_ABORTED' });
    expect(engine.ready).toBe(false);
    expect(() => engine.stream({ prompt: 'x' })).toThrow('Rank 1 aborted the run');
    await engine.close();
  });

  test('has one worker', async () => {
    const { collectives, followers, open } = await openLead(2, { workers: 2 });
    await expect(open()).rejects.toThrow(
      'Engine: workers must be 1 where experts are divided over ranks, got 2',
    );
    collectives.abort('it has no engine');
    await new Promise((done) => followers[0].once('exit', done));
  });
});
