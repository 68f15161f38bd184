import { describe, expect, test } from 'vitest';
import { ARCHITECTURES, type Architecture, definitionOf } from '../../src/hf/architectures';
import { isHuggingFaceConfig, readHuggingFaceConfig } from '../../src/hf/readConfig';
import { expectError } from '../helpers/expectError';
import { loadHfFixture } from '../helpers/hfFixture';

type Json = Record<string, unknown>;

const DENSE: readonly Architecture[] = ['llama', 'mistral', 'qwen2', 'qwen3'];
const isDense = (architecture: Architecture) => DENSE.includes(architecture);

/** The smallest config.json of each architecture that names all sizes. */
function sizes(architecture: Architecture): Json {
  return {
    model_type: architecture,
    hidden_size: 32,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    ...(isDense(architecture)
      ? {}
      : { num_local_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 20 }),
    intermediate_size: 24,
    shared_expert_intermediate_size:
      'shared_expert_intermediate_size' in definitionOf(architecture).ownKeys ? 12 : undefined,
    vocab_size: 50,
    max_position_embeddings: 128,
    sliding_window: architecture === 'mistral' ? null : undefined,
  };
}
const read = (architecture: Architecture, more: Json = {}) =>
  readHuggingFaceConfig(JSON.parse(JSON.stringify({ ...sizes(architecture), ...more })));

