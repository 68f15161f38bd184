import type { ModelConfig, ModelConfigOptions, QueryKeyNormKind } from '../config/modelConfig';
import type { ConfigValues } from './configValues';

/**
 * All that sgemoe knows of one architecture of Hugging Face. Each has a file in `architectures/`, named as its
 * `model_type`; what they share stands in the files beside this one.
 */
export interface ArchitectureDefinition {
  /** What config.json calls it in `architectures`. */
  readonly className: string;
  /** What `transformers` takes for keys that config.json leaves out (the same in versions 4.57 and 5.23). */
  readonly defaults: KeyDefaults;
  /** The key of F. */
  readonly ffnDimKey: 'intermediate_size' | 'moe_intermediate_size';
  /** Its norm of queries and keys; `use_qk_norm` must not say otherwise. */
  readonly qkNorm: QueryKeyNormKind;
  /**
   * Keys that it obeys and some other architecture does not, each with the value that asks nothing of those others: they
   * refuse any other value.
   */
  readonly ownKeys: Readonly<Record<string, unknown>>;
  /** Rules of its own for keys of COMMON_RULES. */
  readonly rules?: Readonly<Record<string, Rule>> | undefined;
  /** The fields that its own keys give. @throws SgemoeError SGEMOE_CONFIG_INVALID. */
  readOwn(values: ConfigValues): Partial<ModelConfigOptions>;
  /** What it can write of the fields that PLAIN restricts. */
  readonly expresses: Partial<Expresses>;
  /** The keys that it writes beside those of every architecture. */
  writeOwn(config: ModelConfig): Record<string, unknown>;
  /**
   * Where the parameter that sgemoe calls `name` may lie in a checkpoint: first as its files are written, then as some are
   * found.
   */
  places(config: ModelConfig, name: string, shape: readonly number[]): Place[];
}

export interface KeyDefaults {
  readonly ropeBase: number;
  readonly rmsNormEps: number;
  readonly routerAuxLossCoef: number;
  /** null: as many as query heads. */
  readonly nKvHeads: number | null;
}

/** The sentence against a key's value, or null when all is well. Not asked about null, which asks for nothing. */
export type Rule = (value: unknown, values: ConfigValues) => string | null;

/** Where a parameter lies in a file: elements `start ..` of tensor `name`, which has this shape. */
export interface Place {
  readonly name: string;
  readonly shape: readonly number[];
  readonly start: number;
}

/** Fields that every architecture has a key for, whatever their value. */
type UniversalField =
  | 'hiddenDim'
  | 'nLayers'
  | 'nHeads'
  | 'nKvHeads'
  | 'nExperts'
  | 'topKExperts'
  | 'ffnDim'
  | 'vocabSize'
  | 'maxSeqLen'
  | 'ropeBase'
  | 'ropeAlpha'
  | 'rmsNormEps'
  | 'routerAuxLossCoef'
  | 'tieEmbeddings'
  | 'qkNorm';

/** For each other field, which values can be written. A field that ModelConfig gains must be decided here. */
export type Expresses = Readonly<
  Record<Exclude<keyof ModelConfigOptions, UniversalField>, (value: unknown, config: ModelConfig) => boolean>
>;

export const oneOf =
  (...values: readonly unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value);
export const anyValue = (): boolean => true;

/** What an architecture can write unless it says otherwise; messages name fields in this order. */
export const PLAIN: Expresses = {
  attentionBias: oneOf('none'),
  normTopkProb: oneOf(true),
  sharedFfnDim: oneOf(0),
  embeddingMultiplier: oneOf(1),
  residualMultiplier: oneOf(1),
  logitsDivisor: oneOf(1),
  attentionMultiplier: (_, { attentionScale, headDim }) => attentionScale === 1 / Math.sqrt(headDim),
  headDim: (headDim, { nHeads, hiddenDim }) => (headDim as number) * nHeads === hiddenDim,
};
