import { checkOptions } from '../base/checks';
import type { Some } from '../base/options';
import type { NamedTensor } from '../checkpoint/checkpoint';
import { whileLocked } from '../checkpoint/folderLock';
import { GENERATION_FILE, type GenerationConfig } from '../checkpoint/generationConfig';
import { jsonFile } from '../checkpoint/jsonFile';
import { replaceFiles } from '../checkpoint/replaceFiles';
import { type StreamedTensor, streamSafetensors, writeChunks } from '../checkpoint/safetensors';
import { type TokenizerFiles, tokenizerFiles } from '../checkpoint/tokenizerFiles';
import { type Architecture, definitionOf } from './architectures';
import { forHuggingFace } from './byteTokenizer';
import { endTokensOf, joinIds, withEndTokens } from './endTokens';
import { type ExportableModel, floatBytes, refuseBuffers, refuseTooLarge, valuesOf } from './exportValues';
import { specialTokenIds } from './specialTokens';
import { chooseForExport, writeHuggingFaceConfig } from './writeConfig';

export interface ExportOptions extends Some<TokenizerFiles> {
  /** The architecture to export as. Default: the first that can express the model, in the order of docs/checkpoints.md. */
  architecture?: Architecture | undefined;
  /** The dtype of stored weights; 'bf16' and 'f16' round. Default 'f32'. */
  dtype?: ExportDtype | undefined;
  /** Becomes generation_config.json. Default: the model's. */
  generationConfig?: GenerationConfig | null | undefined;
  /** Called when a lock that another process left behind is taken over. */
  onNote?: ((note: string) => void) | undefined;
}

const DTYPES = {
  f32: { name: 'float32', stored: 'F32', bytes: 4 },
  bf16: { name: 'bfloat16', stored: 'BF16', bytes: 2 },
  f16: { name: 'float16', stored: 'F16', bytes: 2 },
} as const;
export type ExportDtype = keyof typeof DTYPES;
export const EXPORT_DTYPES = Object.keys(DTYPES) as readonly ExportDtype[];

const EXPORT_OPTIONS: readonly (keyof ExportOptions)[] = [
  'architecture',
  'dtype',
  'generationConfig',
  'onNote',
  'tokenizer',
  'tokenizerConfig',
  'chatTemplate',
];

/**
 * Writes a model as a folder that `transformers` (4 and 5) loads: config.json, model.safetensors, generation_config.json if
 * the model has one, and the tokenizer's files if given. It writes all of them or none, and locks the folder meanwhile. The
 * rows of q and k are put in that library's order. The weights must not change until the promise resolves. Returns the
 * architecture.
 * @throws RangeError when no architecture, or not the one asked for, can express the model, or a weight is too large for
 * f16; TypeError for a wrong option; SgemoeError SGEMOE_CHECKPOINT_WRITE; SGEMOE_FOLDER_LOCKED when another process writes
 * there; SGEMOE_CONFIG_INVALID for an `eos_token_id` that is no token id.
 */
export async function exportHuggingFace(
  dir: string,
  model: ExportableModel,
  options: ExportOptions = {},
): Promise<Architecture> {
  checkOptions('export', options, EXPORT_OPTIONS);
  const { dtype = 'f32', onNote, generationConfig = model.generationConfig ?? null } = options;
  if (!Object.hasOwn(DTYPES, dtype))
    throw new TypeError(`export: dtype must be f32, bf16 or f16, got ${String(dtype)}`);
  const { config } = model;
  const architecture = chooseForExport(config, options.architecture);
  refuseBuffers(model);
  if (dtype === 'f16') refuseTooLarge(model, dtype);
  const { bos, eos, pad } = specialTokenIds(options);
  const ends = joinIds(endTokensOf(generationConfig, config.vocabSize), eos === null ? [] : [eos]);
  const json = writeHuggingFaceConfig(config, architecture, DTYPES[dtype].name, { bos, ends, pad });
  const tensors = tensorsOf(model, architecture, dtype);
  const weights = {
    name: 'model.safetensors',
    // Version 4 refuses a file without this entry.
    write: (handle: Parameters<typeof writeChunks>[0]) =>
      writeChunks(handle, streamSafetensors(tensors, { format: 'pt' })),
  };
  const files = [jsonFile('config.json', json), ...tokenizerFiles(forHuggingFace(options)), weights];
  if (generationConfig !== null)
    files.push(jsonFile(GENERATION_FILE, { ...withEndTokens(generationConfig, ends) }));
  await whileLocked(dir, { purpose: 'an export', onNote }, () => replaceFiles(dir, files));
  return architecture;
}

interface Piece {
  start: number;
  parameter: NamedTensor;
}

/** The tensors of the file: parameters, stacked where the architecture stores several as one tensor. */
function tensorsOf(model: ExportableModel, architecture: Architecture, dtype: ExportDtype): StreamedTensor[] {
  const { config } = model;
  const stacks = new Map<string, { shape: readonly number[]; pieces: Piece[] }>();
  for (const [name, parameter] of model.namedParameters()) {
    const [place] = definitionOf(architecture).places(config, name, parameter.shape);
    const stack = stacks.get(place.name) ?? { shape: place.shape, pieces: [] };
    // The data are asked for now: a model that has none must refuse before a file is written.
    const { shape, data } = parameter;
    stack.pieces.push({ start: place.start, parameter: { name, shape, data } });
    stacks.set(place.name, stack);
  }
  return Array.from(stacks, ([name, { shape, pieces }]) => {
    pieces.sort((a, b) => a.start - b.start);
    const chunks = () => chunksOf(pieces, config.headDim, dtype);
    return { name, dtype: DTYPES[dtype].stored, shape, chunks };
  });
}

function* chunksOf(pieces: readonly Piece[], headDim: number, dtype: ExportDtype): Generator<Uint8Array> {
  for (const { parameter } of pieces) {
    for (const values of valuesOf(parameter, headDim, true)) yield floatBytes(values, DTYPES[dtype].name);
  }
}
