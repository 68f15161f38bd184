import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { inspectCheckpoint, MoETransformer, memoryBytes, saveLora, Tensor, Trainer } from '../../src';
import { sgemoe } from '../cli/run';
import { expectError } from '../helpers/expectError';
import { smallModel } from '../helpers/smallModel';

const LORA = { rank: 3, alpha: 5, targets: ['attention', 'experts'] };

let dir: string;
let base: string;
let adapter: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sgemoe-inspect-'));
  [base, adapter] = [join(dir, 'base'), join(dir, 'adapter')];
  await smallModel().save(base);
  const model = await MoETransformer.load(base);
  model.addLora(LORA);
  await saveLora(adapter, model);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test('adapters that were asked for are counted as they are made', async () => {
  const { adapters, memory } = await inspectCheckpoint(base, { batch: 2, seqLen: 8, lora: LORA });
  const model = await MoETransformer.load(base);
  const { store, adapters: made } = model.addLora(LORA);
  expect(adapters).toMatchObject({
    base: null,
    rank: 3,
    alpha: 5,
    rsLora: false,
    targets: made.map(({ name }) => name),
    parameters: store.parameters.reduce((sum, { size }) => sum + size, 0),
    bytes: store.weightBytes,
  });
  const needs = memoryBytes(model.config, { batch: 2, seq: 8, lora: LORA });
  expect(adapters!.training).toEqual(needs);
  const ids = Tensor.fromIds([[1, 2, 3]]);
  new Trainer(model).lossAndGradients(ids, ids);
  expect(needs.gradients).toBe(store.gradShards.reduce((sum, { byteLength }) => sum + byteLength, 0));
  expect(needs.gradients).toBeLessThan(memory.training.gradients / 2);
  const less = await inspectCheckpoint(base, {
    batch: 2,
    seqLen: 8,
    lora: LORA,
    gradientCheckpointing: true,
  });
  expect(less.adapters!.training.activations).toBeLessThan(needs.activations);
  expect((await inspectCheckpoint(base)).adapters).toBeNull();
  await expect(inspectCheckpoint(base, { lora: { targets: ['q_porj'] } })).rejects.toThrow(RangeError);
});

test('ranks and micro-batches are counted, of adapters, too', async () => {
  const sharing = { ranks: 2, microBatches: 8 };
  const found = await inspectCheckpoint(base, { batch: 20, seqLen: 8, lora: LORA, ...sharing });
  const { config } = await MoETransformer.load(base);
  // 20 sequences in 8 micro-batches: at most 3 in one.
  const needs = { batch: 3, seq: 8, ...sharing };
  expect(found).toMatchObject(sharing);
  expect(found.memory.training).toEqual(memoryBytes(config, needs));
  expect(found.adapters!.training).toEqual(memoryBytes(config, { ...needs, lora: LORA }));
  expect(found.memory.inference.activations).toBe(
    memoryBytes(config, { batch: 20, seq: 8, mode: 'forward' }).activations,
  );
  await expect(inspectCheckpoint(base, { microBatches: 0 })).rejects.toThrow(/microBatches must be .* >= 1/);
  const flags = ['--batch', '20', '--seq-len', '8', '--ranks', '2', '--micro-batches', '8'];
  const { stdout } = await sgemoe(['inspect', base, ...flags]);
  expect(stdout).toMatch(/^ {2}training .*\), in 8 micro-batches, on each of 2 ranks$/m);
  const json = JSON.parse((await sgemoe(['inspect', base, ...flags, '--json'])).stdout);
  expect(json.memory.training).toEqual(found.memory.training);
  const { code, stderr } = await sgemoe(['inspect', base, '--ranks', '2', '--micro-batches', '3']);
  expect([code, stderr]).toEqual([2, expect.stringMatching(/multiple of the number of ranks \(2\), got 3/)]);
});

test('experts divided over ranks are counted', async () => {
  const sharing = { ranks: 4, expertParallel: 2 };
  const found = await inspectCheckpoint(base, { batch: 8, seqLen: 8, ...sharing });
  const { config } = await MoETransformer.load(base);
  expect(found.expertParallel).toBe(2);
  expect(found.memory.training).toEqual(memoryBytes(config, { batch: 2, seq: 8, ...sharing }));
  const inspect = (n: number) =>
    sgemoe(['inspect', base, '--batch', '8', '--seq-len', '8', '--ranks', '4', '--expert-parallel', `${n}`]);
  expect((await inspect(2)).stdout).toMatch(
    /^ {2}training .*\), in 4 micro-batches, on each of 4 ranks, experts divided over 2$/m,
  );
  const { code, stderr } = await inspect(3);
  expect(code).toBe(2);
  expect(stderr).toMatch(/--expert-parallel must be a divisor of the number of ranks \(4\), got 3/);
});

test('beside 16-bit weights, those in memory count, not the mapped ones', async () => {
  const { adapters, memory } = await inspectCheckpoint(base, { dtype: 'bfloat16', lora: LORA });
  expect(adapters!.training.weights).toBe(memory.inference.weights + adapters!.bytes);
  const whole = await inspectCheckpoint(base, { lora: LORA });
  expect(adapters!.training.weights).toBeLessThan(whole.adapters!.training.weights);
});

test('a folder of adapters is described with its base', async () => {
  const found = await inspectCheckpoint(adapter);
  const asked = await inspectCheckpoint(base, { lora: LORA });
  expect(found).toEqual({ ...asked, adapters: { ...asked.adapters, base } });
  await expect(inspectCheckpoint(adapter, { lora: LORA })).rejects.toThrow(TypeError);
  const other = join(dir, 'other');
  const model = smallModel({ hiddenDim: 32 });
  model.addLora(LORA);
  await saveLora(other, model, { base: '../base' });
  await expectError('SGEMOE_CHECKPOINT_SHAPE', /lora_A\.weight" has shape/, () => inspectCheckpoint(other));
  const nowhere = join(dir, 'nowhere');
  await saveLora(nowhere, model);
  await expectError('SGEMOE_CONFIG_INVALID', /base_model_name_or_path names no model/, () =>
    inspectCheckpoint(nowhere),
  );
});

test('sgemoe inspect tells of adapters', async () => {
  const asked = await sgemoe(['inspect', base, '--lora-targets', 'attention', 'experts', '--lora-rank', '3']);
  const line = /^adapters +12 of rank 3, alpha 6: [\d,]+ parameters, .*\n {2}training them +.*gradients/m;
  expect(asked.stdout).toMatch(line);
  const folder = await sgemoe(['inspect', adapter]);
  expect(folder.stdout).toMatch(/^base +\S*base\nadapters +12 of rank 3, alpha 5: /m);
  const alone = await sgemoe(['inspect', base, '--lora-rank', '3']);
  expect([alone.code, alone.stderr]).toEqual([2, expect.stringContaining('--lora-targets says')]);
});
