import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  evaluate,
  Lcg64,
  type ModelConfigOptions,
  MoETransformer,
  resumeTraining,
  saveTraining,
  Tensor,
  Trainer,
} from '../../src';
import { getKernels } from '../../src/backend';
import type { Kernels } from '../../src/backend/kernels';
import { createReferenceKernels } from '../../src/backend/reference';
import { sameBits } from '../helpers/close';
import { ALL_DENSE, EVERYTHING, SMALL, smallModel } from '../helpers/smallModel';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-mixed-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MIXED = { precision: 'bfloat16', lr: 1e-2, warmupSteps: 0 } as const;

function randomIds(batch: number, seq: number, seed: number): Tensor {
  const rng = new Lcg64(seed);
  const ids = Int32Array.from({ length: batch * seq }, () => rng.nextInt(SMALL.vocabSize));
  return new Tensor(ids, [batch, seq], 'int32');
}

/** Each gradient of one batch, in float64. */
function gradientsOf(
  extra: Partial<ModelConfigOptions>,
  seed: number,
  precision: 'float32' | 'bfloat16',
  kernels: Kernels = getKernels(),
): Map<string, Float64Array> {
  const model = MoETransformer.create({ ...SMALL, ...extra }, { seed, kernels });
  const trainer = new Trainer(model, { precision, zLossCoef: 0.1 });
  trainer.lossAndGradients(randomIds(3, 11, seed), randomIds(3, 11, seed + 100));
  return new Map([...model.namedParameters()].map(([name, { grad }]) => [name, Float64Array.from(grad!)]));
}

const norm = (x: Float64Array) => Math.hypot(...x);
/** |got - want| / |want| */
const distance = (got: Float64Array, want: Float64Array) => norm(got.map((g, i) => g - want[i])) / norm(want);

// A bfloat16 of 8 bits is off by at most 2^-8 of itself, spread evenly within half a step of its power of two: 1.6e-3 of it (rms).
// A sum of products of two such operands, errors of random signs, is off by sqrt(2) times that.
const PRODUCT_ERROR = Math.SQRT2 * 1.6e-3;
// A weight's gradient comes after at most 4 products of each of 2 blocks and lm_head, as many of the backward, and its own.
const PRODUCTS = 2 * (4 * SMALL.nLayers + 1) + 1;
// Independent errors add in squares; norms and softmaxes along the way may amplify them.
const GRADIENT_BOUND = 4 * Math.sqrt(PRODUCTS) * PRODUCT_ERROR;

