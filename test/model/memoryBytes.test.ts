import { describe, expect, test } from 'vitest';
import {
  type Collectives,
  Decoder,
  evaluate,
  type Kernels,
  type LoraOptions,
  type MemoryBytes,
  ModelConfig,
  MoETransformer,
  memoryBytes,
  soloCollectives,
  Tensor,
  Trainer,
} from '../../src';
import { getKernels } from '../../src/backend';
import { createReferenceKernels } from '../../src/backend/reference';
import { ALL_DENSE } from '../helpers/smallModel';

const SHAPES = {
  tiny: ModelConfig.tiny(),
  'many narrow layers': ModelConfig.tiny({ nLayers: 6, ffnDim: 64, vocabSize: 128, nKvHeads: 2 }),
  'all that other architectures add': ModelConfig.tiny({
    qkNorm: 'head',
    attentionBias: 'qkvo',
    sharedFfnDim: 128,
    tieEmbeddings: true,
  }),
  'dense layers between mixtures': ModelConfig.tiny({ nLayers: 4, denseLayers: [0, 2], denseFfnDim: 900 }),
  'dense layers alone': ModelConfig.tiny(ALL_DENSE),
  'norms of whole vectors, every expert': ModelConfig.tiny({ qkNorm: 'full', topKExperts: 4, ffnDim: 32 }),
};

const sum = (arrays: readonly { byteLength: number }[]) =>
  arrays.reduce((total, { byteLength }) => total + byteLength, 0);

/** Bytes of the arrays that a model really holds after one pass. */
function heldBytes({ store, workspace, blocks }: MoETransformer) {
  const { rope } = blocks[0].attention;
  return {
    weights: sum([...store.shards, store.bufferData]),
    packed: store.packedBytes,
    gradients: sum(store.gradShards),
    activations: sum([workspace.floats, workspace.ints, rope.cos, rope.sin]),
  };
}

/** Bytes of AdamW's arrays, which hold the trainer's moments. */
function momentBytes(trainer: Trainer): number {
  return sum([...new Set(trainer.moments().map(({ data }) => data.buffer))]);
}

/** A buffer is this much larger than its array, whose start is aligned. */
const ALIGNMENT_BYTES = 64;

function idsOf(config: ModelConfig, batch: number, seq: number): Tensor {
  return Tensor.fromIds(
    Array.from({ length: batch }, (_, b) =>
      Array.from({ length: seq }, (_, s) => (b * 31 + s * 7) % config.vocabSize),
    ),
  );
}

describe.each(Object.entries(SHAPES))('memoryBytes: %s', (_, config) => {
  test.each([
    [2, 8, false],
    [3, 33, false],
    [3, 33, true],
  ])(
    'is what a train step of %i sequences of %i tokens allocates; gradientCheckpointing: %s',
    (batch, seq, gradientCheckpointing) => {
      const model = MoETransformer.create(config);
      const ids = idsOf(config, batch, seq);
      const trainer = new Trainer(model, { gradientCheckpointing });
      trainer.trainStep(ids, ids);
      const { total, moments, ...told } = memoryBytes(config, { batch, seq, gradientCheckpointing });
      expect(told).toEqual({ ...heldBytes(model), cache: 0, exchange: 0 });
      // WebAssembly's arrays have no buffers of their own.
      if (model.kernels.info.backend !== 'wasm') {
        expect(moments).toBe(momentBytes(trainer) - 2 * ALIGNMENT_BYTES);
      }
      expect(total).toBe(told.weights + told.gradients + moments + told.activations);
    },
  );

  test('is what a forward and an evaluation allocate beside the weights', () => {
    const ids = idsOf(config, 2, 32);
    const forward = MoETransformer.create(config);
    forward.forward(ids);
    const evaluated = MoETransformer.create(config);
    const targets = ids.data as Int32Array;
    evaluate(evaluated, [{ ids: targets, targets, batch: 2, seqLen: 32 }]);
    for (const [mode, model] of [
      ['forward', forward],
      ['loss', evaluated],
    ] as const) {
      const told = memoryBytes(config, { batch: 2, seq: 32, mode });
      const { weights, activations } = heldBytes(model);
      expect(told).toEqual({
        weights,
        packed: 0,
        gradients: 0,
        moments: 0,
        cache: 0,
        activations,
        exchange: 0,
        total: weights + activations,
      });
    }
  });

  test.each([[{}], [{ slots: 3, contextLength: 50 }], [{ slots: 2, contextLength: 7, maxStepTokens: 40 }]])(
    'is what a decoder %j of a packed model allocates',
    (options) => {
      const model = MoETransformer.create(config);
      model.freeze({ pack: true });
      const { bytes } = new Decoder(model, options);
      const { rope } = model.blocks[0].attention;
      const told = memoryBytes(config, { mode: 'decode', pack: true, ...options });
      expect(told).toMatchObject({
        weights: heldBytes(model).weights,
        packed: model.packedBytes,
        cache: bytes.cache,
        activations: bytes.activations + sum([rope.cos, rope.sin]),
      });
      expect(told.total).toBe(told.weights + told.packed + told.cache + told.activations);
    },
  );
});

