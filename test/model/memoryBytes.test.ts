import { describe, expect, test } from 'vitest';
import { evaluate, ModelConfig, MoETransformer, memoryBytes, Tensor, Trainer } from '../../src';

const SHAPES = {
  tiny: ModelConfig.tiny(),
  'many narrow layers': ModelConfig.tiny({ nLayers: 6, ffnDim: 64, vocabSize: 128, nKvHeads: 2 }),
  'all that other architectures add': ModelConfig.tiny({
    qkNorm: 'head',
    attentionBias: 'qkvo',
    sharedFfnDim: 128,
    tieEmbeddings: true,
  }),
  'norms of whole vectors, every expert': ModelConfig.tiny({ qkNorm: 'full', topKExperts: 4, ffnDim: 32 }),
};

const sum = (arrays: readonly Float32Array[]) =>
  arrays.reduce((total, { byteLength }) => total + byteLength, 0);

/** Bytes of the arrays that a model and its trainer really hold after one pass. */
function heldBytes(model: MoETransformer) {
  const { store, workspace } = model;
  return {
    weights: sum(store.shards),
    gradients: sum(store.gradShards),
    activations: workspace.floats.byteLength + workspace.ints.byteLength,
  };
}

function idsOf(config: ModelConfig, batch: number, seq: number): Tensor {
  return Tensor.fromIds(
    Array.from({ length: batch }, (_, b) =>
      Array.from({ length: seq }, (_, s) => (b * 31 + s * 7) % config.vocabSize),
    ),
  );
}

describe.each(Object.entries(SHAPES))('memoryBytes: %s', (_, config) => {
  test.each([
    [2, 8],
    [3, 33],
  ])('says what a train step of %i sequences of %i tokens allocates, within a tenth', (batch, seq) => {
    const model = MoETransformer.create(config);
    const ids = idsOf(config, batch, seq);
    new Trainer(model).trainStep(ids, ids);
    const held = heldBytes(model);
    const told = memoryBytes(config, { batch, seq });
    expectWithin(told.weights, held.weights, 0.1);
    expectWithin(told.gradients, held.gradients, 0.1);
    expectWithin(told.activations, held.activations, 0.1);
    expect(told.moments).toBe(2 * told.gradients);
    expect(told.total).toBe(told.weights + told.gradients + told.moments + told.activations);
  });

  test('says within a tenth what a train step with gradientCheckpointing allocates', () => {
    const model = MoETransformer.create(config);
    const ids = idsOf(config, 3, 33);
    new Trainer(model, { gradientCheckpointing: true }).trainStep(ids, ids);
    const told = memoryBytes(config, { batch: 3, seq: 33, gradientCheckpointing: true });
    expectWithin(told.activations, heldBytes(model).activations, 0.1);
    expect({ ...told, activations: 0, total: 0 }).toEqual({
      ...memoryBytes(config, { batch: 3, seq: 33 }),
      activations: 0,
      total: 0,
    });
  });

  test('says within a tenth what a forward allocates', () => {
    const model = MoETransformer.create(config);
    model.forward(idsOf(config, 2, 32));
    const told = memoryBytes(config, { batch: 2, seq: 32, mode: 'forward' });
    expectWithin(told.activations, heldBytes(model).activations, 0.1);
    expect([told.gradients, told.moments]).toEqual([0, 0]);
  });

  test('says within a tenth what an evaluation allocates', () => {
    const model = MoETransformer.create(config);
    const { data } = idsOf(config, 2, 32);
    const ids = data as Int32Array;
    evaluate(model, [{ ids, targets: ids, batch: 2, seqLen: 32 }]);
    const told = memoryBytes(config, { batch: 2, seq: 32, mode: 'loss' });
    expectWithin(told.activations, heldBytes(model).activations, 0.1);
  });
});

test('gradientCheckpointing saves what all blocks but one keep, and nothing without a backward', () => {
  const of = (nLayers: number, gradientCheckpointing: boolean, mode?: 'forward' | 'loss') =>
    memoryBytes(ModelConfig.tiny({ nLayers }), { batch: 2, seq: 16, gradientCheckpointing, mode })
      .activations;
  const block = of(2, false) - of(2, true);
  expect(block).toBeGreaterThan(0);
  expect(of(8, false) - of(8, true)).toBe(7 * block);
  expect(of(1, true)).toBe(of(1, false));
  // One more block costs its input alone.
  expect(of(8, true) - of(7, true)).toBe(4 * 2 * 16 * 64);
  for (const mode of ['forward', 'loss'] as const) expect(of(8, true, mode)).toBe(of(8, false, mode));
});

test('memoryBytes refuses shapes and modes that are none', () => {
  const config = ModelConfig.tiny();
  expect(() => memoryBytes(config, { batch: 0, seq: 8 })).toThrow(RangeError);
  expect(() => memoryBytes(config, { batch: 1, seq: 1.5 })).toThrow(RangeError);
  expect(() => memoryBytes(config, { batch: 1, seq: 8, mode: 'backward' as 'train' })).toThrow(
    /'forward', 'loss' or 'train'/,
  );
  expect(() => memoryBytes(config, { batch: 1, seq: 8, size: 2 } as never)).toThrow(TypeError);
});

function expectWithin(told: number, held: number, share: number): void {
  expect(told / held).toBeGreaterThan(1 - share);
  expect(told / held).toBeLessThan(1 + share);
}
