import { basename, dirname } from 'node:path';
import { checkOptions } from '../base/checks';
import type { Some } from '../base/options';
import type { StorageType } from '../base/storageTypes';
import type { NamedTensor } from '../checkpoint/checkpoint';
import type { GenerationConfig } from '../checkpoint/generationConfig';
import { ggufArchitecture, ggufNameOf } from '../checkpoint/gguf/architectures';
import { blockTypeFor } from '../checkpoint/gguf/blockTypes';
import { isGgufPath } from '../checkpoint/gguf/ggufFile';
import { isLlama3Default, llama3Factors, ROPE_FACTORS } from '../checkpoint/gguf/ropeScaling';
import { samplingEntries } from '../checkpoint/gguf/sampling';
import { type GgufEntry, streamGguf, type WrittenTensor } from '../checkpoint/gguf/writer';
import { tokenizerEntries } from '../checkpoint/gguf/writeTokenizer';
import { replaceFiles } from '../checkpoint/replaceFiles';
import { writeChunks } from '../checkpoint/safetensors';
import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';
import { type MatrixTypes, matrixTypeOf } from '../config/matrixTypes';
import type { ModelConfig } from '../config/modelConfig';
import { type RopeScaling, ropeScalingToJson, yarnAttentionFactor } from '../config/ropeScaling';
import { ARCHITECTURES, type Architecture } from './architectures';
import { endTokensOf, joinIds } from './endTokens';
import {
  type ExportableModel,
  floatBytes,
  refuseBuffers,
  refuseNotFinite,
  refuseTooLarge,
  valuesOf,
} from './exportValues';
import { ggufTensorPlace } from './ggufNames';
import { specialTokenIds } from './specialTokens';
import { obstacles } from './writeConfig';

/** What weights are stored as; `file` is llama.cpp's number of the mixture (`general.file_type`). */
const DTYPES = {
  f32: { file: 0, types: 'float32' },
  f16: { file: 1, types: 'float16' },
  bf16: { file: 32, types: 'bfloat16' },
  q8_0: { file: 7, types: 'q8_0' },
  q4_k_m: { file: 15, types: 'q4_k_m' },
} as const satisfies Record<string, { file: number; types: MatrixTypes }>;
export type GgufDtype = keyof typeof DTYPES;
export const GGUF_DTYPES = Object.keys(DTYPES) as readonly GgufDtype[];

export interface GgufExportOptions extends Some<TokenizerFiles> {
  /** Default 'f32'. Norms, biases and routers stay float32. */
  dtype?: GgufDtype | undefined;
  /** Becomes `general.name`. Default: the file's name. */
  name?: string | undefined;
  /** Its end tokens are written. Default: the model's. */
  generationConfig?: GenerationConfig | null | undefined;
  /** Told what llama.cpp does otherwise than the tokenizer. Default: a process warning. */
  onNote?: ((note: string) => void) | undefined;
}

/** Rounds rows of numbers to blocks: `Kernels.quantize`. */
export type Quantize = (type: StorageType, rows: number, cols: number, values: Float32Array) => Uint8Array;

/**
 * Writes a model as a GGUF file, which llama.cpp and what is built on it read, whole or not at all. Returns the
 * `general.architecture`. 'q8_0' rounds all matrices; 'q4_k_m' is llama.cpp's mixture (config/matrixTypes.ts). Rows that a type doesn't fit are of the type that llama.cpp takes.
 * @throws TypeError for a wrong option, RangeError for what has no form in a GGUF, and for weights that the dtype can't hold;
 * SgemoeError SGEMOE_CHECKPOINT_WRITE, SGEMOE_CONFIG_INVALID for an `eos_token_id` that is no token id.
 */
export async function writeGguf(
  file: string,
  model: ExportableModel,
  quantize: Quantize,
  options: GgufExportOptions = {},
): Promise<string> {
  const known = [
    'dtype',
    'name',
    'generationConfig',
    'onNote',
    'tokenizer',
    'tokenizerConfig',
    'chatTemplate',
  ];
  checkOptions('exportGguf', options, known);
  if (!isGgufPath(file)) throw new RangeError(`exportGguf: the file's name must end in .gguf, got ${file}`);
  const { generationConfig = model.generationConfig ?? null } = options;
  const { dtype = 'f32', name = basename(file).slice(0, -'.gguf'.length) } = options;
  if (!Object.hasOwn(DTYPES, dtype))
    throw new TypeError(`exportGguf: dtype must be one of ${GGUF_DTYPES.join(', ')}, got ${String(dtype)}`);
  const target = chooseTarget(model.config);
  refuseBuffers(model);
  if (dtype === 'f16') refuseTooLarge(model, dtype);
  if (dtype === 'q8_0' || dtype === 'q4_k_m') refuseNotFinite(model, dtype);
  const metadata = new Map<string, GgufEntry>([
    ...generalEntries(target.name, name, dtype),
    ...samplingEntries(generationConfig),
    ...modelEntries(target.name, model.config),
    ...scalingEntries(target.name, model.config.ropeScaling),
    ...tokenEntries(model, options),
  ]);
  const tensors = [...ropeTensors(model.config), ...tensorsOf(model, target.halves, dtype, quantize)];
  const write = (handle: Parameters<typeof writeChunks>[0]) =>
    writeChunks(handle, streamGguf(metadata, tensors));
  await replaceFiles(dirname(file), [{ name: basename(file), write }]);
  return target.name;
}

