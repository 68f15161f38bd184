import { type Architecture, isQwen } from './architectures';
import { type ConfigValues, refused } from './configValues';

/** A key that asks for something only in some of its values: the sentence against it, or null when all is well. */
type Rule = (value: unknown, architecture: Architecture, values: ConfigValues) => string | null;

const noMore = (what: string) => `${what}, which sgemoe does not compute`;
const unless = (allowed: readonly unknown[], what: (value: unknown) => string): Rule => {
  return (value) => (allowed.includes(value) ? null : noMore(what(value)));
};
const show = (value: unknown) => JSON.stringify(value);
/** For keys that only some architectures obey: where `transformers` would ignore it, only the harmless value passes. */
const onlyFor = (architectures: readonly Architecture[], harmless: unknown, key: string): Rule => {
  return (value, architecture) => {
    if (architectures.includes(architecture) || value === harmless) return null;
    return `${key} ${show(value)} has no meaning for ${architecture}, which computes as with ${show(harmless)}`;
  };
};

const slidingWindow: Rule = (window, architecture, values) => {
  if (isQwen(architecture) && !values.boolean('use_sliding_window', false)) return null;
  const context = values.number('max_position_embeddings');
  if (typeof window === 'number' && window >= context) return null;
  const what = `sliding_window ${show(window)} is smaller than max_position_embeddings ${context}`;
  const advice =
    typeof window === 'number' ? ` (with max_position_embeddings ${window} it is the same model)` : '';
  return noMore(`${what}: attention over a window${advice}`);
};

const layerTypes: Rule = (types) => {
  const all = Array.isArray(types) && types.every((type) => type === 'full_attention');
  return all ? null : noMore(`layer_types has others than "full_attention"`);
};

const denseLayers: Rule = (layers) => {
  const none = Array.isArray(layers) && layers.length === 0;
  return none ? null : noMore(`mlp_only_layers ${show(layers)} makes layers without experts`);
};

const quantised: Rule = () => 'the weights are quantised (quantization_config); load an unquantised version';

/** Keys whose value can ask for more than is computed. null and missing ask for nothing. */
const RULES: Readonly<Record<string, Rule>> = {
  sliding_window: slidingWindow,
  layer_types: layerTypes,
  mlp_only_layers: denseLayers,
  quantization_config: quantised,
  decoder_sparse_step: unless(
    [1],
    (step) => `decoder_sparse_step ${show(step)} makes layers without experts`,
  ),
  hidden_act: unless(['silu', 'swish'], (name) => `hidden_act ${show(name)} is not SiLU`),
  clip_qkv: () => noMore('clip_qkv clamps queries, keys and values'),
  partial_rotary_factor: unless(
    [1],
    (part) => `partial_rotary_factor ${show(part)} rotates a part of each head`,
  ),
  position_embedding_type: unless(['rope'], (type) => `position_embedding_type ${show(type)} is not rotary`),
  is_encoder_decoder: unless([false], () => 'is_encoder_decoder asks for an encoder'),
  add_cross_attention: unless([false], () => 'add_cross_attention asks for attention to an encoder'),
  attention_bias: onlyFor(['olmoe', 'qwen3_moe', 'granitemoe'], false, 'attention_bias'),
  qkv_bias: onlyFor(['qwen2_moe'], false, 'qkv_bias'),
  norm_topk_prob: onlyFor(['olmoe', 'qwen3_moe', 'qwen2_moe'], true, 'norm_topk_prob'),
  shared_expert_intermediate_size: onlyFor(['qwen2_moe'], 0, 'shared_expert_intermediate_size'),
  embedding_multiplier: onlyFor(['granitemoe'], 1, 'embedding_multiplier'),
  residual_multiplier: onlyFor(['granitemoe'], 1, 'residual_multiplier'),
  logits_scaling: onlyFor(['granitemoe'], 1, 'logits_scaling'),
  attention_multiplier: onlyFor(['granitemoe'], null, 'attention_multiplier'),
  use_qk_norm: (value, architecture) => {
    const norms = architecture === 'olmoe' || architecture === 'qwen3_moe';
    return value === norms
      ? null
      : `use_qk_norm ${show(value)} contradicts ${architecture}, where it is ${norms}`;
  },
};

/** Keys that change nothing of what the model computes, or that are read elsewhere. */
const KNOWN = new Set([
  ...[
    'architectures',
    'model_type',
    'transformers_version',
    'dtype',
    'torch_dtype',
    '_name_or_path',
    'use_cache',
  ],
  ...[
    'initializer_range',
    'output_router_logits',
    'output_attentions',
    'output_hidden_states',
    'return_dict',
  ],
  ...[
    'bos_token_id',
    'eos_token_id',
    'pad_token_id',
    'max_window_layers',
    'use_sliding_window',
    'pretraining_tp',
  ],
  ...[
    'auto_map',
    'attn_implementation',
    '_attn_implementation',
    'is_decoder',
    'torchscript',
    'return_dict_in_generate',
  ],
  ...[
    'chunk_size_feed_forward',
    'moe_intermediate_size',
    'intermediate_size',
    'hidden_size',
    'num_hidden_layers',
  ],
  ...['num_attention_heads', 'num_key_value_heads', 'head_dim', 'num_local_experts', 'num_experts'],
  ...[
    'num_experts_per_tok',
    'vocab_size',
    'max_position_embeddings',
    'rope_theta',
    'rope_scaling',
    'rope_parameters',
  ],
  ...['rms_norm_eps', 'router_aux_loss_coef', 'tie_word_embeddings'],
]);

/** Keys that change training alone, with the value that asks for nothing. */
const TRAINING_ONLY: Readonly<Record<string, number>> = { attention_dropout: 0, router_jitter_noise: 0 };

/**
 * Refuses what config.json asks for and sgemoe doesn't compute.
 * @throws SgemoeError SGEMOE_CONFIG_INVALID with a sentence.
 */
export function refuseUnsupported(values: ConfigValues, architecture: Architecture): void {
  for (const [key, rule] of Object.entries(RULES)) {
    const value = values.get(key);
    const sentence = value === undefined ? null : rule(value, architecture, values);
    if (sentence !== null) throw refused(sentence);
  }
}

/** What a reader should know of keys that are passed over, a sentence each; empty when nothing is. */
export function ignoredKeys(values: ConfigValues): string[] {
  const notes: string[] = [];
  const unknown = values.keys().filter((key) => {
    return !KNOWN.has(key) && !Object.hasOwn(RULES, key) && !Object.hasOwn(TRAINING_ONLY, key);
  });
  if (unknown.length > 0)
    notes.push(`config.json: keys that are not known are ignored: ${unknown.join(', ')}.`);
  for (const [key, off] of Object.entries(TRAINING_ONLY)) {
    const value = values.get(key) ?? off;
    if (value !== off)
      notes.push(`config.json: ${key} ${show(value)} changes training alone and is ignored.`);
  }
  return notes;
}
