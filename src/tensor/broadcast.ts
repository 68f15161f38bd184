/**
 * Loops over tensors of unequal shapes. Two operands are read with any strides (0 repeats an axis), the output is
 * contiguous. Axes that can be walked as one are merged first, so that equal shapes, and a scalar against a tensor,
 * become a single run.
 */
import type { TensorData } from '../base/dtype';
import { formatShape, stridesOf } from './shape';

/** n elements along one axis of an output, where they begin and how they step. */
export interface Run {
  n: number;
  aStart: number;
  aStep: number;
  bStart: number;
  bStep: number;
  outStart: number;
}

/** Reads a at aStart + i*aStep and b at bStart + i*bStep, writes out at outStart + i, i in [0, n). */
export type RunLoop<A extends TensorData, O extends TensorData> = (a: A, b: A, out: O, run: Run) => void;

/** An operand: element (i, j, ..) is data[offset + i strides[0] + j strides[1] ..]. */
export interface Strided<A extends TensorData> {
  readonly data: A;
  readonly offset: number;
  readonly strides: readonly number[];
}

/**
 * The shape two shapes broadcast to by NumPy's rules: aligned at the last axis, a missing or unit dimension repeats.
 * Null when they don't.
 */
export function broadcastShape(a: readonly number[], b: readonly number[]): number[] | null {
  const ndim = Math.max(a.length, b.length);
  const shape = new Array<number>(ndim);
  for (let axis = 1; axis <= ndim; axis++) {
    const da = a[a.length - axis] ?? 1;
    const db = b[b.length - axis] ?? 1;
    if (da !== db && da !== 1 && db !== 1) return null;
    shape[ndim - axis] = da === 1 ? db : da;
  }
  return shape;
}

/** As `broadcastShape`; RangeError that names the operation and both shapes when they don't fit. */
export function requireBroadcast(what: string, a: readonly number[], b: readonly number[]): number[] {
  const shape = broadcastShape(a, b);
  if (shape === null) {
    throw new RangeError(`${what}: shapes ${formatShape(a)} and ${formatShape(b)} do not broadcast`);
  }
  return shape;
}

/** RangeError unless `from` broadcasts to exactly `to`. */
export function requireBroadcastTo(what: string, from: readonly number[], to: readonly number[]): void {
  const shape = broadcastShape(from, to);
  if (shape === null || shape.length !== to.length || shape.some((dim, axis) => dim !== to[axis])) {
    throw new RangeError(`${what}: ${formatShape(from)} does not broadcast to ${formatShape(to)}`);
  }
}

/** Strides that read a contiguous tensor of shape `from` as if it had shape `to`. */
export function broadcastStrides(from: readonly number[], to: readonly number[]): number[] {
  const own = stridesOf(from);
  const missing = to.length - from.length;
  return to.map((_, axis) => (axis < missing || from[axis - missing] === 1 ? 0 : own[axis - missing]));
}

interface MergedAxes {
  readonly dims: number[];
  readonly aStrides: number[];
  readonly bStrides: number[];
}

/** Drops unit axes, and merges each axis into the previous one where both operands step through them evenly. */
function mergeAxes(
  shape: readonly number[],
  aStrides: readonly number[],
  bStrides: readonly number[],
): MergedAxes {
  const merged: MergedAxes = { dims: [], aStrides: [], bStrides: [] };
  for (let axis = 0; axis < shape.length; axis++) {
    const dim = shape[axis];
    if (dim === 1) continue;
    const last = merged.dims.length - 1;
    const even =
      last >= 0 &&
      merged.aStrides[last] === aStrides[axis] * dim &&
      merged.bStrides[last] === bStrides[axis] * dim;
    const slot = even ? last : last + 1;
    merged.dims[slot] = even ? merged.dims[last] * dim : dim;
    merged.aStrides[slot] = aStrides[axis];
    merged.bStrides[slot] = bStrides[axis];
  }
  return merged;
}

/**
 * Calls `loop` for every run along the last merged axis of an output of `shape`, in row-major order.
 * Offsets and strides are in elements of `a` and `b`.
 */
export function forEachRun<A extends TensorData, O extends TensorData>(
  loop: RunLoop<A, O>,
  shape: readonly number[],
  a: Strided<A>,
  b: Strided<A>,
  out: O,
): void {
  if (shape.includes(0)) return;
  const axes = mergeAxes(shape, a.strides, b.strides);
  const outer = axes.dims.length - 1;
  const index = new Array<number>(Math.max(outer, 0)).fill(0);
  const run: Run = {
    n: outer < 0 ? 1 : axes.dims[outer],
    aStart: a.offset,
    aStep: outer < 0 ? 0 : axes.aStrides[outer],
    bStart: b.offset,
    bStep: outer < 0 ? 0 : axes.bStrides[outer],
    outStart: 0,
  };
  for (; ; run.outStart += run.n) {
    loop(a.data, b.data, out, run);
    let axis = outer - 1;
    for (; axis >= 0; axis--) {
      run.aStart += axes.aStrides[axis];
      run.bStart += axes.bStrides[axis];
      if (++index[axis] < axes.dims[axis]) break;
      run.aStart -= axes.aStrides[axis] * axes.dims[axis];
      run.bStart -= axes.bStrides[axis] * axes.dims[axis];
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

function copyRun(a: TensorData, _b: TensorData, out: TensorData, { n, aStart, aStep, outStart }: Run): void {
  if (aStep === 1) {
    (out as Float32Array).set((a as Float32Array).subarray(aStart, aStart + n), outStart);
    return;
  }
  for (let i = 0, from = aStart; i < n; i++, from += aStep) out[outStart + i] = a[from];
}

/** Fills the contiguous `out` of `shape` with the elements of `source` at offset + sum_i index[i]*strides[i]. */
export function copyStrided<T extends TensorData>(
  source: T,
  offset: number,
  shape: readonly number[],
  strides: readonly number[],
  out: T,
): void {
  const operand = { data: source, offset, strides };
  forEachRun(copyRun, shape, operand, operand, out);
}
