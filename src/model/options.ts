import type { Kernels } from '../backend/kernels';
import type { Precision } from '../base/precision';
import type { MemoryNeeds } from '../base/requireMemory';
import type { GenerationConfig } from '../checkpoint/generationConfig';
import type { ModelConfig } from '../config/modelConfig';
import type { HubOptions } from '../hf/hub/hubOptions';
import type { ParameterStore, StoreOptions } from '../memory/parameters';
import type { StoredTables } from '../memory/storedTables';
import type { Tensor } from '../tensor/tensor';
import type { ExpertRanks } from './expertLayout';
import type { Routing } from './moe';
import type { ModelDtype, StoragePlan } from './storedWeights';

export interface ModelOptions {
  /** Seed of the initial weights, an integer in [0, 2^53). Default 42. */
  seed?: number | undefined;
  /** The kernels that compute. Default: the process's backend. */
  kernels?: Kernels | undefined;
  /** The content of generation_config.json, with the tokens that end a text. Default null: none. */
  generationConfig?: GenerationConfig | null | undefined;
  /**
   * Ranks over which the experts are divided: this one has its own, and those of the others are computed by the others, which have
   * the same model so, or an `ExpertShard`. All of them compute and train at the same time. Such a model takes no adapters of experts.
   * Default: all experts are here.
   */
  expertRanks?: ExpertRanks | undefined;
}

/** The memory that a model of this config will need for its purpose, as `memoryBytes` counts it. */
export type NeedsOf = (config: ModelConfig) => MemoryNeeds;

export interface LoadOptions extends Pick<ModelOptions, 'kernels' | 'expertRanks'> {
  /**
   * Called with a sentence for each thing ignored in config.json and generation_config.json, and for weights that aren't
   * finite. Default: process warnings.
   */
  onNote?: ((note: string) => void) | undefined;
  /**
   * The memory to compare with what the machine has before any is allocated, such as
   * `(config) => memoryBytes(config, { batch: 8, seq: 512 })` for a training. Default: only the weights. The figure of the
   * weights is the model's own: of those with its `dtype` in memory, without mapped ones.
   */
  needs?: NeedsOf | undefined;
  /**
   * The type of the matrices. 'float32' can be trained; 'stored' keeps what the files have in 16 bits or in blocks, mapped;
   * a storage type such as 'q8_0' rounds while loading. All but 'float32' only serve. Default 'float32'.
   */
  dtype?: ModelDtype | undefined;
  /** How a model of the hub is downloaded, where its name is given instead of a path. */
  hub?: HubOptions | undefined;
}

/** Copies of everything that a forward computes. T = B*S tokens. */
export interface Trace {
  /** [B,S,H] output of the embedding */
  embedding: Tensor<'float32'>;
  /** [B,S,H] output of each block */
  hidden: Tensor<'float32'>[];
  /** [B,S,H] after the final norm */
  norm: Tensor<'float32'>;
  /** [B,S,V] output of lm_head */
  logits: Tensor<'float32'>;
  /** Routing of each block: logits and probs [T,E], indices and weights [T,K]; null for a dense one */
  routing: (Routing | null)[];
}

export interface FreezeOptions {
  /** Whether to keep packed copies beside the weights. Default false. */
  pack?: boolean | undefined;
}

export interface ForwardOptions {
  /** Whether to keep the activations for `backward`. Default false. */
  training?: boolean | undefined;
  /** With `training`: whether to keep only each block's input; `backward` then computes the rest again. Default false. */
  gradientCheckpointing?: boolean | undefined;
  /** Precision of the products by weight matrices, of a `backward` too. Default 'float32'. */
  precision?: Precision | undefined;
  /** A float32 tensor [B,S,V] that receives the logits and is returned. Default: a new one. */
  out?: Tensor<'float32'> | undefined;
}

/** Where a model came from. */
export interface Origin {
  readonly path: string;
  readonly dtype: ModelDtype;
}

/** What the constructor of a model takes. @internal */
export interface ConstructionOptions extends StoreOptions, Pick<LoadOptions, 'needs' | 'expertRanks'> {
  origin?: Origin | undefined;
  /** What becomes of the store's tables. Default: float32. */
  planOf?: ((store: ParameterStore) => StoragePlan) | undefined;
  /** Which of the store's tables are kept as they are stored. Default: none. */
  stored?: StoredTables | null | undefined;
  /** The beginning of error messages. */
  what?: string | undefined;
  generationConfig?: GenerationConfig | null | undefined;
}
