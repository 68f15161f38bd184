import { basename, dirname } from 'node:path';
import { checkOptions } from '../base/checks';
import type { NamedTensor } from '../checkpoint/checkpoint';
import { isGgufPath } from '../checkpoint/gguf/ggufFile';
import { type GgufEntry, streamGguf, type WrittenTensor } from '../checkpoint/gguf/writer';
import { replaceFiles } from '../checkpoint/replaceFiles';
import { writeChunks } from '../checkpoint/safetensors';
import type { ModelConfig } from '../config/modelConfig';
import { chooseTarget } from './exportGguf';
import { floatBytes, valuesOf } from './exportValues';
import { ggufTensorPlace } from './ggufNames';

/** The adapters of a model: A [count,r,in] and B [count,out,r] beside each matrix. */
export interface ExportableAdapters {
  /** Tells the order of rows of queries and keys. */
  readonly base: { readonly pairsHalves: boolean };
  readonly options: { readonly rank: number; readonly alpha: number; readonly rsLora: boolean };
  readonly adapters: readonly ExportableAdapter[];
  /** A is [V,r] here, B [H,r]; null without one. */
  readonly embedding: ExportableAdapter | null;
}

interface ExportableAdapter {
  /** The module: 'model.layers.0.self_attn.q_proj', 'model.layers.0.block_sparse_moe.experts.gate_up'. */
  readonly name: string;
  readonly a: StackedMatrix;
  readonly b: StackedMatrix;
}

interface StackedMatrix {
  readonly rows: number;
  readonly cols: number;
  readonly count: number;
  readonly data: Float32Array;
}

export interface GgufAdapterOptions {
  /** Becomes `general.name`. Default: the file's name. */
  name?: string | undefined;
}

/**
 * Writes adapters as a GGUF file, which llama.cpp takes by `--lora` beside a GGUF of their base, in float32: tensors `<weight>.lora_a` [r,in]
 * and `.lora_b` [out,r], stacked for experts, of which gate and up share A. llama.cpp scales by alpha / r, so that of rsLoRA is written as
 * alpha sqrt(r). Returns the `general.architecture`.
 * The embedding's A is written transposed, [V,r], as llama.cpp reads rows of it.
 * @throws RangeError for a base that has no form in a GGUF, for adapters of a tied lm_head, of a tied embedding or of a shared expert's
 * gate, which a GGUF has no matrix for; SgemoeError SGEMOE_CHECKPOINT_WRITE.
 */
export async function writeGgufAdapter(
  file: string,
  config: ModelConfig,
  lora: ExportableAdapters,
  options: GgufAdapterOptions = {},
): Promise<string> {
  checkOptions('exportGgufAdapter', options, ['name']);
  if (!isGgufPath(file))
    throw new RangeError(`exportGgufAdapter: the file's name must end in .gguf, got ${file}`);
  const { name = basename(file).slice(0, -'.gguf'.length) } = options;
  const target = chooseTarget(config);
  const { rank, alpha, rsLora } = lora.options;
  const metadata = new Map<string, GgufEntry>([
    ['general.architecture', { type: 'string', value: target.name }],
    ['general.type', { type: 'string', value: 'adapter' }],
    ['general.name', { type: 'string', value: name }],
    ['general.file_type', { type: 'uint32', value: 0 }],
    ['adapter.type', { type: 'string', value: 'lora' }],
    ['adapter.lora.alpha', { type: 'float32', value: rsLora ? alpha * Math.sqrt(rank) : alpha }],
  ]);
  const all = lora.embedding === null ? lora.adapters : [...lora.adapters, lora.embedding];
  const { pairsHalves } = lora.base;
  const inOrder = (matrix: NamedTensor) => valuesOf(matrix, config.headDim, target.halves, pairsHalves);
  const tensors = all.flatMap((adapter) => tensorsOf(adapter, config, inOrder));
  const write = (handle: Parameters<typeof writeChunks>[0]) =>
    writeChunks(handle, streamGguf(metadata, tensors));
  await replaceFiles(dirname(file), [{ name: basename(file), write }]);
  return target.name;
}

/** Rows [first, first + rows) of each matrix of B belong to the tensor that is called `name` in the file. */
interface Part {
  readonly name: string;
  readonly first: number;
  readonly rows: number;
}

/** @param inOrder gives a matrix in the file's order of rows. */
function tensorsOf(
  { name, a, b }: ExportableAdapter,
  config: ModelConfig,
  inOrder: (matrix: NamedTensor) => Iterable<Float32Array>,
): WrittenTensor[] {
  return partsOf(name, b.rows, config).flatMap((part): WrittenTensor[] => {
    const stacked = a.count > 1 ? [a.count] : [];
    const chunksOfB = function* () {
      for (let e = 0; e < b.count; e++) {
        const start = (e * b.rows + part.first) * b.cols;
        const data = b.data.slice(start, start + part.rows * b.cols);
        const matrix = { name: `${name}.weight`, shape: [part.rows, b.cols], data };
        for (const values of inOrder(matrix)) yield floatBytes(values, 'float32');
      }
    };
    return [
      {
        name: `${part.name}.lora_a`,
        type: 'F32',
        shape: [...stacked, a.rows, a.cols],
        chunks: () => [floatBytes(a.data.slice(), 'float32')],
      },
      { name: `${part.name}.lora_b`, type: 'F32', shape: [...stacked, part.rows, b.cols], chunks: chunksOfB },
    ];
  });
}

/** @throws RangeError for an adapter whose matrix a GGUF doesn't have as such. */
function partsOf(name: string, rows: number, config: ModelConfig): Part[] {
  const whole = (weight: string, first = 0, count = rows): Part => {
    return { name: ggufTensorPlace(`${weight}.weight`).name, first, rows: count };
  };
  const experts = /^(.*\.experts)\.(gate_up|down)$/.exec(name);
  if (experts !== null) {
    const [, prefix, which] = experts;
    if (which === 'down') return [whole(`${prefix}.0.w2`)];
    const F = rows / 2;
    return [whole(`${prefix}.0.w1`, 0, F), whole(`${prefix}.0.w3`, F, F)];
  }
  if (config.tieEmbeddings && ['lm_head', 'model.embed_tokens'].includes(name))
    throw new RangeError(`exportGgufAdapter: a tied ${name} has no matrix of its own in a GGUF`);
  if (name.endsWith('.shared_expert_gate'))
    throw new RangeError(`exportGgufAdapter: ${name} is a vector in a GGUF, which has no adapter`);
  return [whole(name)];
}
