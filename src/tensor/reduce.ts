/** Reductions over one axis, or over everything. A tensor is seen as [outer, length, inner] around the axis. */
import { allocate } from '../dtype';
import { type FloatData, type FloatParts, requireFloat, type TensorParts } from './parts';
import { formatShape, resolveAxis, sizeOf } from './shape';

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

/** RangeError when there are results, but no elements to choose them from. */
function requireElements(what: string, { outer, length, inner }: Reduction, shape: readonly number[]): void {
  if (length === 0 && outer * inner > 0) {
    throw new RangeError(`${what}: no elements to choose from in ${formatShape(shape)}`);
  }
}

/** out[o,i] = the index of the first largest x[o,:,i] (sign 1), or smallest (sign -1). NaN wins over any number. */
function extremeIndexInto(
  x: FloatData,
  { outer, length, inner }: Reduction,
  sign: number,
  out: Int32Array,
): void {
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const start = o * length * inner + i;
      let best = x[start];
      let bestIndex = 0;
      for (let j = 1, p = start + inner; j < length && !Number.isNaN(best); j++, p += inner) {
        const value = x[p];
        if (sign * value > sign * best || Number.isNaN(value)) {
          best = value;
          bestIndex = j;
        }
      }
      out[o * inner + i] = bestIndex;
    }
  }
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

/** The index of the largest element along `axis`: the first of equal ones, the first NaN if there is one. */
export function argmax(tensor: TensorParts, axis: number | null, keepDims: boolean): TensorParts<'int32'> {
  const { data: x, shape } = requireFloat(tensor, 'argmax');
  const reduction = planReduction('argmax', shape, axis, keepDims);
  requireElements('argmax', reduction, shape);
  const data = allocate('int32', sizeOf(reduction.shape));
  extremeIndexInto(x, reduction, 1, data);
  return { data, shape: reduction.shape, dtype: 'int32' };
}

/** The largest or smallest element along `axis`; NaN when there is one. */
export function extreme(
  what: 'max' | 'min',
  tensor: TensorParts,
  axis: number | null,
  keepDims: boolean,
): FloatParts {
  const { data: x, shape, dtype } = requireFloat(tensor, what);
  const reduction = planReduction(what, shape, axis, keepDims);
  requireElements(what, reduction, shape);
  const { outer, length, inner } = reduction;
  const indices = allocate('int32', outer * inner);
  extremeIndexInto(x, reduction, what === 'max' ? 1 : -1, indices);
  const data = allocate(dtype, outer * inner);
  for (let o = 0, r = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++, r++) data[r] = x[(o * length + indices[r]) * inner + i];
  }
  return { data, shape: reduction.shape, dtype };
}
