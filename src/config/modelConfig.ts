import { SgemoeError } from '../base/errors';

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
  /** E, experts per block. */
  nExperts: number;
  /** K, experts that each token reaches, 1..nExperts. */
  topKExperts: number;
  /** F, inner width of an expert. */
  ffnDim: number;
  /** V. */
  vocabSize: number;
  /** Longest sequence in tokens. */
  maxSeqLen: number;
  /** Base of the rotary frequencies. Default 10000. */
  ropeBase?: number;
  /** NTK scaling: base' = base * alpha^(D/(D-2)) when alpha > 1. Default 1. */
  ropeAlpha?: number;
  /** Added to the mean square in RMSNorm. Default 1e-6. */
  rmsNormEps?: number;
  /** Weight of the load-balancing loss. Default 0.01. */
  routerAuxLossCoef?: number;
  /**
   * RMSNorm of the queries and of the keys before they are rotated: 'head' norms the D numbers of each head, with one
   * gain [D] for all heads (Qwen3); 'full' all heads' numbers of a token at once, with a gain of their length (OLMoE).
   * Default 'none'.
   */
  qkNorm?: QueryKeyNormKind;
  /** Biases of the projections to queries, keys and values ('qkv'), and of the output ('qkvo'). Default 'none'. */
  attentionBias?: AttentionBiasKind;
  /** Whether the gate weights of the chosen experts are divided by their sum. Default true. */
  normTopkProb?: boolean;
  /** Width of an expert that every token passes, weighed by the sigmoid of a gate (Qwen2-MoE); 0: none. Default 0. */
  sharedFfnDim?: number;
  /** The lm_head multiplies by the embedding table instead of a matrix of its own. Default false. */
  tieEmbeddings?: boolean;
  /** x_0 = embeddingMultiplier * W[id]. > 0, default 1. */
  embeddingMultiplier?: number;
  /** Scale of the scores q.k, > 0. Default null: 1/sqrt(headDim). */
  attentionMultiplier?: number | null;
  /** r of h = x + r Attention(..), y = h + r MoE(..). > 0, default 1. */
  residualMultiplier?: number;
  /** logits = lm_head(..) / logitsDivisor. > 0, default 1. */
  logitsDivisor?: number;
}

export type QueryKeyNormKind = 'none' | 'head' | 'full';
export type AttentionBiasKind = 'none' | 'qkv' | 'qkvo';

/** config.json key of each field: the snake_case names the field's tools use. */
const JSON_KEYS = {
  hiddenDim: 'hidden_size',
  nLayers: 'num_hidden_layers',
  nHeads: 'num_attention_heads',
  nKvHeads: 'num_key_value_heads',
  headDim: 'head_dim',
  nExperts: 'num_local_experts',
  topKExperts: 'num_experts_per_tok',
  ffnDim: 'intermediate_size',
  vocabSize: 'vocab_size',
  maxSeqLen: 'max_position_embeddings',
  ropeBase: 'rope_theta',
  ropeAlpha: 'rope_alpha',
  rmsNormEps: 'rms_norm_eps',
  routerAuxLossCoef: 'router_aux_loss_coef',
  qkNorm: 'qk_norm',
  attentionBias: 'attention_bias',
  normTopkProb: 'norm_topk_prob',
  sharedFfnDim: 'shared_expert_intermediate_size',
  tieEmbeddings: 'tie_word_embeddings',
  embeddingMultiplier: 'embedding_multiplier',
  attentionMultiplier: 'attention_multiplier',
  residualMultiplier: 'residual_multiplier',
  logitsDivisor: 'logits_scaling',
} as const satisfies Record<keyof ModelConfigOptions, string>;

type Field = keyof ModelConfigOptions;
const FIELDS = Object.keys(JSON_KEYS) as Field[];

const DEFAULTS = {
  ropeBase: 10000,
  ropeAlpha: 1,
  rmsNormEps: 1e-6,
  routerAuxLossCoef: 0.01,
  qkNorm: 'none',
  attentionBias: 'none',
  normTopkProb: true,
  sharedFfnDim: 0,
  tieEmbeddings: false,
  embeddingMultiplier: 1,
  attentionMultiplier: null,
  residualMultiplier: 1,
  logitsDivisor: 1,
} as const satisfies Partial<ModelConfigOptions>;