test('counts what each of several ranks keeps of the moments', () => {
  const config = ModelConfig.tiny();
  const model = MoETransformer.create(config);
  const size = 3;
  const held = [0, 1, 2].map((rank) => {
    const collectives = { ...soloCollectives(), rank, size };
    return momentBytes(new Trainer(model, {}, { collectives })) - 2 * ALIGNMENT_BYTES;
  });
  const told = memoryBytes(config, { batch: 2, seq: 8, ranks: size });
  const one = memoryBytes(config, { batch: 2, seq: 8 });
  if (model.kernels.info.backend !== 'wasm') {
    expect(told.moments).toBe(Math.max(...held));
    expect(one.moments).toBe(held.reduce((total, bytes) => total + bytes));
  }
  const exchange = 2 ** 24;
  const total = one.total - one.moments + told.moments + exchange;
  expect(told).toEqual({ ...one, moments: told.moments, exchange, total });
  // A piece of a sum has at least 64 KiB for each rank.
  expect(memoryBytes(config, { batch: 2, seq: 8, ranks: 256 }).exchange).toBe(2 * exchange);
});

test('counts what a rank with most experts keeps where they are divided', () => {
  const config = ModelConfig.tiny({ nExperts: 3 });
  const ranks = 4;
  const held = Array.from({ length: ranks }, (_, rank) => {
    const collectives: Collectives = { ...soloCollectives(), rank, size: ranks, subset: () => collectives };
    const model = MoETransformer.create(config, { expertRanks: { collectives, groupSize: 2 } });
    // Two moments of what all have, two of the experts.
    const moments = momentBytes(new Trainer(model, {}, { collectives })) - 4 * ALIGNMENT_BYTES;
    return { weights: model.store.weightBytes, gradients: model.store.mirrorBytes, moments };
  });
  const options = { batch: 2, seq: 8, ranks };
  const told = memoryBytes(config, { ...options, expertParallel: 2 });
  const most = (key: 'weights' | 'gradients' | 'moments') => Math.max(...held.map((each) => each[key]));
  // One or two of three experts.
  expect(Math.min(...held.map(({ weights }) => weights))).toBeLessThan(most('weights'));
  expect(told).toMatchObject({ weights: most('weights'), gradients: most('gradients') });
  if (getKernels().info.backend !== 'wasm') expect(told.moments).toBe(most('moments'));
  // Rows that come take memory where they are kept.
  expect(told.activations).toBeGreaterThan(memoryBytes(config, options).activations);
  expect(() => memoryBytes(config, { ...options, expertParallel: 3 })).toThrow(
    'expertParallel must be a divisor of the number of ranks (4), got 3',
  );
});

test('counts the array from which a rank takes the initial values of its experts, where nothing later takes as much', () => {
  const sizes = { nExperts: 64, ffnDim: 2048, vocabSize: 256 };
  const told = (nLayers: number, expertParallel: number) => {
    const config = ModelConfig.tiny({ ...sizes, nLayers });
    return memoryBytes(config, { batch: 1, seq: 8, ranks: 64, expertParallel });
  };
  const later = ({ gradients, moments, activations, exchange }: MemoryBytes) =>
    gradients + moments + activations + exchange;
  // Gate and up of all experts, of width 64.
  const drawn = 4 * sizes.nExperts * 2 * sizes.ffnDim * 64;
  const one = told(1, 64);
  expect(later(one)).toBeLessThan(drawn);
  expect(one.total).toBe(one.weights + drawn);
  for (const other of [told(64, 64), told(1, 1)]) {
    expect(later(other)).toBeGreaterThan(drawn);
    expect(other.total).toBe(other.weights + later(other));
  }
});

test('counts the gradients of micro-batches that wait to be summed, as a step allocates them', () => {
  const config = ModelConfig.tiny();
  /** Bytes of floats that a step of `microBatches` sequences allocates, one a pass. */
  const allocated = (microBatches: number) => {
    let bytes = 0;
    const { memory } = getKernels();
    const floats = (length: number, shared?: boolean) => {
      bytes += 4 * length;
      return memory.floats(length, shared);
    };
    const counting = Object.create(memory, { floats: { value: floats } });
    const kernels = Object.create(getKernels(), { memory: { value: counting } });
    const ids = idsOf(config, microBatches, 8);
    new Trainer(MoETransformer.create(config, { kernels }), { microBatches }).trainStep(ids, ids);
    return bytes;
  };
  const told = (microBatches: number, ranks = 1) =>
    memoryBytes(config, { batch: 1, seq: 8, microBatches, ranks }).total;
  for (const microBatches of [2, 5]) {
    expect(told(microBatches) - told(1), `${microBatches}`).toBe(allocated(microBatches) - allocated(1));
  }
  // Micro-batches of a rank count, not those of all.
  const gradients = (microBatches: number, ranks: number) =>
    memoryBytes(config, { batch: 1, seq: 8, microBatches, ranks }).gradients;
  expect(gradients(20, 4)).toBe(gradients(5, 1));
  expect(() => gradients(6, 4)).toThrow('microBatches must be a multiple of the number of ranks (4), got 6');
  expect(() => gradients(1, 0)).toThrow(/ranks must be an integer >= 1/);
});

