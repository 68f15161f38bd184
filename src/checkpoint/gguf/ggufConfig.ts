import { quoteName } from '../safetensorsHeader';
import { GGUF_ARCHITECTURES, type GgufArchitecture, ggufArchitecture } from './architectures';
import type { GgufMetadata } from './metadata';
import { ggufRopeScaling, ROPE_SCALING_KEYS } from './ropeScaling';

/** Keys of every architecture that are read, or that change nothing of what the model computes. */
const KNOWN_KEYS = [
  'context_length',
  'embedding_length',
  'block_count',
  'feed_forward_length',
  'expert_feed_forward_length',
  'expert_count',
  'expert_used_count',
  'vocab_size',
  'attention.head_count',
  'attention.head_count_kv',
  'attention.key_length',
  'attention.value_length',
  'attention.layer_norm_rms_epsilon',
  'attention.sliding_window',
  'rope.dimension_count',
  'rope.freq_base',
  ...ROPE_SCALING_KEYS,
];

export interface GgufConfig {
  readonly architecture: GgufArchitecture;
  /** Keys and values as in a config.json of `transformers`. */
  readonly config: Record<string, unknown>;
}

/**
 * The config.json of `transformers` that describes the model of a GGUF file.
 * @param ropeFactors the numbers of the tensor ROPE_FACTORS, or null if the file has none.
 * @throws SgemoeError SGEMOE_CONFIG_INVALID, with its name, for what sgemoe doesn't compute: another architecture,
 * a rope scaling of another kind, heads that are rotated in part, a key that isn't known.
 */
export function ggufConfig(metadata: GgufMetadata, ropeFactors: Float32Array | null): GgufConfig {
  const nExperts = metadata.number('expert_count', 0);
  const architecture = ggufArchitecture(metadata.architecture, nExperts > 0);
  if (architecture === undefined) {
    const name = quoteName(metadata.architecture);
    const known = GGUF_ARCHITECTURES.join(', ');
    throw metadata.refused(`architecture ${name} is not supported; supported are ${known}`);
  }
  refuseUnsupported(metadata, architecture);
  const experts = {
    num_experts: nExperts,
    num_experts_per_tok: metadata.number('expert_used_count', 0),
    moe_intermediate_size: nExperts > 0 ? metadata.rowsOf('blk.0.ffn_gate_exps.weight') : 0,
    norm_topk_prob: architecture.normTopkProb,
  };
  const config = {
    model_type: architecture.modelType,
    vocab_size: metadata.rowsOf('token_embd.weight'),
    hidden_size: metadata.number('embedding_length'),
    num_hidden_layers: metadata.number('block_count'),
    num_attention_heads: metadata.number('attention.head_count'),
    num_key_value_heads: metadata.number('attention.head_count_kv', metadata.number('attention.head_count')),
    head_dim: metadata.headDim,
    intermediate_size: metadata.rowsOf(nExperts > 0 ? 'blk.0.ffn_gate_exps.weight' : 'blk.0.ffn_gate.weight'),
    max_position_embeddings: metadata.number('context_length'),
    rms_norm_eps: metadata.number('attention.layer_norm_rms_epsilon'),
    rope_theta: metadata.number('rope.freq_base', 1e4),
    rope_scaling: ggufRopeScaling(metadata, ropeFactors),
    tie_word_embeddings: !metadata.tensors.has('output.weight'),
    ...(nExperts > 0 ? experts : {}),
    ...architecture.config?.(metadata),
  };
  return { architecture, config: JSON.parse(JSON.stringify(config)) };
}

function refuseUnsupported(metadata: GgufMetadata, { ownKeys }: GgufArchitecture): void {
  const { architecture: name, headDim } = metadata;
  const rotated = metadata.number('rope.dimension_count', headDim);
  if (rotated !== headDim)
    throw metadata.refused(`${name}.rope.dimension_count ${rotated} rotates a part of heads of ${headDim}`);
  const values = metadata.number('attention.value_length', headDim);
  if (values !== headDim)
    throw metadata.refused(`${name}.attention.value_length ${values} differs from that of keys, ${headDim}`);
  const context = metadata.number('context_length');
  const window = metadata.number('attention.sliding_window', context);
  if (window < context)
    throw metadata.refused(
      `${name}.attention.sliding_window ${window} is smaller than the context of ${context}`,
    );
  const unknown = metadata.keys.filter((key) => !KNOWN_KEYS.includes(key) && !ownKeys.includes(key));
  if (unknown.length > 0) {
    const keys = unknown.slice(0, 3).map((key) => quoteName(`${name}.${key}`));
    throw metadata.refused(`${keys.join(', ')} may change what the model computes and is not known`);
  }
}
