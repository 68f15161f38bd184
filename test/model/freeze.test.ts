import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  Decoder,
  evaluate,
  Linear,
  loadCheckpoint,
  loadTensorsInto,
  ModelConfig,
  MoETransformer,
  memoryBytes,
  Tensor,
  Trainer,
} from '../../src';
import { getKernels } from '../../src/backend';
import { expectRelative, sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { EVERYTHING, SMALL, smallModel } from '../helpers/smallModel';

// Bound for logits that are summed in another order: the oracle's.
const LOGITS = 1e-5;

const ids = Tensor.fromIds([
  [1, 2, 3, 4, 5, 6, 7],
  [8, 9, 10, 11, 12, 13, 14],
]);
const batch = { ids: ids.data as Int32Array, targets: ids.data as Int32Array, batch: 2, seqLen: 7 };

function frozenModel(overrides = {}, pack = false): MoETransformer {
  const model = smallModel(overrides);
  model.freeze({ pack });
  return model;
}

/** Bytes of shared memory that `run` allocates. */
function sharedBytesOf(run: () => unknown): number {
  const original = globalThis.SharedArrayBuffer;
  let bytes = 0;
  globalThis.SharedArrayBuffer = new Proxy(original, {
    construct(target, args: [number]) {
      bytes += args[0];
      return new target(...args);
    },
  });
  try {
    run();
  } finally {
    globalThis.SharedArrayBuffer = original;
  }
  return bytes;
}

describe('a frozen model without packed copies', () => {
  const config = ModelConfig.tiny();

  test('is one copy of the weights: at most 1.15 times their bytes are ever allocated, and shared as they are', () => {
    const weights = 4 * config.totalParams();
    let model!: MoETransformer;
    const bytes = sharedBytesOf(() => {
      model = MoETransformer.create(config);
      model.freeze();
      model.forward(ids);
      MoETransformer.fromShared(model.share()).forward(ids);
    });
    // WebAssembly's arrays have no buffers of their own.
    if (model.kernels.info.backend !== 'wasm') expect(bytes).toBeGreaterThanOrEqual(weights);
    expect(bytes).toBeLessThan(1.15 * weights);
    expect(model.packedBytes).toBe(0);
    const { total } = memoryBytes(config, { mode: 'decode', contextLength: 1, maxStepTokens: 1 });
    expect(total).toBeLessThan(1.15 * weights);
    expect(sharedBytesOf(() => model.freeze())).toBe(0);
  });

  test('computes and decodes what an unfrozen one does, to the bit', () => {
    const [frozen, free] = [MoETransformer.create(config), MoETransformer.create(config)];
    frozen.freeze();
    expect(sameBits(frozen.forward(ids).data, free.forward(ids).data)).toBe(true);
    for (const sequences of [1, 2, 8, 40]) {
      const [a, b] = [frozen, free].map((model) => {
        const decoder = new Decoder(model, { slots: sequences, contextLength: 8 });
        const logits = new Float32Array(sequences * config.vocabSize);
        decoder.step(
          Array.from({ length: sequences }, (_, slot) => ({ slot, tokens: [slot + 1] })),
          { logits },
        );
        return logits;
      });
      expect(sameBits(a, b)).toBe(true);
    }
  });
});

test.each([false, true])('freezing and unfreezing leaves every weight as it was, packed: %s', (pack) => {
  const model = MoETransformer.create(ModelConfig.tiny());
  const before = model.store.shards[0].slice();
  model.freeze({ pack });
  model.forward(ids);
  model.unfreeze();
  expect(sameBits(model.store.shards[0], before)).toBe(true);
  expect(sharedBytesOf(() => model.forward(ids))).toBe(0);
  expect([model.frozen, model.packedBytes]).toEqual([false, 0]);
});

test('freeze takes only pack, a boolean', () => {
  const model = smallModel();
  expect(() => model.freeze({ pack: 1 } as never)).toThrow(/pack must be a boolean, got 1/);
  expect(() => model.freeze({ packed: true } as never)).toThrow(TypeError);
  expect(model.frozen).toBe(false);
});

describe('a large matrix with a packed copy', () => {
  // 256 x 256 is large, 16 rows are few.
  test.each([
    [16, false],
    [17, true],
  ])('is multiplied by it for %i rows: %s', (rows, byCopy) => {
    const kernels = { ...getKernels() };
    let calls = 0;
    const original = kernels.sgemmPacked;
    kernels.sgemmPacked = (...args) => {
      calls++;
      original(...args);
    };
    const layer = new Linear(256, 256, { kernels });
    layer.store.freeze('own');
    const x = Tensor.randn([rows, 256], { seed: 1 });
    const packed = layer.forward(x);
    const used = layer.store.packedBytes > 0 && byCopy;
    expect(calls).toBe(used ? 1 : 0);
    layer.store.unfreeze();
    expectRelative('y', packed.data, layer.forward(x).data, LOGITS);
  });
});

describe('a packed model', () => {
  test.each([
    ['as it is by default', {}],
    ['with all that is off by default', EVERYTHING],
  ])('%s computes the logits of an unfrozen one, for a batch and for the next token', (_, overrides) => {
    const [frozen, free] = [frozenModel(overrides, true), smallModel(overrides)];
    expectRelative('logits', frozen.forward(ids).data, free.forward(ids).data, LOGITS);
    expectRelative('next', frozen.nextTokenLogits([3, 1]), free.nextTokenLogits([3, 1]), LOGITS);
    expect(frozen.generateGreedy([1, 2], 12)).toEqual(free.generateGreedy([1, 2], 12));
    expect(evaluate(frozen, [batch]).loss).toBeCloseTo(evaluate(free, [batch]).loss, 5);
  });

  test('says so, and a freeze without pack afterwards keeps the copies', () => {
    const model = smallModel();
    expect([model.frozen, model.packedBytes]).toEqual([false, 0]);
    model.freeze();
    expect([model.frozen, model.packedBytes]).toEqual([true, 0]);
    model.freeze({ pack: true });
    const bytes = model.packedBytes;
    model.freeze();
    expect([model.frozen, model.packedBytes]).toEqual([true, bytes]);
    model.unfreeze();
    model.unfreeze();
    expect([model.frozen, model.packedBytes]).toEqual([false, 0]);
  });

  test('keeps packed copies of all matrices but the small ones of the routers, and multiplies by them', () => {
    const kernels = { ...getKernels() };
    const unpacked: string[] = [];
    for (const name of ['sgemm', 'sgemmGrouped'] as const) {
      const original = kernels[name] as (...args: never[]) => void;
      Object.assign(kernels, {
        [name]: (...args: never[]) => {
          unpacked.push(name);
          original(...args);
        },
      });
    }
    const model = MoETransformer.create(SMALL, { kernels });
    model.freeze({ pack: true });
    model.forward(ids);
    const { hiddenDim: H, nHeads, nKvHeads, headDim: D, nExperts: E, ffnDim: F, vocabSize: V } = SMALL;
    const shapes = [
      [(nHeads + 2 * nKvHeads) * D, H, SMALL.nLayers],
      [H, nHeads * D, SMALL.nLayers],
      [2 * F, H, SMALL.nLayers * E],
      [H, F, SMALL.nLayers * E],
      [V, H, 1],
    ];
    const elements = shapes.reduce((sum, [n, k, count]) => sum + count * kernels.packedSize(n, k), 0);
    expect(model.packedBytes).toBe(4 * elements);
    const routers = Array(SMALL.nLayers).fill('sgemm');
    if (elements > 0) expect(unpacked).toEqual(routers);
    model.unfreeze();
    unpacked.length = 0;
    model.forward(ids);
    expect(unpacked.length).toBeGreaterThan(routers.length);
  });

  test('is the same where the backend packs nothing', async () => {
    const kernels = { ...getKernels(), packedSize: () => 0 };
    const [model, free] = [MoETransformer.create(SMALL, { kernels, seed: 1 }), smallModel()];
    model.freeze({ pack: true });
    expect([model.frozen, model.packedBytes]).toEqual([true, 0]);
    expect(sameBits(model.forward(ids).data, free.forward(ids).data)).toBe(true);
    await expectError('SGEMOE_MODEL_FROZEN', /frozen/, () => new Trainer(model).trainStep(ids, ids));
  });

  test('has losses and gradients', () => {
    const [frozen, free] = [frozenModel({}, true), smallModel()];
    new Trainer(frozen).lossAndGradients(ids, ids);
    new Trainer(free).lossAndGradients(ids, ids);
    for (const [name, { grad }] of free.namedParameters()) {
      expectRelative(name, frozen.parameter(name).grad!, grad!, 5e-5);
    }
  });
});

describe('writing to a frozen model', () => {
  const refused = (action: () => unknown) => expectError('SGEMOE_MODEL_FROZEN', /unfreeze/, action);

  test('is refused to train steps, before they change anything', async () => {
    const model = frozenModel();
    const trainer = new Trainer(model);
    await refused(() => trainer.trainStep(ids, ids));
    await refused(async () => {
      for await (const _ of trainer.run({ data: [batch] }));
    });
    expect(trainer.step).toBe(0);
    expect(sameBits(model.store.shards[0], smallModel().store.shards[0])).toBe(true);
  });

  test('is refused to the initial weights and to a checkpoint', async () => {
    const dir = join(mkdtempSync(join(tmpdir(), 'sgemoe freeze-')), 'model');
    await smallModel({}, 2).save(dir);
    const model = frozenModel();
    await refused(() => model.store.initialise(3));
    const { tensors } = await loadCheckpoint(dir);
    await refused(() => loadTensorsInto(tensors, model.store.parameters));
    await tensors.close();
    expect(sameBits(model.store.shards[0], smallModel().store.shards[0])).toBe(true);
  });

  test('is refused through data: by index, by method, by the buffer and through parts', async () => {
    const { data } = frozenModel().parameter('lm_head.weight');
    const before = data.slice();
    await refused(() => Object.assign(data, { 0: 1 }));
    await refused(() => Object.defineProperty(data, 0, { value: 1 }));
    for (const write of [
      () => data.fill(1),
      () => data.set([1]),
      () => data.sort(),
      () => data.reverse(),
      () => data.copyWithin(0, 4),
      () => data.subarray(2, 4).fill(0),
      () => new Float32Array(data.buffer).fill(0),
      () => data.map((_, i, all) => all.fill(i)[0]),
    ]) {
      await refused(write);
    }
    expect(Array.from(data)).toEqual(Array.from(before));
  });
});

describe('the data of a frozen parameter', () => {
  const model = smallModel();
  const plain = model.parameter('lm_head.weight').data.slice();
  model.freeze();
  const { data } = model.parameter('lm_head.weight');

  test('is read as ever', () => {
    expect(data).toBe(model.parameter('lm_head.weight').data);
    expect(data).toBeInstanceOf(Float32Array);
    expect([data.length, data[3], data.at(-1), data[data.length]]).toEqual([
      plain.length,
      plain[3],
      plain.at(-1),
      undefined,
    ]);
    expect([...data]).toEqual([...plain]);
    expect(data.slice(2, 5)).toEqual(plain.slice(2, 5));
    expect([...data.subarray(2, 5)]).toEqual([...plain.subarray(2, 5)]);
    expect(data.map((x) => 2 * x)).toEqual(plain.map((x) => 2 * x));
    expect(data.reduce((sum, x) => sum + x, 0)).toBe(plain.reduce((sum, x) => sum + x, 0));
    expect(Float32Array.from(data)).toEqual(plain);
    expect(data.indexOf(plain[7])).toBe(7);
    expect(() => data.map(undefined as never)).toThrow(TypeError);
  });

  test('is saved', async () => {
    const dir = join(mkdtempSync(join(tmpdir(), 'sgemoe freeze-')), 'model');
    await model.save(dir);
    const loaded = await MoETransformer.load(dir);
    expect(sameBits(loaded.store.shards[0], model.store.shards[0])).toBe(true);
  });
});

test('an unfrozen model can be written again, and multiplies by what is written', () => {
  const [model, free] = [frozenModel({}, true), smallModel()];
  model.forward(ids);
  model.unfreeze();
  for (const each of [model, free]) {
    new Trainer(each, { warmupSteps: 0 }).trainStep(ids, ids);
    each.parameter('lm_head.weight').data[0] = 3;
  }
  expect(sameBits(model.forward(ids).data, free.forward(ids).data)).toBe(true);
  model.freeze({ pack: true });
  expectRelative('frozen again', model.forward(ids).data, free.forward(ids).data, LOGITS);
});
