import { checkOptions } from '../base/checks';
import {
  allocate,
  checkDType,
  convert,
  convertInto,
  type DataOf,
  type DType,
  dtypeOfArray,
  type FloatDType,
  fromElement,
  holds,
  isStorageDType,
  toElement,
} from '../base/dtype';
import { DEFAULT_SEED } from '../base/random';
import { binary, binaryInPlace, log, neg, sqrt, unary } from './arithmetic';
import { broadcastStrides, copyStrided, requireBroadcastTo } from './broadcast';
import { activate, fillNormal, softmaxLastAxis } from './compute';
import { flatIndex, planSlice, type SliceRange } from './indexing';
import { matmul } from './matmul';
import { type NestedArray, type NestedNumbers, previewElements, readNested, writeNested } from './nested';
import { requireFloat, type TensorParts } from './parts';
import { argmax, extreme, keepDimsOf, sum } from './reduce';
import {
  checkShape,
  formatShape,
  resolveAxis,
  resolveIndex,
  resolvePermutation,
  resolveReshape,
  sizeOf,
  stridesOf,
} from './shape';
import type {
  CreateOptions,
  NaturalDType,
  Promote,
  RandnOptions,
  ReduceOptions,
  TensorSource,
} from './types';

export type {
  CreateOptions,
  NaturalDType,
  NestedArray,
  NestedNumbers,
  Promote,
  RandnOptions,
  ReduceOptions,
  SliceRange,
  TensorSource,
};

/** A tensor of the computed parts. */
function wrap<D extends DType>({ data, shape, dtype }: TensorParts): Tensor<D> {
  return new Tensor(data as DataOf<D>, shape, dtype as D);
}

/**
 * An n-dimensional array: elements in row-major order in a typed array, and a shape. Always contiguous.
 *
 * Methods return new tensors with their own memory, except `reshape` and `subTensor`, which share it. Methods that end in
 * InPlace, and `fill`, `copyFrom` and `set`, change this tensor.
 *
 * Arithmetic (everything from `add` to `matmul`, and the reductions) is defined on float32 and float64; of the two,
 * float64 wins. A plain number takes the tensor's dtype. Integers (ids) and the 16-bit storage types must be converted
 * with `astype` first: a TypeError says so. Shapes broadcast as in NumPy: aligned at the last axis, a dimension of 1
 * or a missing one repeats.
 *
 * Throughout: TypeError for a wrong type or dtype; RangeError for shapes, axes and indices, naming the operation and
 * the shapes.
 */
export class Tensor<D extends DType = DType> {
  /** The elements. Typed arrays by dtype; float16 and bfloat16 are bits in a Uint16Array. */
  readonly data: DataOf<D>;
  readonly shape: readonly number[];
  readonly dtype: D;

  /**
   * Makes a tensor that shares `data`.
   *
   * @param dtype default: what the array holds; needed for a Uint16Array ('float16' or 'bfloat16')
   * @throws TypeError when data isn't the typed array of the dtype
   * @throws RangeError when data doesn't have exactly the elements of shape
   */
  constructor(data: DataOf<D>, shape: readonly number[], dtype?: D) {
    const resolved = dtype ?? (dtypeOfArray(data) as D | null);
    if (resolved === null) {
      throw new TypeError(
        "Tensor: data must be a typed array, a Uint16Array with dtype 'float16' or 'bfloat16'",
      );
    }
    checkDType(resolved, 'Tensor');
    if (!holds(data, resolved)) throw new TypeError(`Tensor: data is not the typed array of ${resolved}`);
    const size = checkShape(shape, 'Tensor');
    if (data.length !== size) {
      throw new RangeError(`Tensor: ${formatShape(shape)} needs ${size} elements, data has ${data.length}`);
    }
    this.data = data;
    this.shape = Object.isFrozen(shape) ? shape : Object.freeze(shape.slice());
    this.dtype = resolved;
  }

  // ---------------------------------------------------------------- creation

  /** All zeros. */
  static zeros<D extends DType = 'float32'>(
    shape: readonly number[],
    options: CreateOptions<D> = {},
  ): Tensor<D> {
    checkOptions('Tensor.zeros', options, ['dtype']);
    const { dtype = 'float32' as D } = options;
    checkDType(dtype, 'Tensor.zeros');
    return new Tensor(allocate(dtype, checkShape(shape, 'Tensor.zeros')), shape, dtype);
  }

  /** All ones. */
  static ones<D extends DType = 'float32'>(shape: readonly number[], options?: CreateOptions<D>): Tensor<D> {
    return Tensor.zeros(shape, options).fill(1);
  }

  /** All `value`. */
  static full<D extends DType = 'float32'>(
    shape: readonly number[],
    value: number | bigint,
    options?: CreateOptions<D>,
  ): Tensor<D> {
    return Tensor.zeros(shape, options).fill(value);
  }

