/** What a ModelConfig is made of: one row a field. */
import {
  boolean,
  choice,
  integer,
  integers,
  number,
  type OptionRow,
  type OptionTable,
  other,
} from '../base/options';
import type { RopeScaling } from './ropeScaling';

/** The sizes of a model. Every field is required by the constructor unless a default is given. */
export interface ModelConfigOptions {
  /** H, width of the residual stream. */
  hiddenDim: number;
  /** Number of transformer blocks. */
  nLayers: number;
  /** Query heads. */
  nHeads: number;
  /** Key/value heads; divides nHeads (1: multi-query, nHeads: multi-head, between: grouped-query attention). */
  nKvHeads: number;
  /** D, width of a head, even. */
  headDim: number;
  /** E, experts per block; 0 if every layer is dense. */
  nExperts: number;
  /** K, experts that each token reaches, 1..nExperts; 0 if every layer is dense. */
  topKExperts: number;
  /** F, inner width of an expert; 0 if every layer is dense. */
  ffnDim: number;
  /** V. */
  vocabSize: number;
  /** Longest sequence in tokens. */
  maxSeqLen: number;
  /** Base of the rotary frequencies. Default 10000. */
  ropeBase?: number | undefined;
  /** NTK scaling: base' = base * alpha^(D/(D-2)) when alpha > 1. Default 1. */
  ropeAlpha?: number | undefined;
  /** Added to the mean square in RMSNorm. Default 1e-6. */
  rmsNormEps?: number | undefined;
  /** Weight of the load-balancing loss. Default 0.01. */
  routerAuxLossCoef?: number | undefined;
  /**
   * RMSNorm of the queries and of the keys before they are rotated: 'head' norms the D numbers of each head, with one
   * gain [D] for all heads (Qwen3); 'full' all heads' numbers of a token at once, with a gain of their length (OLMoE).
   * Default 'none'.
   */
  qkNorm?: QueryKeyNormKind | undefined;
  /** Biases of the projections to queries, keys and values ('qkv'), and of the output ('qkvo'). Default 'none'. */
  attentionBias?: AttentionBiasKind | undefined;
  /** Whether the gate weights of the chosen experts are divided by their sum. Default true. */
  normTopkProb?: boolean | undefined;
  /** Width of an expert that every token passes, scaled by the sigmoid of a gate (Qwen2-MoE); 0 means none. Default 0. */
  sharedFfnDim?: number | undefined;
  /**
   * Indices of the dense layers, in ascending order: their feed-forward is a single SwiGLU, without router and experts.
   * Default [].
   */
  denseLayers?: readonly number[] | undefined;
  /** Inner width of the dense layers' SwiGLU; 0 without dense layers. Default 0. */
  denseFfnDim?: number | undefined;
  /**
   * How the rotary frequencies are stretched: 'linear', 'llama3' or 'yarn', with their numbers; null means not at all. Not
   * beside ropeAlpha > 1. Default null.
   */
  ropeScaling?: RopeScaling | null | undefined;
  /** Whether lm_head multiplies by the embedding table instead of its own matrix. Default false. */
  tieEmbeddings?: boolean | undefined;
  /** x_0 = embeddingMultiplier * W[id]. > 0. Default 1. */
  embeddingMultiplier?: number | undefined;
  /** Factor of the scores q.k, > 0. Default null, which means 1/sqrt(headDim). */
  attentionMultiplier?: number | null | undefined;
  /** r of h = x + r Attention(..), y = h + r MoE(..). > 0. Default 1. */
  residualMultiplier?: number | undefined;
  /** logits = lm_head(..) / logitsDivisor. > 0. Default 1. */
  logitsDivisor?: number | undefined;
}

export type QueryKeyNormKind = 'none' | 'head' | 'full';
export type AttentionBiasKind = 'none' | 'qkv' | 'qkvo';

export type ResolvedModelOptions = Readonly<Required<ModelConfigOptions>>;

/** A row, with its key in config.json: the snake_case names the field's tools use. */
type ModelTable = OptionTable<ModelConfigOptions> & {
  readonly [K in keyof ModelConfigOptions]: { readonly json: string };
};

const row = <T>(json: string, option: OptionRow<T>) => ({ ...option, json });

const SIZE = { min: 1, below: 2 ** 31 };
/** A size that is 0 where a model lacks the part. */
const SIZE_OR_NONE = { min: 0, below: 2 ** 31 };

/**
 * The table of model options. The flags' defaults apply without a preset; they give about a million parameters and were
 * chosen by measuring on 1 MB of plays.
 */