/** What a field may hold: integers from 1 or 0 on, finite numbers, true or false, one of some words. */
type Kind =
  | 'size'
  | 'size or 0'
  | 'number >= 0'
  | 'number > 0'
  | 'number > 0 or null'
  | 'boolean'
  | readonly string[];

const KINDS: Record<Field, Kind> = {
  hiddenDim: 'size',
  nLayers: 'size',
  nHeads: 'size',
  nKvHeads: 'size',
  headDim: 'size',
  nExperts: 'size',
  topKExperts: 'size',
  ffnDim: 'size',
  vocabSize: 'size',
  maxSeqLen: 'size',
  ropeBase: 'number > 0',
  ropeAlpha: 'number > 0',
  rmsNormEps: 'number > 0',
  routerAuxLossCoef: 'number >= 0',
  qkNorm: ['none', 'head', 'full'],
  attentionBias: ['none', 'qkv', 'qkvo'],
  normTopkProb: 'boolean',
  sharedFfnDim: 'size or 0',
  tieEmbeddings: 'boolean',
  embeddingMultiplier: 'number > 0',
  attentionMultiplier: 'number > 0 or null',
  residualMultiplier: 'number > 0',
  logitsDivisor: 'number > 0',
};

const MODEL_TYPE = 'sgemoe';

/** The shape of a Mixture-of-Experts transformer. Immutable; validated when made. */
export class ModelConfig implements Required<ModelConfigOptions> {
  readonly hiddenDim!: number;
  readonly nLayers!: number;
  readonly nHeads!: number;
  readonly nKvHeads!: number;
  readonly headDim!: number;
  readonly nExperts!: number;
  readonly topKExperts!: number;
  readonly ffnDim!: number;
  readonly vocabSize!: number;
  readonly maxSeqLen!: number;
  readonly ropeBase!: number;
  readonly ropeAlpha!: number;
  readonly rmsNormEps!: number;
  readonly routerAuxLossCoef!: number;
  readonly qkNorm!: QueryKeyNormKind;
  readonly attentionBias!: AttentionBiasKind;
  readonly normTopkProb!: boolean;
  readonly sharedFfnDim!: number;
  readonly tieEmbeddings!: boolean;
  readonly embeddingMultiplier!: number;
  readonly attentionMultiplier!: number | null;
  readonly residualMultiplier!: number;
  readonly logitsDivisor!: number;

  /**
   * @throws TypeError for a missing, misspelt field or one of another type.
   * @throws RangeError for a size that is not a positive integer (at most 2^31 - 1) or fields that don't fit together.
   */
  constructor(options: ModelConfigOptions) {
    if (typeof options !== 'object' || options === null) {
      throw new TypeError(`ModelConfig: options must be an object, got ${String(options)}`);
    }
    for (const key of Object.keys(options)) {
      if (!Object.hasOwn(JSON_KEYS, key)) {
        throw new TypeError(`ModelConfig: unknown field '${key}'; the fields are ${FIELDS.join(', ')}`);
      }
    }
    const values: Record<string, unknown> = { ...DEFAULTS };
    for (const field of FIELDS) {
      if (options[field] !== undefined) values[field] = options[field];
      checkField(field, values[field]);
    }
    Object.assign(this, values);
    checkTogether(this);
    Object.freeze(this);
  }

  /** hidden 64, 2 layers, 4 heads of 16 on 1 kv head, 4 experts top-2 of width 256, vocab 1000. 542,528 parameters. */
  static tiny(overrides: Partial<ModelConfigOptions> = {}): ModelConfig {
    return new ModelConfig({
      hiddenDim: 64,
      nLayers: 2,
      nHeads: 4,
      nKvHeads: 1,
      headDim: 16,
      nExperts: 4,
      topKExperts: 2,
      ffnDim: 256,
      vocabSize: 1000,
      maxSeqLen: 512,
      ...overrides,
    });
  }

