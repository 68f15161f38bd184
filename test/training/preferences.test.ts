/** DPO: the loss on pairs and its gradient, the reference, training and resuming. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ByteTokenizer,
  evaluatePreferences,
  Lcg64,
  MoETransformer,
  PreferenceDataset,
  scoreReference,
  Tensor,
  Trainer,
  TrainingRun,
} from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { readRun } from '../../src/cli/report/readRun';
import { expectClose, expectRelative, sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { checkGradient } from '../helpers/finiteDifferences';
import { SMALL, smallModel } from '../helpers/smallModel';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe preferences-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Two rows of two samples each; the first tokens of a sample are the prompt. */
const LENGTHS = [
  [3, 4],
  [2, 5],
];
const SEQ = 8;
const rng = new Lcg64(2);
const ids = LENGTHS.map(() => Array.from({ length: SEQ }, () => rng.nextInt(SMALL.vocabSize)));
const positions = LENGTHS.map((row) => {
  const of = row.flatMap((length) => Array.from({ length }, (_, i) => i));
  return [...of, ...new Array<number>(SEQ - of.length).fill(-1)];
});
const targets = positions.map((row) => row.map((place) => (place > 0 ? rng.nextInt(SMALL.vocabSize) : -100)));
const preferences = { reference: [-5, -7.5, -3, -12], beta: 0.3 };
const options = { positions: Tensor.fromIds(positions), preferences };
const step = (trainer: Trainer) =>
  trainer.lossAndGradients(Tensor.fromIds(ids), Tensor.fromIds(targets), options);

/** log p of each sample, from the logits of the sample alone. */
function logProbs(model: MoETransformer): number[] {
  return LENGTHS.flatMap((row, b) => {
    let at = 0;
    return row.map((length) => {
      const [input, target] = [ids[b].slice(at, at + length), targets[b].slice(at, at + length)];
      at += length;
      const { data } = model.forward(Tensor.fromIds([input]));
      return target.reduce((sum, id, t) => {
        if (id === -100) return sum;
        const z = Array.from(data.subarray(t * SMALL.vocabSize, (t + 1) * SMALL.vocabSize));
        return sum + z[id] - Math.log(z.reduce((total, value) => total + Math.exp(value), 0));
      }, 0);
    });
  });
}

describe('the loss', () => {
  const kernels = createReferenceKernels({ floatType: 'float64' });
  const config = { auxLossAlpha: 0.1, zLossCoef: 0.05 };
  const made = () => MoETransformer.create({ ...SMALL, nLayers: 1 }, { kernels, seed: 3 });

  test("is that of the samples' own logits, with its metrics", () => {
    const model = made();
    const [a, b, c, d] = logProbs(model).map((p, i) => preferences.beta * (p - preferences.reference[i]));
    const margins = [a - b, c - d];
    const result = step(new Trainer(model, config));
    const loss = margins.reduce((sum, m) => sum + Math.log(1 + Math.exp(-m)), 0) / 2;
    const found = result.preferences!;
    expectClose('loss', found.loss, loss, 1e-12);
    expectClose('sum', result.loss, loss + result.auxLoss + result.zLoss, 1e-12);
    expectClose('margin', found.margin, (margins[0] + margins[1]) / 2, 1e-12);
    expectClose('chosen', found.chosenReward, (a + c) / 2, 1e-12);
    expectClose('rejected', found.rejectedReward, (b + d) / 2, 1e-12);
    expect(found.accuracy).toBe(margins.filter((m) => m > 0).length / 2);
  });

  test('finite differences: every weight, and every adapter', () => {
    for (const lora of [null, { rank: 2, targets: ['attention', 'experts', 'lm_head'] }]) {
      const model = made();
      if (lora) {
        model.addLora(lora);
        for (const { data } of model.trained.parameters) {
          for (let i = 0; i < data.length; i++) data[i] = (rng.nextInt(200) - 100) / 1000;
        }
      }
      const trainer = new Trainer(model, config);
      const loss = () => step(trainer).loss;
      loss();
      const { parameters } = model.trained;
      const gradients = parameters.map(({ grad }) => grad!.slice());
      parameters.forEach(({ name, data }, i) => {
        checkGradient(name, data, gradients[i], loss, 3);
      });
    }
  });

  test('parts of a batch give the loss and gradient of the whole', () => {
    const of = (gradAccumulationSteps: number) => {
      const model = made();
      const { preferences } = step(new Trainer(model, { auxLossAlpha: 0, gradAccumulationSteps }));
      return { preferences, gradients: model.store.gradShards };
    };
    const [whole, parts] = [of(1), of(2)];
    expect(parts.preferences!.accuracy).toBe(whole.preferences!.accuracy);
    expectClose('loss', parts.preferences!.loss, whole.preferences!.loss, 1e-12);
    parts.gradients.forEach((shard, i) => {
      expectRelative('gradients', shard, whole.gradients[i], 1e-12);
    });
  });

  test.each([
    [{ ...preferences, beta: 0 }, /beta must be > 0/],
    [{ ...preferences, reference: [1, 2] }, /a number for each sample \(4\), got 2/],
  ])('wrong preferences are refused: %j', (wrong, message) => {
    const trainer = new Trainer(made(), config);
    expect(() =>
      trainer.trainStep(Tensor.fromIds(ids), Tensor.fromIds(targets), { ...options, preferences: wrong }),
    ).toThrow(message);
    expect(() => trainer.trainStep(Tensor.fromIds(ids), Tensor.fromIds(targets), { preferences })).toThrow(
      /a number for each sample \(0\)/,
    );
  });
});

