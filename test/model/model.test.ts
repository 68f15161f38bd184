import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  Embedding,
  Lcg64,
  Linear,
  MoELayer,
  MoETransformer,
  MQAttention,
  Router,
  Tensor,
  Trainer,
  TransformerBlock,
} from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { expectRelative, sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { SMALL, smallModel } from '../helpers/smallModel';

const config = SMALL;
const small = smallModel;

describe('forward', () => {
  test('the names others rely on: tiny, forwardIds, shape, Float32Array', () => {
    const model = MoETransformer.tiny({ seed: 42 });
    const logits = model.forwardIds([1, 2, 3, 4], 1, 4);
    expect(logits.shape).toEqual([1, 4, 1000]);
    expect(logits.data).toBeInstanceOf(Float32Array);
    expect(sameBits(model.forward(Tensor.fromIds([[1, 2, 3, 4]])).data, logits.data)).toBe(true);
  });

  test('is causal: a later token does not change an earlier logit by a bit', () => {
    const model = small();
    const [a, b] = [model.forwardIds([1, 2, 3, 4], 1, 4), model.forwardIds([1, 2, 3, 9], 1, 4)];
    expect(sameBits(a.data.subarray(0, 60), b.data.subarray(0, 60))).toBe(true);
    expect(sameBits(a.data.subarray(60), b.data.subarray(60))).toBe(false);
  });

  test('results are copies: a later forward leaves them alone', () => {
    const model = small();
    const first = model.forwardIds([1, 2], 1, 2);
    const kept = first.data.slice();
    model.forwardIds([5, 6, 7, 8, 9, 1], 2, 3);
    expect(sameBits(first.data, kept)).toBe(true);
  });

  test('`out` receives the logits and is returned; another shape or dtype is refused', () => {
    const model = small();
    const out = Tensor.ones([1, 2, 20]);
    expect(model.forwardIds([1, 2], 1, 2, { out })).toBe(out);
    expect(sameBits(out.data, model.forwardIds([1, 2], 1, 2).data)).toBe(true);
    expect(() => model.forwardIds([1], 1, 1, { out })).toThrow(/shape \[1,1,20\], got \[1,2,20\]/);
    const wide = Tensor.zeros([1, 2, 20], { dtype: 'float64' }) as never;
    expect(() => model.forwardIds([1, 2], 1, 2, { out: wide })).toThrow(/float32 tensor, got float64/);
  });

  test('an empty batch gives empty logits', () => {
    expect(small().forwardIds([], 0, 4).shape).toEqual([0, 4, 20]);
    expect(small().forwardIds([], 2, 0).shape).toEqual([2, 0, 20]);
  });

  // Shapes beyond the stored fixtures, against the same code in float64.
  test.each([
    ['8 experts top-3', { nExperts: 8, topKExperts: 3 }, 4, 33],
    ['one expert', { nExperts: 1, topKExperts: 1 }, 2, 5],
    ['top-k = experts', { nExperts: 4, topKExperts: 4 }, 2, 5],
    ['one token', {}, 1, 1],
    ['odd sizes', { vocabSize: 101, hiddenDim: 13, ffnDim: 17, headDim: 6 }, 3, 7],
    ['6 heads on 3 kv heads', { nHeads: 6, nKvHeads: 3, ropeBase: 500, ropeAlpha: 3 }, 2, 9],
    ['more experts than tokens', { nExperts: 16, topKExperts: 1 }, 1, 3],
  ])('%s: logits and gradients agree with the float64 reference', (_, overrides, batch, seq) => {
    const shape = { ...config, maxSeqLen: 64, ...overrides };
    const model = MoETransformer.create(shape, { seed: 4 });
    const exact = MoETransformer.create(shape, {
      seed: 4,
      kernels: createReferenceKernels({ floatType: 'float64' }),
    });
    // The oracle starts from the same float32 weights.
    model.store.shards.forEach((shard, i) => {
      exact.store.shards[i].set(shard);
    });
    const rng = new Lcg64(8);
    const ids = Tensor.fromIds(
      Array.from({ length: batch }, () => Array.from({ length: seq }, () => rng.nextInt(shape.vocabSize))),
    );
    const upstream = Tensor.randn([batch, seq, shape.vocabSize], { seed: 3 });
    const run = (m: MoETransformer) => {
      const logits = m.forward(ids, { training: true }).data;
      m.zeroGradients();
      m.backward(upstream.astype(m.kernels.floatType), { auxLossAlpha: 0.02, zLossCoef: 0.01 });
      return logits;
    };
    expectRelative('logits', run(model), run(exact), 1e-5);
    for (const [name, parameter] of model.namedParameters()) {
      const want = exact.parameter(name).grad!;
      const bound = shape.topKExperts === 1 && name.endsWith('gate.weight') ? 2e-4 : 5e-5;
      expectRelative(name, parameter.grad!, want, bound);
    }
  });
});

describe('misuse', () => {
  const ids = Tensor.fromIds([[1, 2, 3]]);
  const upstream = Tensor.zeros([1, 3, 20]);

  test('backward without a forward that kept its activations is refused', async () => {
    const model = small();
    const refuse = () => expectError('SGEMOE_NO_FORWARD', /training: true/, () => model.backward(upstream));
    await refuse();
    model.forward(ids);
    await refuse();
    model.forward(ids, { training: true });
    model.nextTokenLogits([1]);
    await refuse();
    model.forward(ids, { training: true });
    model.backward(upstream);
    await refuse();
  });

  test('generating between forward and backward leaves the activations alone', () => {
    const gradientsOf = (between: (model: MoETransformer) => void) => {
      const model = small();
      model.forward(ids, { training: true });
      between(model);
      model.backward(upstream, { auxLossAlpha: 0.1, zLossCoef: 0.1 });
      return [...model.namedParameters()].map(([, { grad }]) => grad);
    };
    const generated = gradientsOf((model) => model.generate([1], 9));
    expect(generated).toEqual(gradientsOf(() => {}));
  });

  test('ids, shapes and names that do not fit are named', () => {
    const model = small();
    expect(() => model.forwardIds([1, 20], 1, 2)).toThrow(/token id 20 at position 1 .* \[0, 20\)/);
    expect(() => model.forwardIds([1, 1.5], 1, 2)).toThrow(/1.5/);
    expect(() => model.forwardIds([1, Number.NaN], 1, 2)).toThrow(/NaN/);
    expect(() => model.forwardIds([1, 2, 3], 1, 2)).toThrow(/batch \* seq = 2 tokens, got 3/);
    expect(() => model.forwardIds([1], 1.5, 2)).toThrow(RangeError);
    expect(() => model.forwardIds(new Array(33).fill(1), 1, 33)).toThrow(
      /33 tokens exceeds maxSeqLen \(32\)/,
    );
    expect(() => model.forward(Tensor.zeros([1, 3]))).toThrow(TypeError);
    expect(() => model.forward(Tensor.fromIds([1, 2]))).toThrow(/\[B,S\]/);
    expect(() => model.parameter('nope')).toThrow(/'nope'/);
    expect(() => model.nextTokenLogits([])).toThrow(/must not be empty/);
    model.forward(ids, { training: true });
    expect(() => model.backward(Tensor.zeros([1, 2, 20]))).toThrow(/\[1,3,20\], got \[1,2,20\]/);
  });
});

describe('backward', () => {
  const ids = Tensor.fromIds([[1, 2, 3]]);

  test('refuses another dtype, a non-tensor, weights that are not numbers >= 0', () => {
    const model = small();
    const backward = (dLogits: unknown, options?: object) => () => {
      model.forward(ids, { training: true });
      model.backward(dLogits as Tensor, options);
    };
    const good = Tensor.zeros([1, 3, 20]);
    expect(backward(good.astype('float16'))).toThrow(/float32 tensor, got float16/);
    expect(backward([[1]])).toThrow(TypeError);
    expect(backward(good, { auxLossAlpha: Number.NaN })).toThrow(/auxLossAlpha must be a finite number/);
    expect(backward(good, { zLossCoef: -1 })).toThrow(RangeError);
    expect(backward(good, { auxAlpha: 1 })).toThrow(/unknown option 'auxAlpha'/);
    expect(() => model.forward(ids, { train: true } as never)).toThrow(/unknown option 'train'/);
    expect(() => model.trace([[1, 2]] as never)).toThrow(TypeError);
  });

  test('the balance loss of a train step is not left behind in the routers', () => {
    const model = small();
    new Trainer(model, { auxLossAlpha: 5 }).trainStep(ids, ids);
    model.zeroGradients();
    const moe = model.blocks[0].moe!;
    const x = Tensor.randn([3, 16]);
    moe.forward(x);
    moe.backward(Tensor.zeros([3, 16]));
    expect(model.store.gradNorm()).toBe(0);
  });
});

describe('layers on their own', () => {
  test('name what does not fit', () => {
    expect(() => new Linear(-1, 3)).toThrow(/Linear: the input width must be an integer >= 1, got -1/);
    expect(() => new Linear(4, '3' as never)).toThrow(TypeError);
    expect(() => new Linear(4, 3, { bais: true } as never)).toThrow(/Linear: unknown option 'bais'/);
    expect(() => new MoELayer({ hiddenDim: 4, nExperts: 2, ffnDim: 3 } as never)).toThrow(/topKExperts/);
    expect(() => new Router(4, 3, 1.5)).toThrow(/integer/);
    expect(() => new Router(4, 3, 4)).toThrow(/at most nExperts \(3\), got 4/);
    expect(() => new MQAttention({ hiddenDim: 4, nHeads: 2, nKvHeads: 1, headDim: 3 })).toThrow(/even/);
    const linear = new Linear(4, 3);
    expect(() => linear.forward(Tensor.zeros([2, 5]))).toThrow(/\[T,4\], got \[2,5\]/);
    expect(() => linear.forward([1] as never)).toThrow(TypeError);
    linear.forward(Tensor.zeros([2, 4]));
    expect(() => linear.backward(Tensor.zeros([2, 4]))).toThrow(/shape \[2,3\], got \[2,4\]/);
    const embedding = new Embedding(5, 2);
    embedding.forward(Tensor.fromIds([1, 2]));
    expect(() => embedding.backward(Tensor.ones([7, 7]))).toThrow(/shape \[2,2\]/);
  });

  test('a model made of layers by hand agrees with one block of the model', () => {
    const block = new TransformerBlock({ ...config }, { seed: 3 });
    const x = Tensor.randn([2, 5, 16]);
    const h = x.add(block.attention.forward(block.norm1.forward(x)));
    const y = h.add(block.moe!.forward(block.norm2.forward(h)));
    expectRelative('block', block.forward(x).data, y.data as Float32Array, 1e-6);
  });
});

describe('checkpoints', () => {
  test('save writes the weights of the moment it is called', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'sgemoe-'));
    const model = small();
    const before = model.store.shards[0].slice();
    const saving = model.save(dir);
    new Trainer(model, { lr: 1, warmupSteps: 0 }).trainStep(Tensor.fromIds([[1]]), Tensor.fromIds([[2]]));
    await saving;
    expect(sameBits((await MoETransformer.load(dir)).store.shards[0], before)).toBe(true);
    rmSync(dir, { recursive: true });
  });

  test('a config.json that claims absurd sizes is refused before memory is asked for', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'sgemoe-'));
    await small().save(dir);
    const path = join(dir, 'config.json');
    const json = JSON.parse(readFileSync(path, 'utf8'));
    const load = async (change: object) => {
      writeFileSync(path, JSON.stringify({ ...json, ...change }));
      await MoETransformer.load(dir);
    };
    const huge = 2 ** 31 - 1;
    await expectError('SGEMOE_CHECKPOINT_SHAPE', /embed_tokens/, () => load({ vocab_size: huge }));
    await expectError('SGEMOE_CHECKPOINT_SHAPE', /embed_tokens/, () => load({ hidden_size: huge }));
    await expectError('SGEMOE_CHECKPOINT_SHAPE', /gate/, () => load({ num_local_experts: huge }));
    await expectError('SGEMOE_CHECKPOINT_MISSING_TENSOR', /layers\.2/, () =>
      load({ num_hidden_layers: huge }),
    );
    rmSync(dir, { recursive: true });
  });

  test('a saved model comes back bit for bit', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'sgemoe-'));
    const model = small({ ropeAlpha: 2 });
    await model.save(dir);
    const again = await MoETransformer.load(dir);
    expect(again.config).toEqual(model.config);
    expect(sameBits(again.store.shards[0], model.store.shards[0])).toBe(true);
    expect(sameBits(again.forwardIds([1, 2], 1, 2).data, model.forwardIds([1, 2], 1, 2).data)).toBe(true);
    rmSync(dir, { recursive: true });
  });

  test('the fixtures load as they are', async () => {
    const model = await MoETransformer.load(join(__dirname, '../fixtures/gqa'));
    expect(model.config).toMatchObject({ nHeads: 4, nKvHeads: 2, ropeAlpha: 8 });
  });
});
