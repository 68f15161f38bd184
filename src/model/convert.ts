import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { checkOptions } from '../base/checks';
import type { KvCacheDtype } from '../base/storageTypes';
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from '../checkpoint/checkpoint';
import { whileLocked } from '../checkpoint/folderLock';
import type { GgufFacts } from '../checkpoint/gguf/ggufCheckpoint';
import type { StoredTensor } from '../checkpoint/tensorReader';
import { readStoredTokenizer, type TokenizerFiles } from '../checkpoint/tokenizerFiles';
import type { ModelConfig } from '../config/modelConfig';
import type { Architecture } from '../hf/architectures';
import { type GgufExportOptions, type Quantize, writeGguf } from '../hf/exportGguf';
import { type ExportDtype, exportHuggingFace } from '../hf/exportModel';
import type { HubOptions } from '../hf/hub/hubOptions';
import { modelPath } from '../hf/hub/modelPath';
import { modelSource } from '../hf/source';
import { quantized } from '../memory/operations/stored';
import { ParameterStore } from '../memory/parameters';
import { assemble } from './assemble';
import type { Lora } from './lora';
import { loadLora } from './loraFiles';
import { type MemoryBytes, memoryBytes } from './memoryBytes';
import { type LoadOptions, MoETransformer } from './model';
import { checkModelDtype, type ModelDtype, planStorage } from './storedWeights';

/**
 * Reads any checkpoint that `MoETransformer.load` reads and writes it in sgemoe's form, in float32, with the tokenizer's
 * files. @throws as MoETransformer.load and save.
 */
export async function importCheckpoint(
  from: string,
  to: string,
  options: Omit<LoadOptions, 'dtype'> = {},
): Promise<ModelConfig> {
  const path = await modelPath(from, options.hub);
  const model = await MoETransformer.load(path, options);
  await saveConverted(model, path, to, { purpose: 'an import', onNote: options.onNote });
  return model.config;
}

/**
 * Adds an adapter of sgemoe or Python's `peft` to the weights of a checkpoint, and writes the whole in sgemoe's form, in float32,
 * with the tokenizer's files. Returns what the adapters were. @throws as MoETransformer.load, loadLora and save.
 */
export async function mergeCheckpoint(
  from: string,
  adapter: string,
  to: string,
  options: Omit<LoadOptions, 'dtype'> = {},
): Promise<Lora> {
  const path = await modelPath(from, options.hub);
  const model = await MoETransformer.load(path, options);
  const lora = await loadLora(adapter, model);
  model.mergeLora();
  await saveConverted(model, path, to, { purpose: 'a merge', onNote: options.onNote });
  return lora;
}

/** Writes a model that nobody else has in sgemoe's form, with the tokenizer's files of the checkpoint `from`. */
export async function saveConverted(
  { config, generationConfig, store }: MoETransformer,
  from: string,
  to: string,
  lock: { purpose: string; onNote?: ((note: string) => void) | undefined },
): Promise<void> {
  // The tensors come straight from the model's memory, which nobody writes meanwhile.
  const tensors = store.checkpointTensors();
  const content = { config: config.toJSON(), generationConfig, tensors, ...(await tokenizerOf(from)) };
  await whileLocked(to, lock, () => saveCheckpoint(to, content));
}

export interface ExportCheckpointOptions extends Omit<LoadOptions, 'dtype'> {
  /** As `ExportOptions.architecture`. */
  architecture?: Architecture | undefined;
  /** As `ExportOptions.dtype`. */
  dtype?: ExportDtype | undefined;
}

/** Reads a checkpoint and writes it for `transformers`, with the tokenizer's files: see `exportHuggingFace`. */
export async function exportCheckpoint(
  from: string,
  to: string,
  options: ExportCheckpointOptions = {},
): Promise<Architecture> {
  const { architecture, dtype, ...loadOptions } = options;
  const path = await modelPath(from, options.hub);
  const model = await MoETransformer.load(path, loadOptions);
  const { onNote } = options;
  return exportHuggingFace(to, model, { architecture, dtype, onNote, ...(await tokenizerOf(path)) });
}

/**
 * Writes a model as a GGUF file: see `writeGguf` for what comes out and what is refused. Returns the `general.architecture`.
 * The weights must not change until the promise resolves.
 */
export function exportGguf(
  file: string,
  model: MoETransformer,
  options: GgufExportOptions = {},
): Promise<string> {
  return writeGguf(file, model, blocksOf(model.kernels), options);
}

export interface ExportGgufCheckpointOptions
  extends Omit<LoadOptions, 'dtype'>,
    Pick<GgufExportOptions, 'dtype' | 'name'> {}

/** Reads a checkpoint and writes it as a GGUF file, with its tokenizer: see `exportGguf`. */
export async function exportGgufCheckpoint(
  from: string,
  file: string,
  options: ExportGgufCheckpointOptions = {},
): Promise<string> {
  const { dtype, name, ...loadOptions } = options;
  const path = await modelPath(from, options.hub);
  const model = await MoETransformer.load(path, loadOptions);
  return exportGguf(file, model, { dtype, name, ...(await tokenizerOf(path)) });
}

