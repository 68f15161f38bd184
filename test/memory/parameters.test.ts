import { describe, expect, test } from 'vitest';
import { getKernels } from '../../src/backend';
import { createReferenceKernels } from '../../src/backend/reference';
import { ParameterStore, splitSeed } from '../../src/memory/parameters';
import { MoETransformer } from '../../src/model/model';
import { sameBits } from '../helpers/close';

const kaiming = { kind: 'kaiming', fanIn: 8 } as const;

describe('ParameterStore', () => {
  test('weights lie in one shared buffer, each on a 64-byte boundary, padding zero', () => {
    const store = new ParameterStore(getKernels());
    const sizes = [5, 16, 33];
    const weights = sizes.map((size) => store.addWeight(size, { kind: 'ones' }, 'norm'));
    store.allocate();
    store.initialise(1);
    expect(store.shards).toHaveLength(1);
    expect(store.shards[0].buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(weights.map((w) => w.offset)).toEqual([0, 16, 32]);
    expect(getKernels().alignmentPadding(store.shards[0])).toBe(0);
    expect(store.shards[0].reduce((sum, x) => sum + x, 0)).toBe(5 + 16 + 33);
  });

  test('weights beyond the limit of a buffer go to the next; nothing else changes', () => {
    const build = (limit?: number) => {
      const store = new ParameterStore(getKernels(), { maxShardElements: limit });
      const parameters = [40, 20, 48, 7].map((n, i) =>
        store.expose(`w${i}`, [n], store.addWeight(n, kaiming, 'matrix')),
      );
      store.allocate();
      store.initialise(3);
      store.ensureGradients();
      for (const shard of store.gradShards) shard.fill(1);
      return { store, parameters };
    };
    const one = build();
    const many = build(64);
    expect(many.store.shards.map((s) => s.length)).toEqual([48, 32, 64]);
    one.parameters.forEach((p, i) => {
      expect(sameBits(p.data, many.parameters[i].data)).toBe(true);
    });
    expect(many.store.gradNorm()).toBe(one.store.gradNorm());
    const tooLarge = new ParameterStore(getKernels(), { maxShardElements: 64 });
    tooLarge.addWeight(65, kaiming, 'matrix');
    expect(() => tooLarge.allocate()).toThrow(/65 elements exceeds the limit of 64/);
  });

  test('stretches are cut where the key changes and where a buffer ends, and cover everything exactly once', () => {
    const store = new ParameterStore(getKernels(), { maxShardElements: 64 });
    const weights = [
      store.addWeight(20, kaiming, 'embedding'),
      store.addWeight(5, { kind: 'ones' }, 'norm'),
      store.addBias(9),
      store.addMatrix(3, 11),
    ];
    for (const [i, weight] of weights.entries()) store.expose(`w${i}`, [weight.size], weight);
    const stretch = (shard: number, offset: number, size: number, key: unknown) => ({
      shard,
      offset,
      size,
      gradShard: shard,
      gradOffset: offset,
      key,
    });
    expect(store.stretches((kind) => kind)).toEqual([
      stretch(0, 0, 32, 'embedding'),
      stretch(0, 32, 16, 'norm'),
      stretch(0, 48, 16, 'bias'),
      stretch(1, 0, 48, 'matrix'),
    ]);
    expect(store.stretches((kind) => kind === 'norm' || kind === 'bias')).toEqual([
      stretch(0, 0, 32, false),
      stretch(0, 32, 32, true),
      stretch(1, 0, 48, false),
    ]);
    expect(store.stretches(() => 1)).toEqual([stretch(0, 0, 64, 1), stretch(1, 0, 48, 1)]);
  });

  test('a seed gives the same weights on this backend as on the reference, another seed others', () => {
    const weights = (seed: number, kernels = getKernels()) =>
      MoETransformer.tiny({ seed, kernels }).store.shards[0];
    const here = weights(5);
    expect(sameBits(here, weights(5, createReferenceKernels()))).toBe(true);
    expect(sameBits(here, weights(6))).toBe(false);
    expect(sameBits(here, weights(5 + 2 ** 32))).toBe(false);
  });

  test('initial weights have std sqrt(2/fanIn), norms are 1', () => {
    const model = MoETransformer.tiny();
    const std = (name: string) => {
      const { data } = model.parameter(name);
      return Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
    };
    // The sample std of n normals is within 4/sqrt(2n) of the true one but once in 15,000 draws.
    for (const [name, fanIn] of [
      ['model.embed_tokens.weight', 64],
      ['lm_head.weight', 64],
      ['model.layers.1.block_sparse_moe.experts.3.w2.weight', 256],
      ['model.layers.1.block_sparse_moe.experts.3.w3.weight', 64],
    ] as const) {
      const want = Math.sqrt(2 / fanIn);
      const tolerance = (4 * want) / Math.sqrt(2 * model.parameter(name).size);
      expect(Math.abs(std(name) - want), name).toBeLessThan(tolerance);
    }
    expect(new Set(model.parameter('model.norm.weight').data)).toEqual(new Set([1]));
  });

  test('parameters are live views, gradients null until needed', () => {
    const model = MoETransformer.tiny();
    const parameter = model.parameter('model.layers.0.self_attn.k_proj.weight');
    expect(parameter.grad).toBeNull();
    expect(parameter.shape).toEqual([16, 64]);
    expect(parameter.data).toBe(parameter.data);
    parameter.data[3] = 42;
    expect(model.store.shards[0]).toContain(42);
    model.zeroGradients();
    expect(parameter.grad).toHaveLength(1024);
  });

  test('a seed is an integer in [0, 2^53)', () => {
    expect(splitSeed(2 ** 32 * 3 + 7)).toEqual([7, 3]);
    for (const seed of [-1, 1.5, Number.NaN, 2 ** 53]) expect(() => splitSeed(seed)).toThrow(RangeError);
  });
});
