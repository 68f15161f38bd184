/**
 * Runs where the global object is another than that of Node's own thread messages; test/serve/realms.test.ts starts it. The
 * entry is loaded by the runner, so that its classes and arrays are those of this realm.
 */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, expect, it } from 'vitest';

const ENTRY = join(__dirname, '../../../dist/index.js');
const { ByteTokenizer, Engine, MoETransformer, SgemoeError, Tensor, Trainer } = (await import(
  ENTRY
)) as typeof import('../../../src');

const model = MoETransformer.create({ ...MoETransformer.tiny().config, vocabSize: 256 }, { seed: 1 });
let engine: typeof Engine.prototype;
beforeAll(async () => {
  engine = await Engine.create(model, new ByteTokenizer(), { maxBatch: 2 });
});
afterAll(() => engine.close());

/** The places in a value whose objects are another realm's. */
function foreign(value: unknown, path = 'result'): string[] {
  if (typeof value !== 'object' || value === null) return [];
  if (ArrayBuffer.isView(value)) {
    const own = [Float32Array, Int32Array].some((type) => value instanceof type);
    return own ? [] : [path];
  }
  const own = value instanceof Object;
  return [
    ...(own ? [] : [path]),
    ...Object.entries(value).flatMap(([key, each]) => foreign(each, `${path}.${key}`)),
  ];
}

it('a message of a thread is of another realm unless it is converted', () => {
  expect(foreign(structuredClone({ ids: [new Float32Array(1)] }))).toEqual([
    'result',
    'result.ids',
    'result.ids.0',
  ]);
});

it('embeddings are arrays of this realm', async () => {
  const { embeddings } = await engine.embed(['a', 'b']);
  expect(embeddings).toHaveLength(2);
  for (const embedding of embeddings) expect(embedding).toBeInstanceOf(Float32Array);
  expect(foreign(embeddings)).toEqual([]);
});

it('ids, log-probabilities, routing and usage are of this realm, whole and streamed', async () => {
  expect(await engine.tokenize('abc')).toStrictEqual(Int32Array.of(97, 98, 99));
  const request = { prompt: 'a', maxTokens: 3, topLogprobs: 2, routing: true, seed: 1 };
  const completion = await engine.generate(request);
  expect(completion.logprobs).toHaveLength(3);
  expect(foreign(completion)).toEqual([]);
  for await (const chunk of engine.stream(request)) expect(foreign(chunk)).toEqual([]);
  expect(foreign(engine.metrics())).toEqual([]);
});

it('errors of the worker are of the classes of this realm', async () => {
  await expect(engine.generate({ prompt: 'x'.repeat(5000) })).rejects.toBeInstanceOf(SgemoeError);
  await expect(engine.generate({ prompt: [300] })).rejects.toBeInstanceOf(RangeError);
});

it('a model that another thread shares is taken', async () => {
  const echo =
    "const { parentPort } = require('node:worker_threads'); parentPort.once('message', (m) => parentPort.postMessage(m))";
  const worker = new Worker(echo, { eval: true });
  const answer = new Promise((done) => worker.once('message', done));
  worker.postMessage(model.share());
  const copy = MoETransformer.fromShared((await answer) as ReturnType<typeof model.share>);
  for (const [, tensor] of copy.namedParameters()) expect(tensor.data).toBeInstanceOf(Float32Array);
  expect(copy.forwardIds([1, 2], 1, 2).data).toStrictEqual(model.forwardIds([1, 2], 1, 2).data);
  await worker.terminate();
});

it('training, saving and loading work', async () => {
  const trained = MoETransformer.tiny({ seed: 1 });
  const trainer = new Trainer(trained, { lr: 1e-3 });
  trainer.trainStep(Tensor.fromIds([[1, 2, 3]]), Tensor.fromIds([[2, 3, 4]]));
  const dir = join(tmpdir(), `sgemoe-realm-${process.pid}`);
  await trained.save(dir);
  const loaded = await MoETransformer.load(dir);
  const data = loaded.forwardIds([1, 2, 3], 1, 3).data;
  expect(data).toBeInstanceOf(Float32Array);
  expect(data).toStrictEqual(trained.forwardIds([1, 2, 3], 1, 3).data);
  for (const [, tensor] of loaded.namedParameters()) expect(tensor.data).toBeInstanceOf(Float32Array);
  rmSync(dir, { recursive: true });
});
