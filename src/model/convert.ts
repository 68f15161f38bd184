import type { Kernels } from '../backend/kernels';
import { saveCheckpoint } from '../checkpoint/checkpoint';
import { whileLocked } from '../checkpoint/folderLock';
import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';
import type { ModelConfig } from '../config/modelConfig';
import { readModelTokenizer } from '../hf/adapterBase';
import type { Architecture } from '../hf/architectures';
import { type GgufExportOptions, type Quantize, writeGguf } from '../hf/exportGguf';
import { type GgufAdapterOptions, writeGgufAdapter } from '../hf/exportGgufAdapter';
import { type ExportDtype, exportHuggingFace } from '../hf/exportModel';
import { modelPath } from '../hf/hub/modelPath';
import { quantized } from '../memory/operations/stored';
import type { Lora } from './lora';
import { loadLora } from './loraFiles';
import { type LoadOptions, MoETransformer } from './model';

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
  const model = await loadWhole(path, options);
  await saveConverted(model, path, to, { purpose: 'an import', onNote: options.onNote });
  return model.config;
}

/** A model whose adapters, if it is a folder of them, are in its weights. */
export async function loadWhole(path: string, options: LoadOptions): Promise<MoETransformer> {
  const model = await MoETransformer.load(path, options);
  if (model.lora) model.mergeLora();
  return model;
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
  const model = await loadWhole(path, loadOptions);
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

/**
 * Writes a model's adapters as a GGUF file, for llama.cpp's `--lora`: see `writeGgufAdapter`. Returns the `general.architecture` of the base.
 * @throws TypeError without adapters.
 */
export function exportGgufAdapter(
  file: string,
  model: MoETransformer,
  options: GgufAdapterOptions = {},
): Promise<string> {
  if (!model.lora) throw new TypeError('exportGgufAdapter: the model has no adapters');
  return writeGgufAdapter(file, model.config, model.lora, options);
}

/** Reads a folder of adapters, and the shapes of their base, and writes the adapters as `exportGgufAdapter` does. */
export async function exportGgufAdapterCheckpoint(
  from: string,
  file: string,
  { name, ...loadOptions }: Omit<LoadOptions, 'dtype'> & GgufAdapterOptions = {},
): Promise<string> {
  const path = await modelPath(from, loadOptions.hub);
  return exportGgufAdapter(file, await MoETransformer.load(path, { ...loadOptions, dtype: 'stored' }), {
    name,
  });
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
  const model = await loadWhole(path, loadOptions);
  const { onNote } = options;
  return exportGguf(file, model, { dtype, name, onNote, ...(await tokenizerOf(path)) });
}

function blocksOf(kernels: Pick<Kernels, 'quantize'>): Quantize {
  return (type, rows, cols, values) => quantized(kernels, type, rows, cols, values);
}

async function tokenizerOf(dir: string): Promise<Partial<TokenizerFiles>> {
  const { tokenizer, ...rest } = await readModelTokenizer(dir);
  return { ...rest, ...(tokenizer && { tokenizer }) };
}
