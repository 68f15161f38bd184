import { describe, expect, test } from 'vitest';
import { MoETransformer, Tensor, Trainer } from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { expectRelative, sameBits } from '../helpers/close';
import { checkGradient, dot } from '../helpers/finiteDifferences';
import { ALL_DENSE, EVERYTHING, SOME_DENSE, smallModel } from '../helpers/smallModel';

const kernels = createReferenceKernels({ floatType: 'float64' });
const ids = Tensor.fromIds([
  [3, 1, 4, 1, 5],
  [9, 2, 6, 5, 3],
]);
const targets = Tensor.fromIds([
  [1, 4, 1, 5, 9],
  [2, 6, 5, 3, 5],
]);

/** Gives B values, so that A has a gradient. */
function stir(model: MoETransformer): void {
  model.lora!.store.parameters.forEach((parameter, i) => {
    const noise = Tensor.randn([parameter.size], { seed: 100 + i }).data;
    for (let j = 0; j < parameter.size; j++) parameter.data[j] += 0.05 * (noise[j] as number);
  });
}

const SIZES = {
  hiddenDim: 6,
  nHeads: 4,
  nKvHeads: 2,
  headDim: 4,
  nExperts: 3,
  topKExperts: 2,
  ffnDim: 7,
  nLayers: 2,
  vocabSize: 11,
  maxSeqLen: 16,
};

describe('finite differences in float64, random upstream', () => {
  test.each([
    ['attention, experts and router', {}, { rank: 3, alpha: 5 }],
    [
      'lm_head, gate of the shared expert, all that is off by default',
      EVERYTHING,
      { rank: 2, targets: ['*'] },
    ],
    ['a dense layer, rsLoRA', SOME_DENSE, { rank: 2, rsLora: true }],
    [
      'dense layers alone, one target of one layer',
      ALL_DENSE,
      { rank: 2, targets: ['layers.1.*.k_proj', 'w2'] },
    ],
    ['the embedding alone', {}, { rank: 3, targets: ['embedding'] }],
    [
      'the embedding, tied and with a multiplier, and a few others',
      EVERYTHING,
      { rank: 2, targets: ['embed_tokens', 'q_proj'] },
    ],
    ['experts of one layer', {}, { rank: 2, targets: ['layers.0.*.experts.down'] }],
  ])('%s', (_, extra, options) => {
    const model = MoETransformer.create({ ...SIZES, ...extra }, { kernels, seed: 7 });
    const { store } = model.addLora(options);
    stir(model);
    const u = Tensor.randn([2, 5, 11], { seed: 5, dtype: 'float64' });
    const values = u.data as unknown as Float32Array;
    const loss = () => {
      const { logits } = model.trace(ids);
      return (
        dot(values, logits.data) +
        model.blocks.reduce((sum, { moe }) => sum + (moe?.router.computeAuxLoss(0.3) ?? 0), 0)
      );
    };
    for (const gradientCheckpointing of [false, true]) {
      model.forward(ids, { training: true, gradientCheckpointing });
      model.zeroGradients();
      model.backward(u, { auxLossAlpha: 0.3 });
      expect(model.store.gradShards.every(({ length }) => length === 0)).toBe(true);
      const grads = store.parameters.map(({ grad }) => grad!.slice());
      store.parameters.forEach(({ name, data }, i) => {
        expect(Math.max(...grads[i].map(Math.abs)), name).toBeGreaterThan(0);
        checkGradient(name, data, grads[i], loss, 10);
      });
    }
  });

  test('with dropout: what one pass drops stays dropped in its backward, the next drops other elements', () => {
    const model = MoETransformer.create(SIZES, { kernels, seed: 7 });
    const { store } = model.addLora({ rank: 2, targets: ['attention', 'router', 'lm_head'], dropout: 0.4 });
    stir(model);
    for (const gradientCheckpointing of [false, true]) {
      const trainer = new Trainer(model, { gradientCheckpointing, auxLossAlpha: 0 });
      const loss = () => trainer.lossAndGradients(ids, targets).loss;
      const first = loss();
      const grads = store.parameters.map(({ grad }) => grad!.slice());
      store.parameters.forEach(({ name, data }, i) => {
        checkGradient(name, data, grads[i], loss, 10);
      });
      trainer.setState({ step: 1, skippedSteps: 0 });
      const second = loss();
      expect(second).not.toBe(first);
      trainer.setState({ step: 0, skippedSteps: 0 });
      expect(loss()).toBe(first);
    }
  });
});

test('dropout keeps the share that it should, scaled to the same mean, and forwards are without', () => {
  const model = smallModel();
  const plain = model.forward(ids);
  model.addLora({ targets: ['attention'], dropout: 0.5, rank: 4 });
  expect(sameBits(model.forward(ids).data, plain.data)).toBe(true);
  stir(model);
  const before = model.forward(ids);
  new Trainer(model).lossAndGradients(ids, targets);
  expect(sameBits(model.forward(ids).data, before.data)).toBe(true);
});

