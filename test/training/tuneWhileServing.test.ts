/** A worker trains while an engine of the same process serves: neither event loop is held up. */
import { rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { saveByteModel, temporaryFolder } from '../cli/run';
import { built } from '../helpers/built';

const PROGRAM = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { MoETransformer, TextDataset, Trainer } = require(workerData.dist);
  async function main() {
    const model = await MoETransformer.load(workerData.model);
    const dataset = TextDataset.fromText('to be or not to be. '.repeat(50));
    const stop = new AbortController();
    parentPort.once('message', () => stop.abort());
    const trainer = new Trainer(model, { lr: 1e-2, warmupSteps: 0, totalSteps: 1e6 });
    const data = dataset.batches({ batchSize: 4, seqLen: 16 });
    for await (const { step } of trainer.run({ data, signal: stop.signal, onAbort: 'return' })) {
      parentPort.postMessage(step);
    }
    parentPort.postMessage('ended');
  }
  main();
`;

let folder: string;
let model: string;
beforeAll(async () => {
  folder = temporaryFolder();
  model = await saveByteModel(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('requests are answered as without the training, between its steps; it ends when it is told to', async () => {
  const engine = await built.Engine.open(model);
  const request = { prompt: 'to be', maxTokens: 20, temperature: 0 };
  const { text } = await engine.generate(request);
  const worker = new Worker(PROGRAM, { eval: true, workerData: { model, dist: resolve('dist') } });
  let steps = 0;
  let made: () => void = () => {};
  const ended = new Promise<void>((done, fail) => {
    worker.on('error', fail);
    worker.on('message', (message) => {
      if (message === 'ended') return done();
      steps = message;
      made();
    });
  });
  const nextStep = () =>
    new Promise<void>((done, fail) => {
      made = done;
      worker.once('error', fail);
    });
  try {
    await nextStep();
    for (let i = 0; i < 3; i++) {
      const before = steps;
      expect((await engine.generate(request)).text).toBe(text);
      await nextStep();
      expect(steps).toBeGreaterThan(before);
    }
    worker.postMessage('stop');
    await ended;
    expect(steps).toBeLessThan(1e6);
  } finally {
    await worker.terminate();
    await engine.close();
  }
});
