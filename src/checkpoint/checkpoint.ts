import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Some } from '../base/options';
import { type RangedReader, withBlockTensors } from './blockTensors';
import { GENERATION_FILE, type GenerationConfig } from './generationConfig';
import { BLOCK_TYPE_NAMES } from './gguf/blockTypes';
import { type GgufFacts, openGgufCheckpoint } from './gguf/ggufCheckpoint';
import { isGgufPath } from './gguf/ggufFile';
import { jsonFile, readJson } from './jsonFile';
import { locateFile, type NewFile, replaceFiles } from './replaceFiles';
import {
  asF32,
  encodeSafetensors,
  type NamedTensor,
  type PlacedTensors,
  SafetensorsFile,
  writeChunks,
  writePlaced,
} from './safetensors';
import { corrupt, quoteName } from './safetensorsHeader';
import { INDEX_FILE, SafetensorsShards } from './shards';
import type { StoredTensor, TensorReader } from './tensorReader';
import {
  readStoredTokenizer,
  type StoredTokenizer,
  TOKENIZER_FILES,
  type TokenizerFiles,
  tokenizerFiles,
} from './tokenizerFiles';
import { TRAINING_FILES, type TrainingContent, trainingFiles } from './trainingFiles';

export type { NamedTensor } from './safetensors';

export const CONFIG_FILE = 'config.json';
export const WEIGHTS_FILE = 'model.safetensors';

/** The files of adapters, in the form of Python's `peft`. */
export const ADAPTER_CONFIG = 'adapter_config.json';
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';
const ADAPTER_FILES = [ADAPTER_CONFIG, ADAPTER_WEIGHTS] as const;

/** All files that a checkpoint or its adapters may have. */
export const CHECKPOINT_FILES = [
  CONFIG_FILE,
  GENERATION_FILE,
  WEIGHTS_FILE,
  ...ADAPTER_FILES,
  ...TOKENIZER_FILES,
  ...TRAINING_FILES,
] as const;

const LOAD_TRIES = 50;
const LOAD_RETRY_MS = 20;

/** What a save writes. Tokenizer files and generation_config.json stay in the folder unless new ones are given. */
export interface CheckpointContent extends Some<TokenizerFiles> {
  /** Becomes config.json. */
  config: object;
  /** Becomes generation_config.json: the tokens that end a text (`eos_token_id`), and keys of other tools. null counts as none. */
  generationConfig?: GenerationConfig | null | undefined;
  /** Become model.safetensors, as F32. They must not change until the save is done. */
  tensors: Iterable<NamedTensor> | PlacedTensors;
  /** String pairs for the header of model.safetensors. */
  metadata?: Readonly<Record<string, string>> | undefined;
  /** The state from which a training resumes. */
  training?: TrainingContent | undefined;
}

/** The options of `MoETransformer.save`. */
export type SaveOptions = Pick<CheckpointContent, 'metadata' | 'generationConfig' | keyof TokenizerFiles>;

export interface Checkpoint extends StoredTokenizer {
  config: Record<string, unknown>;
  /** The content of generation_config.json; null if there is none. */
  generationConfig: GenerationConfig | null;
  /** The open weights; the caller closes them. */
  tensors: TensorReader;
  /** What a GGUF file says about itself; missing for a folder. */
  gguf?: GgufFacts | undefined;
}

/**
 * Saves a checkpoint into a folder, which is made when needed; other files in it stay. A crash, a full disk
 * or a power cut at any moment leaves the old checkpoint or the new one, whole (replaceFiles.ts says how).
 * While it runs, the disk holds both. The save is on the disk when the promise resolves.
 * @throws TypeError, RangeError when tensors repeat a name or a shape does not fit the data; nothing is
 * written. SgemoeError SGEMOE_CHECKPOINT_WRITE (its `cause` is the system's error); temporary files are
 * removed.
 */
