import {
  type Checkpoint,
  checkNames,
  checkTensorInfo,
  listNames,
  type NamedTensor,
} from '../checkpoint/checkpoint';
import type { GenerationConfig } from '../checkpoint/generationConfig';
import { halvesToNeighbours, isRotated } from '../checkpoint/ropePairs';
import { corrupt, elementCount } from '../checkpoint/safetensorsHeader';
import type { StoredSpan, TensorReader } from '../checkpoint/tensorReader';
import { ModelConfig } from '../config/modelConfig';
import type { Place } from './architecture';
import { type Architecture, definitionOf } from './architectures';
import { readGenerationConfig } from './endTokens';
import { isHuggingFaceConfig, readHuggingFaceConfig } from './readConfig';

/** A parameter or buffer, under sgemoe's name. */
export type NamedShape = Pick<NamedTensor, 'name' | 'shape'>;

/** A part of a file that holds a parameter as it is stored. */
export interface SourceSpan extends Omit<StoredSpan, 'neighbours'> {
  /** Whether it has rows of queries or keys that pair halves (ropePairs.ts). A file's pair alike, all or none. */
  readonly halves: boolean;
}

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
  /** Checks that the files hold all parameters and nothing that the model doesn't know. Returns whether they hold the buffers. */
  checkAll(parameters: readonly NamedShape[], buffers: readonly NamedShape[]): Promise<boolean>;
  /**
   * Reads elements from `start` on of a parameter or buffer; for queries and keys whole heads, whose rows pair neighbours.
   * @param halves leaves them in pairs of halves, for a source whose spans have such. Default false.
   */
  read(tensor: NamedShape, start: number, destination: Float32Array, halves?: boolean): Promise<void>;
  /** Where a parameter lies, if it is in one piece; null if not, and for files in memory. */
  span(tensor: NamedShape): SourceSpan | null;
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
    checkAll: async (parameters, buffers) => {
      const hasBuffers = buffers.some(({ name }) => tensors.tensors.has(name));
      checkNames(tensors, hasBuffers ? [...parameters, ...buffers] : parameters);
      if (hasBuffers) for (const { name, shape } of buffers) checkTensorInfo(tensors, name, shape);
      return hasBuffers;
    },
    read: ({ name }, start, destination) => tensors.readPartInto(name, start, destination),
    span: ({ name, shape }) => {
      const span = tensors.span(name, 0, elementCount(shape));
      return span && { ...span, halves: false };
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

  /** No architecture of Hugging Face has buffers. */
  async checkAll(parameters: readonly NamedShape[]): Promise<false> {
    this.#refuseExtra(parameters);
    if (this.#hasTiedHead) await this.#compareTiedHead(parameters[0]);
    return false;
  }

  async read(
    { name, shape }: NamedShape,
    start: number,
    destination: Float32Array,
    halves = false,
  ): Promise<void> {
    const place = this.#placeOf(name, shape);
    await this.tensors.readPartInto(place.name, place.start + start, destination);
    // A bias or gain counts as rows of one number.
    if (isRotated(name) && !halves) halvesToNeighbours(destination, this.config.headDim, shape[1] ?? 1);
  }

  span({ name, shape }: NamedShape): SourceSpan | null {
    const place = this.#placeOf(name, shape);
    const span = this.tensors.span(place.name, place.start, elementCount(shape));
    return span && { ...span, halves: isRotated(name) && !span.neighbours };
  }

  /** Whether the embedding is tied and the file stores lm_head nevertheless. */
  get #hasTiedHead(): boolean {
    return this.config.tieEmbeddings && this.tensors.tensors.has(LM_HEAD);
  }

  #placeOf(name: string, shape: readonly number[]): Place {
    const places = definitionOf(this.architecture).places(this.config, name, shape);
    return places.find((place) => this.tensors.tensors.has(place.name)) ?? places[0];
  }

  #refuseExtra(parameters: readonly NamedShape[]): void {
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
  async #compareTiedHead(table: NamedShape): Promise<void> {
    const { elements } = checkTensorInfo(this.tensors, LM_HEAD, table.shape);
    for (let start = 0; start < elements; start += CHUNK) {
      const want = new Float32Array(Math.min(CHUNK, elements - start));
      const head = new Float32Array(want.length);
      await this.read(table, start, want);
      await this.tensors.readPartInto(LM_HEAD, start, head);
      if (head.every((value, i) => Object.is(value, want[i]))) continue;
      const what = `${LM_HEAD} differs from the embedding, though config.json says tie_word_embeddings`;
      throw corrupt('SGEMOE_CHECKPOINT_EXTRA_TENSOR', this.tensors.path, what);
    }
  }
}