const ROWS = Array.from({ length: 30 }, (_, i) => ({ prompt: `${i}? `, chosen: 'yes', rejected: 'no' }));
const tokenizer = new ByteTokenizer();

async function pairs(): Promise<PreferenceDataset> {
  const path = join(folder, 'pairs.jsonl');
  writeFileSync(path, ROWS.map((row) => JSON.stringify(row)).join('\n'));
  return PreferenceDataset.fromPaths(path, { tokenizer, seqLen: 60, validationFraction: 0.2 });
}

const model = () => smallModel({ vocabSize: tokenizer.vocabSize, maxSeqLen: 64 });

test('the reference are the log-probabilities before the first step: then every reward is 0', async () => {
  const dataset = await pairs();
  expect(() => dataset.batches({ batchSize: 1, seqLen: 60 }).next()).toThrow(/before scoreReference/);
  const scores = await scoreReference(dataset, model(), { seqLen: 60 });
  expect(scores.train).toHaveLength(24);
  expect(dataset.reference).toEqual(scores);
  const batches = [...dataset.validationBatches({ batchSize: 2, seqLen: 60 })];
  const { pairs: count, loss, margin } = await evaluatePreferences(model(), batches);
  expect(count).toBe(6);
  expectClose('loss', loss, Math.LN2, 1e-4);
  expect(Math.abs(margin)).toBeLessThan(1e-4);
  await expect(evaluatePreferences(model(), [{ ...batches[0], preferences: undefined }])).rejects.toThrow(
    /must have preferences/,
  );
  expect(() => dataset.setReference({ ...scores, train: [] })).toThrow(/for each of 24 pairs/);
});

const run = { batchSize: 2, seqLen: 60, evalInterval: 10 };
const trainerOf = (totalSteps: number) =>
  new Trainer(model(), { lr: 3e-3, warmupSteps: 0, totalSteps, schedule: 'constant', auxLossAlpha: 0 });

async function toTheEnd(made: TrainingRun): Promise<TrainingRun> {
  for await (const event of made) void event;
  return made;
}

test('a run learns to prefer the chosen answers, resumes to the bit, and its report shows it', async () => {
  const [whole, cut] = [join(folder, 'whole'), join(folder, 'cut')];
  const one = await TrainingRun.start(whole, { ...run, dataset: await pairs(), trainer: trainerOf(20) });
  const { validation } = (await toTheEnd(one)).result!;
  const lines = readFileSync(join(whole, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  const steps = lines.map((line) => JSON.parse(line));
  expect(steps[0].preferences.loss).toBeCloseTo(Math.LN2, 4);
  expect(steps[19].preferences).toMatchObject({ accuracy: 1 });
  expect(steps[19].preferences.loss).toBeLessThan(steps[0].preferences.loss / 2);
  expect(validation!.preferences!.loss).toBe(validation!.loss);
  expect(validation!.bitsPerByte).toBeNull();
  expect(steps[19].validationPreferences.margin).toBeGreaterThan(0);
  const { curves } = await readRun(whole);
  expect(curves.accuracy.steps).toHaveLength(20);
  expect(curves.crossEntropy.mean[0]).toBeCloseTo(Math.LN2, 3);

  const two = await TrainingRun.start(cut, { ...run, dataset: await pairs(), trainer: trainerOf(10) });
  await toTheEnd(two);
  const config = { totalSteps: 20 };
  const resumed = await toTheEnd(await TrainingRun.resume(cut, { ...run, config, dataset: await pairs() }));
  resumed.trainer.model.store.shards.forEach((shard, i) => {
    expect(sameBits(shard, one.trainer.model.store.shards[i])).toBe(true);
  });

  rmSync(join(cut, 'reference.json'));
  const lost = await TrainingRun.resume(cut, { ...run, config: { totalSteps: 30 }, dataset: await pairs() });
  await expectError('SGEMOE_TRAINING_STATE', /has no reference\.json/, () => toTheEnd(lost));
});

test.each(['float32', 'q8_0'] as const)(
  'adapters on a base in %s prefer, too, and resume to the bit',
  async (dtype) => {
    const base = join(folder, `base-${dtype}`);
    const sizes = { ...SMALL, hiddenDim: 32, headDim: 16, ffnDim: 32, vocabSize: tokenizer.vocabSize };
    await MoETransformer.create({ ...sizes, maxSeqLen: 64 }, { seed: 4 }).save(base);
    const settings = { lr: 1e-2, warmupSteps: 0, schedule: 'constant', auxLossAlpha: 0 } as const;
    const start = async (out: string, totalSteps: number) => {
      const adapted = await MoETransformer.load(base, { dtype });
      adapted.addLora({ rank: 2, targets: ['all', 'embedding'] });
      const trainer = new Trainer(adapted, { ...settings, totalSteps });
      return toTheEnd(await TrainingRun.start(out, { ...run, dataset: await pairs(), trainer }));
    };
    const [whole, cut] = ['whole', 'cut'].map((name) => join(folder, `${name}-${dtype}`));
    const one = await start(whole, 12);
    expect(one.result!.validation!.preferences!.loss).toBeLessThan(0.9 * Math.LN2);
    await start(cut, 5);
    const more = { ...run, config: { totalSteps: 12 }, dataset: await pairs() };
    const resumed = await toTheEnd(await TrainingRun.resume(cut, more));
    expect(resumed.trainer.step).toBe(12);
    expect(resumed.trainer.model.store.isStored).toBe(dtype === 'q8_0');
    resumed.trainer.model.lora!.store.shards.forEach((shard, i) => {
      expect(sameBits(shard, one.trainer.model.lora!.store.shards[i])).toBe(true);
    });
  },
);
