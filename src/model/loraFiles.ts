import { join, resolve } from 'node:path';
import { checkOptions } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, checkTensorInfo, listNames } from '../checkpoint/checkpoint';
import { whileLocked } from '../checkpoint/folderLock';
import { jsonFile, readJson } from '../checkpoint/jsonFile';
import { type NewFile, replaceFiles } from '../checkpoint/replaceFiles';
import { halvesRow, isRotated, neighboursRow } from '../checkpoint/ropePairs';
import { asF32, encodeSafetensors, SafetensorsFile, writeChunks } from '../checkpoint/safetensors';
import { corrupt } from '../checkpoint/safetensorsHeader';
import type { LoraOptions } from '../config/loraOptions';
import type { Architecture } from '../hf/architectures';
import {
  type PeftModule,
  type PeftScale,
  peftModule,
  peftTensors,
  readPeftConfig,
  writePeftConfig,
} from '../hf/peft';
import { chooseForExport } from '../hf/writeConfig';
import type { EmbeddingAdapter } from './embeddingAdapter';
import { type AdaptableModel, Lora } from './lora';
import type { LowRankAdapter } from './lowRankAdapter';
import { projectionsOf } from './parts';

export interface SaveLoraOptions {
  /** The base's path or name, for `base_model_name_or_path`. Default: that of the checkpoint that it was loaded from. */
  base?: string | undefined;
  /** The architecture whose names are written. Default: as `exportHuggingFace` chooses. */
  architecture?: Architecture | undefined;
  /** String pairs for the header of adapter_model.safetensors. */
  metadata?: Readonly<Record<string, string>> | undefined;
}

/**
 * Writes a model's adapters as Python's `peft` does: adapter_config.json and adapter_model.safetensors, with the names of
 * `transformers` 5. It writes both or none.
 * @throws TypeError without adapters; RangeError for a model that no architecture expresses; SgemoeError
 * SGEMOE_CHECKPOINT_WRITE or SGEMOE_FOLDER_LOCKED.
 */
export async function saveLora(
  dir: string,
  model: AdaptableModel,
  options: SaveLoraOptions = {},
): Promise<void> {
  const files = loraFiles(model, options);
  await whileLocked(dir, { purpose: 'an adapter' }, () => replaceFiles(dir, files));
}

/** The files that `saveLora` writes, and its errors. */
export function loraFiles(model: AdaptableModel, options: SaveLoraOptions = {}): NewFile[] {
  checkOptions('saveLora', options, ['base', 'architecture', 'metadata']);
  const { lora, config } = model;
  if (!lora) throw new TypeError('saveLora: the model has no adapters');
  const architecture = chooseForExport(config, options.architecture);
  const moduleOf = (name: string) => peftModule(config, architecture, name);
  const modules = lora.names.map(moduleOf);
  const all = partNames(model).map(moduleOf);
  const names = peftTensors(modules);
  const tensors = lora.adapters.flatMap((adapter, i) => {
    return peftMatrices(adapter, names[i], rowOrder(model, adapter.name, neighboursRow));
  });
  if (lora.embedding !== null) tensors.push(...embeddingMatrices(lora.embedding, names.at(-1)!));
  const chunks = encodeSafetensors(asF32(tensors), { format: 'pt', ...options.metadata });
  const base = options.base ?? (model.origin && resolve(model.origin.path));
  const json = writePeftConfig({ ...lora.options, base }, modules, all);
  return [
    jsonFile(ADAPTER_CONFIG, json),
    { name: ADAPTER_WEIGHTS, write: (handle) => writeChunks(handle, chunks) },
  ];
}

/**
 * Adds the adapters that `saveLora` or Python's `peft` (on `transformers` 5) saved to a model.
 * @param options the dropout of further training, and its seed.
 * @throws TypeError if the model has adapters; otherwise as `readLora`.
 */
export async function loadLora(
  dir: string,
  model: AdaptableModel,
  options: Pick<LoraOptions, 'dropout' | 'seed'> = {},
): Promise<Lora> {
  checkOptions('loadLora', options, ['dropout', 'seed']);
  const lora = await readLora(dir, model, options);
  return model.addLora(lora);
}

/**
 * Reads adapters for a model without adding them to it: rows of a Decoder's step may have them.
 * @throws SgemoeError SGEMOE_CHECKPOINT_NOT_FOUND, SGEMOE_CONFIG_INVALID for settings that adapters here don't have,
 * SGEMOE_CHECKPOINT_EXTRA_TENSOR for adapters of other modules than this model has, SGEMOE_CHECKPOINT_SHAPE for those of a model of
 * another size, SGEMOE_MEMORY, or the codes of a damaged file; TypeError if the model has adapters that it always computes with.
 */
