/** The three fields of a tensor that the functions of this folder use. */
import { type DataOf, type DType, type FloatDType, holds } from '../base/dtype';

export interface TensorParts<D extends DType = DType> {
  readonly data: DataOf<D>;
  readonly shape: readonly number[];
  readonly dtype: D;
}

/** Data of a tensor that computes. */
export type FloatData = Float32Array | Float64Array;

export type FloatParts = TensorParts<FloatDType>;

/** The same tensor, known to compute. TypeError when its dtype has no arithmetic. */
export function requireFloat(tensor: TensorParts, what: string): FloatParts {
  if (tensor.dtype !== 'float32' && tensor.dtype !== 'float64') {
    throw new TypeError(
      `${what}: ${tensor.dtype} has no arithmetic; convert first, such as with astype('float32')`,
    );
  }
  return tensor as FloatParts;
}

/** The operand, a tensor that computes. TypeError for anything else. */
export function requireFloatOperand(operand: unknown, what: string, expected = 'a Tensor'): FloatParts {
  const tensor = operand as TensorParts | null | undefined;
  if (typeof tensor !== 'object' || tensor === null || !holds(tensor.data, tensor.dtype)) {
    throw new TypeError(
      `${what}: other must be ${expected}, got ${tensor === null ? 'null' : typeof operand}`,
    );
  }
  return requireFloat(tensor, what);
}

/** float64 if one of the two is, else float32. */
export function promote(a: FloatDType, b: FloatDType): FloatDType {
  return a === 'float64' || b === 'float64' ? 'float64' : 'float32';
}
