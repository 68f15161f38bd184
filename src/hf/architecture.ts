import type { ModelConfig, ModelConfigOptions, QueryKeyNormKind } from '../config/modelConfig';
import type { ConfigValues } from './configValues';
import type { FeedForwardReader } from './feedForwards';

/**
 * All that sgemoe knows of one Hugging Face architecture. Each architecture has a file in `architectures/` named as its
 * `model_type`; the files beside this one hold what architectures share.
 */
export interface ArchitectureDefinition {
  /** Its name in the key `architectures` of config.json. */
  readonly className: string;
  /** Defaults of `transformers` for keys that config.json leaves out (the same in versions 4.57 and 5.23). */
  readonly defaults: KeyDefaults;
  /** Reads what stands after each layer's attention. */
  readonly readFeedForwards: FeedForwardReader;
  /** Its norm of queries and keys; `use_qk_norm` must not contradict it. */
  readonly qkNorm: QueryKeyNormKind;
  /**
   * Keys that this architecture obeys and some others don't, each with its neutral value. The others refuse any other
   * value.
   */
  readonly ownKeys: Readonly<Record<string, unknown>>;
  /** Rules that replace those of COMMON_RULES. */
  readonly rules?: Readonly<Record<string, Rule>> | undefined;
  /** Reads the fields of its own keys. @throws SgemoeError SGEMOE_CONFIG_INVALID */
  readOwn(values: ConfigValues): Partial<ModelConfigOptions>;
  /** The values that it can write of fields that PLAIN restricts. */
  readonly expresses: Partial<Expresses>;
  /** Writes its keys beside those of every architecture. */
  writeOwn(config: ModelConfig): Record<string, unknown>;
  /**
   * The places where a checkpoint may hold the parameter that sgemoe calls `name`. Exports write the first; readers
   * accept the others too.
   */
  places(config: ModelConfig, name: string, shape: readonly number[]): Place[];
}

export interface KeyDefaults {
  readonly ropeBase: number;
  readonly rmsNormEps: number;
  readonly routerAuxLossCoef: number;
  /** Key and value heads; null means as many as query heads. */
  readonly nKvHeads: number | null;
  /** Width of a head. Default: hidden_size / num_attention_heads. */
  readonly headDim?: number | undefined;
}

/** Returns a sentence that refuses a key's value, or null if the value is fine. It isn't called for null or missing values. */
export type Rule = (value: unknown, values: ConfigValues) => string | null;

/** The place of a parameter in a file: the elements from `start` on of tensor `name`, which has this shape. */
export interface Place {
  readonly name: string;
  readonly shape: readonly number[];
  readonly start: number;
}

/** Fields that every architecture can write, whatever their value. */
type UniversalField =
  | 'hiddenDim'
  | 'nLayers'
  | 'nHeads'
  | 'nKvHeads'
  | 'nExperts'
  | 'topKExperts'
  | 'ffnDim'
  | 'denseFfnDim'
  | 'vocabSize'
  | 'maxSeqLen'
  | 'ropeBase'
  | 'ropeAlpha'
  | 'ropeScaling'
  | 'rmsNormEps'
  | 'routerAuxLossCoef'
  | 'tieEmbeddings'
  | 'qkNorm';

/** For each other field, the values that can be written. The compiler demands an entry for each new field of ModelConfig. */
export type Expresses = Readonly<
  Record<Exclude<keyof ModelConfigOptions, UniversalField>, (value: unknown, config: ModelConfig) => boolean>
>;

export const oneOf =
  (...values: readonly unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value);
export const anyValue = (): boolean => true;
/** Of `denseLayers`: some layer has experts. */
export const isMixture = (_: unknown, { nMoeLayers }: ModelConfig): boolean => nMoeLayers > 0;

/** The default of what an architecture can write; messages name fields in this order. */
export const PLAIN: Expresses = {
  denseLayers: (layers) => (layers as readonly number[]).length === 0,
  attentionBias: oneOf('none'),
  normTopkProb: oneOf(true),
  sharedFfnDim: oneOf(0),
  embeddingMultiplier: oneOf(1),
  residualMultiplier: oneOf(1),
  logitsDivisor: oneOf(1),
  attentionMultiplier: (_, { attentionScale, headDim }) => attentionScale === 1 / Math.sqrt(headDim),
  headDim: (headDim, { nHeads, hiddenDim }) => (headDim as number) * nHeads === hiddenDim,
};
