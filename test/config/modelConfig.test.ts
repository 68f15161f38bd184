import { describe, expect, test } from 'vitest';
import { ModelConfig, MoETransformer } from '../../src';
import { expectError } from '../helpers/expectError';
import { ALL_DENSE, EVERYTHING, SMALL, SOME_DENSE } from '../helpers/smallModel';

describe('ModelConfig', () => {
  test.each(['tiny', 'small'] as const)('%s: totalParams counts what the built model has', (preset) => {
    const config = ModelConfig[preset]();
    const model = MoETransformer.create(config);
    let total = 0;
    let idle = 0;
    for (const [name, parameter] of model.namedParameters()) {
      total += parameter.size;
      const [, expert] = /experts\.(\d+)\./.exec(name) ?? [];
      // Each token passes topKExperts of a block's equal experts: count the others of them as idle.
      if (expert !== undefined && Number(expert) >= config.topKExperts) idle += parameter.size;
    }
    expect(config.totalParams()).toBe(total);
    expect(config.activeParams()).toBe(total - idle);
  });

  test.each([
    { qkNorm: 'head' },
    { qkNorm: 'full' },
    { attentionBias: 'qkv' },
    { attentionBias: 'qkvo' },
    { sharedFfnDim: 24 },
    { tieEmbeddings: true },
    EVERYTHING,
    SOME_DENSE,
    ALL_DENSE,
    { ...EVERYTHING, ...SOME_DENSE },
  ] as const)('%j: totalParams and activeParams count it', (overrides) => {
    const config = new ModelConfig({ ...SMALL, ...overrides });
    const model = MoETransformer.create(config);
    let total = 0;
    for (const [, { size }] of model.namedParameters()) total += size;
    expect(config.totalParams()).toBe(total);
    expect(total).not.toBe(new ModelConfig(SMALL).totalParams());
    const idle =
      config.nMoeLayers * (config.nExperts - config.topKExperts) * 3 * config.ffnDim * config.hiddenDim;
    expect(config.activeParams()).toBe(total - idle);
  });

  test('what is off by default leaves the weights of a seed as they were', () => {
    const names = [...MoETransformer.create(SMALL).namedParameters()].map(([name]) => name);
    expect(
      names.filter((name) => /bias|_norm\.weight$|shared/.test(name) && /self_attn|shared/.test(name)),
    ).toEqual([]);
    const plain = MoETransformer.create(SMALL, { seed: 3 }).parameter(
      'model.layers.1.self_attn.o_proj.weight',
    );
    const same = MoETransformer.create(
      { ...SMALL, residualMultiplier: 0.5, normTopkProb: false },
      { seed: 3 },
    );
    expect(same.parameter(plain.name).data).toEqual(plain.data);
  });

  test('attentionScale follows headDim unless it is given', () => {
    expect(ModelConfig.tiny().attentionScale).toBe(1 / 4);
    expect(ModelConfig.tiny().with({ headDim: 64 }).attentionScale).toBe(1 / 8);
    expect(ModelConfig.tiny({ attentionMultiplier: 0.3 }).with({ headDim: 64 }).attentionScale).toBe(0.3);
  });

  test('the presets have the sizes of the cross-language specification', () => {
    const tiny = ModelConfig.tiny();
    const sizes = [64, 2, 4, 1, 16, 4, 2, 256, 1000, 512, 10000, 1, 1e-6, 0.01];
    expect(Object.values(tiny).slice(0, sizes.length)).toEqual(sizes);
    expect(tiny.totalParams()).toBe(542_528);
    const { hiddenDim, ffnDim, headDim, nHeads } = ModelConfig.small();
    expect([hiddenDim, ffnDim, headDim, nHeads]).toEqual([256, 1024, 64, 4]);
  });

  test('default6_9b is counted without being allocated', () => {
    const config = ModelConfig.default6_9b();
    const perBlock = 2 * 768 + 2 * 768 * 768 + 2 * 768 * 64 + 16 * 768 + 3 * 16 * 6144 * 768;
    expect(config.totalParams()).toBe(2 * 32000 * 768 + 768 + 30 * perBlock);
    expect(config.activeParams()).toBe(config.totalParams() - 30 * 12 * 3 * 6144 * 768);
    expect(config.totalParams() / 1e9).toBeCloseTo(6.9, 1);
  });

  test('NTK scaling raises the base only when alpha > 1', () => {
    expect(ModelConfig.tiny().effectiveRopeBase).toBe(10000);
    expect(ModelConfig.tiny({ ropeAlpha: 0.5 }).effectiveRopeBase).toBe(10000);
    expect(ModelConfig.tiny({ ropeAlpha: 8 }).effectiveRopeBase).toBeCloseTo(10000 * 8 ** (16 / 14), 6);
  });

  test('config.json keeps every field', () => {
    const config = ModelConfig.tiny({ ropeAlpha: 4, rmsNormEps: 1e-5, routerAuxLossCoef: 0, ...EVERYTHING });
    expect(ModelConfig.fromJSON(JSON.parse(JSON.stringify(config)))).toEqual(config);
    expect(config.with({ nLayers: 3 })).toEqual(ModelConfig.tiny({ ...config, nLayers: 3 }));
    for (const dense of [SOME_DENSE, ALL_DENSE]) {
      const other = ModelConfig.tiny(dense);
      expect(ModelConfig.fromJSON(JSON.parse(JSON.stringify(other)))).toEqual(other);
    }
    // A version without dense layers wrote this.
    const { mlp_only_layers: _, dense_intermediate_size: __, ...older } = ModelConfig.tiny().toJSON();
    expect(ModelConfig.fromJSON(older)).toEqual(ModelConfig.tiny());
  });

  test.each([
    [{ nKvHeads: 3 }, /nKvHeads \(3\) must divide nHeads \(4\)/],
    [{ headDim: 15 }, /headDim must be even/],
    [{ topKExperts: 5 }, /topKExperts \(5\) must be at most nExperts \(4\)/],
    [{ hiddenDim: 0 }, /hiddenDim must be an integer >= 1 and < 2\^31, got 0/],
    [{ nLayers: 1.5 }, /nLayers/],
    [{ vocabSize: 2 ** 31 }, /vocabSize/],
    [{ ropeBase: 0 }, /ropeBase must be a finite number > 0/],
    [{ ropeBase: Number.NaN }, /ropeBase/],
    [{ rmsNormEps: 0 }, /rmsNormEps/],
    [{ ropeAlpha: 2, headDim: 2 }, /needs headDim > 2/],
    [{ routerAuxLossCoef: -1 }, /routerAuxLossCoef must be a finite number >= 0, got -1/],
    [{ denseLayers: [0] }, /denseFfnDim must be >= 1 with denseLayers, got 0/],
    [{ denseFfnDim: 8 }, /denseFfnDim must be 0 without denseLayers, got 8/],
    [{ denseLayers: [2], denseFfnDim: 8 }, /denseLayers must be ascending and below nLayers \(2\), got 2/],
    [{ nLayers: 3, denseLayers: [1, 0], denseFfnDim: 8 }, /must be ascending .* got 1, 0/],
    [{ nLayers: 3, denseLayers: [1, 1], denseFfnDim: 8 }, /must be ascending .* got 1, 1/],
    [{ denseLayers: [-1], denseFfnDim: 8 }, /denseLayers must be a list of integers >= 0, got -1/],
    [{ denseLayers: [0.5], denseFfnDim: 8 }, /denseLayers must be a list of integers/],
    [{ denseLayers: [0, 1], denseFfnDim: 8 }, /nExperts must be 0 where every layer is dense, got 4/],
    [{ ...ALL_DENSE, sharedFfnDim: 8 }, /sharedFfnDim must be 0 where every layer is dense, got 8/],
    [{ nExperts: 0, topKExperts: 0 }, /nExperts must be >= 1 unless every layer is dense, got 0/],
    [{ topKExperts: 0 }, /topKExperts must be >= 1 unless every layer is dense, got 0/],
    [{ ffnDim: 0 }, /ffnDim must be >= 1 unless every layer is dense, got 0/],
    [{ sharedFfnDim: -1 }, /sharedFfnDim must be an integer >= 0 and < 2\^31, got -1/],
    [{ embeddingMultiplier: 0 }, /embeddingMultiplier must be a finite number > 0/],
    [{ attentionMultiplier: -1 }, /attentionMultiplier must be a finite number > 0/],
    [{ residualMultiplier: Number.NaN }, /residualMultiplier must be a finite number > 0/],
    [{ logitsDivisor: Number.POSITIVE_INFINITY }, /logitsDivisor must be a finite number > 0/],
  ])('%j is refused with a sentence', (overrides, message) => {
    expect(() => ModelConfig.tiny(overrides)).toThrow(RangeError);
    expect(() => ModelConfig.tiny(overrides)).toThrow(message);
  });

  test('missing, misspelt and non-numeric fields are named', () => {
    expect(() => new ModelConfig({} as never)).toThrow(/hiddenDim is missing/);
    expect(() => ModelConfig.tiny({ hiddenSize: 3 } as never)).toThrow(/unknown option 'hiddenSize'/);
    expect(() => ModelConfig.tiny({ nHeads: '4' } as never)).toThrow(TypeError);
    expect(() => new ModelConfig(null as never)).toThrow(TypeError);
    expect(() => ModelConfig.tiny({ qkNorm: 'heads' } as never)).toThrow(
      /qkNorm must be 'none' or 'head' or 'full'/,
    );
    expect(() => ModelConfig.tiny({ attentionBias: true } as never)).toThrow(
      /attentionBias must be 'none' or/,
    );
    expect(() => ModelConfig.tiny({ tieEmbeddings: 1 } as never)).toThrow(
      /tieEmbeddings must be a boolean, got number/,
    );
    expect(() => ModelConfig.tiny({ residualMultiplier: null } as never)).toThrow(
      /residualMultiplier must be a number/,
    );
  });

  test('a config.json of another kind is refused, unknown keys too', async () => {
    const json = ModelConfig.tiny().toJSON();
    const refuse = (value: unknown, message: RegExp) =>
      expectError('SGEMOE_CONFIG_INVALID', message, () => ModelConfig.fromJSON(value));
    await refuse({ ...json, model_type: 'mixtral' }, /model_type 'mixtral' is not supported/);
    await refuse({ ...json, sliding_window: 64 }, /unknown key 'sliding_window'/);
    await refuse({ ...json, hidden_size: 'x' }, /hiddenDim must be a number/);
    await refuse([], /JSON object/);
    await refuse({ model_type: 'sgemoe' }, /hiddenDim is missing/);
  });
});
