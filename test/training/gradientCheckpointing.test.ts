import { describe, expect, test } from 'vitest';
import { Lcg64, type ModelConfigOptions, MoETransformer, Tensor, type TrainConfig, Trainer } from '../../src';
import { sameBits } from '../helpers/close';
import { ALL_DENSE, EVERYTHING, SMALL } from '../helpers/smallModel';

function randomIds(batch: number, seq: number, seed: number): Tensor {
  const rng = new Lcg64(seed);
  const ids = Int32Array.from({ length: batch * seq }, () => rng.nextInt(SMALL.vocabSize));
  return new Tensor(ids, [batch, seq], 'int32');
}

const CASES: [string, Partial<ModelConfigOptions>, TrainConfig][] = [
  ['nothing more', {}, {}],
  ['one block', { nLayers: 1 }, {}],
  ['z-loss and balance loss', {}, { zLossCoef: 0.2, auxLossAlpha: 0.3 }],
  ['parts of unequal size', {}, { gradAccumulationSteps: 3, zLossCoef: 0.2 }],
  ['selection biases that move', {}, { routerBiasUpdateRate: 0.125 }],
  ['dense layers between mixtures', { denseLayers: [1, 2], denseFfnDim: 28 }, { zLossCoef: 0.2 }],
  ['mixtures between dense layers', { denseLayers: [0, 3], denseFfnDim: 28 }, { gradAccumulationSteps: 2 }],
  ['dense layers alone', { ...ALL_DENSE, denseLayers: [0, 1, 2, 3] }, {}],
  ['all that is off by default', EVERYTHING, { zLossCoef: 0.1, gradAccumulationSteps: 2 }],
];

/** Trains four blocks with and without it, and compares every result and gradient of three steps. */
function bothWays(extra: Partial<ModelConfigOptions>, options: TrainConfig, ties = false) {
  return [false, true].map((gradientCheckpointing) => {
    const model = MoETransformer.create({ ...SMALL, nLayers: 4, ...extra }, { seed: 3 });
    // Equal logits for all experts: every token's choice is a tie.
    if (ties) for (const { moe } of model.blocks) moe?.router.weight.data.fill(0.5);
    const config = { lr: 1e-2, warmupSteps: 0, gradientCheckpointing, ...options };
    const trainer = new Trainer(model, config);
    const steps = [0, 1, 2].map((i) => trainer.trainStep(randomIds(5, 7, i), randomIds(5, 7, i + 9)));
    return { model, steps };
  });
}

function expectSame([kept, recomputed]: ReturnType<typeof bothWays>): void {
  expect(recomputed.steps).toEqual(kept.steps);
  for (const part of ['shards', 'gradShards'] as const) {
    kept.model.store[part].forEach((shard, i) => {
      expect(sameBits(recomputed.model.store[part][i], shard), part).toBe(true);
    });
  }
  const biases = [kept, recomputed].map(({ model }) =>
    sameBits(model.store.bufferData, kept.model.store.bufferData),
  );
  expect(biases).toEqual([true, true]);
}

describe('gradientCheckpointing', () => {
  test.each(CASES)(
    'with %s: losses, loads, gradients and weights are the same to the bit',
    (_, extra, options) => {
      expectSame(bothWays(extra, options));
    },
  );

  test('the same experts are chosen again where probabilities tie', () => {
    const ways = bothWays({}, { auxLossAlpha: 0.2 }, true);
    expect(ways[0].steps[0].expertLoad[0]).toEqual([0.5, 0.5, 0]);
    expectSame(ways);
  });

  test("blocks share one place: a deeper model takes no more than its blocks' inputs", () => {
    const activations = (nLayers: number) => {
      const [{ model: kept }, { model: recomputed }] = bothWays({ nLayers }, {});
      const { floats, ints } = recomputed.workspace;
      expect(floats.length + ints.length).toBeLessThan(kept.workspace.floats.length);
      return { floats: floats.length, ints: ints.length };
    };
    const [four, ten] = [4, 10].map(activations);
    // Rows of 35 tokens of width 16: a multiple of the padding.
    expect(ten.floats - four.floats).toBe(6 * 35 * 16);
    expect(ten.ints).toBe(four.ints);
  });

  test('forward and backward of a program have it too', () => {
    const [ids, upstream] = [randomIds(2, 6, 1), Tensor.randn([2, 6, SMALL.vocabSize], { seed: 2 })];
    const [kept, recomputed] = [false, true].map((gradientCheckpointing) => {
      const model = MoETransformer.create({ ...SMALL, nLayers: 3 }, { seed: 3 });
      const dLogits = upstream.astype(model.kernels.floatType as 'float32');
      const { data } = model.forward(ids, { training: true, gradientCheckpointing });
      model.backward(dLogits, { auxLossAlpha: 0.1 });
      return { data, gradients: model.store.gradShards[0], floats: model.workspace.floats.length };
    });
    expect(sameBits(recomputed.data, kept.data)).toBe(true);
    expect(sameBits(recomputed.gradients, kept.gradients)).toBe(true);
    expect(recomputed.floats).toBeLessThan(kept.floats);
  });

  test('must be true or false', () => {
    const model = MoETransformer.create(SMALL);
    expect(() => new Trainer(model, { gradientCheckpointing: 1 as never })).toThrow(
      /gradientCheckpointing must be a boolean, got number/,
    );
  });
});
