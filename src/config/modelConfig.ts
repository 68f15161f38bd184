import { SgemoeError } from '../base/errors';
import { namesOf, resolveOptions, type Some, withChanges } from '../base/options';
import { MODEL_OPTIONS, type ModelConfigOptions, type ResolvedModelOptions } from './modelOptions';
import { resolveRopeScaling, ropeScalingFromJson, ropeScalingToJson } from './ropeScaling';

export type { AttentionBiasKind, ModelConfigOptions, QueryKeyNormKind } from './modelOptions';

const FIELDS = namesOf<ModelConfigOptions>(MODEL_OPTIONS);

const MODEL_TYPE = 'sgemoe';

/** All fields of the table, with its documentation. */
export interface ModelConfig extends ResolvedModelOptions {}

/** The shape of a transformer, of mixtures of experts, dense layers or both. Immutable; validated when made. */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the constructor assigns every row of the table.
export class ModelConfig {
  /**
   * @throws TypeError for a missing, misspelt field or one of another type.
   * @throws RangeError for a size that is not a positive integer (at most 2^31 - 1) or fields that don't fit together.
   */
  constructor(options: ModelConfigOptions) {
    const resolved = resolveOptions<ModelConfigOptions>('ModelConfig', MODEL_OPTIONS, options);
    const { ropeScaling = null } = resolved;
    Object.assign(this, resolved, { ropeScaling: ropeScaling && resolveRopeScaling(ropeScaling) });
    checkTogether(this);
    Object.freeze(this);
  }

  /** hidden 64, 2 layers, 4 heads of 16 on 1 kv head, 4 experts top-2 of width 256, vocab 1000. 542,528 parameters. */
  static tiny(overrides: Some<ModelConfigOptions> = {}): ModelConfig {
    const preset = {
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
    };
    return new ModelConfig(withChanges<ModelConfigOptions>(preset, overrides));
  }

  /** The preset tiny with hidden 256, heads of 64 and experts of width 1024. */
  static small(overrides: Some<ModelConfigOptions> = {}): ModelConfig {
    return ModelConfig.tiny(
      withChanges<Some<ModelConfigOptions>>({ hiddenDim: 256, headDim: 64, ffnDim: 1024 }, overrides),
    );
  }

  /** The 6.9 B parameter shape of the cross-language specification (1.8 B active). */
  static default6_9b(overrides: Some<ModelConfigOptions> = {}): ModelConfig {
    const preset = {
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
    };
    return new ModelConfig(withChanges<ModelConfigOptions>(preset, overrides));
  }

