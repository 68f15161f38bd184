import { checkOptions } from '../base/checks';
/** Reductions over one axis, or over everything. A tensor is seen as [outer, length, inner] around the axis. */
import { allocate } from '../base/dtype';
import { type FloatData, type FloatParts, requireFloat, type TensorParts } from './parts';
import { formatShape, resolveAxis, sizeOf } from './shape';
import type { ReduceOptions } from './types';

/** Checks what a reduction is given and returns its keepDims. @throws TypeError */
export function keepDimsOf(what: string, axis: unknown, options: ReduceOptions): boolean {
  checkOptions(what, options, ['keepDims']);
  if (axis !== null && typeof axis !== 'number') {
    throw new TypeError(`${what}: axis must be a number or null, got ${typeof axis}`);
  }
  return options.keepDims ?? false;
}

interface Reduction {
  readonly outer: number;
  readonly length: number;
  readonly inner: number;
  /** Shape of the result. */
  readonly shape: readonly number[];
}

/** What reducing `axis` (null: all axes) of `shape` means. A kept axis has dimension 1. */
function planReduction(
  what: string,
  shape: readonly number[],
  axis: number | null,
  keepDims: boolean,
): Reduction {
  if (axis === null) {
    return { outer: 1, length: sizeOf(shape), inner: 1, shape: keepDims ? shape.map(() => 1) : [] };
  }
  const at = resolveAxis(axis, shape, what);
  return {
    outer: sizeOf(shape.slice(0, at)),
    length: shape[at],
    inner: sizeOf(shape.slice(at + 1)),
    shape: keepDims ? shape.with(at, 1) : shape.toSpliced(at, 1),
  };
}

/** out[o,i] = (sum_j x[o,j,i]) / divisor, accumulated in float64 in the order of j. */
function sumInto(x: FloatData, { outer, length, inner }: Reduction, divisor: number, out: FloatData): void {
  if (inner === 1) {
    for (let o = 0, p = 0; o < outer; o++) {
      let sum = 0;
      for (const end = p + length; p < end; p++) sum += x[p];
      out[o] = sum / divisor;
    }
    return;
  }
  const sums = new Float64Array(inner);
  for (let o = 0, p = 0; o < outer; o++) {
    sums.fill(0);
    for (let j = 0; j < length; j++) for (let i = 0; i < inner; i++) sums[i] += x[p++];
    for (let i = 0; i < inner; i++) out[o * inner + i] = sums[i] / divisor;
  }
}

/**
 * best[o,i] = the largest x[o,:,i] (sign 1) or the smallest (sign -1), indices[o,i] = where it is first. NaN wins over
 * any number.
 */
function extremeInto(
  x: FloatData,
  { outer, length, inner }: Reduction,
  sign: number,
  best: FloatData,
  indices: Int32Array,
): void {
  for (let o = 0, p = 0; o < outer; o++) {
    const start = o * inner;
    for (let i = start; i < start + inner; i++) best[i] = x[p++];
    for (let j = 1; j < length; j++) {
      for (let i = start; i < start + inner; i++) {
        const value = x[p++];
        if (sign * value > sign * best[i] || (Number.isNaN(value) && !Number.isNaN(best[i]))) {
          best[i] = value;
          indices[i] = j;
        }
      }
    }
  }
}

/** The reduction that chooses an element, and where it is. */
function choose(
  what: 'max' | 'min' | 'argmax',
  tensor: TensorParts,
  axis: number | null,
  keepDims: boolean,
): { best: FloatParts; indices: TensorParts<'int32'> } {
  const { data: x, shape: from, dtype } = requireFloat(tensor, what);
  const reduction = planReduction(what, from, axis, keepDims);
  const { shape } = reduction;
  const size = sizeOf(shape);
  if (reduction.length === 0 && size > 0) {
    throw new RangeError(`${what}: no elements to choose from in ${formatShape(from)}`);
  }
  const best = allocate(dtype, size);
  const indices = allocate('int32', size);
  if (x.length > 0) extremeInto(x, reduction, what === 'min' ? -1 : 1, best, indices);
  return { best: { data: best, shape, dtype }, indices: { data: indices, shape, dtype: 'int32' } };
}

/** The sum over `axis` (null: all axes), or the mean; accumulated in float64, rounded once. */
export function sum(
  what: 'sum' | 'mean',
  tensor: TensorParts,
  axis: number | null,
  keepDims: boolean,
): FloatParts {
  const { data: x, shape, dtype } = requireFloat(tensor, what);
  const reduction = planReduction(what, shape, axis, keepDims);
  const data = allocate(dtype, sizeOf(reduction.shape));
  sumInto(x, reduction, what === 'mean' ? reduction.length : 1, data);
  return { data, shape: reduction.shape, dtype };
}

/** The largest or smallest element along `axis`; NaN when there is one. */
export function extreme(
  what: 'max' | 'min',
  tensor: TensorParts,
  axis: number | null,
  keepDims: boolean,
): FloatParts {
  return choose(what, tensor, axis, keepDims).best;
}

/** The index of the largest element along `axis`: the first of equal ones, the first NaN if there is one. */
export function argmax(tensor: TensorParts, axis: number | null, keepDims: boolean): TensorParts<'int32'> {
  return choose('argmax', tensor, axis, keepDims).indices;
}
