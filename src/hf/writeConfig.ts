import type { ModelConfig, ModelConfigOptions } from '../config/modelConfig';
import { ARCHITECTURES, type Architecture, CLASS_NAMES, isQwen } from './architectures';

/** What each architecture can be of the fields that are off by default; a list of the values it may have. */
const POSSIBLE: Record<Architecture, Partial<Record<keyof ModelConfigOptions, readonly unknown[]>>> = {
  mixtral: { qkNorm: ['none'], attentionBias: ['none'], normTopkProb: [true] },
  olmoe: { qkNorm: ['full'], attentionBias: ['none', 'qkvo'] },
  qwen3_moe: { qkNorm: ['head'], attentionBias: ['none', 'qkvo'] },
  qwen2_moe: { qkNorm: ['none'], attentionBias: ['none', 'qkv'] },
  granitemoe: { qkNorm: ['none'], attentionBias: ['none', 'qkvo'], normTopkProb: [true] },
};

const MULTIPLIERS = ['embeddingMultiplier', 'residualMultiplier', 'logitsDivisor'] as const;

/** Why a model can't be written as this architecture: the fields that are in the way. Empty when it can. */
export function obstacles(config: ModelConfig, architecture: Architecture): string[] {
  const fields: string[] = [];
  for (const [field, values] of Object.entries(POSSIBLE[architecture])) {
    const value = config[field as keyof ModelConfigOptions];
    if (!values.includes(value)) fields.push(`${field} ${value}`);
  }
  if (config.sharedFfnDim > 0 !== (architecture === 'qwen2_moe'))
    fields.push(`sharedFfnDim ${config.sharedFfnDim}`);
  if (architecture !== 'granitemoe') {
    for (const field of MULTIPLIERS) {
      if (config[field] !== 1) fields.push(`${field} ${config[field]}`);
    }
    if (config.attentionScale !== 1 / Math.sqrt(config.headDim)) {
      fields.push(`attentionMultiplier ${config.attentionMultiplier}`);
    }
  }
  const anyHeadDim = architecture === 'mixtral' || architecture === 'qwen3_moe';
  if (!anyHeadDim && config.headDim * config.nHeads !== config.hiddenDim)
    fields.push(`headDim ${config.headDim}`);
  return fields;
}

/**
 * The architecture to write a model as: the one asked for, or the first that can express it.
 * @throws RangeError naming the fields in the way.
 */
export function chooseForExport(config: ModelConfig, asked?: Architecture): Architecture {
  if (asked !== undefined && !ARCHITECTURES.includes(asked)) {
    throw new RangeError(
      `export: architecture must be one of ${ARCHITECTURES.join(', ')}, got ${String(asked)}`,
    );
  }
  const candidates = asked === undefined ? ARCHITECTURES : [asked];
  const found = candidates.find((architecture) => obstacles(config, architecture).length === 0);
  if (found !== undefined) return found;
  const reasons = candidates.map((name) => `${CLASS_NAMES[name]} (${obstacles(config, name).join(', ')})`);
  throw new RangeError(`export: this model can't be written as ${reasons.join(' nor as ')}`);
}

/** Ids of special tokens, null when there is none. */
export interface SpecialTokenIds {
  bos: number | null;
  eos: number | null;
  pad: number | null;
}

/**
 * config.json in the form of `transformers` 4, which version 5 reads too. Every key is written whose default there would
 * be another model; an NTK-scaled rotary base is written as the base it amounts to.
 */
export function writeHuggingFaceConfig(
  config: ModelConfig,
  architecture: Architecture,
  dtype: string,
  special: SpecialTokenIds,
): Record<string, unknown> {
  return {
    architectures: [CLASS_NAMES[architecture]],
    model_type: architecture,
    torch_dtype: dtype,
    hidden_act: 'silu',
    hidden_size: config.hiddenDim,
    num_hidden_layers: config.nLayers,
    num_attention_heads: config.nHeads,
    num_key_value_heads: config.nKvHeads,
    vocab_size: config.vocabSize,
    max_position_embeddings: config.maxSeqLen,
    num_experts_per_tok: config.topKExperts,
    rope_theta: config.effectiveRopeBase,
    rope_scaling: null,
    rms_norm_eps: config.rmsNormEps,
    router_aux_loss_coef: config.routerAuxLossCoef,
    tie_word_embeddings: config.tieEmbeddings,
    bos_token_id: special.bos,
    eos_token_id: special.eos,
    pad_token_id: special.pad,
    ...ownKeys(config, architecture),
  };
}

function ownKeys(config: ModelConfig, architecture: Architecture): Record<string, unknown> {
  const { nExperts, ffnDim, headDim, normTopkProb, attentionBias } = config;
  const bias = attentionBias !== 'none';
  if (architecture === 'mixtral') {
    return {
      num_local_experts: nExperts,
      intermediate_size: ffnDim,
      head_dim: headDim,
      sliding_window: null,
    };
  }
  if (architecture === 'granitemoe') {
    return {
      num_local_experts: nExperts,
      intermediate_size: ffnDim,
      attention_bias: bias,
      embedding_multiplier: config.embeddingMultiplier,
      attention_multiplier: config.attentionScale,
      residual_multiplier: config.residualMultiplier,
      logits_scaling: config.logitsDivisor,
    };
  }
  const common = { num_experts: nExperts, norm_topk_prob: normTopkProb, intermediate_size: ffnDim };
  if (!isQwen(architecture)) return { ...common, attention_bias: bias };
  const qwen = {
    ...common,
    moe_intermediate_size: ffnDim,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
    use_sliding_window: false,
  };
  if (architecture === 'qwen3_moe') return { ...qwen, attention_bias: bias, head_dim: headDim };
  return { ...qwen, qkv_bias: bias, shared_expert_intermediate_size: config.sharedFfnDim };
}
