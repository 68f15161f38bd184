import { SgemoeError } from './errors';

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
}

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
} as const satisfies Record<keyof ModelConfigOptions, string>;

type Field = keyof ModelConfigOptions;
const FIELDS = Object.keys(JSON_KEYS) as Field[];

const DEFAULTS = { ropeBase: 10000, ropeAlpha: 1, rmsNormEps: 1e-6, routerAuxLossCoef: 0.01 };

const SIZES: readonly Field[] = [
  'hiddenDim',
  'nLayers',
  'nHeads',
  'nKvHeads',
  'headDim',
  'nExperts',
  'topKExperts',
  'ffnDim',
  'vocabSize',
  'maxSeqLen',
];

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

  /**
   * @throws TypeError for a missing, misspelt or non-numeric field.
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
    const values: Record<string, number | undefined> = { ...DEFAULTS };
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

  /** All parameters: 2 V H + H + L (2 H + 2 H nHeads D + 2 H nKvHeads D + E H + 3 E F H). */
  totalParams(): number {
    const { hiddenDim: H, queryDim, kvDim, nExperts: E, ffnDim: F } = this;
    const attention = 2 * H * queryDim + 2 * H * kvDim;
    const block = 2 * H + attention + E * H + 3 * E * F * H;
    return 2 * this.vocabSize * H + H + this.nLayers * block;
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
          `config.json: model_type '${String(value)}' is not supported, expected '${MODEL_TYPE}'`,
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

function checkField(field: Field, value: number | undefined): void {
  if (value === undefined) throw new TypeError(`ModelConfig: ${field} is missing`);
  if (typeof value !== 'number') {
    throw new TypeError(`ModelConfig: ${field} must be a number, got ${typeof value} ${String(value)}`);
  }
  if (SIZES.includes(field)) {
    if (!Number.isInteger(value) || value < 1 || value > 2 ** 31 - 1) {
      throw new RangeError(`ModelConfig: ${field} must be a positive integer below 2^31, got ${value}`);
    }
  } else if (!Number.isFinite(value) || value < 0) {
    throw new RangeError(`ModelConfig: ${field} must be a finite number >= 0, got ${value}`);
  }
}

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
  if (!(c.ropeBase > 0)) throw new RangeError(`ModelConfig: ropeBase must be > 0, got ${c.ropeBase}`);
  if (!(c.rmsNormEps > 0)) throw new RangeError(`ModelConfig: rmsNormEps must be > 0, got ${c.rmsNormEps}`);
  if (!(c.ropeAlpha > 0)) throw new RangeError(`ModelConfig: ropeAlpha must be > 0, got ${c.ropeAlpha}`);
  if (c.ropeAlpha > 1 && c.headDim <= 2) {
    throw new RangeError('ModelConfig: ropeAlpha > 1 needs headDim > 2 (its exponent is D/(D-2))');
  }
}
