import type { GgufMetadata } from './metadata';

/**
 * What llama.cpp calls an architecture (`general.architecture`), told in the words of `transformers`: its config.json and
 * its names of tensors.
 */
export interface GgufArchitecture {
  /** The `model_type` of `transformers`; `llama` with experts has another one. */
  readonly modelType: string;
  /**
   * true: rotation pairs neighbouring rows of queries and keys, in the order of llama.cpp's converter. false: it pairs halves,
   * as in `transformers`.
   */
  readonly neighbours: boolean;
  /** Whether gate weights are renormalised; undefined where the configuration has no such key. */
  readonly normTopkProb?: boolean | undefined;
  /** Whether llama.cpp adds biases of queries, keys and values. Default true. */
  readonly attentionBias?: boolean | undefined;
  /** Tensor names below `model.layers.<i>.` */
  readonly router: string;
  readonly experts: ExpertNames;
  /** Metadata keys (below its name) that only this architecture has. */
  readonly ownKeys: readonly string[];
  /** Keys of config.json that only this architecture has. */
  config?(metadata: GgufMetadata): Record<string, unknown>;
}

/** Names of the experts' tensors: one for each matrix of each expert, or stacks of all experts, with gate's rows before up's. */
export type ExpertNames =
  | { readonly gate: NameOf; readonly up: NameOf; readonly down: NameOf }
  | { readonly gateUp: string; readonly stackedDown: string };
type NameOf = (expert: number) => string;

const projections: ExpertNames = {
  gate: (expert) => `mlp.experts.${expert}.gate_proj.weight`,
  up: (expert) => `mlp.experts.${expert}.up_proj.weight`,
  down: (expert) => `mlp.experts.${expert}.down_proj.weight`,
};

/** Whether queries have a bias, for architectures whose config.json says so. */
const attentionBias = ({ tensors }: GgufMetadata) => ({ attention_bias: tensors.has('blk.0.attn_q.bias') });

const PLAIN = {
  neighbours: false,
  router: 'mlp.gate.weight',
  experts: projections,
  ownKeys: [],
} as const;

const mixtral: GgufArchitecture = {
  modelType: 'mixtral',
  neighbours: true,
  router: 'block_sparse_moe.gate.weight',
  experts: {
    gate: (expert) => `block_sparse_moe.experts.${expert}.w1.weight`,
    up: (expert) => `block_sparse_moe.experts.${expert}.w3.weight`,
    down: (expert) => `block_sparse_moe.experts.${expert}.w2.weight`,
  },
  ownKeys: [],
};

/** The architectures that are read, by their `general.architecture`. */
const ARCHITECTURES: Readonly<Record<string, GgufArchitecture>> = {
  llama: { ...PLAIN, modelType: 'llama', neighbours: true, config: attentionBias },
  qwen2: { ...PLAIN, modelType: 'qwen2' },
  qwen3: { ...PLAIN, modelType: 'qwen3', config: attentionBias },
  qwen2moe: {
    ...PLAIN,
    modelType: 'qwen2_moe',
    normTopkProb: false,
    ownKeys: ['expert_shared_feed_forward_length'],
    config: (metadata) => ({
      qkv_bias: metadata.tensors.has('blk.0.attn_q.bias'),
      shared_expert_intermediate_size: metadata.rowsOf('blk.0.ffn_gate_shexp.weight'),
    }),
  },
  qwen3moe: {
    ...PLAIN,
    modelType: 'qwen3_moe',
    normTopkProb: true,
    attentionBias: false,
    config: attentionBias,
  },
  olmoe: {
    ...PLAIN,
    modelType: 'olmoe',
    normTopkProb: false,
    attentionBias: false,
    config: attentionBias,
  },
  granitemoe: {
    modelType: 'granitemoe',
    neighbours: true,
    attentionBias: false,
    router: 'block_sparse_moe.router.layer.weight',
    experts: {
      gateUp: 'block_sparse_moe.input_linear.weight',
      stackedDown: 'block_sparse_moe.output_linear.weight',
    },
    ownKeys: ['embedding_scale', 'residual_scale', 'logit_scale', 'attention.scale'],
    config: (metadata) => ({
      ...attentionBias(metadata),
      embedding_multiplier: metadata.number('embedding_scale', 1),
      residual_multiplier: metadata.number('residual_scale', 1),
      logits_scaling: metadata.number('logit_scale', 1),
      attention_multiplier: metadata.number('attention.scale', 1 / Math.sqrt(metadata.headDim)),
    }),
  },
};

export const GGUF_ARCHITECTURES = Object.keys(ARCHITECTURES);

/** The architecture of this name, with experts or without; undefined for one that isn't read. */
export function ggufArchitecture(name: string, hasExperts: boolean): GgufArchitecture | undefined {
  if (name === 'llama' && hasExperts) return mixtral;
  return Object.hasOwn(ARCHITECTURES, name) ? ARCHITECTURES[name] : undefined;
}

/** How llama.cpp calls and computes what `transformers` calls `modelType`; undefined where it isn't read. */
export function ggufNameOf(modelType: string): (GgufArchitecture & { readonly name: string }) | undefined {
  if (modelType === mixtral.modelType) return { name: 'llama', ...mixtral };
  const found = Object.entries(ARCHITECTURES).find(([, each]) => each.modelType === modelType);
  return found && { name: found[0], ...found[1] };
}