export interface Target {
  /** `general.architecture` */
  readonly name: string;
  /** Whether rows of queries and keys pair halves. */
  readonly halves: boolean;
}

/** The first architecture that is this model, in `transformers` and in llama.cpp. @throws RangeError with what prevents each. */
export function chooseTarget(config: ModelConfig): Target {
  const reasons: string[] = [];
  for (const architecture of ARCHITECTURES) {
    const gguf = ggufNameOf(architecture);
    if (gguf === undefined) continue;
    const fields = [...obstacles(config, architecture), ...ggufObstacles(config, architecture)];
    if (fields.length === 0) return { name: gguf.name, halves: !gguf.neighbours };
    reasons.push(`${gguf.name} (${[...new Set(fields)].join(', ')})`);
  }
  throw new RangeError(`export: no architecture of GGUF is this model: neither ${reasons.join(' nor ')}`);
}

/** What `transformers` can express of an architecture and llama.cpp doesn't compute. */
function ggufObstacles(config: ModelConfig, architecture: Architecture): string[] {
  const { denseLayers, nLayers, normTopkProb, attentionBias } = config;
  const fields: string[] = [];
  const mixed = denseLayers.length > 0 && denseLayers.length < nLayers;
  if (mixed) fields.push(`denseLayers ${denseLayers}`);
  const { normTopkProb: renormalises, attentionBias: biased = true } = ggufNameOf(architecture) ?? {};
  if (renormalises !== undefined && normTopkProb !== renormalises)
    fields.push(`normTopkProb ${normTopkProb}`);
  if (!hasForm(config.ropeScaling)) fields.push(`ropeScaling ${JSON.stringify(config.ropeScaling)}`);
  if (!biased && attentionBias !== 'none') fields.push(`attentionBias ${attentionBias}`);
  return fields;
}

/** Whether a GGUF says all of a scaling. */
function hasForm(scaling: RopeScaling | null): boolean {
  if (scaling?.type === 'llama3') return isLlama3Default(ropeScalingToJson(scaling)!);
  if (scaling?.type !== 'yarn') return true;
  const { betaFast, betaSlow, truncate } = scaling;
  return betaFast === 32 && betaSlow === 1 && truncate === true;
}

/** The metadata of a scaling; Llama 3's is a tensor. */
function scalingEntries(architecture: string, scaling: RopeScaling | null): [string, GgufEntry][] {
  if (scaling === null || scaling.type === 'llama3') return [];
  const { type, factor } = scaling;
  const prefix = `${architecture}.rope.scaling.`;
  const entries: [string, GgufEntry][] = [
    [`${prefix}type`, { type: 'string', value: type }],
    [`${prefix}factor`, { type: 'float32', value: factor }],
  ];
  if (type === 'linear') return entries;
  const ours = yarnAttentionFactor(factor);
  const attention = (scaling.attentionFactor ?? ours) / ours;
  return [
    ...entries,
    [`${prefix}original_context_length`, { type: 'uint32', value: scaling.originalMaxSeqLen }],
    [`${prefix}attn_factor`, { type: 'float32', value: attention }],
  ];
}

function ropeTensors({ ropeScaling, headDim, ropeBase }: ModelConfig): WrittenTensor[] {
  if (ropeScaling?.type !== 'llama3') return [];
  const factors = Float32Array.from(llama3Factors(headDim, ropeBase, ropeScaling.factor));
  const chunks = () => [floatBytes(factors, 'float32')];
  return [{ name: ROPE_FACTORS, type: 'F32', shape: [factors.length], chunks }];
}

