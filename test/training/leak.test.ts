import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';

// It runs in a separate process, where only the model allocates, on the built package, as a service would.
const SCRIPT = `
  const { MoETransformer, Trainer, Tensor, Lcg64 } = require(process.argv[1]);
  const config = { hiddenDim: 16, nLayers: 2, nHeads: 2, nKvHeads: 1, headDim: 8, nExperts: 3, topKExperts: 2,
    ffnDim: 24, vocabSize: 20, maxSeqLen: 32 };
  const model = MoETransformer.create(config, { seed: 1 });
  const trainer = new Trainer(model, { lr: 1e-3 });
  const rng = new Lcg64(1);
  const ids = (b, s) => new Tensor(Int32Array.from({ length: b * s }, () => rng.nextInt(20)), [b, s], 'int32');
  const round = (n) => {
    for (let i = 0; i < n; i++) {
      const [b, s] = [1 + rng.nextInt(4), 1 + rng.nextInt(32)];
      trainer.trainStep(ids(b, s), ids(b, s));
      const [c, d] = [1 + rng.nextInt(4), 1 + rng.nextInt(32)];
      model.forward(ids(c, d));
    }
  };
  const used = () => {
    global.gc(); global.gc();
    const { heapUsed, external, arrayBuffers, rss } = process.memoryUsage();
    return { heap: heapUsed + external + arrayBuffers, rss };
  };
  // By then all plans exist and V8 has compiled what it compiles.
  round(2000);
  const before = used();
  round(2000);
  const after = used();
  console.log(JSON.stringify({ before, after }));
`;

test('2,000 train steps and 2,000 forwards at changing shapes leave memory flat', () => {
  const output = execFileSync(
    process.execPath,
    // The young generation grows by 16 MB at a time, whatever a program keeps.
    ['--expose-gc', '--max-semi-space-size=1', '-e', SCRIPT, resolve(__dirname, '../../dist')],
    { encoding: 'utf8' },
  );
  const { before, after } = JSON.parse(output);
  // A leak of one small activation a step (2,000 x 16 KB) would be 30 MB; plans and compiled code stay below these.
  expect(after.heap - before.heap).toBeLessThan(1e6);
  expect(after.rss - before.rss).toBeLessThan(16e6);
});

const RUN = `
  const { MoETransformer, Trainer, TextDataset, TrainingRun } = require(process.argv[1]);
  const config = { hiddenDim: 8, nLayers: 1, nHeads: 1, nKvHeads: 1, headDim: 8, nExperts: 2, topKExperts: 1,
    ffnDim: 8, vocabSize: 256, maxSeqLen: 8 };
  const trainer = new Trainer(MoETransformer.create(config), { totalSteps: 20000 });
  const dataset = TextDataset.fromText('to be or not to be, that is the question. '.repeat(50));
  const used = () => {
    global.gc(); global.gc();
    const { heapUsed, external, arrayBuffers } = process.memoryUsage();
    return heapUsed + external + arrayBuffers;
  };
  (async () => {
    const seen = [];
    const sizes = { batchSize: 1, seqLen: 8, evalInterval: 4000, evalBatches: 1 };
    const { signal } = new AbortController();
    for await (const event of await TrainingRun.start(process.argv[2], { trainer, dataset, signal, ...sizes })) {
      if (event.type === 'step' && (event.step === 5000 || event.step === 20000)) seen.push(used());
    }
    console.log(JSON.stringify(seen));
  })();
`;

test('a training run keeps nothing of its steps: memory is flat from step 5,000 to 20,000', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sgemoe-leak-'));
  try {
    const argv = ['--expose-gc', '-e', RUN, resolve(__dirname, '../../dist'), folder];
    const [before, after] = JSON.parse(execFileSync(process.execPath, argv, { encoding: 'utf8' }));
    // A batch that is kept takes 890 bytes a step (13.3 MB when it was so); series and compiled code, which are bounded,
    // 0.3 MB.
    expect(after - before).toBeLessThan(100 * 15_000);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 120_000);