export async function saveCheckpoint(dir: string, content: CheckpointContent): Promise<void> {
  const { config, generationConfig = null, tensors, metadata = {} } = content;
  const files = [jsonFile(CONFIG_FILE, config), ...tokenizerFiles(content)];
  if (generationConfig !== null) files.push(jsonFile(GENERATION_FILE, generationConfig));
  files.push({ name: WEIGHTS_FILE, write: weightsWriter(tensors, metadata) });
  if (content.training !== undefined) files.push(...trainingFiles(content.training, files));
  await replaceFiles(dir, files);
}

function weightsWriter(
  tensors: CheckpointContent['tensors'],
  metadata: Readonly<Record<string, string>>,
): NewFile['write'] {
  if ('write' in tensors) return (handle, path) => writePlaced(tensors, metadata, handle, path);
  const chunks = encodeSafetensors(asF32(tensors), metadata);
  return (handle) => writeChunks(handle, chunks);
}

/**
 * Opens a checkpoint: a GGUF file, or a folder with config.json, model.safetensors (or shards with their index) and, if present,
 * generation_config.json and the tokenizer's files. It never writes, so the folder may be write-protected. It reads
 * what an interrupted save left, and waits while another process saves instead of pairing files of two checkpoints.
 * @throws SgemoeError SGEMOE_CHECKPOINT_NOT_FOUND when the folder, config.json or the weights are missing or
 * unreadable; SGEMOE_CONFIG_INVALID, SGEMOE_TOKENIZER_INVALID for JSON that can't be read; for the weights the
 * errors of `SafetensorsFile.open` and `SafetensorsShards.open`.
 */
export async function loadCheckpoint(dir: string): Promise<Checkpoint> {
  if (isGgufPath(dir)) return openGgufCheckpoint(dir);
  let before = await fingerprint(dir);
  for (let tries = 0; tries < LOAD_TRIES; tries++) {
    const result = await openCheckpoint(dir).catch((error: unknown) => ({ error }));
    const after = await fingerprint(dir);
    if (after === before) {
      if ('error' in result) throw result.error;
      return result;
    }
    if (!('error' in result)) await result.tensors.close();
    before = after;
    await sleep(LOAD_RETRY_MS);
  }
  throw corrupt('SGEMOE_CHECKPOINT_NOT_FOUND', dir, 'the checkpoint is being replaced again and again');
}

/**
 * Fills tensors from a file that must hold exactly these: same names, same shapes, dtype F32, F16 or BF16.
 * All of that is checked before anything is written; only a read error may leave a part of the tensors filled.
 * @throws SgemoeError SGEMOE_CHECKPOINT_MISSING_TENSOR, SGEMOE_CHECKPOINT_EXTRA_TENSOR,
 * SGEMOE_CHECKPOINT_SHAPE or SGEMOE_CHECKPOINT_DTYPE; while reading, the errors of `SafetensorsFile.readInto`.
 */
export async function loadTensorsInto(file: TensorReader, expected: Iterable<NamedTensor>): Promise<void> {
  const wanted = new Map<string, NamedTensor>();
  for (const tensor of expected) wanted.set(tensor.name, tensor);
  checkNames(file, wanted.values());
  for (const { name, shape, data } of wanted.values()) {
    const { elements } = checkTensorInfo(file, name, shape);
    if (data.length !== elements) {
      const what = `data of tensor ${quoteName(name)}`;
      throw new RangeError(`${what} must have ${elements} elements, got ${data.length}`);
    }
  }
  for (const name of file.tensors.keys()) await file.readInto(name, wanted.get(name)!.data);
}

