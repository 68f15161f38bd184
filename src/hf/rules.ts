import type { Rule } from './architecture';
import { type ConfigValues, refused, show } from './configValues';

const noMore = (what: string) => `${what}, which sgemoe does not compute`;
const unless = (allowed: readonly unknown[], what: (value: unknown) => string): Rule => {
  return (value) => (allowed.includes(value) ? null : noMore(what(value)));
};

const slidingWindow: Rule = (window, values) => {
  const context = values.number('max_position_embeddings');
  if (typeof window === 'number' && window >= context) return null;
  const what = `sliding_window ${show(window)} is smaller than max_position_embeddings ${context}`;
  const advice =
    typeof window === 'number' ? ` (with max_position_embeddings ${window} it is the same model)` : '';
  return noMore(`${what}: attention over a window${advice}`);
};

/** @throws SgemoeError SGEMOE_CONFIG_INVALID for a window shorter than the context. */
export function requireWholeContext(window: number, values: ConfigValues): void {
  const sentence = slidingWindow(window, values);
  if (sentence !== null) throw refused(sentence);
}

/** The rule of architectures that read sliding_window only if use_sliding_window is true. */
export const slidingWindowInUse: Rule = (window, values) => {
  return values.boolean('use_sliding_window', false) ? slidingWindow(window, values) : null;
};

const layerTypes: Rule = (types) => {
  const all = Array.isArray(types) && types.every((type) => type === 'full_attention');
  return all ? null : noMore(`layer_types has others than "full_attention"`);
};

const quantised: Rule = () => 'the weights are quantised (quantization_config); load an unquantised version';

/** Rules for keys that can ask for something sgemoe doesn't compute, whatever the architecture. null asks for nothing. */
export const COMMON_RULES: Readonly<Record<string, Rule>> = {
  sliding_window: slidingWindow,
  layer_types: layerTypes,
  quantization_config: quantised,
  first_k_dense_replace: unless(
    [0],
    (count) => `first_k_dense_replace ${show(count)} makes dense layers in another architecture's way`,
  ),
  hidden_act: unless(['silu', 'swish'], (name) => `hidden_act ${show(name)} is not SiLU`),
  mlp_bias: unless([false], () => 'mlp_bias adds biases to the feed-forward'),
  clip_qkv: () => noMore('clip_qkv clamps queries, keys and values'),
  partial_rotary_factor: unless(
    [1],
    (part) => `partial_rotary_factor ${show(part)} rotates a part of each head`,
  ),
  position_embedding_type: unless(['rope'], (type) => `position_embedding_type ${show(type)} is not rotary`),
  is_encoder_decoder: unless([false], () => 'is_encoder_decoder asks for an encoder'),
  add_cross_attention: unless([false], () => 'add_cross_attention asks for attention to an encoder'),
};

/** Keys that don't change what the model computes, and keys that are read elsewhere. */
export const KNOWN_KEYS: ReadonlySet<string> = new Set([
  'architectures',
  'model_type',
  'transformers_version',
  'dtype',
  'torch_dtype',
  '_name_or_path',
  'use_cache',
  'initializer_range',
  'output_router_logits',
  'output_attentions',
  'output_hidden_states',
  'return_dict',
  'use_qk_norm',
  'bos_token_id',
  'eos_token_id',
  'pad_token_id',
  'max_window_layers',
  'use_sliding_window',
  'pretraining_tp',
  'auto_map',
  'attn_implementation',
  '_attn_implementation',
  'is_decoder',
  'torchscript',
  'return_dict_in_generate',
  'chunk_size_feed_forward',
  'moe_intermediate_size',
  'intermediate_size',
  'hidden_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'head_dim',
  'num_local_experts',
  'num_experts',
  'num_experts_per_tok',
  'vocab_size',
  'max_position_embeddings',
  'rope_theta',
  'rope_scaling',
  'original_max_position_embeddings',
  'rope_parameters',
  'rms_norm_eps',
  'router_aux_loss_coef',
  'tie_word_embeddings',
]);

/** Keys that only change training, with their neutral value. */
export const TRAINING_ONLY_KEYS: Readonly<Record<string, number>> = {
  attention_dropout: 0,
  router_jitter_noise: 0,
};