test('counts for the kernels given: packed copies, and numbers of 8 bytes where they compute in float64', () => {
  const config = ModelConfig.tiny();
  const [reference, float64] = ['float32', 'float64'].map((floatType) =>
    createReferenceKernels({ floatType: floatType as 'float32' }),
  );
  const model = MoETransformer.create(config, { kernels: reference });
  model.freeze({ pack: true });
  const options = { mode: 'decode', pack: true } as const;
  expect(memoryBytes(config, { ...options, kernels: reference }).packed).toBe(model.packedBytes);
  const bytes = (kernels: Kernels) => memoryBytes(config, { batch: 2, seq: 8, kernels });
  expect(bytes(float64).weights).toBe(2 * bytes(reference).weights);
  expect(bytes(float64).moments).toBe(2 * bytes(reference).moments);
});

test('allocates nothing of what it counts', () => {
  const huge = new ModelConfig({ ...ModelConfig.default6_9b(), nLayers: 2, maxSeqLen: 2 ** 20 });
  const before = process.memoryUsage();
  const { total } = memoryBytes(huge, { mode: 'decode', slots: 64, pack: true });
  const after = process.memoryUsage();
  expect(total).toBeGreaterThan(5e10);
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(1e6);
});

test('gradientCheckpointing saves what all blocks but one keep, and nothing without a backward', () => {
  const of = (nLayers: number, gradientCheckpointing: boolean, mode?: 'forward' | 'loss') =>
    memoryBytes(ModelConfig.tiny({ nLayers }), { batch: 2, seq: 16, gradientCheckpointing, mode })
      .activations;
  const block = of(2, false) - of(2, true);
  expect(block).toBeGreaterThan(0);
  expect(of(8, false) - of(8, true)).toBe(7 * block);
  expect(of(1, true)).toBe(of(1, false));
  // One more block costs only its input.
  expect(of(8, true) - of(7, true)).toBe(4 * 2 * 16 * 64);
  for (const mode of ['forward', 'loss'] as const) expect(of(8, true, mode)).toBe(of(8, false, mode));
});

test('memoryBytes refuses invalid shapes and modes', () => {
  const config = ModelConfig.tiny();
  expect(() => memoryBytes(config, { batch: 0, seq: 8 })).toThrow(RangeError);
  expect(() => memoryBytes(config, { batch: 1 })).toThrow(/seq must be a number, got undefined/);
  expect(() => memoryBytes(config, { mode: 'decode', slots: 0 })).toThrow(RangeError);
  expect(() => memoryBytes(config, { mode: 'decode', slots: 4, maxStepTokens: 3 })).toThrow(/>= 4/);
  expect(() => memoryBytes(config, { batch: 1, seq: 1.5 })).toThrow(RangeError);
  expect(() => memoryBytes(config, { batch: 1, seq: 8, mode: 'backward' as 'train' })).toThrow(
    /mode must be forward, loss, train, decode, got backward/,
  );
  expect(() => memoryBytes(config, { batch: 1, seq: 8, size: 2 } as never)).toThrow(TypeError);
});

test.each([
  ['some parameters', { train: ['experts.*.w1', 'norms'] }],
  ['adapters', { lora: { rank: 3 } }],
  ['adapters with dropout', { lora: { rank: 3, targets: ['attention', 'lm_head'], dropout: 0.1 } }],
])('is what a train step of %s allocates', (_, { train, lora }: { train?: string[]; lora?: LoraOptions }) => {
  const config = ModelConfig.tiny();
  const model = MoETransformer.create(config);
  const base = sum([...model.store.shards, model.store.bufferData]);
  const own = lora === undefined ? model.store : model.addLora(lora).store;
  const ids = idsOf(config, 2, 9);
  const trainer = new Trainer(model, { train });
  trainer.trainStep(ids, ids);
  const told = memoryBytes(config, { batch: 2, seq: 9, train, lora });
  const { activations } = heldBytes(model);
  const adapters = lora === undefined ? 0 : sum([...own.shards, own.bufferData]);
  expect(told.activations).toBe(activations);
  expect(told.weights).toBe(base + adapters);
  expect(told.gradients).toBe(sum(own.gradShards));
  expect(told.gradients).toBeLessThan(base / 2);
  expect(told.moments).toBe(2 * told.gradients);
  expect(trainer.moments().length).toBeGreaterThan(0);
});
