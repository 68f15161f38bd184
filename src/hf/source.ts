import {
  type Checkpoint,
  checkTensorInfo,
  listNames,
  loadTensorsInto,
  type NamedTensor,
} from '../checkpoint/checkpoint';
import type { GenerationConfig } from '../checkpoint/generationConfig';
import { halvesToNeighbours, isRotated } from '../checkpoint/ropePairs';
import { corrupt } from '../checkpoint/safetensorsHeader';
import type { TensorReader } from '../checkpoint/tensorReader';
import { ModelConfig } from '../config/modelConfig';
import type { Place } from './architecture';
import { type Architecture, definitionOf } from './architectures';
import { readGenerationConfig } from './endTokens';
import { isHuggingFaceConfig, readHuggingFaceConfig } from './readConfig';

/** A checkpoint folder from sgemoe or `transformers`, in one form for the model. */
export interface ModelSource {
  readonly config: ModelConfig;
  /** The Hugging Face architecture; null for a checkpoint of sgemoe. */
  readonly architecture: Architecture | null;
  /** The content of generation_config.json, with the end tokens of config.json added; null if there are neither. */
  readonly generationConfig: GenerationConfig | null;
  /** A sentence for each thing ignored in config.json and generation_config.json. */
  readonly notes: readonly string[];
  /** Checks that the files hold a parameter. It is called for all parameters before any memory is allocated. */
  check(name: string, shape: readonly number[]): void;
  /** Reads all parameters into their memory, and the buffers if the files hold them. */
  fill(parameters: readonly NamedTensor[], buffers: readonly NamedTensor[]): Promise<void>;
}

/** @throws SgemoeError SGEMOE_CONFIG_INVALID */
export function modelSource(checkpoint: Checkpoint): ModelSource {
  const { config: json, tensors } = checkpoint;
  if (isHuggingFaceConfig(json)) return new HuggingFaceSource(checkpoint);
  const config = ModelConfig.fromJSON(json);
  return {
    config,
    architecture: null,
    ...readGenerationConfig(checkpoint.generationConfig, {}, config.vocabSize),
    check: (name, shape) => {
      checkTensorInfo(tensors, name, shape);
    },
    fill: (parameters, buffers) => {
      const hasBuffers = buffers.some(({ name }) => tensors.tensors.has(name));
      return loadTensorsInto(tensors, hasBuffers ? [...parameters, ...buffers] : parameters);
    },
  };
}

/** Elements compared at a time. */
const CHUNK = 2 ** 16;
const LM_HEAD = 'lm_head.weight';

class HuggingFaceSource implements ModelSource {
  readonly config: ModelConfig;
  readonly architecture: Architecture;
  readonly generationConfig: GenerationConfig | null;
  readonly notes: readonly string[];
  private readonly tensors: TensorReader;

  constructor({ config: json, generationConfig, tensors }: Checkpoint) {
    const { config, architecture, notes } = readHuggingFaceConfig(json);
    const generation = readGenerationConfig(generationConfig, json, config.vocabSize);
    this.config = config;
    this.architecture = architecture;
    this.generationConfig = generation.generationConfig;
    this.notes = [...notes, ...generation.notes];
    this.tensors = tensors;
  }

  check(name: string, shape: readonly number[]): void {
    const { name: stored, shape: storedShape } = this.#placeOf(name, shape);
    checkTensorInfo(this.tensors, stored, storedShape);
  }

  /** Reads the parameters; no architecture of Hugging Face has buffers. */
  async fill(parameters: readonly NamedTensor[]): Promise<void> {
    this.#refuseExtra(parameters);
    for (const { name, shape, data } of parameters) {
      const place = this.#placeOf(name, shape);
      await this.tensors.readPartInto(place.name, place.start, data);
      // A bias or gain counts as rows of one number.
      if (isRotated(name)) halvesToNeighbours(data, this.config.headDim, shape[1] ?? 1);
    }
    if (this.#hasTiedHead) await this.#compareTiedHead(parameters[0]);
  }

  /** Whether the embedding is tied and the file stores lm_head nevertheless. */
  get #hasTiedHead(): boolean {
    return this.config.tieEmbeddings && this.tensors.tensors.has(LM_HEAD);
  }

  #placeOf(name: string, shape: readonly number[]): Place {
    const places = definitionOf(this.architecture).places(this.config, name, shape);
    return places.find((place) => this.tensors.tensors.has(place.name)) ?? places[0];
  }

  #refuseExtra(parameters: readonly NamedTensor[]): void {
    const used = new Set(parameters.map(({ name, shape }) => this.#placeOf(name, shape).name));
    if (this.#hasTiedHead) used.add(LM_HEAD);
    // Old checkpoints hold the rotary angles, which sgemoe computes.
    const isExtra = (name: string) => !used.has(name) && !name.endsWith('rotary_emb.inv_freq');
    const extra = [...this.tensors.tensors.keys()].filter(isExtra);
    if (extra.length === 0) return;
    const what = `the file holds ${listNames(extra)}, which the model does not know`;
    throw corrupt('SGEMOE_CHECKPOINT_EXTRA_TENSOR', this.tensors.path, what);
  }

  /** Checks that a stored lm_head equals the tied embedding; a different matrix would be a different model. */
  async #compareTiedHead(table: NamedTensor): Promise<void> {
    checkTensorInfo(this.tensors, LM_HEAD, table.shape);
    for (let start = 0; start < table.data.length; start += CHUNK) {
      const want = table.data.subarray(start, start + CHUNK);
      const head = new Float32Array(want.length);
      await this.tensors.readPartInto(LM_HEAD, start, head);
      if (head.every((value, i) => Object.is(value, want[i]))) continue;
      const what = `${LM_HEAD} differs from the embedding, though config.json says tie_word_embeddings`;
      throw corrupt('SGEMOE_CHECKPOINT_EXTRA_TENSOR', this.tensors.path, what);
    }
  }
}
