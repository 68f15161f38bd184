/** Matrix products with NumPy's rules, on the kernels' sgemm. */
import { allocate, convert } from '../base/dtype';
import { broadcastShape, broadcastStrides, forEachRun, type RunLoop } from './broadcast';
import { kernelsFor } from './compute';
import { type FloatParts, promote, requireFloat, requireFloatOperand, type TensorParts } from './parts';
import { formatShape, sizeOf } from './shape';

/** The axes of a product: `batch` matrices [m,k] x [k,n]. */
interface MatmulPlan {
  readonly aBatch: readonly number[];
  readonly bBatch: readonly number[];
  readonly batch: readonly number[];
  readonly m: number;
  readonly k: number;
  readonly n: number;
  /** Shape of the result: the batch axes, then m and n unless the operand they come from has one axis. */
  readonly shape: readonly number[];
}

/** RangeError that names both shapes when they can't be multiplied. */
function planMatmul(a: readonly number[], b: readonly number[]): MatmulPlan {
  const both = `${formatShape(a)} x ${formatShape(b)}`;
  if (a.length === 0 || b.length === 0) {
    throw new RangeError(`matmul: operands must have at least one axis: ${both}`);
  }
  const k = a[a.length - 1];
  if (k !== b[Math.max(0, b.length - 2)]) throw new RangeError(`matmul: inner dimensions differ: ${both}`);
  const rows = a.slice(-2, -1);
  const cols = b.length === 1 ? [] : b.slice(-1);
  const aBatch = a.slice(0, -2);
  const bBatch = b.slice(0, -2);
  const batch = broadcastShape(aBatch, bBatch);
  if (batch === null) throw new RangeError(`matmul: batch dimensions do not broadcast: ${both}`);
  const shape = [...batch, ...rows, ...cols];
  return { aBatch, bBatch, batch, m: rows[0] ?? 1, k, n: cols[0] ?? 1, shape };
}

/** c = a b, all of one dtype. */
function multiply(plan: MatmulPlan, a: FloatParts, b: FloatParts, c: FloatParts): void {
  const { m, k, n } = plan;
  const kernels = kernelsFor(c.dtype);
  // Counted in matrices here: a run is a strided batch of B, or one tall matmul where all of a
  // run share one B: A can't repeat too then, so that its matrices lie one after the other.
  const multiplyRun: RunLoop<Float32Array, Float32Array> = (
    x,
    y,
    c,
    { n: B, aStart, aStep, bStart, bStep, outStart },
  ) => {
    const xAt = aStart * m * k;
    const yAt = bStart * k * n;
    const cAt = outStart * m * n;
    if (bStep === 0) {
      kernels.sgemm(false, false, B * m, n, k, 1, x, xAt, k, y, yAt, n, 0, c, cAt, n);
      return;
    }
    const xStep = aStep * m * k;
    const yStep = bStep * k * n;
    kernels.sgemmBatch(false, false, m, n, k, 1, x, xAt, k, xStep, y, yAt, n, yStep, 0, c, cAt, n, m * n, B);
  };
  // The interface is typed for float32; the reference's float64 form takes Float64Array in the same places.
  const [x, y, out] = [a.data, b.data, c.data] as Float32Array[];
  const left = { data: x, offset: 0, strides: broadcastStrides(plan.aBatch, plan.batch) };
  const right = { data: y, offset: 0, strides: broadcastStrides(plan.bBatch, plan.batch) };
  forEachRun(multiplyRun, plan.batch, left, right, out);
}

function castTo(dtype: FloatParts['dtype'], x: FloatParts): FloatParts {
  return x.dtype === dtype ? x : { data: convert(x.data, x.dtype, dtype), shape: x.shape, dtype };
}

/**
 * left right by NumPy's rules; float64 when one of them is.
 *
 * @throws TypeError when a dtype has no arithmetic, RangeError when the shapes can't be multiplied
 */
export function matmul(left: TensorParts, right: unknown): FloatParts {
  const a = requireFloat(left, 'matmul');
  const b = requireFloatOperand(right, 'matmul');
  const plan = planMatmul(a.shape, b.shape);
  const dtype = promote(a.dtype, b.dtype);
  const c: FloatParts = { data: allocate(dtype, sizeOf(plan.shape)), shape: plan.shape, dtype };
  multiply(plan, castTo(dtype, a), castTo(dtype, b), c);
  return c;
}
