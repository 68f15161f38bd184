import type { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import type { Engine, GenerateRequest } from '../../src';
import { Lcg64 } from '../../src';
import { scaled } from '../helpers/scale';
import { openEngine, sleep, workersStarted } from './engines';

const BURSTS = scaled(12);
/** More requests than there is room for. */
const BURST = 40;

const workers = workersStarted();
const random = new Lcg64(5);
const below = (n: number) => Math.floor(random.nextFloat() * n);

/** How a request ended: its kind of answer, or the code or name of its error. */
async function outcomeOf(engine: Engine, i: number): Promise<string> {
  const request: GenerateRequest = {
    prompt: `request ${i} `.repeat(1 + below(5)),
    maxTokens: 1 + below(40),
    seed: i,
  };
  const kind = below(6);
  try {
    if (kind === 0) return `embedded ${(await engine.embed(['a', 'bc'])).embeddings.length}`;
    if (kind === 1) return await left(engine, request);
    if (kind === 2) {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), below(15));
      return (await engine.generate({ ...request, signal: controller.signal })).finishReason;
    }
    if (kind === 3)
      return (await engine.generate({ ...request, timeoutMs: 1 + below(15), onAbort: 'return' }))
        .finishReason;
    return await whole(engine, request);
  } catch (error) {
    const { code, name } = error as { code?: unknown; name: string };
    return typeof code === 'string' ? code : name;
  }
}

async function left(engine: Engine, request: GenerateRequest): Promise<string> {
  for await (const _chunk of engine.stream(request)) return 'left';
  return 'empty';
}

/** A stream read to its end: no chunk after the last one, and as many tokens as its usage says. */
async function whole(engine: Engine, request: GenerateRequest): Promise<string> {
  let tokens = 0;
  let usage: number | null = null;
  for await (const chunk of engine.stream(request)) {
    if (usage !== null) return 'answered twice';
    tokens += chunk.tokens.length;
    usage = chunk.usage?.completionTokens ?? null;
  }
  return usage === tokens && tokens === request.maxTokens ? 'whole' : 'torn';
}

const EXPECTED = [
  'embedded 2',
  'left',
  'whole',
  'length',
  'timeout',
  'AbortError',
  'SGEMOE_QUEUE_FULL',
  'SGEMOE_WORKER_DIED',
];

test('no request is lost or answered twice under aborts, worker deaths and a full queue', async () => {
  const engine = await openEngine({ workers: 2, maxBatch: 4, maxQueue: 16 }, { maxSeqLen: 256 });
  const outcomes: Promise<string>[] = [];
  for (let burst = 0; burst < BURSTS; burst++) {
    while (engine.metrics().workers.ready < 2) await sleep(1);
    for (let i = 0; i < BURST; i++) outcomes.push(outcomeOf(engine, outcomes.length));
    if (burst % 3 === 1) {
      if (burst > 1) await sleep(below(5));
      void (workers.at(-1 - below(2)) as Worker).terminate();
    }
    // Every other burst comes while the previous one is still running.
    if (burst % 2 === 0) await Promise.all(outcomes);
    else await sleep(below(10));
  }
  const counts = new Map<string, number>();
  for (const outcome of await Promise.all(outcomes)) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  const { requests, waiting, running } = engine.metrics();
  expect([...counts.keys()].filter((outcome) => !EXPECTED.includes(outcome))).toEqual([]);
  for (const outcome of ['embedded 2', 'left', 'whole', 'SGEMOE_QUEUE_FULL', 'SGEMOE_WORKER_DIED']) {
    expect(counts.get(outcome), outcome).toBeGreaterThan(0);
  }
  expect(requests.refused).toBe(counts.get('SGEMOE_QUEUE_FULL'));
  expect(requests.accepted).toBe(outcomes.length - requests.refused);
  expect(requests.completed + requests.failed + requests.aborted).toBe(requests.accepted);
  expect(requests.failed).toBe(counts.get('SGEMOE_WORKER_DIED'));
  expect(waiting + running).toBe(0);
  expect((await engine.generate({ prompt: 'after all that', maxTokens: 3 })).tokens).toHaveLength(3);
  await engine.close();
});
