import { convertInto } from '../base/dtype';
import type { NamedTensor } from '../checkpoint/checkpoint';
import type { GenerationConfig } from '../checkpoint/generationConfig';
import { halvesRow, isRotated, neighboursRow } from '../checkpoint/ropePairs';
import type { ModelConfig } from '../config/modelConfig';

/** A model, or anything else with a configuration, parameters and buffers. */
export interface ExportableModel {
  readonly config: ModelConfig;
  /** The content of the model's generation_config.json, whose end tokens are written. */
  readonly generationConfig?: GenerationConfig | null | undefined;
  namedParameters(): Iterable<[string, NamedTensor]>;
  namedBuffers(): Iterable<[string, NamedTensor]>;
}

/** Elements converted and written at a time, at most, unless a row has more. */
const CHUNK = 2 ** 18;

/** @throws RangeError for a selection bias other than 0. */
export function refuseBuffers(model: ExportableModel): void {
  for (const [name, { data }] of model.namedBuffers()) {
    if (data.every((value) => value === 0)) continue;
    throw new RangeError(
      `export: ${name} is not 0, and no architecture has a selection bias; with biases of 0 it can be exported, ` +
        'but is another model',
    );
  }
}

/** The smallest number that rounds to infinity in F16. */
const F16_OVERFLOW = 65520;

/** @throws RangeError for a finite number that F16 can't hold. */
export function refuseTooLarge(model: ExportableModel, dtype: string): void {
  refuse(model, (element) => Math.abs(element) >= F16_OVERFLOW && Number.isFinite(element), dtype);
}

/** @throws RangeError for a number that is NaN or infinite, or that F16 can't hold. */
export function refuseNotFinite(model: ExportableModel, dtype: string): void {
  refuse(model, (element) => !(Math.abs(element) < F16_OVERFLOW), dtype);
}

function refuse(model: ExportableModel, isWrong: (element: number) => boolean, dtype: string): void {
  for (const [name, parameter] of model.namedParameters()) {
    for (const chunk of inOrder(parameter)) {
      const value = chunk.find(isWrong);
      if (value !== undefined)
        throw new RangeError(`export: ${name} holds ${value}, which ${dtype} can't; use bf16 or f32`);
    }
  }
}

/**
 * The values of a parameter, whole rows at a time; rows of queries and keys in the order of halves where asked.
 * @param haveHalves whether they are in that order already.
 */
export function valuesOf(
  parameter: NamedTensor,
  headDim: number,
  halves: boolean,
  haveHalves = false,
): Iterable<Float32Array> {
  if (halves === haveHalves || !isRotated(parameter.name)) return inOrder(parameter);
  return reordered(parameter, headDim, halves ? neighboursRow : halvesRow);
}

function* inOrder({ data, shape }: NamedTensor): Generator<Float32Array> {
  const cols = shape.at(-1) ?? 1;
  const step = Math.max(1, Math.floor(CHUNK / cols)) * cols;
  // slice instead of subarray: the data of a frozen model have no buffer.
  for (let start = 0; start < data.length; start += step) yield data.slice(start, start + step);
}

/** Rows of queries or keys in another order, one head at a time. @param rowOf tells which row of `data` comes at a place. */
function* reordered(
  { data, shape }: NamedTensor,
  headDim: number,
  rowOf: typeof halvesRow,
): Generator<Float32Array> {
  const cols = shape[1] ?? 1;
  for (let first = 0; first < shape[0]; first += headDim) {
    const ours = data.slice(first * cols, (first + headDim) * cols);
    const head = new Float32Array(ours.length);
    for (let row = 0; row < headDim; row++) {
      const from = rowOf(row, headDim) * cols;
      head.set(ours.subarray(from, from + cols), row * cols);
    }
    yield head;
  }
}

/** The bytes of values as a floating type. */
export function floatBytes(values: Float32Array, type: 'float32' | 'float16' | 'bfloat16'): Uint8Array {
  if (type === 'float32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bits = new Uint16Array(values.length);
  convertInto(values, 'float32', bits, type);
  return new Uint8Array(bits.buffer);
}
