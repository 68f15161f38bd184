/** Tensor operations that the kernels compute. */
import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { createReferenceKernels } from '../backend/reference';
import { allocate, type FloatDType } from '../base/dtype';
import { type FloatParts, requireFloat, type TensorParts } from './parts';

let float64Kernels: Kernels | undefined;

/** The kernels for a dtype: this thread's for float32, the reference's float64 form for float64. */
export function kernelsFor(dtype: FloatDType): Kernels {
  if (dtype === 'float32') return getKernels();
  float64Kernels ??= createReferenceKernels({ floatType: 'float64' });
  return float64Kernels;
}

/** exp or silu of every element. */
export function activate(what: 'exp' | 'silu', tensor: TensorParts): FloatParts {
  const { data: x, shape, dtype } = requireFloat(tensor, what);
  const data = allocate(dtype, x.length);
  kernelsFor(dtype)[what](x as Float32Array, 0, data as Float32Array, 0, x.length);
  return { data, shape, dtype };
}

/** Softmax over the last of at least one axis. */
export function softmaxLastAxis(tensor: FloatParts): FloatParts {
  const { data: x, shape, dtype } = tensor;
  const data = allocate(dtype, x.length);
  const cols = shape[shape.length - 1];
  const rows = cols === 0 ? 0 : x.length / cols;
  kernelsFor(dtype).softmaxForward(x as Float32Array, 0, data as Float32Array, 0, rows, cols);
  return { data, shape, dtype };
}

/**
 * out[i] = std * N(0,1), a pure function of seed, stream and i.
 *
 * @throws RangeError unless seed is an integer in [0, 2^53) and stream one in [0, 2^32)
 */
export function fillNormal(
  out: Float32Array | Float64Array,
  dtype: FloatDType,
  seed: number,
  stream: number,
  std: number,
): void {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new RangeError(`Tensor.randn: seed must be an integer in [0, 2^53), got ${seed}`);
  }
  const seedHigh = Math.floor(seed / 2 ** 32);
  kernelsFor(dtype).randomNormal(out as Float32Array, 0, out.length, seed >>> 0, seedHigh, stream, std);
}