  /**
   * start, start + step, ... before stop: [ceil((stop - start) / step)] elements, start + i*step each.
   * With one argument, from 0 to it: arange(stop), arange(start, stop, step).
   *
   * @throws RangeError when step is 0, or a bound or step is not finite
   */
  static arange<D extends DType = 'float32'>(
    first: number,
    second?: number,
    step = 1,
    options?: CreateOptions<D>,
  ): Tensor<D> {
    const [start, stop] = second === undefined ? [0, first] : [first, second];
    const length = Math.max(0, Math.ceil((stop - start) / step));
    if (!Number.isFinite(length) || !Number.isFinite(start + step)) {
      throw new RangeError(`Tensor.arange: cannot count from ${start} to ${stop} by ${step}`);
    }
    const result = Tensor.zeros([length], options);
    for (let i = 0; i < length; i++) {
      result.data[i] = toElement(start + i * step, result.dtype, 'Tensor.arange');
    }
    return result;
  }

  /**
   * std * N(0,1) from a counter-based generator (Philox4x32-10, Box-Muller): the same seed, stream and position give
   * the same number on every backend and machine.
   */
  static randn<D extends FloatDType = 'float32'>(
    shape: readonly number[],
    { seed = DEFAULT_SEED, stream = 0, std = 1, dtype = 'float32' as D }: RandnOptions<D> = {},
  ): Tensor<D> {
    const result = Tensor.zeros(shape, { dtype });
    fillNormal(requireFloat(result, 'Tensor.randn').data, dtype, seed, stream, std);
    return result;
  }

  /**
   * A tensor of existing numbers: nested arrays, or one typed array.
   *
   * A Float32Array, Float64Array, Int32Array or BigInt64Array without `dtype`, or any typed array that already is
   * what `dtype` is kept in, is shared: no copy, later writes are seen on both sides. All else is copied, converted
   * as `astype` does; nested arrays and other typed arrays become float32 unless told otherwise.
   *
   * @param shape default: that of the nesting; [length] for a typed array
   * @throws RangeError when nested arrays aren't rectangular, shape doesn't fit, or an integer dtype is given a
   *   number it can not hold
   */
  static from<S extends TensorSource, D extends DType = NaturalDType<S>>(
    data: S,
    shape?: readonly number[],
    dtype?: D,
  ): Tensor<D> {
    if (dtype !== undefined) checkDType(dtype, 'Tensor.from');
    if (data instanceof Uint16Array) {
      if (dtype === undefined || !isStorageDType(dtype)) {
        throw new TypeError("Tensor.from: a Uint16Array holds bits; name the dtype 'float16' or 'bfloat16'");
      }
      return new Tensor<D>(data as Uint16Array as DataOf<D>, shape ?? [data.length], dtype);
    }
    const natural = dtypeOfArray(data);
    if (natural === null) {
      const nested = readNested(data, dtype ?? ('float32' as D), 'Tensor.from');
      return new Tensor(nested.data, shape ?? nested.shape, dtype ?? ('float32' as D));
    }
    const whole = new Tensor(data as DataOf<DType>, shape ?? [(data as Float32Array).length], natural);
    return (dtype === undefined || dtype === natural ? whole : whole.astype(dtype)) as Tensor as Tensor<D>;
  }

  /**
   * An int32 tensor of ids: nested arrays [[1, 2], [3, 4]] of shape [B,S], or flat ones with a shape. An Int32Array
   * is shared, everything else is copied.
   *
   * @throws RangeError when an id is not an integer in [-2^31, 2^31)
   */
  static fromIds(ids: NestedNumbers, shape?: readonly number[]): Tensor<'int32'> {
    if (ids instanceof Int32Array) return new Tensor(ids, shape ?? [ids.length], 'int32');
    if (ids instanceof BigInt64Array) {
      return new Tensor(convert(ids, 'int64', 'int32', 'Tensor.fromIds'), shape ?? [ids.length], 'int32');
    }
    const nested = readNested(ids, 'int32', 'Tensor.fromIds');
    return new Tensor(nested.data, shape ?? nested.shape, 'int32');
  }

  // ---------------------------------------------------------------- shape and type

  /** Number of elements. */
  get size(): number {
    return this.data.length;
  }

  /** Number of axes. */
  get ndim(): number {
    return this.shape.length;
  }

  /** A copy with its own memory. */
  clone(): Tensor<D> {
    return new Tensor(this.data.slice() as DataOf<D>, this.shape, this.dtype);
  }

  /** The same memory with another shape of as many elements. One dimension may be -1, which is computed from the others. */
  reshape(shape: readonly number[]): Tensor<D> {
    return new Tensor(this.data, resolveReshape(this.shape, shape), this.dtype);
  }