export async function readLora(
  dir: string,
  model: AdaptableModel,
  options: Pick<LoraOptions, 'dropout' | 'seed'> = {},
): Promise<Lora> {
  if (model.lora) throw new TypeError('The model has adapters; mergeLora or removeLora first');
  return openLora(dir, model, async (file, found, scale) => {
    const lora = Lora.create(model, { ...options, ...scale, targets: [...found.keys()] });
    for (const adapter of lora.adapters) await readMatrices(file, adapter, found.get(adapter.name)!, model);
    if (lora.embedding !== null) await readEmbedding(file, lora.embedding, found.get(lora.embedding.name)!);
    return lora;
  });
}

/** The adapters of a folder for the layers of a model, from the headers alone: without memory. @throws as `readLora`. */
export async function inspectLora(dir: string, model: LoraLayers): Promise<Lora> {
  return openLora(dir, model, async (file, found, scale) => {
    const lora = new Lora(model, { ...scale, targets: [...found.keys()] });
    for (const adapter of lora.adapters) checkShapes(file, adapter, found.get(adapter.name)!);
    if (lora.embedding !== null) checkEmbedding(file, lora.embedding, found.get(lora.embedding.name)!);
    return lora;
  });
}

type LoraLayers = Pick<AdaptableModel, 'config' | 'store' | 'embedding' | 'blocks' | 'lmHead'>;

/** @param use gets the file, the name in it of each part that has an adapter, and what all of them have in common. */
async function openLora(
  dir: string,
  model: LoraLayers,
  use: (file: SafetensorsFile, found: Map<string, string>, scale: PeftScale) => Promise<Lora>,
): Promise<Lora> {
  const path = join(dir, ADAPTER_CONFIG);
  const json = await readJson(dir, ADAPTER_CONFIG, 'SGEMOE_CONFIG_INVALID');
  if (json === null) throw new SgemoeError('SGEMOE_CHECKPOINT_NOT_FOUND', `${path}: no such file`);
  const scale = readPeftConfig(path, json);
  const architecture = chooseForExport(model.config);
  const file = await SafetensorsFile.open(join(dir, ADAPTER_WEIGHTS));
  try {
    return await use(file, findParts(file, model, architecture, json.target_parameters), scale);
  } finally {
    await file.close();
  }
}

function checkShapes(file: SafetensorsFile, { a, b }: LowRankAdapter, tensor: string): void {
  checkTensorInfo(file, `${tensor}.lora_A.weight`, [a.rows * a.count, a.cols]);
  checkTensorInfo(file, `${tensor}.lora_B.weight`, [b.rows, a.rows * a.count]);
}

/** The embedding and the parts of all projections, each of which could have an adapter. */
function partNames(model: LoraLayers): string[] {
  return [
    model.embedding.name,
    ...projectionsOf(model).flatMap(({ parts }) => parts.map(({ name }) => name)),
  ];
}

/** The parts that the file has adapters of, with the names of their tensors. */
function findParts(
  { tensors, path }: SafetensorsFile,
  model: LoraLayers,
  architecture: Architecture,
  targets: unknown,
): Map<string, string> {
  const parts = partNames(model);
  const modules = parts.map((name) => peftModule(model.config, architecture, name));
  const found = new Map<string, string>();
  const listed = Array.isArray(targets) ? targets : [];
  const isTarget = (name: string) =>
    listed.some((each) => name === each || name.endsWith(`.${String(each)}`));
  const has = (name: string) => tensorNames(name).some((tensor) => tensors.has(tensor));
  parts.forEach((part, i) => {
    const name = tensorOf(modules, i, has, isTarget);
    if (name !== null) found.set(part, name);
  });
  const known = new Set([...found.values()].flatMap(tensorNames));
  // peft copies an adapted embedding or lm_head into the file.
  const extra = [...tensors.keys()].filter(
    (name) => !known.has(name) && !name.endsWith('.base_layer.weight'),
  );
  if (extra.length > 0 || found.size === 0) {
    const what = extra.length > 0 ? listNames(extra) : 'no adapter';
    throw corrupt(
      'SGEMOE_CHECKPOINT_EXTRA_TENSOR',
      path,
      `the file holds ${what}, for which the model has no place`,
    );
  }
  return found;
}