/** @throws SgemoeError SGEMOE_CHECKPOINT_MISSING_TENSOR, SGEMOE_CHECKPOINT_EXTRA_TENSOR unless the file holds exactly these. */
export function checkNames(file: TensorReader, tensors: Iterable<Pick<NamedTensor, 'name'>>): void {
  const wanted = new Set(Array.from(tensors, ({ name }) => name));
  const missing = [...wanted].filter((name) => !file.tensors.has(name));
  if (missing.length > 0) {
    const what = `the model needs ${listNames(missing)}, which the file does not hold`;
    throw corrupt('SGEMOE_CHECKPOINT_MISSING_TENSOR', file.path, what);
  }
  const extra = [...file.tensors.keys()].filter((name) => !wanted.has(name));
  if (extra.length > 0) {
    const what = `the file holds ${listNames(extra)}, which the model does not know`;
    throw corrupt('SGEMOE_CHECKPOINT_EXTRA_TENSOR', file.path, what);
  }
}

/**
 * The header entry of a tensor, which must have this shape and a floating dtype.
 * @throws SgemoeError SGEMOE_CHECKPOINT_MISSING_TENSOR, SGEMOE_CHECKPOINT_SHAPE or SGEMOE_CHECKPOINT_DTYPE.
 */
export function checkTensorInfo(file: TensorReader, name: string, shape: readonly number[]): StoredTensor {
  const info = file.info(name);
  const tensor = `tensor ${quoteName(name)}`;
  if (info.shape.length !== shape.length || info.shape.some((dim, axis) => dim !== shape[axis])) {
    const shapes = `[${info.shape.join(', ')}] in the file, [${shape.join(', ')}] in the model`;
    throw corrupt('SGEMOE_CHECKPOINT_SHAPE', file.path, `${tensor} has shape ${shapes}`);
  }
  if (!(BLOCK_TYPE_NAMES as readonly string[]).includes(info.dtype)) {
    throw corrupt(
      'SGEMOE_CHECKPOINT_DTYPE',
      file.path,
      `${tensor} is ${info.dtype}, must be F32, F16 or BF16`,
    );
  }
  return info;
}

/** 'tensors "a", "b" and 3 more', for a message. */
export function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 3).map(quoteName).join(', ');
  const more = names.length > 3 ? ` and ${names.length - 3} more` : '';
  return `${names.length === 1 ? 'tensor' : 'tensors'} ${shown}${more}`;
}

async function openCheckpoint(dir: string): Promise<Checkpoint> {
  const config = await readJson(dir, CONFIG_FILE, 'SGEMOE_CONFIG_INVALID');
  if (config === null) {
    const exists = await stat(dir).then(
      (stats) => stats.isDirectory(),
      () => false,
    );
    const what = exists ? `there is no ${CONFIG_FILE} in this folder` : 'there is no such checkpoint folder';
    throw corrupt('SGEMOE_CHECKPOINT_NOT_FOUND', dir, what);
  }
  const generationConfig = await readJson(dir, GENERATION_FILE, 'SGEMOE_CONFIG_INVALID');
  const stored = await readStoredTokenizer(dir);
  return { config, generationConfig, ...stored, tensors: await openTensors(dir) };
}

async function openTensors(dir: string): Promise<TensorReader> {
  const file = await openWeights(dir);
  try {
    return withBlockTensors(file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** model.safetensors, or the shards of an index when there is no such file. */
async function openWeights(dir: string): Promise<RangedReader> {
  const single = await locateFile(dir, WEIGHTS_FILE);
  const index = join(dir, INDEX_FILE);
  try {
    return await SafetensorsFile.open(single);
  } catch (error) {
    const missing = ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
    const sharded = missing && (await stat(index).catch(() => null)) !== null;
    if (!sharded) throw error;
  }
  return SafetensorsShards.open(index);
}

/** A string that changes when any file of the checkpoint is replaced or moved. */
async function fingerprint(dir: string): Promise<string> {
  const parts = [CONFIG_FILE, GENERATION_FILE, ...TOKENIZER_FILES, WEIGHTS_FILE, INDEX_FILE].map(
    async (name) => {
      const path = await locateFile(dir, name);
      const stats = await stat(path, { bigint: true }).catch(() => null);
      return stats === null ? '' : `${path} ${stats.dev} ${stats.ino} ${stats.size} ${stats.mtimeNs}`;
    },
  );
  return (await Promise.all(parts)).join('\n');
}
