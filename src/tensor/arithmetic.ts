/**
 * Elementwise arithmetic on float32 and float64 arrays. Each operation has its own loop, since a shared loop would call the
 * operation as a function for every element.
 */
import { allocate } from '../base/dtype';
import {
  broadcastStrides,
  forEachRun,
  type RunLoop,
  requireBroadcast,
  requireBroadcastTo,
} from './broadcast';
import {
  type FloatData,
  type FloatParts,
  promote,
  requireFloat,
  requireFloatOperand,
  type TensorParts,
} from './parts';
import { sizeOf } from './shape';

const add: RunLoop<FloatData, FloatData> = (a, b, out, { n, aStart, aStep, bStart, bStep, outStart }) => {
  for (let i = 0, p = aStart, q = bStart; i < n; i++, p += aStep, q += bStep) out[outStart + i] = a[p] + b[q];
};

const sub: RunLoop<FloatData, FloatData> = (a, b, out, { n, aStart, aStep, bStart, bStep, outStart }) => {
  for (let i = 0, p = aStart, q = bStart; i < n; i++, p += aStep, q += bStep) out[outStart + i] = a[p] - b[q];
};

const mul: RunLoop<FloatData, FloatData> = (a, b, out, { n, aStart, aStep, bStart, bStep, outStart }) => {
  for (let i = 0, p = aStart, q = bStart; i < n; i++, p += aStep, q += bStep) out[outStart + i] = a[p] * b[q];
};

const div: RunLoop<FloatData, FloatData> = (a, b, out, { n, aStart, aStep, bStart, bStep, outStart }) => {
  for (let i = 0, p = aStart, q = bStart; i < n; i++, p += aStep, q += bStep) out[outStart + i] = a[p] / b[q];
};

/** 1 to any power is 1, as in IEEE 754 and NumPy; JavaScript says NaN for the powers NaN and +-infinity. */
const pow: RunLoop<FloatData, FloatData> = (a, b, out, { n, aStart, aStep, bStart, bStep, outStart }) => {
  for (let i = 0, p = aStart, q = bStart; i < n; i++, p += aStep, q += bStep) {
    out[outStart + i] = a[p] === 1 ? 1 : a[p] ** b[q];
  }
};

const BINARY_LOOPS = { add, sub, mul, div, pow } as const;

export type BinaryOperation = keyof typeof BINARY_LOOPS;

/** The operand of an operation on `tensor`: a number takes the tensor's dtype, rounded to it, and no axes. */
function operandOf(tensor: FloatParts, operand: unknown, what: string): FloatParts {
  if (typeof operand !== 'number') return requireFloatOperand(operand, what, 'a Tensor or a number');
  const data = allocate(tensor.dtype, 1);
  data[0] = operand;
  return { data, shape: [], dtype: tensor.dtype };
}

/** out = a (operation) b, both read as if they had the shape of the output. */
function runBinary(
  operation: BinaryOperation,
  a: FloatParts,
  b: FloatParts,
  out: FloatData,
  shape: readonly number[],
): void {
  const [x, y] = [a, b].map((operand) => {
    return { data: operand.data, offset: 0, strides: broadcastStrides(operand.shape, shape) };
  });
  forEachRun(BINARY_LOOPS[operation], shape, x, y, out);
}

/**
 * left (operation) right with broadcasting. float32 results are computed in float64 and rounded once, which for
 * + - * / gives the correctly rounded float32 result.
 *
 * @throws TypeError when a dtype has no arithmetic, RangeError when the shapes don't broadcast
 */
export function binary(operation: BinaryOperation, left: TensorParts, right: unknown): FloatParts {
  const a = requireFloat(left, operation);
  const b = operandOf(a, right, operation);
  const shape = requireBroadcast(operation, a.shape, b.shape);
  const dtype = promote(a.dtype, b.dtype);
  const data = allocate(dtype, sizeOf(shape));
  runBinary(operation, a, b, data, shape);
  return { data, shape, dtype };
}

/** Whether two arrays overlap without being the same elements. */
function entangled(a: FloatData, b: FloatData): boolean {
  if (a.buffer !== b.buffer) return false;
  const aEnd = a.byteOffset + a.byteLength;
  const bEnd = b.byteOffset + b.byteLength;
  const same = a.byteOffset === b.byteOffset && aEnd === bEnd && a.length === b.length;
  return !same && a.byteOffset < bEnd && b.byteOffset < aEnd;
}

/** target = target (operation) right, rounded to the target's dtype; right may broadcast, the target may not. */
export function binaryInPlace(operation: BinaryOperation, target: TensorParts, right: unknown): void {
  const what = `${operation}InPlace`;
  const a = requireFloat(target, what);
  const b = operandOf(a, right, what);
  requireBroadcastTo(what, b.shape, a.shape);
  const stable = entangled(a.data, b.data) ? { ...b, data: b.data.slice(), shape: b.shape } : b;
  runBinary(operation, a, stable, a.data, a.shape);
}

/** out = -x */
export function neg(x: FloatData, out: FloatData): void {
  for (let i = 0; i < x.length; i++) out[i] = -x[i];
}

/** out = ln x */
export function log(x: FloatData, out: FloatData): void {
  for (let i = 0; i < x.length; i++) out[i] = Math.log(x[i]);
}

/** out = sqrt(x) */
export function sqrt(x: FloatData, out: FloatData): void {
  for (let i = 0; i < x.length; i++) out[i] = Math.sqrt(x[i]);
}

/** fn(x) into a tensor of the same shape and dtype. */
export function unary(
  what: string,
  tensor: TensorParts,
  fn: (x: FloatData, out: FloatData) => void,
): FloatParts {
  const { data: x, shape, dtype } = requireFloat(tensor, what);
  const data = allocate(dtype, x.length);
  fn(x, data);
  return { data, shape, dtype };
}
