import { neighboursRow } from '../ropePairs';
import { corrupt, elementCount, quoteName, type TensorArray } from '../safetensorsHeader';
import type { StoredSpan, StoredTensor, TensorReader } from '../tensorReader';
import type { ExpertNames, GgufArchitecture } from './architectures';
import { layoutOf } from './blockTypes';
import type { GgufFile } from './ggufFile';
import type { GgufTensor } from './header';
import { ROPE_FACTORS } from './ropeScaling';

/** Names below `model.layers.<i>.` of the tensors below `blk.<i>.` */
export const GGUF_LAYER_NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries({
    'attn_norm.weight': 'input_layernorm.weight',
    'ffn_norm.weight': 'post_attention_layernorm.weight',
    'attn_q.weight': 'self_attn.q_proj.weight',
    'attn_k.weight': 'self_attn.k_proj.weight',
    'attn_v.weight': 'self_attn.v_proj.weight',
    'attn_output.weight': 'self_attn.o_proj.weight',
    'attn_q.bias': 'self_attn.q_proj.bias',
    'attn_k.bias': 'self_attn.k_proj.bias',
    'attn_v.bias': 'self_attn.v_proj.bias',
    'attn_output.bias': 'self_attn.o_proj.bias',
    'attn_q_norm.weight': 'self_attn.q_norm.weight',
    'attn_k_norm.weight': 'self_attn.k_norm.weight',
    'ffn_gate.weight': 'mlp.gate_proj.weight',
    'ffn_up.weight': 'mlp.up_proj.weight',
    'ffn_down.weight': 'mlp.down_proj.weight',
    'ffn_gate_inp_shexp.weight': 'mlp.shared_expert_gate.weight',
    'ffn_gate_shexp.weight': 'mlp.shared_expert.gate_proj.weight',
    'ffn_up_shexp.weight': 'mlp.shared_expert.up_proj.weight',
    'ffn_down_shexp.weight': 'mlp.shared_expert.down_proj.weight',
  }),
);

/** Names of the tensors outside the layers. */
export const GGUF_MODEL_NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries({
    'token_embd.weight': 'model.embed_tokens.weight',
    'output_norm.weight': 'model.norm.weight',
    'output.weight': 'lm_head.weight',
  }),
);

/** Projections whose rows llama.cpp's converter reorders for some architectures. */
const ROTATED = /\.self_attn\.[qk]_proj\.(?:weight|bias)$/;

/** Elements [start, start + elements) of a tensor of the file. */
interface Segment {
  readonly tensor: GgufTensor;
  readonly start: number;
  readonly elements: number;
}

/** A tensor as `transformers` names it, with the parts of the file that make it, in order. */
interface Assembled extends StoredTensor {
  readonly segments: readonly Segment[];
}

/** The tensors of a GGUF file under the names, in the shapes and in the order of rows of `transformers`. */
export class GgufTensors implements TensorReader {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, Assembled>;
  readonly metadata: ReadonlyMap<string, string> = new Map();