  /** As tiny with hidden 256, heads of 64 and experts of width 1024. */
  static small(overrides: Partial<ModelConfigOptions> = {}): ModelConfig {
    return ModelConfig.tiny({ hiddenDim: 256, headDim: 64, ffnDim: 1024, ...overrides });
  }

  /** The 6.9 B parameter shape of the cross-language specification (1.8 B active). */
  static default6_9b(overrides: Partial<ModelConfigOptions> = {}): ModelConfig {
    return new ModelConfig({
      hiddenDim: 768,
      nLayers: 30,
      nHeads: 12,
      nKvHeads: 1,
      headDim: 64,
      nExperts: 16,
      topKExperts: 4,
      ffnDim: 6144,
      vocabSize: 32000,
      maxSeqLen: 32768,
      ropeBase: 10000,
      ropeAlpha: 8,
      ...overrides,
    });
  }

  /** A copy with some fields changed. */
  with(overrides: Partial<ModelConfigOptions>): ModelConfig {
    return new ModelConfig({ ...this, ...overrides });
  }

  /** nHeads * headDim, width of the queries. */
  get queryDim(): number {
    return this.nHeads * this.headDim;
  }

  /** nKvHeads * headDim, width of the keys and of the values. */
  get kvDim(): number {
    return this.nKvHeads * this.headDim;
  }

  /** base' = base * alpha^(D/(D-2)) when alpha > 1, else base (NTK-aware scaling). */
  get effectiveRopeBase(): number {
    if (this.ropeAlpha <= 1) return this.ropeBase;
    return this.ropeBase * this.ropeAlpha ** (this.headDim / (this.headDim - 2));
  }

  /** What the scores q.k are multiplied by: attentionMultiplier, or 1/sqrt(headDim). */
  get attentionScale(): number {
    return this.attentionMultiplier ?? 1 / Math.sqrt(this.headDim);
  }

  /**
   * All parameters: 2 V H + H + L (2 H + 2 H nHeads D + 2 H nKvHeads D + E H + 3 E F H), once V H with tied embeddings,
   * and in each block what is on of: biases, gains of the query and key norms, 3 sharedFfnDim H + H of the shared expert.
   */
  totalParams(): number {
    const { hiddenDim: H, nExperts: E, ffnDim: F, sharedFfnDim } = this;
    const shared = sharedFfnDim > 0 ? 3 * sharedFfnDim * H + H : 0;
    const block = 2 * H + this.#attentionParams() + E * H + 3 * E * F * H + shared;
    return (this.tieEmbeddings ? 1 : 2) * this.vocabSize * H + H + this.nLayers * block;
  }

  #attentionParams(): number {
    const { hiddenDim: H, headDim, queryDim, kvDim, attentionBias, qkNorm } = this;
    const bias = attentionBias === 'none' ? 0 : queryDim + 2 * kvDim + (attentionBias === 'qkvo' ? H : 0);
    const gains = { none: 0, head: 2 * headDim, full: queryDim + kvDim };
    return 2 * H * queryDim + 2 * H * kvDim + bias + gains[qkNorm];
  }

  /** The parameters that one token passes: all but the nExperts - topKExperts idle experts of each block. */
  activeParams(): number {
    const idle = this.nExperts - this.topKExperts;
    return this.totalParams() - this.nLayers * idle * 3 * this.ffnDim * this.hiddenDim;
  }

  /** What config.json holds. */
  toJSON(): Record<string, unknown> {
    const json: Record<string, unknown> = { model_type: MODEL_TYPE };
    for (const field of FIELDS) json[JSON_KEYS[field]] = this[field];
    return json;
  }

  /**
   * Reads config.json. A key this version does not know is refused, not ignored: it may change the model.
   * @throws SgemoeError SGEMOE_CONFIG_INVALID
   */
  static fromJSON(json: unknown): ModelConfig {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) {
      throw new SgemoeError('SGEMOE_CONFIG_INVALID', 'config.json must hold a JSON object');
    }
    const byKey = new Map<string, Field>(FIELDS.map((field) => [JSON_KEYS[field], field]));
    const options: Record<string, unknown> = {};
    for (const [key, value] of Object.entries(json)) {
      const field = byKey.get(key);
      if (field) options[field] = value;
      else if (key !== 'model_type') refuseUnknownKey(key);
      else if (value !== MODEL_TYPE) {
        throw new SgemoeError(
          'SGEMOE_CONFIG_INVALID',
          `config.json: model_type ${typeof value === 'string' ? `'${value}'` : JSON.stringify(value)} is not supported, ` +
            `expected '${MODEL_TYPE}'`,
        );
      }
    }
    try {
      return new ModelConfig(options as unknown as ModelConfigOptions);
    } catch (cause) {
      throw new SgemoeError('SGEMOE_CONFIG_INVALID', `config.json: ${(cause as Error).message}`, { cause });
    }
  }
}

