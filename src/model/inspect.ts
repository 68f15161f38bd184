import { getKernels } from '../backend';
import { checkInteger, checkOptions } from '../base/checks';
import type { KvCacheDtype } from '../base/storageTypes';
import { type Checkpoint, loadCheckpoint } from '../checkpoint/checkpoint';
import type { GgufFacts } from '../checkpoint/gguf/ggufCheckpoint';
import type { StoredTensor } from '../checkpoint/tensorReader';
import type { LoraOptions } from '../config/loraOptions';
import type { ModelConfig } from '../config/modelConfig';
import { adapterBase } from '../hf/adapterBase';
import type { Architecture } from '../hf/architectures';
import type { HubOptions } from '../hf/hub/hubOptions';
import { modelPath } from '../hf/hub/modelPath';
import { modelSource } from '../hf/source';
import { ParameterStore } from '../memory/parameters';
import { type AssembledParts, assemble } from './assemble';
import { Lora } from './lora';
import { inspectLora } from './loraFiles';
import { type MemoryBytes, memoryBytes } from './memoryBytes';
import { checkModelDtype, type ModelDtype, planStorage } from './storedWeights';

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
  /** The ranks that share a training's steps, and the micro-batches into which its batch is cut; the memory is that of one rank. */
  ranks: number;
  microBatches: number;
  /** Neighbouring ranks that together have each expert once. */
  expertParallel: number;
  memory: {
    training: MemoryBytes;
    /** With matrices of the type asked for; its weights are those in memory. */
    inference: MemoryBytes;
    /** Bytes of the matrices that serving uses where they lie in the files. */
    mapped: number;
    /** Bytes of a `Decoder`'s keys, values and token ids for so many sequences of that length. */
    keyValueCache: number;
  };
  /** The adapters of a folder of adapters, or those asked for; null without. */
  adapters: InspectedAdapters | null;
  /** Sentences about what was ignored in config.json. */
  notes: readonly string[];
}

const OPTIONS: readonly (keyof InspectOptions)[] = [
  'batch',
  'seqLen',
  'dtype',
  'kvCacheDtype',
  'lora',
  'gradientCheckpointing',
  'ranks',
  'microBatches',
  'expertParallel',
  'hub',
];

/** Adapters of a model, and what they need. */
export interface InspectedAdapters {
  /** The path of the base, for a folder of adapters; null for adapters that were asked for. */
  base: string | null;
  rank: number;
  alpha: number;
  rsLora: boolean;
  /** The names of the matrices that have one. */
  targets: readonly string[];
  /** Numbers that a training of them changes. */
  parameters: number;
  /** Their bytes in memory and, in float32, in a file. */
  bytes: number;
  /** A training of them beside matrices of the type asked for, whose bytes in memory `weights` has with those of the adapters. */
  training: MemoryBytes;
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
  /** Adapters to count, as `model.addLora` would make them. Default: those of the folder, if it is one of adapters. */
  lora?: LoraOptions | undefined;
  /** Whether trainings keep the blocks' inputs alone, as in TrainConfig. Default false. */
  gradientCheckpointing?: boolean | undefined;
  /** Ranks that share the steps of trainings, whose batch is that of all ranks. Default 1. */
  ranks?: number | undefined;
  /** Micro-batches of a training's batch, as in TrainConfig. Default: one for each rank. */
  microBatches?: number | undefined;
  /** Neighbouring ranks that together have each expert once, see `MemoryOptions`. Default 1: each has all. */
  expertParallel?: number | undefined;
  /** As `LoadOptions.hub`. */
  hub?: HubOptions | undefined;
}

/**
 * Describes a checkpoint, a folder, a GGUF file, a model of the hub or a folder of adapters with its base, from its headers; no weight is
 * read. It checks that every tensor of the model is there.
 * @throws as MoETransformer.load; RangeError for an impossible batch or length, or a target that the model doesn't have; TypeError for
 * `lora` beside a folder of adapters.
 */