/** The name of a part's tensors in a file; null if it has none. */
function tensorOf(
  modules: readonly PeftModule[],
  index: number,
  has: (name: string) => boolean,
  isTarget: (parameter: string) => boolean,
): string | null {
  const { module } = modules[index];
  // Of the two stacks of a layer's experts, the config says which have an adapter.
  const beside = modules.filter((other) => {
    const isStack = other.parameter !== null && other.parameter !== 'weight';
    return other.module === module && (!isStack || isTarget(`${module}.${other.parameter}`));
  });
  const at = beside.indexOf(modules[index]);
  if (at < 0) return null;
  const name = peftTensors(beside)[at];
  return has(name) ? name : null;
}

/** The tensors that a module's adapter may have in a file: those of a matrix, or of the embedding. */
function tensorNames(module: string): string[] {
  return ['lora_A.weight', 'lora_B.weight', 'lora_embedding_A', 'lora_embedding_B'].map(
    (name) => `${module}.${name}`,
  );
}

interface NamedMatrix {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** `reorder` for B of queries and keys, unless the model's rows pair halves as those of files do; all else stays in order. */
function rowOrder(
  { config: { headDim }, store }: AdaptableModel,
  name: string,
  reorder: typeof halvesRow,
): (row: number) => number {
  return isRotated(`${name}.weight`) && !store.pairsHalves ? (row) => reorder(row, headDim) : (row) => row;
}

/**
 * A [r E,in] and B [out,r E], in which column i E + e belongs to row i of expert e's A. @param rowOf tells which row of ours
 * comes at a place.
 */
function peftMatrices(
  { a, b }: LowRankAdapter,
  tensor: string,
  rowOf: (row: number) => number,
): NamedMatrix[] {
  const [r, E, out] = [a.rows, a.count, b.rows];
  const data = new Float32Array(b.size);
  for (let e = 0; e < E; e++) {
    for (let row = 0; row < out; row++) {
      for (let i = 0; i < r; i++) data[row * r * E + i * E + e] = b.data[(e * out + rowOf(row)) * r + i];
    }
  }
  return [
    { name: `${tensor}.lora_A.weight`, shape: [r * E, a.cols], data: Float32Array.from(a.data) },
    { name: `${tensor}.lora_B.weight`, shape: [out, r * E], data },
  ];
}

async function readMatrices(
  file: SafetensorsFile,
  adapter: LowRankAdapter,
  tensor: string,
  model: AdaptableModel,
): Promise<void> {
  const { name, a, b } = adapter;
  const [r, E, out] = [a.rows, a.count, b.rows];
  checkShapes(file, adapter, tensor);
  const read = new Float32Array(Math.max(a.size, b.size));
  await file.readPartInto(`${tensor}.lora_A.weight`, 0, read.subarray(0, a.size));
  a.data.set(read.subarray(0, a.size));
  await file.readPartInto(`${tensor}.lora_B.weight`, 0, read.subarray(0, b.size));
  const rowOf = rowOrder(model, name, halvesRow);
  for (let e = 0; e < E; e++) {
    for (let row = 0; row < out; row++) {
      for (let i = 0; i < r; i++) b.data[(e * out + row) * r + i] = read[rowOf(row) * r * E + i * E + e];
    }
  }
}

/** A [r,V], which is kept transposed here, and B [H,r]. */
function embeddingMatrices({ a, b }: EmbeddingAdapter, tensor: string): NamedMatrix[] {
  return [
    { name: `${tensor}.lora_embedding_A`, shape: [a.cols, a.rows], data: transposed(a.data, a.rows, a.cols) },
    { name: `${tensor}.lora_embedding_B`, shape: [b.rows, b.cols], data: Float32Array.from(b.data) },
  ];
}

function checkEmbedding(file: SafetensorsFile, { a, b }: EmbeddingAdapter, tensor: string): void {
  checkTensorInfo(file, `${tensor}.lora_embedding_A`, [a.cols, a.rows]);
  checkTensorInfo(file, `${tensor}.lora_embedding_B`, [b.rows, b.cols]);
}

async function readEmbedding(
  file: SafetensorsFile,
  adapter: EmbeddingAdapter,
  tensor: string,
): Promise<void> {
  const { a, b } = adapter;
  checkEmbedding(file, adapter, tensor);
  const read = new Float32Array(Math.max(a.size, b.size));
  await file.readPartInto(`${tensor}.lora_embedding_A`, 0, read.subarray(0, a.size));
  a.data.set(transposed(read, a.cols, a.rows));
  await file.readPartInto(`${tensor}.lora_embedding_B`, 0, read.subarray(0, b.size));
  b.data.set(read.subarray(0, b.size));
}

/** [cols,rows] of a matrix [rows,cols]. */
function transposed(matrix: Float32Array, rows: number, cols: number): Float32Array {
  const out = new Float32Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) out[col * rows + row] = matrix[row * cols + col];
  }
  return out;
}