test('new adapters change nothing, a step trains them alone, and merged weights compute the same', () => {
  const model = smallModel(EVERYTHING);
  const base = model.store.shards.map((shard) => shard.slice());
  const plain = model.forward(ids);
  model.addLora({ rank: 4 });
  expect(sameBits(model.forward(ids).data, plain.data)).toBe(true);
  const trainer = new Trainer(model, { lr: 0.01, warmupSteps: 0, gradAccumulationSteps: 2 });
  const losses = Array.from({ length: 8 }, () => trainer.trainStep(ids, targets).loss);
  expect(losses[7]).toBeLessThan(losses[0]);
  model.store.shards.forEach((shard, i) => {
    expect(sameBits(shard, base[i])).toBe(true);
  });
  expect(trainer.moments().every(({ name }) => name.includes('.lora_'))).toBe(true);
  const adapted = model.forward(ids);
  const decoded = model.nextTokenLogits([3, 1, 4]);
  model.mergeLora();
  expect(model.lora).toBeNull();
  // Sums of products in another order, of values near 1, through two layers in float32.
  expectRelative('merged', model.forward(ids).data, adapted.data, 1e-4);
  expectRelative('merged, decoded', model.nextTokenLogits([3, 1, 4]), decoded, 1e-4);
  expect(new Trainer(model).moments()).toHaveLength(2 * model.store.parameters.length);
});

test("the embedding's own passes on Tensors have its adapter: finite differences of its gradients", () => {
  const model = MoETransformer.create({ ...SIZES, embeddingMultiplier: 2 }, { kernels, seed: 7 });
  const { store } = model.addLora({ rank: 3, targets: ['embedding'] });
  stir(model);
  const u = Tensor.randn([2, 5, SIZES.hiddenDim], { seed: 5, dtype: 'float64' });
  const loss = () =>
    dot(u.data as unknown as Float32Array, model.embedding.forward(ids).data as Float32Array);
  loss();
  model.zeroGradients();
  model.embedding.backward(u);
  for (const { name, data, grad } of store.parameters) {
    expect(Math.max(...grad!.map(Math.abs)), name).toBeGreaterThan(0);
    checkGradient(name, data, grad!.slice(), loss);
  }
});

test('an adapter of the embedding is added to the table, unless lm_head is the same matrix', () => {
  const model = smallModel();
  const plain = model.forward(ids);
  model.addLora({ rank: 4, targets: ['embedding', 'lm_head'] });
  expect(sameBits(model.forward(ids).data, plain.data)).toBe(true);
  stir(model);
  const adapted = model.forward(ids);
  model.mergeLora();
  expectRelative('merged', model.forward(ids).data, adapted.data, 1e-4);
  expect(() => expectRelative('', adapted.data, plain.data, 1e-2)).toThrow();
  for (const target of ['embedding', 'lm_head']) {
    const tied = smallModel({ tieEmbeddings: true });
    const table = tied.store.shards[0].slice();
    tied.addLora({ targets: ['attention', target] });
    stir(tied);
    expect(() => tied.mergeLora()).toThrow(/model\.embed_tokens and lm_head are one matrix in this model/);
    expect(sameBits(tied.store.shards[0], table)).toBe(true);
  }
});

test('removed adapters leave the base', () => {
  const model = smallModel();
  const plain = model.forward(ids);
  model.addLora({ rank: 2 });
  stir(model);
  expect(sameBits(model.forward(ids).data, plain.data)).toBe(false);
  expect(() => model.addLora()).toThrow(/has adapters/);
  model.removeLora();
  expect(sameBits(model.forward(ids).data, plain.data)).toBe(true);
  expect(() => model.mergeLora()).toThrow(TypeError);
});

test('a sequence is decoded token by token with adapters as a whole forward computes it', () => {
  const model = smallModel();
  model.addLora({ rank: 3, targets: ['all', 'lm_head', 'embedding'] });
  stir(model);
  const sequence = model.openSequence(8);
  const logits = new Float32Array(model.vocabSize);
  for (const length of [1, 2, 3]) sequence.append([3, 1, 4].slice(0, length), length - 1, logits);
  expectRelative('decoded', logits, model.nextTokenLogits([3, 1, 4]), 1e-4);
});

test('seeds: A starts within +-1/sqrt(in), B at 0, the same for the same seed; of the embedding A at 0', () => {
  const make = (seed: number) => smallModel().addLora({ rank: 8, seed, targets: ['experts'] });
  const [first, same, other] = [make(1), make(1), make(2)];
  const a = first.adapters[0].a.data;
  const bound = 1 / Math.sqrt(16);
  expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(bound);
  // The variance of a uniform distribution is bound^2 / 3; the sample's is within 5 % for 384 draws but once in 10.
  const variance = a.reduce((sum, x) => sum + x * x, 0) / a.length;
  expect(Math.abs(variance / (bound ** 2 / 3) - 1)).toBeLessThan(0.25);
  expect(first.adapters.every(({ b }) => b.data.every((x) => x === 0))).toBe(true);
  expect(sameBits(a, same.adapters[0].a.data)).toBe(true);
  expect(sameBits(a, other.adapters[0].a.data)).toBe(false);
  const { embedding } = smallModel().addLora({ rank: 4, targets: ['embedding'] });
  expect(embedding!.a.data.every((x) => x === 0)).toBe(true);
  expect(Math.max(...embedding!.b.data.map(Math.abs))).toBeLessThanOrEqual(1 / 2);
  expect(new Set(embedding!.b.data).size).toBeGreaterThan(1);
});

test('refusals name the target or the option', () => {
  const model = smallModel();
  expect(() => model.addLora({ targets: ['q_porj'] })).toThrow(/'q_porj' is part of no name here, such as/);
  expect(() => model.addLora({ dropout: 0.1 })).toThrow(/dropout must be 0 for stacked experts/);
  expect(() => model.addLora({ rank: 0 })).toThrow(/LoRA: rank must be an integer >= 1, got 0/);
  expect(() => model.addLora({ ranks: 3 } as never)).toThrow(TypeError);
  expect(model.lora).toBeNull();
});
