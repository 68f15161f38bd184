import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  exportHuggingFace,
  importCheckpoint,
  Lcg64,
  MoETransformer,
  resumeTraining,
  SafetensorsFile,
  saveTraining,
  Tensor,
  Trainer,
  writeSafetensors,
} from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { expectRelative, sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { EVERYTHING, SMALL, smallModel } from '../helpers/smallModel';

const NAMES = [0, 1].map((layer) => `model.layers.${layer}.block_sparse_moe.gate.e_score_correction_bias`);
const BIASES = [
  [0.25, -0.5, 0.125],
  [-0.25, 0, 0.0625],
];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-bias-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function randomIds(batch: number, seq: number, seed: number): Tensor {
  const rng = new Lcg64(seed);
  const ids = Int32Array.from({ length: batch * seq }, () => rng.nextInt(SMALL.vocabSize));
  return new Tensor(ids, [batch, seq], 'int32');
}

function biasesOf(model: MoETransformer): number[][] {
  return [...model.namedBuffers()].map(([, { data }]) => Array.from(data));
}

function setBiases(model: MoETransformer, biases = BIASES): MoETransformer {
  model.blocks.forEach(({ moe }, i) => {
    moe!.router.selectionBias.data.set(biases[i]);
  });
  return model;
}

/** Makes every token strongly prefer the same two experts. */
function collapsed(): MoETransformer {
  const model = smallModel({ nExperts: 8, topKExperts: 2 });
  for (const { moe } of model.blocks) {
    const { weight } = moe!.router;
    for (let i = 0; i < weight.size; i++) weight.data[i] *= 0.5;
  }
  // The first feature of each token becomes large, and favours experts 0 and 1.
  for (const [name, { data, shape }] of model.namedParameters()) {
    const cols = shape[1];
    if (name === 'model.embed_tokens.weight') for (let i = 0; i < data.length; i += cols) data[i] = 4;
    if (name.endsWith('gate.weight')) data[0] = data[cols] = 0.5;
  }
  return model;
}

describe('the selection bias', () => {
  test.each([
    ['renormalised', {}],
    ['as they are', EVERYTHING],
  ])(
    'decides with the probabilities which experts are chosen; gate weights are the probabilities %s',
    (_, extra) => {
      const model = setBiases(smallModel(extra));
      const { routing } = model.trace(randomIds(3, 7, 1));
      let moved = 0;
      routing.forEach((each, layer) => {
        const { probs, indices, weights } = each!;
        for (let t = 0; t < 21; t++) {
          const p = Array.from(probs.data.subarray(t * 3, t * 3 + 3));
          const best = (score: (e: number) => number) =>
            [0, 1, 2].sort((a, b) => score(b) - score(a)).slice(0, 2);
          const chosen = best((e) => p[e] + BIASES[layer][e]);
          if (`${chosen}` !== `${best((e) => p[e])}`) moved++;
          expect(Array.from(indices.data.subarray(t * 2, t * 2 + 2))).toEqual(chosen);
          const sum = model.config.normTopkProb ? p[chosen[0]] + p[chosen[1]] : 1;
          const want = chosen.map((e) => p[e] / sum);
          expectRelative('weights', weights.data.subarray(t * 2, t * 2 + 2), want, 1e-6);
        }
      });
      expect(moved).toBeGreaterThan(5);
    },
  );

  test('gives the reference its logits and gradients', () => {
    const models = [{}, { kernels: createReferenceKernels() }].map((options) =>
      setBiases(MoETransformer.create(SMALL, { seed: 1, ...options })),
    );
    const [ids, targets] = [randomIds(3, 7, 1), randomIds(3, 7, 2)];
    const [ours, theirs] = models.map((model) => model.forward(ids).data);
    expectRelative('logits', ours, theirs, 2e-5);
    for (const model of models) new Trainer(model, { zLossCoef: 0.1 }).lossAndGradients(ids, targets);
    for (const [name, { grad }] of models[0].namedParameters()) {
      expectRelative(name, grad!, models[1].parameter(name).grad!, 5e-5);
    }
  });

  test('takes part in forwards of a frozen model, which refuses to write it', async () => {
    const model = setBiases(smallModel());
    const { selectionBias } = model.blocks[0].moe!.router;
    const ids = randomIds(3, 7, 1);
    const chosen = () => model.trace(ids).routing.map((each) => each!.indices.data);
    model.freeze();
    const frozen = chosen();
    await expectError('SGEMOE_MODEL_FROZEN', /frozen/, () => selectionBias.data.fill(0));
    await expectError('SGEMOE_MODEL_FROZEN', /frozen/, () =>
      model.blocks[0].moe!.router.updateSelectionBias([0, 0.5, 0.5], 0.1),
    );
    model.unfreeze();
    expect(chosen()).toEqual(frozen);
    selectionBias.data.fill(0);
    expect(chosen()).not.toEqual(frozen);
  });
});

describe('checkpoints', () => {
  test('hold the biases under their names, and give them back', async () => {
    const [dir, imported] = ['kept', 'imported'].map((name) => join(folder, name));
    const model = setBiases(smallModel());
    await model.save(dir);
    await using file = await SafetensorsFile.open(join(dir, 'model.safetensors'));
    for (const name of NAMES) expect(file.info(name)).toMatchObject({ dtype: 'F32', shape: [3] });
    const loaded = await MoETransformer.load(dir);
    expect(biasesOf(loaded)).toEqual(BIASES);
    const ids = randomIds(2, 8, 4);
    expect(loaded.forward(ids).data).toEqual(model.forward(ids).data);
    await importCheckpoint(dir, imported);
    expect(biasesOf(await MoETransformer.load(imported))).toEqual(BIASES);
  });

  test('hold nothing of biases that are all 0: then a file is as it was before there were any', async () => {
    const dir = join(folder, 'none');
    const model = setBiases(smallModel());
    for (const [, { data }] of model.namedBuffers()) data.fill(0);
    await model.save(dir);
    await using file = await SafetensorsFile.open(join(dir, 'model.safetensors'));
    expect([...file.tensors.keys()].sort()).toEqual(
      [...model.namedParameters()].map(([name]) => name).sort(),
    );
    expect(biasesOf(await MoETransformer.load(dir))).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });

  test('that lack the bias of a layer, or have one of another shape, are refused', async () => {
    const dir = join(folder, 'broken');
    const model = setBiases(smallModel());
    await model.save(dir);
    const tensors = [...model.namedParameters(), ...model.namedBuffers()].map(([name, { shape, data }]) => {
      return { name, shape, data, dtype: 'F32' as const };
    });
    const file = join(dir, 'model.safetensors');
    await writeSafetensors(file, tensors.slice(0, -1));
    await expectError('SGEMOE_CHECKPOINT_MISSING_TENSOR', new RegExp(NAMES[1]), () =>
      MoETransformer.load(dir),
    );
    await writeSafetensors(file, [
      ...tensors.slice(0, -1),
      { name: NAMES[1], shape: [2], data: new Float32Array(2), dtype: 'F32' },
    ]);
    await expectError('SGEMOE_CHECKPOINT_SHAPE', /\[2\] in the file, \[3\]/, () => MoETransformer.load(dir));
  });

  test('for transformers are refused, unless the biases are 0', async () => {
    const dir = join(folder, 'export');
    const model = setBiases(smallModel());
    await expect(exportHuggingFace(dir, model)).rejects.toThrow(
      /model\.layers\.0\..*e_score_correction_bias is not 0, and no architecture has a selection bias/,
    );
    for (const [, { data }] of model.namedBuffers()) data.fill(0);
    expect(await exportHuggingFace(dir, model)).toBe('mixtral');
  });
});

describe('routerBiasUpdateRate', () => {
  const [ids, targets] = [randomIds(4, 6, 5), randomIds(4, 6, 6)];

  test('moves each bias by the rate against its load, once a step, over all parts of the batch', () => {
    for (const gradAccumulationSteps of [1, 3]) {
      const model = smallModel();
      const trainer = new Trainer(model, { routerBiasUpdateRate: 0.25, gradAccumulationSteps, lr: 0 });
      const want = [
        [0, 0, 0],
        [0, 0, 0],
      ];
      for (let step = 0; step < 3; step++) {
        const { expertLoad } = trainer.trainStep(ids, targets);
        expertLoad.forEach((load, i) => {
          load.forEach((share, e) => {
            const assignments = Math.round(share * 48);
            want[i][e] += 0.25 * Math.sign(16 - assignments);
          });
        });
        expect(biasesOf(model)).toEqual(want);
      }
      expect(want.flat().some((value) => value !== 0)).toBe(true);
    }
  });

  test('leaves the bias of an even load where it is', () => {
    const { router } = smallModel({ nExperts: 3, topKExperts: 2 }).blocks[0].moe!;
    const even = 14 / 42;
    router.updateSelectionBias([even, even, even], 0.5);
    expect(Array.from(router.selectionBias.data)).toEqual([0, 0, 0]);
    router.updateSelectionBias([13 / 42, 15 / 42, even], 0.5);
    expect(Array.from(router.selectionBias.data)).toEqual([0.5, -0.5, 0]);
  });

  test('does not move in a skipped step, nor in lossAndGradients, nor when it is 0', () => {
    const model = setBiases(smallModel());
    const gamma = model.parameter('model.norm.weight').data;
    const trainer = new Trainer(model, { routerBiasUpdateRate: 0.1 });
    gamma[0] = Number.NaN;
    expect(trainer.trainStep(ids, targets).skipped).toBe(true);
    expect(biasesOf(model)).toEqual(BIASES);
    gamma[0] = 1;
    trainer.lossAndGradients(ids, targets);
    new Trainer(model).trainStep(ids, targets);
    expect(biasesOf(model)).toEqual(BIASES);
    trainer.trainStep(ids, targets);
    expect(biasesOf(model)).not.toEqual(BIASES);
  });

  test('evens the load of a collapsed router, without a balance loss', () => {
    const model = collapsed();
    const trainer = new Trainer(model, { lr: 0, auxLossAlpha: 0, routerBiasUpdateRate: 0.005 });
    const largest = (seed: number) => {
      const { expertLoad } = trainer.trainStep(randomIds(8, 32, seed), randomIds(8, 32, seed + 1000));
      return Math.max(...expertLoad.flat()) * 8;
    };
    const first = largest(0);
    // A ratio of 4 means that two of eight experts get every token, 1 is even; the signs of each step make the load vary
    // around 1.
    expect(first).toBeGreaterThan(3.9);
    for (let step = 1; step < 100; step++) largest(step);
    const last = Array.from({ length: 20 }, (_, i) => largest(100 + i));
    expect(last.reduce((a, b) => a + b) / 20).toBeLessThan(2);
    // Without the biases the load is as before: the weights have not moved.
    for (const [, { data }] of model.namedBuffers()) data.fill(0);
    expect(largest(0)).toBe(first);
  });

  test('is resumed to the bit: 9 steps equal 4, a save, and 5', async () => {
    const dir = join(folder, 'resume');
    const options = { lr: 1e-2, warmupSteps: 2, totalSteps: 20, routerBiasUpdateRate: 0.05 };
    const steps = (trainer: Trainer, from: number, to: number) => {
      for (let i = from; i < to; i++) trainer.trainStep(randomIds(2, 8, i), randomIds(2, 8, i + 50));
      return trainer;
    };
    const whole = steps(new Trainer(smallModel(), options), 0, 9);
    await saveTraining(dir, steps(new Trainer(smallModel(), options), 0, 4));
    const { trainer } = await resumeTraining(dir);
    steps(trainer, 4, 9);
    expect(biasesOf(trainer.model)).toEqual(biasesOf(whole.model));
    expect(
      biasesOf(whole.model)
        .flat()
        .some((value) => value !== 0),
    ).toBe(true);
    trainer.model.store.shards.forEach((shard, i) => {
      expect(sameBits(shard, whole.model.store.shards[i])).toBe(true);
    });
    expect(JSON.parse(readFileSync(join(dir, 'state.json'), 'utf8')).config.routerBiasUpdateRate).toBe(0.05);
  });

  test('biases are part of the weights that a training belongs to', async () => {
    const dir = join(folder, 'other biases');
    await saveTraining(dir, new Trainer(setBiases(smallModel())));
    await resumeTraining(dir);
    await smallModel().save(dir);
    await expectError('SGEMOE_TRAINING_STATE', /belongs to other weights/, () => resumeTraining(dir));
  });

  test('is refused when it is impossible', () => {
    for (const routerBiasUpdateRate of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => new Trainer(smallModel(), { routerBiasUpdateRate })).toThrow(
        /routerBiasUpdateRate must be a finite number >= 0/,
      );
    }
  });
});