export const MODEL_OPTIONS: ModelTable = {
  hiddenDim: row(
    'hidden_size',
    integer(SIZE, {
      doc: 'width of the residual stream',
      cli: { flag: '--hidden-dim <n>', default: 128 },
    }),
  ),
  nLayers: row(
    'num_hidden_layers',
    integer(SIZE, { doc: 'transformer blocks', cli: { flag: '--layers <n>', default: 4 } }),
  ),
  nHeads: row(
    'num_attention_heads',
    integer(SIZE, { doc: 'query heads', cli: { flag: '--heads <n>', default: 4 } }),
  ),
  nKvHeads: row(
    'num_key_value_heads',
    integer(SIZE, {
      doc: 'key/value heads; must divide the query heads',
      cli: { flag: '--kv-heads <n>', default: 2 },
    }),
  ),
  headDim: row(
    'head_dim',
    integer(SIZE, {
      doc: 'width of a head, even',
      cli: { flag: '--head-dim <n>', absent: '--hidden-dim / --heads' },
    }),
  ),
  nExperts: row(
    'num_local_experts',
    integer(SIZE_OR_NONE, {
      doc: 'experts in each block',
      note: '0 if every layer is dense',
      cli: { flag: '--experts <n>', default: 4 },
    }),
  ),
  topKExperts: row(
    'num_experts_per_tok',
    integer(SIZE_OR_NONE, {
      doc: 'experts that each token passes; at most all',
      note: '0 if every layer is dense',
      cli: { flag: '--top-k-experts <n>', default: 2 },
    }),
  ),
  ffnDim: row(
    'intermediate_size',
    integer(SIZE_OR_NONE, {
      doc: 'inner width of an expert',
      note: '0 if every layer is dense',
      cli: { flag: '--ffn-dim <n>', default: 128 },
    }),
  ),
  vocabSize: row('vocab_size', integer(SIZE, { doc: 'tokens of the vocabulary' })),
  maxSeqLen: row('max_position_embeddings', integer(SIZE, { doc: 'longest sequence in tokens' })),
  ropeBase: row(
    'rope_theta',
    number({ above: 0 }, { doc: 'base of the rotary frequencies', default: 10000 }),
  ),
  ropeAlpha: row(
    'rope_alpha',
    number({ above: 0 }, { doc: "NTK scaling: base' = base * alpha^(D/(D-2)) when alpha > 1", default: 1 }),
  ),
  rmsNormEps: row(
    'rms_norm_eps',
    number({ above: 0 }, { doc: 'added to the mean square in RMSNorm', default: 1e-6 }),
  ),
  routerAuxLossCoef: row(
    'router_aux_loss_coef',
    number({ min: 0 }, { doc: 'weight of the load-balancing loss', default: 0.01 }),
  ),
  qkNorm: row(
    'qk_norm',
    choice(['none', 'head', 'full'], {
      doc: 'RMSNorm of queries and keys: of each head (head), or of all heads at once (full); steadies high learning rates',
      default: 'none',
      cli: { flag: '--qk-norm <kind>', absent: 'none' },
    }),
  ),
  attentionBias: row(
    'attention_bias',
    choice(['none', 'qkv', 'qkvo'], {
      doc: 'biases of the projections to queries, keys and values (qkv), and of the output (qkvo)',
      default: 'none',
    }),
  ),
  normTopkProb: row(
    'norm_topk_prob',
    boolean({ doc: 'gate weights of the chosen experts are divided by their sum', default: true }),
  ),
  sharedFfnDim: row(
    'shared_expert_intermediate_size',
    integer(SIZE_OR_NONE, {
      doc: 'width of an expert that every token passes (Qwen2-MoE)',
      note: '0 is none',
      default: 0,
    }),
  ),
  denseLayers: row(
    'mlp_only_layers',
    integers(
      { min: 0 },
      {
        doc: 'layers, counted from 0, whose feed-forward is a single SwiGLU without router and experts',
        default: [],
        cli: {
          flag: '--dense-layers <list>',
          note: "'0,2', or 'all'",
          absent: 'none',
          toOption: (list: string) => list.split(',').map(Number),
        },
      },
    ),
  ),
  denseFfnDim: row(
    'dense_intermediate_size',
    integer(SIZE_OR_NONE, {
      doc: 'inner width of the dense layers',
      note: '0 without them',
      default: 0,
      cli: { flag: '--dense-ffn-dim <n>', note: '0 without them', absent: '--top-k-experts * --ffn-dim' },
    }),
  ),
  ropeScaling: row(
    'rope_scaling',
    other<RopeScaling | null>(
      'an object or null',
      (value) => value === null || (typeof value === 'object' && !Array.isArray(value)),
      {
        doc: 'stretched rotary frequencies: type linear, llama3 or yarn, with their numbers',
        note: 'null is none',
        default: null,
      },
    ),
  ),
  tieEmbeddings: row(
    'tie_word_embeddings',
    boolean({ doc: 'the lm_head multiplies by the embedding table', default: false }),
  ),
  embeddingMultiplier: row(
    'embedding_multiplier',
    number(
      { above: 0 },
      {
        doc: 'factor of the embeddings; a larger one makes the token weigh more in the first blocks',
        default: 1,
        cli: { flag: '--embedding-multiplier <x>', absent: '1' },
      },
    ),
  ),
  attentionMultiplier: row(
    'attention_multiplier',
    number<number | null>(
      { above: 0 },
      { doc: 'scale of the scores q.k', note: 'null is 1/sqrt(headDim)', default: null },
      null,
    ),
  ),
  residualMultiplier: row(
    'residual_multiplier',
    number({ above: 0 }, { doc: 'factor of attention and mixture before they are added', default: 1 }),
  ),
  logitsDivisor: row('logits_scaling', number({ above: 0 }, { doc: 'divides the logits', default: 1 })),
};