function blocksOf(kernels: Pick<Kernels, 'quantize'>): Quantize {
  return (type, rows, cols, values) => quantized(kernels, type, rows, cols, values);
}

async function tokenizerOf(dir: string): Promise<Partial<TokenizerFiles>> {
  const { tokenizer, ...rest } = await readStoredTokenizer(dir);
  return { ...rest, ...(tokenizer && { tokenizer }) };
}

/** Upper limit of the default sequence length that memory is counted for. */
const DEFAULT_SEQ_LEN = 2048;

export interface Inspection {
  /** The Hugging Face architecture; null for a checkpoint of sgemoe. */
  architecture: Architecture | null;
  /** What a GGUF file says about itself; null for a folder. */
  gguf: GgufFacts | null;
  config: ModelConfig;
  parameters: { total: number; active: number };
  /** The tensors in the files. */
  tensors: readonly Pick<StoredTensor, 'name' | 'dtype' | 'shape' | 'byteLength'>[];
  /** Bytes of all tensors in the files. */
  storedBytes: number;
  /** The batch and sequence length that the memory is counted for (`memoryBytes`). */
  batch: number;
  seqLen: number;
  memory: {
    training: MemoryBytes;
    /** With matrices of the type asked for; its weights are those in memory. */
    inference: MemoryBytes;
    /** Bytes of the matrices that serving uses where they lie in the files. */
    mapped: number;
    /** Bytes of a `Decoder`'s keys, values and token ids for so many sequences of that length. */
    keyValueCache: number;
  };
  /** Sentences about what was ignored in config.json. */
  notes: readonly string[];
}

export interface InspectOptions {
  /** B of the memory figures. Default 1. */
  batch?: number | undefined;
  /** S of the memory figures. Default min(maxSeqLen, 2048). */
  seqLen?: number | undefined;
  /** The type of the matrices in serving, as `LoadOptions.dtype`. Default 'stored'. */
  dtype?: ModelDtype | undefined;
  /** How keys and values are kept, as in DecoderOptions. Default 'float32'. */
  kvCacheDtype?: KvCacheDtype | undefined;
  /** As `LoadOptions.hub`. */
  hub?: HubOptions | undefined;
}

/**
 * Describes a checkpoint, a folder, a GGUF file or a model of the hub, from its headers; no weight is read. It checks that
 * every tensor of the model is there.
 * @throws as MoETransformer.load; RangeError for an impossible batch or length.
 */
export async function inspectCheckpoint(dir: string, options: InspectOptions = {}): Promise<Inspection> {
  checkOptions('inspectCheckpoint', options, ['batch', 'seqLen', 'dtype', 'kvCacheDtype', 'hub']);
  if (options.dtype !== undefined) checkModelDtype('inspectCheckpoint: dtype', options.dtype);
  const checkpoint = await loadCheckpoint(await modelPath(dir, options.hub));
  try {
    return inspect(checkpoint, options);
  } finally {
    await checkpoint.tensors.close();
  }
}

function inspect(checkpoint: Checkpoint, options: InspectOptions): Inspection {
  const source = modelSource(checkpoint);
  const { config, architecture, notes } = source;
  const store = new ParameterStore(getKernels(), { onExpose: (name, shape) => source.check(name, shape) });
  assemble(config, store);
  const {
    batch = 1,
    seqLen = Math.min(config.maxSeqLen, DEFAULT_SEQ_LEN),
    dtype = 'stored',
    kvCacheDtype,
  } = options;
  const plan = planStorage(store, source, dtype);
  store.keepStored(store.tables.filter((_, i) => plan.tables[i] !== null));
  if (seqLen > config.maxSeqLen) {
    throw new RangeError(`inspect: seqLen must be at most maxSeqLen (${config.maxSeqLen}), got ${seqLen}`);
  }
  const memory = (mode: 'forward' | 'train') => memoryBytes(config, { batch, seq: seqLen, mode });
  const tensors = Array.from(checkpoint.tensors.tensors.values(), ({ name, dtype, shape, byteLength }) => {
    return { name, dtype, shape, byteLength };
  });
  return {
    architecture,
    gguf: checkpoint.gguf ?? null,
    config,
    parameters: { total: config.totalParams(), active: config.activeParams() },
    tensors,
    storedBytes: tensors.reduce((sum, { byteLength }) => sum + byteLength, 0),
    batch,
    seqLen,
    memory: {
      training: memory('train'),
      inference: withWeights(memory('forward'), store.weightBytes + plan.residentBytes),
      mapped: plan.mappedBytes,
      keyValueCache: memoryBytes(config, {
        mode: 'decode',
        slots: batch,
        contextLength: seqLen,
        kvCacheDtype,
      }).cache,
    },
    notes,
  };
}

function withWeights(bytes: MemoryBytes, weights: number): MemoryBytes {
  return { ...bytes, weights, total: bytes.total - bytes.weights + weights };
}