describe('config.json of transformers', () => {
  test.each(ARCHITECTURES)(
    '%s: version 4 and version 5 describe one model, nothing is ignored',
    async (name) => {
      const { config, configV4 } = await loadHfFixture(name);
      const five = readHuggingFaceConfig(config);
      expect(five.architecture).toBe(name);
      expect(five.notes).toEqual([]);
      expect(readHuggingFaceConfig(configV4)).toEqual(five);
      expect(isHuggingFaceConfig(config)).toBe(true);
    },
  );

  test('a config.json of another kind is left to sgemoe', () => {
    expect(isHuggingFaceConfig({ model_type: 'sgemoe' })).toBe(false);
    expect(isHuggingFaceConfig({ hidden_size: 3 })).toBe(false);
  });

  test('keys that are missing have the defaults of transformers', () => {
    expect(read('mixtral').config).toMatchObject({
      ropeBase: 1e6,
      rmsNormEps: 1e-5,
      normTopkProb: true,
      ffnDim: 24,
    });
    expect(read('olmoe').config).toMatchObject({
      qkNorm: 'full',
      normTopkProb: false,
      routerAuxLossCoef: 0.01,
    });
    expect(read('qwen3_moe').config).toMatchObject({
      qkNorm: 'head',
      ffnDim: 20,
      rmsNormEps: 1e-6,
      ropeBase: 1e4,
    });
    expect(read('qwen2_moe').config).toMatchObject({ attentionBias: 'qkv', ffnDim: 20, sharedFfnDim: 12 });
    expect(read('granitemoe').config).toMatchObject({
      attentionMultiplier: 1,
      normTopkProb: true,
      logitsDivisor: 1,
    });
    expect(read('qwen2').config).toMatchObject({
      attentionBias: 'qkv',
      denseLayers: [0, 1],
      denseFfnDim: 24,
    });
    expect(read('qwen3').config).toMatchObject({ qkNorm: 'head', headDim: 128 });
    expect(read('llama').config).toMatchObject({ ropeBase: 1e4, rmsNormEps: 1e-6, nExperts: 0 });
    for (const name of ARCHITECTURES.filter((other) => other !== 'qwen3'))
      expect(read(name).config).toMatchObject({ tieEmbeddings: false, headDim: 8 });
  });

  test('heads: null is as many as query heads, a missing key what the architecture says', () => {
    const more = { num_attention_heads: 16, hidden_size: 128 };
    const without = (name: Architecture) => {
      const { num_key_value_heads: _, ...json } = { ...sizes(name), ...more } as Json;
      return readHuggingFaceConfig(json).config.nKvHeads;
    };
    const names = ['mixtral', 'olmoe', 'qwen3_moe', 'qwen2_moe', 'granitemoe', 'llama', 'mistral'] as const;
    expect(names.map(without)).toEqual([8, 16, 4, 16, 16, 16, 8]);
    expect(read('mixtral', { ...more, num_key_value_heads: null }).config.nKvHeads).toBe(16);
    expect(read('qwen3_moe', { head_dim: 12 }).config.headDim).toBe(12);
    expect(read('granitemoe', { head_dim: 8 }).config.headDim).toBe(8);
  });

  test('rotary base: from either version, agreeing where both stand', () => {
    const base = (more: Json) => read('mixtral', more).config.ropeBase;
    expect(base({ rope_theta: 500 })).toBe(500);
    expect(base({ rope_theta: 500, rope_scaling: null })).toBe(500);
    expect(base({ rope_parameters: { rope_theta: 500, rope_type: 'default' } })).toBe(500);
    expect(base({ rope_theta: 500, rope_parameters: { rope_theta: 500 } })).toBe(500);
  });

  test.each<[Architecture, Json]>([
    ['mixtral', { sliding_window: 128 }],
    ['mixtral', { sliding_window: null, attention_bias: false, rope_scaling: null, pretraining_tp: 1 }],
    ['qwen2_moe', { sliding_window: 0, use_sliding_window: false, max_window_layers: 1 }],
    [
      'qwen2_moe',
      { layer_types: ['full_attention', 'full_attention'], mlp_only_layers: [], decoder_sparse_step: 1 },
    ],
    ['qwen3_moe', { qkv_bias: false, use_qk_norm: true, shared_expert_intermediate_size: 0, head_dim: null }],
    ['olmoe', { clip_qkv: null, hidden_act: 'swish', quantization_config: null }],
    ['granitemoe', { position_embedding_type: 'rope', partial_rotary_factor: 1, attention_dropout: 0.0 }],
  ])('%s loads with %j, without a warning', (architecture, more) => {
    expect(read(architecture, more).notes).toEqual([]);
  });

  test.each([
    [
      { type: 'linear', factor: 2 },
      { type: 'linear', factor: 2 },
    ],
    [
      { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
      { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxSeqLen: 128 },
    ],
    [
      { type: 'yarn', factor: 4, original_max_position_embeddings: 32, attention_factor: null },
      {
        factor: 4,
        originalMaxSeqLen: 32,
        attentionFactor: 0.1 * Math.log(4) + 1,
        betaFast: 32,
        truncate: true,
      },
    ],
    [{ type: 'yarn', original_max_position_embeddings: 16 }, { factor: 8 }],
    [
      { type: 'yarn', factor: 40, mscale: 1, mscale_all_dim: 0.5, beta_fast: 16, truncate: false },
      {
        attentionFactor: (0.1 * Math.log(40) + 1) / (0.05 * Math.log(40) + 1),
        betaFast: 16,
        truncate: false,
      },
    ],
  ])('rope scaling %j is read from either version', (json, want) => {
    const { config, notes } = read('llama', { rope_theta: 500, rope_scaling: json });
    expect(config.ropeScaling).toMatchObject(want);
    expect([config.ropeBase, notes]).toEqual([500, []]);
    const five = read('llama', { rope_parameters: { ...json, rope_theta: 500 } });
    expect(five).toEqual(read('llama', { rope_theta: 500, rope_scaling: json }));
    expect(
      read('llama', { rope_theta: 500, rope_scaling: { rope_type: 'default' } }).config.ropeScaling,
    ).toBeNull();
  });

  test.each([
    [{}, [], 20, 0],
    [{ mlp_only_layers: [3, 0, 9] }, [0, 3], 20, 24],
    [{ decoder_sparse_step: 2 }, [0, 2], 20, 24],
    [{ decoder_sparse_step: 3, mlp_only_layers: [2] }, [0, 1, 2, 3], 0, 24],
    [{ num_local_experts: 0 }, [0, 1, 2, 3], 0, 24],
  ])('%j: the dense layers of four are %j', (more, denseLayers, ffnDim, denseFfnDim) => {
    for (const name of ['qwen2_moe', 'qwen3_moe'] as const) {
      const { config } = read(name, { num_hidden_layers: 4, ...more });
      const nExperts = ffnDim === 0 ? 0 : 4;
      expect(config).toMatchObject({ denseLayers, ffnDim, denseFfnDim, nExperts });
    }
  });

  test('unknown keys are listed, keys of training mentioned', () => {
    const { notes } = read('mixtral', { num_nextn_predict_layers: 1, mystery: {}, router_jitter_noise: 0.1 });
    expect(notes).toEqual([
      'config.json: keys that are not known are ignored: num_nextn_predict_layers, mystery.',
      'config.json: router_jitter_noise 0.1 changes training alone and is ignored.',
    ]);
  });

  test.each<[Architecture, Json, RegExp]>([
    [
      'mixtral',
      { sliding_window: 64 },
      /sliding_window 64 is smaller than max_position_embeddings 128.*with max_pos/,
    ],
    ['mixtral', { sliding_window: 'all' }, /sliding_window "all"/],
    ['olmoe', { sliding_window: 1 }, /sliding_window 1 /],
    ['qwen3_moe', { sliding_window: 64, use_sliding_window: true }, /sliding_window 64/],
    ['qwen2_moe', { layer_types: ['full_attention', 'sliding_attention'] }, /layer_types/],
    [
      'mixtral',
      { rope_scaling: { type: 'dynamic', factor: 2 } },
      /rope_scaling of type "dynamic" is not supported, only default, linear, llama3, yarn/,
    ],
    ['llama', { rope_parameters: { rope_type: 'longrope' } }, /rope_parameters of type "longrope"/],
    ['llama', { rope_scaling: { type: 'linear' } }, /ropeScaling: factor is missing/],
    [
      'llama',
      { rope_scaling: { type: 'linear', factor: 0.5 } },
      /ropeScaling: factor must be .*>= 1, got 0.5/,
    ],
    ['llama', { rope_scaling: { type: 'linear', factor: '2' } }, /ropeScaling: factor must be a number/],
    ['llama', { rope_scaling: { type: 'linear', factor: 2, mystery: 1 } }, /unknown option 'mystery'/],
    [
      'llama',
      { rope_scaling: { rope_type: 'llama3', factor: 2, low_freq_factor: 1 } },
      /highFreqFactor is missing/,
    ],
    [
      'llama',
      { rope_scaling: { rope_type: 'llama3', factor: 2, low_freq_factor: 4, high_freq_factor: 4 } },
      /highFreqFactor must be > lowFreqFactor \(4\)/,
    ],
    ['qwen3', { rope_theta: 1, rope_scaling: { type: 'yarn', factor: 2 } }, /yarn needs ropeBase > 1, got 1/],
    [
      'qwen3',
      { rope_scaling: { type: 'yarn', factor: 2, beta_fast: 1 } },
      /betaFast must be > betaSlow \(1\)/,
    ],
    [
      'qwen3',
      { original_max_position_embeddings: 32, rope_scaling: { type: 'yarn', factor: 2 } },
      /original_max_position_embeddings has different values: 32 and, for the scaling, 128/,
    ],
    [
      'qwen3',
      {
        rope_scaling: { type: 'yarn', factor: 2 },
        rope_parameters: { rope_type: 'yarn', factor: 4, rope_theta: 5 },
      },
      /rope_parameters and rope_scaling disagree/,
    ],
    [
      'mistral',
      { max_position_embeddings: 8192, sliding_window: undefined },
      /sliding_window 4096 is smaller than max_position_embeddings 8192/,
    ],
    ['mistral', { sliding_window: 64 }, /sliding_window 64 is smaller/],
    ['qwen2', { sliding_window: 64, use_sliding_window: true }, /sliding_window 64/],
    ['llama', { mlp_bias: true }, /mlp_bias adds biases to the feed-forward/],
    ['mistral', { attention_bias: true }, /attention_bias true has no meaning for mistral/],
    ['llama', { num_local_experts: 4 }, /num_local_experts 4 has no meaning for an architecture without/],
    ['llama', { mlp_only_layers: [0] }, /mlp_only_layers \[0\] has no meaning for llama/],
    ['llama', { num_hidden_layers: 2 ** 31 }, /num_hidden_layers must be an integer in \[1, 65536\]/],
    [
      'mixtral',
      { rope_parameters: { full_attention: { rope_theta: 1 } } },
      /differs by layer \(full_attention\)/,
    ],
    ['mixtral', { rope_scaling: [1] }, /rope_scaling must be an object/],
    ['mixtral', { rope_theta: 9, rope_parameters: { rope_theta: 5000 } }, /different values: 5000, 9/],
    ['mixtral', { rope_theta: 'x' }, /rope_theta must be a number, got "x"/],
    ['mixtral', { partial_rotary_factor: 0.5 }, /partial_rotary_factor 0.5/],
    ['mixtral', { rope_parameters: { partial_rotary_factor: 0.5 } }, /partial_rotary_factor 0.5/],
    ['mixtral', { hidden_act: 'gelu' }, /hidden_act "gelu" is not SiLU/],
    ['qwen2_moe', { mlp_only_layers: [-1] }, /mlp_only_layers must be a list of layers, got \[-1\]/],
    ['qwen2_moe', { mlp_only_layers: 1 }, /mlp_only_layers must be a list of layers, got 1/],
    ['mixtral', { mlp_only_layers: [0] }, /mlp_only_layers \[0\] has no meaning for mixtral/],
    ['qwen3_moe', { first_k_dense_replace: 1 }, /first_k_dense_replace 1 makes dense layers/],
    ['qwen3_moe', { decoder_sparse_step: 0 }, /decoder_sparse_step must be an integer >= 1, got 0/],
    ['olmoe', { decoder_sparse_step: 2 }, /decoder_sparse_step 2 has no meaning for olmoe/],
    ['mixtral', { num_local_experts: 0 }, /without experts/],
    ['qwen3_moe', { num_experts: 8 }, /num_local_experts 4 and num_experts 8 disagree/],
    ['olmoe', { clip_qkv: 8 }, /clip_qkv/],
    ['qwen3_moe', { quantization_config: { quant_method: 'gptq' } }, /quantised/],
    ['granitemoe', { position_embedding_type: 'alibi' }, /"alibi" is not rotary/],
    ['mixtral', { attention_bias: true }, /attention_bias true has no meaning for mixtral/],
    ['qwen2_moe', { attention_bias: true }, /attention_bias/],
    ['qwen3_moe', { qkv_bias: true }, /qkv_bias true has no meaning/],
    ['qwen3_moe', { use_qk_norm: false }, /use_qk_norm false contradicts qwen3_moe/],
    ['mixtral', { use_qk_norm: true }, /use_qk_norm true contradicts mixtral/],
    ['qwen3_moe', { shared_expert_intermediate_size: 8 }, /shared_expert_intermediate_size 8 has no meaning/],
    ['mixtral', { norm_topk_prob: false }, /norm_topk_prob false has no meaning for mixtral/],
    ['mixtral', { logits_scaling: 2 }, /logits_scaling 2 has no meaning/],
    ['olmoe', { attention_multiplier: 0.1 }, /attention_multiplier 0.1 has no meaning/],
    ['mixtral', { is_encoder_decoder: true }, /encoder/],
    ['mixtral', { add_cross_attention: true }, /encoder/],
    [
      'mixtral',
      { architectures: ['MixtralForSequenceClassification'] },
      /"MixtralForSequenceClassification" is not supp/,
    ],
    [
      'mixtral',
      { architectures: ['OlmoeForCausalLM'] },
      /architectures says OlmoeForCausalLM, model_type says mixtral/,
    ],
    ['mixtral', { model_type: 'gemma' }, /model_type "gemma" is not supported/],
    ['olmoe', { head_dim: 12 }, /head_dim 12 must be hidden_size \/ num_attention_heads = 8 for olmoe/],
    ['mixtral', { hidden_size: null }, /hidden_size is missing/],
    ['mixtral', { vocab_size: '50' }, /vocab_size must be a number, got "50"/],
    ['mixtral', { tie_word_embeddings: 1 }, /tie_word_embeddings must be true or false, got 1/],
    ['mixtral', { num_key_value_heads: 3 }, /nKvHeads \(3\) must divide/],
    ['mixtral', { architectures: [], model_type: undefined }, /names a model/],
  ])('%s with %j is refused', async (architecture, more, message) => {
    await expectError('SGEMOE_CONFIG_INVALID', message, () => read(architecture, more));
  });
});
