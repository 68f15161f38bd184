import { describe, expect, test } from 'vitest';
import {
  Embedding,
  Linear,
  MoELayer,
  MoETransformer,
  MQAttention,
  RMSNorm,
  Router,
  SwiGLU,
  Tensor,
  TransformerBlock,
} from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { matrixOf } from '../../src/memory/matrixView';
import type { Layer } from '../../src/model/layer';
import { Passes } from '../../src/model/passes';
import { SharedExpert } from '../../src/model/sharedExpert';
import { expectRelative } from '../helpers/close';
import { checkGradient, dot } from '../helpers/finiteDifferences';
import { ALL_DENSE, EVERYTHING, SOME_DENSE } from '../helpers/smallModel';

// The model code itself, computing in float64.
const kernels = createReferenceKernels({ floatType: 'float64' });
const random = (shape: number[], seed: number) => Tensor.randn(shape, { seed, dtype: 'float64' });
// Float64Arrays stand behind the Float32Array type here; see Kernels.floatType.
const floats = (tensor: Tensor) => tensor.data as unknown as Float32Array;

/** Compares with finite differences under a random upstream: the input and every parameter, at every element. */
function checkLayer(layer: Layer<unknown, unknown>, leading: number[], samples?: number): void {
  // Norm weights start at 1 and biases at 0: move them, so that forgetting them shows.
  layer.store.parameters.forEach((parameter, i) => {
    const noise = floats(random([parameter.size], 100 + i));
    for (let j = 0; j < parameter.size; j++) parameter.data[j] += 0.1 * noise[j];
  });
  const x = random([...leading, layer.inDim], 1);
  const u = random([...leading, layer.outDim], 2);
  const loss = () => dot(floats(u), floats(layer.forward(x)));
  loss();
  layer.store.zeroGradients();
  const dx = layer.backward(u);
  checkGradient('x', floats(x), floats(dx), loss, samples);
  for (const [name, parameter] of layer.namedParameters()) {
    checkGradient(name, parameter.data, parameter.grad!.slice(), loss, samples);
  }
}

const attention = { hiddenDim: 6, nHeads: 4, nKvHeads: 2, headDim: 4 };
const experts = { hiddenDim: 6, nExperts: 5, topKExperts: 2, ffnDim: 7 };