export async function inspectCheckpoint(dir: string, options: InspectOptions = {}): Promise<Inspection> {
  checkOptions('inspectCheckpoint', options, OPTIONS);
  if (options.dtype !== undefined) checkModelDtype('inspectCheckpoint: dtype', options.dtype);
  const path = await modelPath(dir, options.hub);
  const base = await adapterBase(path, options.hub);
  if (base !== null && options.lora !== undefined)
    throw new TypeError(`inspectCheckpoint: lora must be absent for ${path}, which has adapters`);
  const checkpoint = await loadCheckpoint(base ?? path);
  try {
    const { parts, inspection, weights } = inspect(checkpoint, options);
    const lora =
      base === null ? options.lora && new Lora(parts, options.lora) : await inspectLora(path, parts);
    const adapters = lora ? describeLora(lora, base, weights, inspection, options) : null;
    return { ...inspection, adapters };
  } finally {
    await checkpoint.tensors.close();
  }
}

function describeLora(
  { options, names, store }: Lora,
  base: string | null,
  weights: number,
  { config, batch, seqLen: seq, ranks, microBatches }: Omit<Inspection, 'adapters'>,
  { gradientCheckpointing }: InspectOptions,
): InspectedAdapters {
  const { rank, alpha, rsLora } = options;
  const training = memoryBytes(config, {
    batch: Math.ceil(batch / microBatches),
    seq,
    lora: options,
    gradientCheckpointing,
    ranks,
    microBatches,
  });
  return {
    base,
    rank,
    alpha,
    rsLora,
    targets: names,
    parameters: store.parameters.reduce((sum, { size }) => sum + size, 0),
    bytes: store.weightBytes,
    training: withWeights(training, weights + store.weightBytes),
  };
}

interface Inspected {
  parts: AssembledParts;
  inspection: Omit<Inspection, 'adapters'>;
  /** Bytes of the weights in memory. */
  weights: number;
}

function inspect(checkpoint: Checkpoint, options: InspectOptions): Inspected {
  const source = modelSource(checkpoint);
  const { config, architecture, notes } = source;
  const store = new ParameterStore(getKernels(), { onExpose: (name, shape) => source.check(name, shape) });
  const parts = assemble(config, store);
  const {
    batch = 1,
    seqLen = Math.min(config.maxSeqLen, DEFAULT_SEQ_LEN),
    dtype = 'stored',
    kvCacheDtype,
    gradientCheckpointing,
    ranks = 1,
    microBatches = ranks,
    expertParallel = 1,
  } = options;
  const plan = planStorage(store, source, dtype);
  store.keepStored(store.tables.filter((_, i) => plan.tables[i] !== null));
  if (seqLen > config.maxSeqLen) {
    throw new RangeError(`inspect: seqLen must be at most maxSeqLen (${config.maxSeqLen}), got ${seqLen}`);
  }
  checkInteger('inspectCheckpoint: ranks', ranks, 1);
  checkInteger('inspectCheckpoint: microBatches', microBatches, 1);
  const training = { batch: Math.ceil(batch / microBatches), seq: seqLen, gradientCheckpointing };
  const tensors = Array.from(checkpoint.tensors.tensors.values(), ({ name, dtype, shape, byteLength }) => {
    return { name, dtype, shape, byteLength };
  });
  const weights = store.weightBytes + plan.residentBytes;
  const inspection = {
    architecture,
    gguf: checkpoint.gguf ?? null,
    config,
    parameters: { total: config.totalParams(), active: config.activeParams() },
    tensors,
    storedBytes: tensors.reduce((sum, { byteLength }) => sum + byteLength, 0),
    batch,
    seqLen,
    ranks,
    microBatches,
    expertParallel,
    memory: {
      training: memoryBytes(config, { ...training, ranks, microBatches, expertParallel }),
      inference: withWeights(memoryBytes(config, { batch, seq: seqLen, mode: 'forward' }), weights),
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
  return { parts, inspection, weights };
}

function withWeights(bytes: MemoryBytes, weights: number): MemoryBytes {
  return { ...bytes, weights, total: bytes.total - bytes.weights + weights };
}