  /** A copy with the axes in another order: axis i of the result is axes[i] of this. Default: in reverse. */
  transpose(axes?: readonly number[]): Tensor<D> {
    const order = resolvePermutation(this.shape, axes);
    const strides = stridesOf(this.shape);
    return this.#gather(
      0,
      order.map((axis) => this.shape[axis]),
      order.map((axis) => strides[axis]),
    );
  }

  /**
   * A copy with another dtype (also when it is the same). To float types: nearest, ties to even, overflow to
   * infinity. To integers: the fraction is cut off.
   *
   * @throws RangeError when an integer dtype can not hold an element (NaN, infinity, out of range)
   */
  astype<E extends DType>(dtype: E): Tensor<E> {
    checkDType(dtype, 'astype');
    return new Tensor(convert(this.data, this.dtype, dtype, 'astype'), this.shape, dtype);
  }

  // ---------------------------------------------------------------- elements

  /**
   * The element at one index per axis; negative ones count from the end. An int64 beyond 2^53 is a RangeError: read
   * `data` then.
   */
  at(...indices: number[]): number {
    return fromElement(this.data[flatIndex(this.shape, indices, 'at')], this.dtype, 'at');
  }

  /** Writes the element at one index per axis. Integer dtypes take integers only, int64 also a bigint. */
  set(value: number | bigint, ...indices: number[]): this {
    const position = flatIndex(this.shape, indices, 'set');
    this.data[position] = toElement(value, this.dtype, 'set');
    return this;
  }

  /** The only element of a tensor that has one. */
  item(): number {
    if (this.size !== 1) throw new RangeError(`item: ${formatShape(this.shape)} is not a single element`);
    return fromElement(this.data[0], this.dtype, 'item');
  }

  /**
   * A copy of a box: for each axis null (all of it), an index (the axis goes away), [start, end) or [start]; axes
   * without a range are taken whole. Negative counts from the end. Ranges are clamped, indices are not.
   */
  slice(...ranges: SliceRange[]): Tensor<D> {
    const { offset, shape, strides } = planSlice(this.shape, ranges);
    return this.#gather(offset, shape, strides);
  }

  /** The part at `index` of the first axis (a row of a matrix); shares memory. Negative counts from the end. */
  subTensor(index: number): Tensor<D> {
    if (this.ndim === 0) throw new RangeError('subTensor: [] has no axis to index');
    const row = resolveIndex(index, this.shape, 0, 'subTensor');
    const shape = this.shape.slice(1);
    const size = sizeOf(shape);
    return new Tensor(this.data.subarray(row * size, (row + 1) * size) as DataOf<D>, shape, this.dtype);
  }

  /** The elements as nested arrays; a number when there are no axes. */
  toArray(): NestedArray {
    return writeNested(this.data, this.dtype, this.shape);
  }

  /** One line: dtype, shape and the first elements. */
  toString(): string {
    return `Tensor(${this.dtype} ${formatShape(this.shape)}: ${previewElements(this.data, this.dtype)})`;
  }

  /** Sets every element. Integer dtypes take integers only, int64 also a bigint. */
  fill(value: number | bigint): this {
    (this.data as Float32Array).fill(toElement(value, this.dtype, 'fill') as number);
    return this;
  }

  /** Copies the elements of `source`, which may broadcast, converted as `astype` does. */
  copyFrom(source: Tensor): this {
    if (!(source instanceof Tensor))
      throw new TypeError(`copyFrom: source must be a Tensor, got ${typeof source}`);
    requireBroadcastTo('copyFrom', source.shape, this.shape);
    if (source.size === this.size) {
      convertInto(source.data, source.dtype, this.data, this.dtype, 'copyFrom');
    } else {
      const elements = convert(source.data, source.dtype, this.dtype, 'copyFrom');
      copyStrided(elements, 0, this.shape, broadcastStrides(source.shape, this.shape), this.data);
    }
    return this;
  }

  // ---------------------------------------------------------------- arithmetic

  /** this + other */
  add<E extends DType = D>(other: Tensor<E> | number): Tensor<Promote<D, E>> {
    return wrap(binary('add', this, other));
  }

  /** this - other */
  sub<E extends DType = D>(other: Tensor<E> | number): Tensor<Promote<D, E>> {
    return wrap(binary('sub', this, other));
  }

  /** this * other, element by element */
  mul<E extends DType = D>(other: Tensor<E> | number): Tensor<Promote<D, E>> {
    return wrap(binary('mul', this, other));
  }

  /** this / other */
  div<E extends DType = D>(other: Tensor<E> | number): Tensor<Promote<D, E>> {
    return wrap(binary('div', this, other));
  }

  /** this to the power of other, element by element; 1 to any power is 1 */
  pow<E extends DType = D>(other: Tensor<E> | number): Tensor<Promote<D, E>> {
    return wrap(binary('pow', this, other));
  }

  /** this * factor, a number */
  scale(factor: number): Tensor<D> {
    return wrap(binary('mul', this, requireNumber(factor, 'scale')));
  }

  /** -this */
  neg(): Tensor<D> {
    return wrap(unary('neg', this, neg));
  }

  /** e^this */
  exp(): Tensor<D> {
    return wrap(activate('exp', this));
  }

  /** Natural logarithm. */
  log(): Tensor<D> {
    return wrap(unary('log', this, log));
  }

  /** Square root. */
  sqrt(): Tensor<D> {
    return wrap(unary('sqrt', this, sqrt));
  }

  /** x * sigmoid(x) = x / (1 + e^-x) (Elfwing et al. 2017). */
  silu(): Tensor<D> {
    return wrap(activate('silu', this));
  }

  /** e^(x - max) / sum e^(x - max) over one axis, by default the last. A slice of only -inf gives zeros. */
  softmax(axis = -1): Tensor<D> {
    requireFloat(this, 'softmax');
    const last = this.ndim - 1;
    const at = resolveAxis(axis, this.shape, 'softmax');
    if (at === last) return wrap(softmaxLastAxis(requireFloat(this, 'softmax')));
    // Swapping two axes undoes itself.
    const swap = this.shape.map((_, i) => (i === at ? last : i === last ? at : i));
    return this.transpose(swap).softmax().transpose(swap);
  }

  /**
   * Matrix product: [..., m, k] x [..., k, n] -> [..., m, n]. Leading axes broadcast. One axis on the left is a row,
   * on the right a column, and isn't in the result: [k] x [k] is a dot product of shape [].
   */
  matmul<E extends DType>(other: Tensor<E>): Tensor<Promote<D, E>> {
    return wrap(matmul(this, other));
  }

  // ---------------------------------------------------------------- in place

  /** this += other. Other may broadcast to this shape, never the reverse; the result is rounded to this dtype. */
  addInPlace(other: Tensor | number): this {
    binaryInPlace('add', this, other);
    return this;
  }

  /** this -= other, as `addInPlace`. */
  subInPlace(other: Tensor | number): this {
    binaryInPlace('sub', this, other);
    return this;
  }

  /** this *= other, as `addInPlace`. */
  mulInPlace(other: Tensor | number): this {
    binaryInPlace('mul', this, other);
    return this;
  }

  /** this /= other, as `addInPlace`. */
  divInPlace(other: Tensor | number): this {
    binaryInPlace('div', this, other);
    return this;
  }

  /** this *= factor, a number. */
  scaleInPlace(factor: number): this {
    binaryInPlace('mul', this, requireNumber(factor, 'scaleInPlace'));
    return this;
  }

  // ---------------------------------------------------------------- reductions

  /** Sum over an axis, or over all (null, the default: a tensor of shape []); accumulated in float64. Empty: 0. */
  sum(axis: number | null = null, options: ReduceOptions = {}): Tensor<D> {
    return wrap(sum('sum', this, axis, keepDimsOf('sum', axis, options)));
  }

  /** Mean over an axis, or over all; accumulated in float64. Empty: NaN. */
  mean(axis: number | null = null, options: ReduceOptions = {}): Tensor<D> {
    return wrap(sum('mean', this, axis, keepDimsOf('mean', axis, options)));
  }

  /** Largest element over an axis, or over all; NaN if there is one. @throws RangeError without elements. */
  max(axis: number | null = null, options: ReduceOptions = {}): Tensor<D> {
    return wrap(extreme('max', this, axis, keepDimsOf('max', axis, options)));
  }

  /** Smallest element, as `max`. */
  min(axis: number | null = null, options: ReduceOptions = {}): Tensor<D> {
    return wrap(extreme('min', this, axis, keepDimsOf('min', axis, options)));
  }

  /**
   * Index of the largest element along an axis, or in `data` over all: the first of equal ones, or the first NaN if there is
   * one. @throws RangeError without elements.
   */
  argmax(axis: number | null = null, options: ReduceOptions = {}): Tensor<'int32'> {
    return wrap(argmax(this, axis, keepDimsOf('argmax', axis, options)));
  }

  /** The elements at offset + sum_i index[i]*strides[i], contiguous. */
  #gather(offset: number, shape: readonly number[], strides: readonly number[]): Tensor<D> {
    const data = allocate(this.dtype, sizeOf(shape));
    copyStrided(this.data, offset, shape, strides, data);
    return new Tensor(data, shape, this.dtype);
  }
}

function requireNumber(value: unknown, what: string): number {
  if (typeof value !== 'number') throw new TypeError(`${what}: factor must be a number, got ${typeof value}`);
  return value;
}