describe('finite differences in float64, random upstream', () => {
  test('Linear', () => checkLayer(new Linear(5, 3, { kernels }), [2, 4]));
  test('Linear with bias', () => checkLayer(new Linear(5, 3, { kernels, bias: true }), [7]));
  test('RMSNorm, with a large eps too', () => {
    checkLayer(new RMSNorm(9, { kernels }), [2, 3]);
    checkLayer(new RMSNorm(9, { kernels, eps: 0.5 }), [2, 3]);
  });
  test('SwiGLU', () => checkLayer(new SwiGLU(5, 7, { kernels }), [2, 3]));
  test('grouped-query attention', () => checkLayer(new MQAttention(attention, { kernels }), [2, 5]));
  test('multi-query attention, one token', () => {
    checkLayer(new MQAttention({ ...attention, nKvHeads: 1 }, { kernels }), [3, 1]);
  });
  test('router: gate weights, renormalised', () => checkLayer(new Router(6, 5, 3, { kernels }), [2, 4]));
  test.each([true, false])('router with a selection bias, renormalised: %s', (renormalise) => {
    const router = new Router(6, 5, 2, { kernels, renormalise });
    router.selectionBias.data.set([1, -1, 0, 0, 0]);
    checkLayer(router, [2, 4]);
    expect([router.counts[0], router.counts[1]]).toEqual([8, 0]);
  });
  test('router with one choice: the renormalised weight is 1, so its gradient is 0', () => {
    const router = new Router(6, 5, 1, { kernels });
    const x = random([4, 6], 1);
    expect(Array.from(floats(router.forward(x)))).toEqual([1, 1, 1, 1]);
    const dx = router.backward(random([4, 1], 2));
    for (const value of floats(dx)) expect(Math.abs(value)).toBeLessThan(1e-15);
  });
  test('mixture of experts', () => checkLayer(new MoELayer(experts, { kernels }), [2, 4]));
  test('mixture of experts, every expert chosen', () => {
    checkLayer(new MoELayer({ ...experts, topKExperts: 5 }, { kernels }), [3]);
  });
  test('one expert', () => {
    checkLayer(new MoELayer({ ...experts, nExperts: 1, topKExperts: 1 }, { kernels }), [3]);
  });
  test('Linear with a scale, with bias too', () => {
    checkLayer(new Linear(5, 3, { kernels, scale: 0.3 }), [2, 4]);
    checkLayer(new Linear(5, 3, { kernels, bias: true, scale: 3 }), [7]);
  });
  test('SwiGLU with a scale', () => checkLayer(new SwiGLU(5, 7, { kernels, scale: 0.4 }), [2, 3]));
  test.each([
    { qkNorm: 'head' },
    { qkNorm: 'full' },
    { qkNorm: 'full', rmsNormEps: 0.5 },
    { attentionBias: 'qkv' },
    { attentionBias: 'qkvo' },
    { attentionMultiplier: 1.3 },
    { residualMultiplier: 0.3 },
    { qkNorm: 'head', attentionBias: 'qkvo', attentionMultiplier: 0.9, residualMultiplier: 1.7 },
  ] as const)('attention with %j', (extra) => {
    checkLayer(new MQAttention({ ...attention, ...extra }, { kernels }), [2, 5]);
  });
  test('query and key norms of fewer tokens than heads', () => {
    checkLayer(new MQAttention({ ...attention, qkNorm: 'head' }, { kernels }), [3]);
    checkLayer(new MQAttention({ ...attention, qkNorm: 'full' }, { kernels }), [1]);
  });
  test('router: probabilities as they are', () => {
    checkLayer(new Router(6, 5, 3, { kernels, renormalise: false }), [2, 4]);
    checkLayer(new Router(6, 5, 1, { kernels, renormalise: false }), [5]);
  });
  test('shared expert with its gate', () =>
    checkLayer(new SharedExpert(6, 7, { kernels, scale: 0.6 }), [2, 4]));
  test('mixture of experts with a shared one, unnormalised weights, a multiplier', () => {
    const dims = { ...experts, sharedFfnDim: 4, normTopkProb: false, residualMultiplier: 0.6 };
    checkLayer(new MoELayer(dims, { kernels }), [2, 4]);
  });
  test('Embedding with a multiplier', () => {
    const embedding = new Embedding(6, 3, { kernels, multiplier: 2.5 });
    const ids = Tensor.fromIds([[1, 4, 1, 1, 0]]);
    const u = random([1, 5, 3], 3);
    const loss = () => dot(floats(u), floats(embedding.forward(ids)));
    loss();
    const before = u.data.slice();
    embedding.backward(u);
    checkGradient('table', embedding.weight.data, embedding.weight.grad!, loss);
    expect(u.data).toEqual(before);
  });

  test('transformer block', () => {
    checkLayer(new TransformerBlock({ ...attention, ...experts }, { kernels }), [2, 4], 40);
  });

  test('dense transformer block, with a multiplier too', () => {
    const none = { nExperts: 0, topKExperts: 0, ffnDim: 0, denseFfnDim: 9 };
    const block = new TransformerBlock({ ...attention, ...none }, { kernels });
    expect([...block.namedParameters()].map(([name]) => name)).toEqual(
      expect.arrayContaining(['mlp.w1.weight', 'mlp.w2.weight', 'mlp.w3.weight']),
    );
    checkLayer(block, [2, 4], 40);
    checkLayer(
      new TransformerBlock({ ...attention, ...none, residualMultiplier: 0.6 }, { kernels }),
      [7],
      40,
    );
  });

  test('Embedding: repeated ids add up, absent ones get nothing', () => {
    const embedding = new Embedding(6, 3, { kernels });
    const ids = Tensor.fromIds([[1, 4, 1, 1, 0]]);
    const u = random([1, 5, 3], 3);
    const loss = () => dot(floats(u), floats(embedding.forward(ids)));
    loss();
    embedding.backward(u);
    checkGradient('table', embedding.weight.data, embedding.weight.grad!, loss);
    expect(Array.from(embedding.weight.grad!.subarray(6, 12))).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test.each([
    ['nothing more', {}],
    ['tied embeddings', { tieEmbeddings: true }],
    ['tied embeddings and multipliers', { tieEmbeddings: true, embeddingMultiplier: 2, logitsDivisor: 3 }],
    ['all that is off by default', EVERYTHING],
    ['selection biases', {}, [0.2, -0.4, 0.1, 0, 0]],
    ['a dense layer first', SOME_DENSE],
    [
      'a dense layer last, and all that is off by default',
      { ...EVERYTHING, denseLayers: [1], denseFfnDim: 9 },
    ],
    ['dense layers alone', ALL_DENSE],
    [
      'stretched rotary angles, larger than 1',
      { ropeAlpha: 1, ropeScaling: { type: 'yarn', factor: 4, originalMaxSeqLen: 4 } as const },
    ],
  ])(
    'the whole model with %s: logits, balance loss and z-loss, through every parameter',
    (_, extra, bias = []) => {
      const sizes = { ...attention, ...experts, nLayers: 2, vocabSize: 11, maxSeqLen: 16, ropeAlpha: 4 };
      const config = { ...sizes, ...extra };
      const model = MoETransformer.create(config, { kernels, seed: 7 });
      for (const [, { data }] of model.namedBuffers()) data.set(bias);
      const ids = Tensor.fromIds([
        [3, 1, 4, 1, 5],
        [9, 2, 6, 5, 3],
      ]);
      const u = random([2, 5, 11], 5);
      const alpha = 0.3;
      const zLossCoef = 0.2;
      const loss = () => {
        const { logits, routing } = model.trace(ids);
        let total = dot(floats(u), logits.data);
        model.blocks.forEach((block, i) => {
          if (block.moe === null) return;
          const lse = routing[i]!.logits.exp().sum(1).log();
          total += block.moe.router.computeAuxLoss(alpha) + zLossCoef * lse.mul(lse).mean().item();
        });
        return total;
      };
      loss();
      model.zeroGradients();
      model.backward(u, { auxLossAlpha: alpha, zLossCoef });
      const once = model.store.gradShards.map((shard) => shard.slice());
      for (const [name, parameter] of model.namedParameters()) {
        checkGradient(name, parameter.data, parameter.grad!.slice(), loss, 12);
        const [, layer, expert] = /layers\.(\d+)\..*experts\.(\d+)/.exec(name) ?? [];
        const idle =
          layer !== undefined && model.blocks[Number(layer)].moe!.router.counts[Number(expert)] === 0;
        const largest = Math.max(...parameter.grad!.map(Math.abs));
        expect(largest > 0, `${name} has a gradient unless its expert got no token`).toBe(!idle);
      }
      // A second backward adds the same again; one that overwrites (as training does) gives it once.
      loss();
      model.backward(u, { auxLossAlpha: alpha, zLossCoef });
      model.store.gradShards.forEach((shard, i) => {
        expectRelative(
          'twice',
          shard,
          once[i].map((g) => 2 * g),
          1e-12,
        );
      });
      const routed = model.blocks.find(({ moe }) => moe !== null)?.moe?.router;
      const routerLosses = routed?.losses ?? { auxLossAlpha: 0, zLossCoef: 0, weight: 1 };
      const passes = new Passes({
        ...model,
        routerLosses,
        owned: { embedding: [0, 0], blocks: [], head: [0, 0] },
        lora: null,
      });
      const pass = passes.enter(2, 5, 'train', 'logits');
      passes.copyIds(pass.ids, ids.data as Int32Array);
      passes.hidden(pass);
      const upstream = matrixOf(floats(u), pass.tokens, model.config.vocabSize);
      const head = () => passes.logitsBackward(pass, upstream);
      passes.backward(pass, { auxLossAlpha: alpha, zLossCoef, weight: 1 }, true, head);
      model.store.gradShards.forEach((shard, i) => {
        expectRelative('overwritten', shard, once[i], 1e-12);
      });
    },
  );
});