describe('mixed precision', () => {
  // Every token chooses every expert, since the choice may depend on the last bits. Seeds whose models amplify little: where
  // attention is nearly one-hot, float32's error is 20 times as large, and so is this.
  test.each([
    ['mixtures', { topKExperts: 3 }, 18],
    ['all that is off by default', { ...EVERYTHING, topKExperts: 3 }, 17],
    ['dense layers', ALL_DENSE, 16],
  ])(
    'of %s: gradients are those of float64 within the bound of bfloat16, and those of the definition',
    (_, extra, seed) => {
      const exact = gradientsOf(extra, seed, 'float32', createReferenceKernels({ floatType: 'float64' }));
      const defined = gradientsOf(extra, seed, 'bfloat16', createReferenceKernels());
      const single = gradientsOf(extra, seed, 'float32');
      for (const [name, got] of gradientsOf(extra, seed, 'bfloat16')) {
        const error = distance(got, exact.get(name)!);
        expect(error, name).toBeLessThan(GRADIENT_BOUND);
        // They really are of rounded operands, and of no others than the reference's.
        expect(error, name).toBeGreaterThan(100 * distance(single.get(name)!, exact.get(name)!));
        expect(distance(got, defined.get(name)!), name).toBeLessThan(error / 8);
      }
    },
  );

  test('a resumed training goes on to the bit, in its precision', async () => {
    const batch = (i: number) => [randomIds(4, 9, i), randomIds(4, 9, i + 50)] as const;
    const whole = new Trainer(smallModel(), { ...MIXED, gradAccumulationSteps: 2 });
    for (let i = 0; i < 2; i++) whole.trainStep(...batch(i));
    await saveTraining(folder, whole);
    const { trainer } = await resumeTraining(folder);
    expect(trainer.config.precision).toBe('bfloat16');
    for (let i = 2; i < 5; i++) expect(trainer.trainStep(...batch(i))).toEqual(whole.trainStep(...batch(i)));
    expect(sameBits(trainer.model.store.shards[0], whole.model.store.shards[0])).toBe(true);
  });

  test('the number of threads, and gradient checkpointing, change no bit', () => {
    const kernels = getKernels();
    const before = kernels.info.threads;
    const [one, ...others] = [1, 2, 5].map((threads) => {
      kernels.setThreads(threads);
      // Large enough for several pieces of work.
      const model = smallModel({ hiddenDim: 96, headDim: 48, ffnDim: 160 });
      const trainer = new Trainer(model, { ...MIXED, gradientCheckpointing: threads === 5 });
      for (let i = 0; i < 2; i++) trainer.trainStep(randomIds(4, 32, i), randomIds(4, 32, i + 9));
      return model.store.shards[0];
    });
    kernels.setThreads(before);
    for (const other of others) expect(sameBits(other, one)).toBe(true);
  });

  test('forward, backward and evaluate compute in it when asked, and in float32 otherwise', () => {
    const model = smallModel({ topKExperts: 3 }, 3);
    const ids = randomIds(2, 8, 1);
    const [single, mixed, again] = (['float32', 'bfloat16', undefined] as const).map((precision) => {
      const { data } = model.forward(ids, { precision });
      return Float64Array.from(data);
    });
    expect(again).toEqual(single);
    expect(distance(mixed, single)).toBeGreaterThan(1e-4);
    expect(distance(mixed, single)).toBeLessThan(GRADIENT_BOUND);
    const batches = [{ ids: ids.data as Int32Array, targets: ids.data as Int32Array, batch: 2, seqLen: 8 }];
    const losses = [evaluate(model, batches), evaluate(model, batches, { precision: 'bfloat16' })];
    expect(losses[1].loss).not.toBe(losses[0].loss);
    expect(Math.abs(losses[1].loss - losses[0].loss)).toBeLessThan(GRADIENT_BOUND * losses[0].loss);

    const upstream = Tensor.randn([2, 8, SMALL.vocabSize], { seed: 5 });
    const gradients = (['float32', 'bfloat16'] as const).map((precision) => {
      model.zeroGradients();
      model.forward(ids, { training: true, precision });
      model.backward(upstream);
      return Float64Array.from(model.store.gradShards[0]);
    });
    expect(distance(gradients[1], gradients[0])).toBeGreaterThan(1e-4);
    expect(distance(gradients[1], gradients[0])).toBeLessThan(GRADIENT_BOUND);
  });

  test('routers choose in float32: a logit is what float32 makes of the hidden state', () => {
    const model = smallModel({ nLayers: 1 });
    const [single, mixed] = (['float32', 'bfloat16'] as const).map((precision) => {
      const { moe } = model.blocks[0];
      // Attention adds nothing, so that both routers see the same input.
      model.parameter('model.layers.0.self_attn.o_proj.weight').data.fill(0);
      model.forward(randomIds(2, 8, 1), { precision });
      return [...moe!.router.meanProbs];
    });
    expect(mixed).toEqual(single);
  });

  test('packed copies of a frozen model are of float32, so its weights are read', () => {
    const [thawed, frozen] = [smallModel({ hiddenDim: 64 }), smallModel({ hiddenDim: 64 })];
    frozen.freeze({ pack: true });
    const logits = [thawed, frozen].map((model) =>
      model.forward(randomIds(4, 32, 1), { precision: 'bfloat16' }),
    );
    expect(sameBits(logits[1].data, logits[0].data)).toBe(true);
  });

  test('adapters train beside products of mixed precision', () => {
    const model = smallModel();
    model.addLora({ rank: 2 });
    const trainer = new Trainer(model, MIXED);
    const losses = Array.from(
      { length: 12 },
      () => trainer.trainStep(randomIds(4, 9, 1), randomIds(4, 9, 2)).loss,
    );
    expect(losses[11]).toBeLessThan(losses[0]);
  });

  test('another word is a TypeError that says the two', () => {
    const model = smallModel();
    const precision = 'float16' as never;
    const message = /precision must be 'float32' or 'bfloat16', got/;
    expect(() => new Trainer(model, { precision })).toThrow(message);
    expect(() => model.forward(randomIds(1, 2, 1), { precision })).toThrow(message);
    expect(() => evaluate(model, [], { precision })).toThrow(message);
  });
});
