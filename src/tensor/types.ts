/** Types of Tensor's methods. */
import type { DType, FloatDType } from '../base/dtype';
import type { NestedNumbers } from './nested';

/** What `Tensor.from` reads. A Uint16Array holds the bits of float16 or bfloat16. */
export type TensorSource = NestedNumbers | Uint16Array;

/** The dtype `Tensor.from` gives its result when none is named. */
export type NaturalDType<S> = S extends Float64Array
  ? 'float64'
  : S extends Int32Array
    ? 'int32'
    : S extends BigInt64Array
      ? 'int64'
      : 'float32';

/** The dtype of an operation on two tensors: float64 when one of them is, else float32. */
export type Promote<A extends DType, B extends DType> = A extends 'float32'
  ? B extends 'float32'
    ? 'float32'
    : 'float64'
  : 'float64';

/** Options of the functions that create a tensor. */
export interface CreateOptions<D extends DType = 'float32'> {
  /** Default 'float32'. */
  dtype?: D | undefined;
}

/** Options of `Tensor.randn`. */
export interface RandnOptions<D extends FloatDType = 'float32'> extends CreateOptions<D> {
  /** Integer in [0, 2^53); default 42. */
  seed?: number | undefined;
  /** Integer in [0, 2^32): an independent sequence of the same seed; default 0. */
  stream?: number | undefined;
  /** Standard deviation; default 1. */
  std?: number | undefined;
}

/** Options of the reductions. */
export interface ReduceOptions {
  /** Keep the reduced axes, with dimension 1, so that the result broadcasts against the tensor; default false. */
  keepDims?: boolean | undefined;
}