function generalEntries(architecture: string, name: string, dtype: GgufDtype): [string, GgufEntry][] {
  const entries: [string, GgufEntry][] = [
    ['general.architecture', { type: 'string', value: architecture }],
    ['general.type', { type: 'string', value: 'model' }],
    ['general.name', { type: 'string', value: name }],
    ['general.file_type', { type: 'uint32', value: DTYPES[dtype].file }],
  ];
  const isQuantized = dtype === 'q8_0' || dtype === 'q4_k_m';
  return isQuantized ? [...entries, ['general.quantization_version', { type: 'uint32', value: 2 }]] : entries;
}

function modelEntries(architecture: string, config: ModelConfig): [string, GgufEntry][] {
  const mixture = config.nMoeLayers > 0;
  const qwen = architecture.startsWith('qwen');
  const scaled = ggufArchitecture(architecture, mixture)?.ownKeys.includes('embedding_scale') ?? false;
  const integers: Record<string, number | false> = {
    context_length: config.maxSeqLen,
    embedding_length: config.hiddenDim,
    block_count: config.nLayers,
    feed_forward_length: mixture ? config.ffnDim : config.denseFfnDim,
    'attention.head_count': config.nHeads,
    'attention.head_count_kv': config.nKvHeads,
    'attention.key_length': config.headDim,
    'attention.value_length': config.headDim,
    'rope.dimension_count': config.headDim,
    vocab_size: config.vocabSize,
    expert_count: mixture && config.nExperts,
    expert_used_count: mixture && config.topKExperts,
    expert_feed_forward_length: mixture && qwen && config.ffnDim,
    expert_shared_feed_forward_length: mixture && config.sharedFfnDim > 0 && config.sharedFfnDim,
  };
  const floats: Record<string, number | false> = {
    'attention.layer_norm_rms_epsilon': config.rmsNormEps,
    'rope.freq_base': config.effectiveRopeBase,
    embedding_scale: scaled && config.embeddingMultiplier,
    residual_scale: scaled && config.residualMultiplier,
    logit_scale: scaled && config.logitsDivisor,
    'attention.scale': scaled && config.attentionScale,
  };
  const entriesOf = (values: Record<string, number | false>, type: 'uint32' | 'float32') =>
    Object.entries(values).flatMap(([key, value]): [string, GgufEntry][] =>
      value === false ? [] : [[`${architecture}.${key}`, { type, value }]],
    );
  return [...entriesOf(integers, 'uint32'), ...entriesOf(floats, 'float32')];
}

function tokenEntries(model: ExportableModel, options: GgufExportOptions): Map<string, GgufEntry> {
  const { vocabSize } = model.config;
  const { generationConfig = model.generationConfig ?? null } = options;
  const { onNote = (note: string) => process.emitWarning(note, 'SgemoeWarning') } = options;
  const { bos, eos, pad } = specialTokenIds(options);
  const ends = joinIds(eos === null ? [] : [eos], endTokensOf(generationConfig, vocabSize));
  return tokenizerEntries(options, vocabSize, { bos, ends, pad }, onNote);
}

/** The tensors of the file; matrices of a layer's experts stand in one. */
function tensorsOf(
  model: ExportableModel,
  halves: boolean,
  dtype: GgufDtype,
  quantize: Quantize,
): WrittenTensor[] {
  const { config } = model;
  const parameters = new Map<string, { shape: readonly number[]; parts: NamedTensor[] }>();
  for (const [name, parameter] of model.namedParameters()) {
    const { name: stored, expert, vector } = ggufTensorPlace(name);
    const shape = vector ? [parameter.shape.at(-1)!] : parameter.shape;
    const entry = parameters.get(stored) ?? {
      shape: expert === null ? shape : [config.nExperts, ...shape],
      parts: [],
    };
    // Taken at once: a model that doesn't have its weights as float32 throws before a file is begun.
    const { data } = parameter;
    entry.parts[expert ?? 0] = { name, shape: parameter.shape, data };
    parameters.set(stored, entry);
  }
  return Array.from(parameters, ([name, { shape, parts }]) => {
    const cols = shape.at(-1)!;
    const isFloat = shape.length === 1 || name.includes('ffn_gate_inp');
    const type = isFloat ? 'float32' : matrixTypeOf(DTYPES[dtype].types, parts[0].name, cols, config);
    const bytesOf = (values: Float32Array) =>
      type === 'float32' || type === 'float16' || type === 'bfloat16'
        ? floatBytes(values, type)
        : quantize(type, values.length / cols, cols, values);
    const chunks = function* () {
      for (const part of parts)
        for (const values of valuesOf(part, config.headDim, halves)) yield bytesOf(values);
    };
    return { name, type: blockTypeFor(type), shape, chunks };
  });
}
