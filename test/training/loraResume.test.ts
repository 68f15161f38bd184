import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  ByteTokenizer,
  exportHuggingFace,
  MoETransformer,
  resumeTraining,
  saveTraining,
  Tensor,
  Trainer,
} from '../../src';
import { readBest, saveBest } from '../../src/training/run/best';
import { RunFolder } from '../../src/training/run/runFolder';
import { sameBits } from '../helpers/close';
import { hfDir } from '../helpers/hfFixture';
import { SMALL, smallModel } from '../helpers/smallModel';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sgemoe-lora-resume-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const ids = Tensor.fromIds([
  [3, 1, 4, 1, 5, 9],
  [2, 7, 1, 8, 2, 8],
]);
const targets = Tensor.fromIds([
  [1, 4, 1, 5, 9, 2],
  [7, 1, 8, 2, 8, 1],
]);

test.each([
  ['float32', { targets: ['attention', 'router', 'lm_head'], dropout: 0.3, seed: 9, rank: 3 }],
  ['q8_0', { rank: 2 }],
] as const)('adapters on a base in %s resume to the bit', async (dtype, options) => {
  const [base, out] = [join(dir, `base-${dtype}`), join(dir, `run-${dtype}`)];
  await MoETransformer.create({ ...SMALL, hiddenDim: 32, headDim: 16, ffnDim: 32 }, { seed: 4 }).save(base);
  const model = await MoETransformer.load(base, { dtype });
  model.addLora(options);
  const trainer = new Trainer(model, { lr: 0.01, warmupSteps: 0, gradAccumulationSteps: 2 });
  for (let i = 0; i < 3; i++) trainer.trainStep(ids, targets);
  await saveTraining(out, trainer, { tokenizer: new ByteTokenizer() });
  expect(existsSync(join(out, 'model.safetensors'))).toBe(false);
  expect(await new RunFolder(out).use()).toBe('run');
  const after = Array.from({ length: 3 }, () => trainer.trainStep(ids, targets));
  const resumed = (await resumeTraining(out)).trainer;
  expect(resumed.step).toBe(3);
  expect(Array.from({ length: 3 }, () => resumed.trainStep(ids, targets))).toEqual(after);
  resumed.model.lora!.store.shards.forEach((shard, i) => {
    expect(sameBits(shard, model.lora!.store.shards[i])).toBe(true);
  });
  const best = join(dir, `best-${dtype}`);
  await saveBest(trainer.collectives, best, model, new ByteTokenizer(), { step: 6, loss: 1.5 });
  expect(await readBest(best)).toEqual({ step: 6, loss: 1.5 });
});

test('adapters on a base whose queries and keys stay in halves resume to the bit', async () => {
  const [base, out] = [join(dir, 'base-halves'), join(dir, 'run-halves')];
  await exportHuggingFace(base, await MoETransformer.load(hfDir('qwen3')), { dtype: 'bf16' });
  const model = await MoETransformer.load(base, { dtype: 'stored' });
  expect(model.store.pairsHalves).toBe(true);
  model.addLora({ rank: 2, targets: ['attention'] });
  const trainer = new Trainer(model, { lr: 0.01, warmupSteps: 0 });
  for (let i = 0; i < 3; i++) trainer.trainStep(ids, targets);
  await saveTraining(out, trainer);
  const after = trainer.trainStep(ids, targets);
  const resumed = (await resumeTraining(out)).trainer;
  expect(resumed.model.store.pairsHalves).toBe(true);
  expect(resumed.trainStep(ids, targets)).toEqual(after);
});

test('adapters on a model that no resume could find are refused', async () => {
  const model = smallModel();
  model.addLora({ rank: 2 });
  await expect(saveTraining(join(dir, 'none'), new Trainer(model))).rejects.toThrow(/a base that was loaded/);
});