  constructor(
    private readonly file: GgufFile,
    private readonly architecture: GgufArchitecture,
    private readonly headDim: number,
  ) {
    this.path = file.path;
    const all = [...file.tensors.values()].flatMap((tensor) => this.#assemble(tensor));
    this.tensors = new Map(all.map((tensor) => [tensor.name, tensor]));
  }

  info(name: string): Assembled {
    const tensor = this.tensors.get(name);
    if (tensor !== undefined) return tensor;
    throw corrupt('SGEMOE_CHECKPOINT_MISSING_TENSOR', this.path, `there is no tensor ${quoteName(name)}`);
  }

  async read(name: string): Promise<TensorArray> {
    const destination = new Float32Array(this.info(name).elements);
    await this.readPartInto(name, 0, destination);
    return destination;
  }

  async readInto(name: string, destination: TensorArray): Promise<void> {
    const { elements } = this.info(name);
    if (destination.length !== elements) {
      const what = `destination of tensor ${quoteName(name)}`;
      throw new RangeError(`${what} must have ${elements} elements, got ${destination.length}`);
    }
    await this.readPartInto(name, 0, destination);
  }

  /** All types are widened, so the destination must be a Float32Array. */
  async readPartInto(name: string, start: number, destination: TensorArray): Promise<void> {
    const tensor = this.info(name);
    if (!(destination instanceof Float32Array)) {
      const what = `tensor ${quoteName(name)} is ${tensor.dtype} and can not be read into a`;
      throw corrupt('SGEMOE_CHECKPOINT_DTYPE', this.path, `${what} ${destination.constructor.name}`);
    }
    const end = start + destination.length;
    if (!Number.isSafeInteger(start) || start < 0 || end > tensor.elements) {
      const what = `elements of tensor ${quoteName(name)}`;
      throw new RangeError(`${what} must be in [0, ${tensor.elements}), got ${start} .. ${end}`);
    }
    if (this.architecture.neighbours && ROTATED.test(name))
      await this.#readHalves(tensor, start, destination);
    else await this.#readSegments(tensor, start, destination);
  }

  span(name: string, start: number, elements: number): StoredSpan | null {
    let begin = 0;
    for (const segment of this.info(name).segments) {
      const end = begin + segment.elements;
      if (start >= begin && start + elements <= end) {
        const neighbours = this.architecture.neighbours && ROTATED.test(name);
        return this.file.span(segment.tensor, segment.start + start - begin, elements, neighbours);
      }
      begin = end;
    }
    return null;
  }

  close(): Promise<void> {
    return this.file.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The tensors that a tensor of the file contains: several if it stacks the matrices of experts. */
  #assemble(tensor: GgufTensor): Assembled[] {
    const whole = (name: string, shape = tensor.shape) => [
      assembled(name, shape, [{ tensor, start: 0, elements: tensor.elements }]),
    ];
    const [, layer, rest] = /^blk\.(\d+)\.(.*)$/.exec(tensor.name) ?? [];
    // The configuration reads this tensor.
    if (tensor.name === ROPE_FACTORS) return [];
    // An unknown name stays as it is; the refusal tells it.
    if (layer === undefined) return whole(GGUF_MODEL_NAMES.get(tensor.name) ?? tensor.name);
    const prefix = `model.layers.${layer}.`;
    const [, matrix] = /^ffn_(gate|up|down)_exps\.weight$/.exec(rest) ?? [];
    if (matrix !== undefined) return this.#experts(tensor, prefix, matrix as ExpertMatrix);
    if (rest === 'ffn_gate_inp.weight') return whole(prefix + this.architecture.router);
    const name = GGUF_LAYER_NAMES.get(rest);
    if (name === undefined) return whole(tensor.name);
    const asRow = rest === 'ffn_gate_inp_shexp.weight' && tensor.shape.length === 1;
    return whole(prefix + name, asRow ? [1, ...tensor.shape] : tensor.shape);
  }

  #experts(tensor: GgufTensor, prefix: string, matrix: ExpertMatrix): Assembled[] {
    if (tensor.shape.length !== 3) {
      const what = `tensor ${quoteName(tensor.name)} has shape [${tensor.shape.join(', ')}], must have three axes`;
      throw corrupt('SGEMOE_CHECKPOINT_SHAPE', this.path, what);
    }
    const names: ExpertNames = this.architecture.experts;
    const [count, rows, cols] = tensor.shape;
    const elements = rows * cols;
    const segment = (from: GgufTensor, expert: number) => ({
      tensor: from,
      start: expert * elements,
      elements,
    });
    const each = Array.from({ length: count }, (_, expert) => expert);
    if (!('gateUp' in names)) {
      return each.map((expert) => {
        return assembled(prefix + names[matrix](expert), [rows, cols], [segment(tensor, expert)]);
      });
    }
    if (matrix === 'down') {
      const segments = [{ tensor, start: 0, elements: tensor.elements }];
      return [assembled(prefix + names.stackedDown, tensor.shape, segments)];
    }
    if (matrix === 'up') return [];
    const up = this.file.tensors.get(tensor.name.replace('ffn_gate_', 'ffn_up_'));
    if (up === undefined || up.shape.join() !== tensor.shape.join()) {
      const what = `${quoteName(tensor.name)} and its ffn_up_exps have different shapes`;
      throw corrupt('SGEMOE_CHECKPOINT_SHAPE', this.path, what);
    }
    const segments = each.flatMap((expert) => [segment(tensor, expert), segment(up, expert)]);
    return [assembled(prefix + names.gateUp, [count, 2 * rows, cols], segments)];
  }

  async #readSegments(tensor: Assembled, start: number, destination: Float32Array): Promise<void> {
    const end = start + destination.length;
    let begin = 0;
    for (const segment of tensor.segments) {
      const [from, to] = [Math.max(start, begin), Math.min(end, begin + segment.elements)];
      if (from < to) {
        const part = destination.subarray(from - start, to - start);
        await this.file.readPartInto(segment.tensor, segment.start + from - begin, part);
      }
      begin += segment.elements;
    }
  }

  /** Reads rows that pair neighbours in the order of `transformers`, which pairs halves: a head at a time. */
  async #readHalves(tensor: Assembled, start: number, destination: Float32Array): Promise<void> {
    const { headDim } = this;
    const cols = tensor.shape[1] ?? 1;
    const size = headDim * cols;
    if (tensor.elements % size !== 0) {
      const what = `tensor ${quoteName(tensor.name)} has no whole number of heads of ${headDim} rows`;
      throw corrupt('SGEMOE_CHECKPOINT_SHAPE', this.path, what);
    }
    const end = start + destination.length;
    const [stored, ordered] = [new Float32Array(size), new Float32Array(size)];
    for (let head = start - (start % size); head < end; head += size) {
      await this.#readSegments(tensor, head, stored);
      for (let row = 0; row < headDim; row++) {
        const from = neighboursRow(row, headDim) * cols;
        ordered.set(stored.subarray(from, from + cols), row * cols);
      }
      const [from, to] = [Math.max(start, head), Math.min(end, head + size)];
      destination.set(ordered.subarray(from - head, to - head), from - start);
    }
  }
}

type ExpertMatrix = 'gate' | 'up' | 'down';

function assembled(name: string, shape: readonly number[], segments: readonly Segment[]): Assembled {
  const bytesOf = ({ tensor, elements: count }: Segment) => {
    const block = layoutOf(tensor.type);
    return (count / block.elements) * block.bytes;
  };
  return {
    name,
    shape,
    elements: elementCount(shape),
    dtype: segments[0].tensor.type,
    byteLength: segments.reduce((sum, segment) => sum + bytesOf(segment), 0),
    segments,
  };
}
