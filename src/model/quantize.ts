import { getKernels } from '../backend';
import { checkOptions } from '../base/checks';
import { STORAGE_TYPES, type StorageType, storedBytes } from '../base/storageTypes';
import { BLOCK_TYPES_KEY } from '../checkpoint/blockTensors';
import { loadCheckpoint } from '../checkpoint/checkpoint';
import { whileLocked } from '../checkpoint/folderLock';
import { GENERATION_FILE } from '../checkpoint/generationConfig';
import { jsonFile } from '../checkpoint/jsonFile';
import { replaceFiles } from '../checkpoint/replaceFiles';
import { type StreamedTensor, streamSafetensors, writeChunks } from '../checkpoint/safetensors';
import type { Dtype } from '../checkpoint/safetensorsHeader';
import { tokenizerFiles } from '../checkpoint/tokenizerFiles';
import { MATRIX_TYPES, type MatrixTypes, matrixTypeOf } from '../config/matrixTypes';
import type { ModelConfig } from '../config/modelConfig';
import type { HubOptions } from '../hf/hub/hubOptions';
import { modelPath } from '../hf/hub/modelPath';
import { type ModelSource, modelSource } from '../hf/source';
import { type Parameter, ParameterStore } from '../memory/parameters';
import { assemble } from './assemble';
import { checkModelDtype, roundedChunks } from './storedWeights';

export interface QuantizeOptions {
  /** The types of the matrices. Rows that aren't whole blocks take the type that llama.cpp takes. */
  dtype: MatrixTypes;
  /** Called with a sentence for each thing ignored in config.json. Default: process warnings. */
  onNote?: ((note: string) => void) | undefined;
  /** As `LoadOptions.hub`. */
  hub?: HubOptions | undefined;
}

export interface Quantized {
  config: ModelConfig;
  /** Bytes of the tensors before and after. */
  bytes: { before: number; after: number };
}

/** What safetensors calls the types that it has; it has no blocks. */
const DTYPES: Partial<Record<StorageType, Dtype>> = { float32: 'F32', bfloat16: 'BF16', float16: 'F16' };

/**
 * Reads any checkpoint, rounds its matrices and writes them as a folder of sgemoe, with the tokenizer's files. Tensors pass one
 * after the other, some rows at a time, so the model need not fit into the memory. Routers, norms and biases become float32.
 * @throws TypeError or RangeError for an option; SgemoeError as MoETransformer.load and save.
 */
export async function quantizeCheckpoint(
  from: string,
  to: string,
  options: QuantizeOptions,
): Promise<Quantized> {
  checkOptions('quantizeCheckpoint', options, ['dtype', 'onNote', 'hub']);
  const { dtype, onNote = (note: string) => process.emitWarning(note, 'SgemoeWarning') } = options;
  checkModelDtype('quantizeCheckpoint: dtype', dtype, MATRIX_TYPES);
  const checkpoint = await loadCheckpoint(await modelPath(from, options.hub));
  try {
    const source = modelSource(checkpoint);
    source.notes.forEach(onNote);
    const tensors = await plan(source, dtype);
    const types = tensors
      .filter(({ type }) => DTYPES[type] === undefined)
      .map(({ name, type }) => [name, type]);
    const metadata: Record<string, string> = {};
    if (types.length > 0) metadata[BLOCK_TYPES_KEY] = JSON.stringify(Object.fromEntries(types));
    const { tokenizer, tokenizerConfig, chatTemplate } = checkpoint;
    const files = [
      jsonFile('config.json', source.config.toJSON()),
      ...tokenizerFiles({ ...(tokenizer && { tokenizer }), tokenizerConfig, chatTemplate }),
      ...(source.generationConfig === null ? [] : [jsonFile(GENERATION_FILE, source.generationConfig)]),
      {
        name: 'model.safetensors',
        write: (handle: Parameters<typeof writeChunks>[0]) =>
          writeChunks(handle, streamSafetensors(tensors, metadata)),
      },
    ];
    await whileLocked(to, { purpose: 'a quantization', onNote }, () => replaceFiles(to, files));
    const before = [...checkpoint.tensors.tensors.values()].reduce(
      (sum, { byteLength }) => sum + byteLength,
      0,
    );
    const after = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
    return { config: source.config, bytes: { before, after } };
  } finally {
    await checkpoint.tensors.close();
  }
}

interface QuantizedTensor extends StreamedTensor {
  readonly type: StorageType;
  readonly bytes: number;
}

/** The tensors of the file, those with the largest elements first, so that each is aligned to its elements. */
async function plan(source: ModelSource, dtype: MatrixTypes): Promise<QuantizedTensor[]> {
  const kernels = getKernels();
  const onExpose = (name: string, shape: readonly number[]) => source.check(name, shape);
  const store = new ParameterStore(kernels, { onExpose });
  assemble(source.config, store);
  const hasBuffers = await source.checkAll(store.parameters, store.buffers);
  const matrices = new Set<unknown>(store.tables);
  const all = hasBuffers ? [...store.parameters, ...store.buffers] : store.parameters;
  const tensors = all.map((parameter) => {
    const cols = parameter.shape[parameter.shape.length - 1];
    const type = matrices.has(parameter.weight)
      ? matrixTypeOf(dtype, parameter.name, cols, source.config)
      : 'float32';
    return tensorOf(parameter, type, cols, () => roundedChunks(parameter, type, source, kernels));
  });
  const elementBytes = ({ type }: QuantizedTensor) =>
    DTYPES[type] === undefined ? 1 : STORAGE_TYPES[type].bytes;
  return tensors.sort((a, b) => elementBytes(b) - elementBytes(a));
}

function tensorOf(
  { name, shape, size }: Parameter,
  type: StorageType,
  cols: number,
  chunks: StreamedTensor['chunks'],
): QuantizedTensor {
  const bytes = storedBytes(type, size);
  const dtype = DTYPES[type];
  if (dtype !== undefined) return { name, type, bytes, dtype, shape, chunks };
  return { name, type, bytes, dtype: 'U8', shape: [size / cols, storedBytes(type, cols)], chunks };
}