function refuseUnknownKey(key: string): never {
  const known = Object.values(JSON_KEYS).join(', ');
  throw new SgemoeError('SGEMOE_CONFIG_INVALID', `config.json: unknown key '${key}'; known keys: ${known}`);
}

function checkField(field: Field, value: unknown): void {
  const kind = KINDS[field];
  const what = `ModelConfig: ${field}`;
  if (value === undefined) throw new TypeError(`${what} is missing`);
  if (typeof kind !== 'string') {
    if (kind.includes(value as string)) return;
    throw new TypeError(
      `${what} must be ${kind.map((word) => `'${word}'`).join(' or ')}, got ${String(value)}`,
    );
  }
  if (value === null && kind === 'number > 0 or null') return;
  const type = kind === 'boolean' ? 'boolean' : 'number';
  const got = `got ${typeof value} ${String(value)}`;
  if (typeof value !== type) throw new TypeError(`${what} must be a ${type}, ${got}`);
  if (typeof value === 'number') checkNumber(what, kind, value);
}

function checkNumber(what: string, kind: Kind, value: number): void {
  if (kind === 'size' || kind === 'size or 0') {
    if (Number.isInteger(value) && value >= (kind === 'size' ? 1 : 0) && value <= 2 ** 31 - 1) return;
    const integer = kind === 'size' ? 'a positive integer' : 'an integer >= 0';
    throw new RangeError(`${what} must be ${integer} below 2^31, got ${value}`);
  }
  const open = kind !== 'number >= 0';
  if (Number.isFinite(value) && (value > 0 || (value === 0 && !open))) return;
  throw new RangeError(`${what} must be ${open ? '> 0' : '>= 0'} and finite, got ${value}`);
}

/** Fields that the kernels multiply by, or by their inverse, in float32. */
const SCALES = ['embeddingMultiplier', 'attentionMultiplier', 'residualMultiplier', 'logitsDivisor'] as const;
/** It and its inverse are normal numbers of float32. */
const MAX_SCALE = 2 ** 126;

function checkTogether(c: ModelConfig): void {
  if (c.nHeads % c.nKvHeads !== 0) {
    throw new RangeError(`ModelConfig: nKvHeads (${c.nKvHeads}) must divide nHeads (${c.nHeads})`);
  }
  if (c.headDim % 2 !== 0) {
    throw new RangeError(`ModelConfig: headDim must be even (rotary pairs), got ${c.headDim}`);
  }
  if (c.topKExperts > c.nExperts) {
    throw new RangeError(
      `ModelConfig: topKExperts (${c.topKExperts}) must be at most nExperts (${c.nExperts})`,
    );
  }
  if (c.ropeAlpha > 1 && c.headDim <= 2) {
    throw new RangeError('ModelConfig: ropeAlpha > 1 needs headDim > 2 (its exponent is D/(D-2))');
  }
  if (!Number.isFinite(c.effectiveRopeBase)) {
    const base = `ropeBase (${c.ropeBase}) scaled by ropeAlpha (${c.ropeAlpha})`;
    throw new RangeError(`ModelConfig: ${base} must be finite, got ${c.effectiveRopeBase}`);
  }
  for (const field of SCALES) {
    const value = c[field] ?? 1;
    if (value >= 1 / MAX_SCALE && value <= MAX_SCALE) continue;
    throw new RangeError(
      `ModelConfig: ${field} must be in [2^-126, 2^126], the range of float32, got ${value}`,
    );
  }
}
