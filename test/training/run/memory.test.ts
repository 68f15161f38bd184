import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { ByteTokenizer, memoryBytes, TextDataset, Trainer, TrainingRun } from '../../../src';
import { smallModel } from '../../helpers/smallModel';

const folder = mkdtempSync(join(tmpdir(), 'sgemoe run-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

const text = 'one and two and three and four. '.repeat(40);
const dataset = TextDataset.fromText(text, { tokenizer: new ByteTokenizer(), validationFraction: 0 });
const recipe = { dataset, batchSize: 4, seqLen: 16, evalInterval: 100 };
const newTrainer = (totalSteps: number) =>
  new Trainer(smallModel({ vocabSize: 256 }), { totalSteps, warmupSteps: 1, gradAccumulationSteps: 2 });

test('a run that does not fit is refused by start and resume, before anything in its folder is touched', async () => {
  const refusal = expect.objectContaining({ code: 'SGEMOE_MEMORY' });
  const dir = join(folder, 'run');
  const { gradients, moments, ...rest } = memoryBytes(smallModel({ vocabSize: 256 }).config, {
    batch: 2,
    seq: 16,
  });
  const trainer = newTrainer(2);
  vi.stubEnv('SGEMOE_MEMORY_LIMIT', `${gradients + moments}`);
  await expect(TrainingRun.start(dir, { ...recipe, trainer })).rejects.toThrow(refusal);
  expect(existsSync(dir) ? readdirSync(dir) : []).toEqual([]);
  // Two parts of two sequences fit.
  vi.stubEnv('SGEMOE_MEMORY_LIMIT', `${gradients + moments + rest.activations}`);
  for await (const _ of await TrainingRun.start(dir, { ...recipe, trainer }));
  const before = readdirSync(dir).sort();
  vi.stubEnv('SGEMOE_MEMORY_LIMIT', `${gradients + moments + rest.weights}`);
  const config = { totalSteps: 4 };
  await expect(TrainingRun.resume(dir, { ...recipe, config })).rejects.toThrow(refusal);
  expect(readdirSync(dir).sort()).toEqual(before);
  vi.stubEnv('SGEMOE_MEMORY_LIMIT', 'none');
  const run = await TrainingRun.resume(dir, { ...recipe, config });
  for await (const _ of run);
  expect(run.trainer.step).toBe(4);
});