  /** A copy with some fields changed. */
  with(overrides: Some<ModelConfigOptions>): ModelConfig {
    return new ModelConfig(withChanges<ModelConfigOptions>({ ...this }, overrides));
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

  /** Factor of the scores q.k: attentionMultiplier, or 1/sqrt(headDim). */
  get attentionScale(): number {
    return this.attentionMultiplier ?? 1 / Math.sqrt(this.headDim);
  }

  /** Number of layers with a mixture of experts. */
  get nMoeLayers(): number {
    return this.nLayers - this.denseLayers.length;
  }

  /** Whether the feed-forward of a layer, counted from 0, is a single SwiGLU. */
  isDense(layer: number): boolean {
    return this.denseLayers.includes(layer);
  }

  /**
   * All parameters: 2 V H + H + L (2 H + 2 H nHeads D + 2 H nKvHeads D), once V H with tied embeddings; in each block
   * E H + 3 E F H, or 3 denseFfnDim H of a dense one, and what is on of: biases, gains of the query and key norms,
   * 3 sharedFfnDim H + H of the shared expert.
   */
  totalParams(): number {
    const { hiddenDim: H, nLayers, nMoeLayers } = this;
    const { nExperts: E, ffnDim: F, sharedFfnDim, denseFfnDim } = this;
    const shared = sharedFfnDim > 0 ? 3 * sharedFfnDim * H + H : 0;
    const mixture = E * H + 3 * E * F * H + shared;
    const feedForwards = nMoeLayers * mixture + this.denseLayers.length * 3 * denseFfnDim * H;
    const vocabulary = (this.tieEmbeddings ? 1 : 2) * this.vocabSize * H;
    return vocabulary + H + nLayers * (2 * H + this.#attentionParams()) + feedForwards;
  }

  #attentionParams(): number {
    const { hiddenDim: H, headDim, queryDim, kvDim, attentionBias, qkNorm } = this;
    const bias = attentionBias === 'none' ? 0 : queryDim + 2 * kvDim + (attentionBias === 'qkvo' ? H : 0);
    const gains = { none: 0, head: 2 * headDim, full: queryDim + kvDim };
    return 2 * H * queryDim + 2 * H * kvDim + bias + gains[qkNorm];
  }

  /** The parameters that one token passes: all but the nExperts - topKExperts idle experts of each mixture. */
  activeParams(): number {
    const idle = this.nExperts - this.topKExperts;
    return this.totalParams() - this.nMoeLayers * idle * 3 * this.ffnDim * this.hiddenDim;
  }

  /** What config.json holds. */
  toJSON(): Record<string, unknown> {
    const json: Record<string, unknown> = { model_type: MODEL_TYPE };
    for (const field of FIELDS) json[MODEL_OPTIONS[field].json] = this[field];
    return { ...json, rope_scaling: ropeScalingToJson(this.ropeScaling) };
  }

  /**
   * Reads config.json. A key this version does not know is refused, not ignored: it may change the model.
   * @throws SgemoeError SGEMOE_CONFIG_INVALID
   */
  static fromJSON(json: unknown): ModelConfig {
    if (!isObject(json)) {
      throw new SgemoeError('SGEMOE_CONFIG_INVALID', 'config.json must hold a JSON object');
    }
    const byKey = new Map<string, string>(FIELDS.map((field) => [MODEL_OPTIONS[field].json, field]));
    const options: Record<string, unknown> = {};
    for (const [key, value] of Object.entries(json)) {
      const field = byKey.get(key);
      if (field === 'ropeScaling') options[field] = isObject(value) ? ropeScalingFromJson(value) : value;
      else if (field) options[field] = value;
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

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refuseUnknownKey(key: string): never {
  const known = FIELDS.map((field) => MODEL_OPTIONS[field].json).join(', ');
  throw new SgemoeError('SGEMOE_CONFIG_INVALID', `config.json: unknown key '${key}'; known keys: ${known}`);
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
  checkFeedForwards(c);
  if (c.topKExperts > c.nExperts) {
    throw new RangeError(
      `ModelConfig: topKExperts (${c.topKExperts}) must be at most nExperts (${c.nExperts})`,
    );
  }
  if (c.ropeAlpha > 1 && c.headDim <= 2) {
    throw new RangeError('ModelConfig: ropeAlpha > 1 needs headDim > 2 (its exponent is D/(D-2))');
  }
  if (c.ropeScaling?.type === 'yarn' && c.ropeBase <= 1) {
    throw new RangeError(`ModelConfig: ropeScaling yarn needs ropeBase > 1, got ${c.ropeBase}`);
  }
  if (c.ropeAlpha > 1 && c.ropeScaling !== null) {
    throw new RangeError('ModelConfig: ropeAlpha > 1 and ropeScaling are two scalings; give one');
  }
  if (!Number.isFinite(c.effectiveRopeBase)) {
    const base = `ropeBase (${c.ropeBase}) scaled by ropeAlpha (${c.ropeAlpha})`;
    throw new RangeError(`ModelConfig: ${base} must be finite, got ${c.effectiveRopeBase}`);
  }
  checkScales(c);
}

/** The widths that a mixture of experts has; 0 in a model without one. */
const MIXTURE_SIZES = ['nExperts', 'topKExperts', 'ffnDim'] as const;

function checkFeedForwards(c: ModelConfig): void {
  const { denseLayers: dense, nLayers } = c;
  if (dense.some((layer, i) => layer >= nLayers || (i > 0 && layer <= dense[i - 1]))) {
    throw new RangeError(
      `ModelConfig: denseLayers must be ascending and below nLayers (${nLayers}), got ${dense.join(', ')}`,
    );
  }
  if (dense.length > 0 !== c.denseFfnDim > 0) {
    const wanted = dense.length > 0 ? '>= 1 with denseLayers' : '0 without denseLayers';
    throw new RangeError(`ModelConfig: denseFfnDim must be ${wanted}, got ${c.denseFfnDim}`);
  }
  const isDense = dense.length === nLayers;
  for (const field of isDense ? [...MIXTURE_SIZES, 'sharedFfnDim' as const] : MIXTURE_SIZES) {
    if (c[field] === 0 ? isDense : !isDense) continue;
    const wanted = isDense ? '0 where every layer is dense' : '>= 1 unless every layer is dense';
    throw new RangeError(`ModelConfig: ${field} must be ${wanted}, got ${c[field]}`);
  }
}

function checkScales(c: ModelConfig): void {
  for (const field of SCALES) {
    const value = c[field] ?? 1;
    if (value >= 1 / MAX_SCALE && value <= MAX_SCALE) continue;
    throw new RangeError(
      `ModelConfig: ${field} must be in [2^-126, 2^126], the range of float32, got ${value}`,
    );
  }
}
