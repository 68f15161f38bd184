/** Shapes: checks, sizes, strides, axes. All tensors are contiguous and row-major. */

/** "[2,3]", the way error messages write a shape. */
export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(',')}]`;
}

/** Number of elements of a shape that is known to be valid. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const dim of shape) size *= dim;
  return size;
}

/**
 * Number of elements of a shape.
 *
 * @throws TypeError unless shape is an array
 * @throws RangeError unless every dimension is an integer >= 0 and their product is below 2^53
 */
export function checkShape(shape: readonly number[], what: string): number {
  if (!Array.isArray(shape)) throw new TypeError(`${what}: shape must be an array, got ${typeof shape}`);
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || dim < 0) {
      throw new RangeError(`${what}: dimensions must be integers >= 0, got ${formatShape(shape)}`);
    }
  }
  const size = sizeOf(shape);
  if (!Number.isSafeInteger(size))
    throw new RangeError(`${what}: ${formatShape(shape)} has too many elements`);
  return size;
}

/** Elements from one index of each axis to the next. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

/** The axis in [0, ndim); negative counts from the last. RangeError otherwise. */
export function resolveAxis(axis: number, shape: readonly number[], what: string): number {
  const resolved = axis < 0 ? axis + shape.length : axis;
  if (!Number.isInteger(resolved) || resolved < 0 || resolved >= shape.length) {
    throw new RangeError(`${what}: axis ${axis} is out of range for ${formatShape(shape)}`);
  }
  return resolved;
}

/** The index in [0, dim); negative counts from the end. RangeError otherwise. */
export function resolveIndex(index: number, shape: readonly number[], axis: number, what: string): number {
  const resolved = index < 0 ? index + shape[axis] : index;
  if (!Number.isInteger(resolved) || resolved < 0 || resolved >= shape[axis]) {
    throw new RangeError(`${what}: index ${index} is out of range for axis ${axis} of ${formatShape(shape)}`);
  }
  return resolved;
}

/** The shape `requested` stands for: at most one -1 takes what the others leave. */
export function resolveReshape(from: readonly number[], requested: readonly number[]): readonly number[] {
  const size = sizeOf(from);
  if (!Array.isArray(requested)) {
    throw new TypeError(`reshape: shape must be an array, got ${typeof requested}`);
  }
  const unknown = requested.indexOf(-1);
  const fail = () => new RangeError(`reshape: ${formatShape(from)} does not fit ${formatShape(requested)}`);
  if (unknown < 0) {
    if (checkShape(requested, 'reshape') !== size) throw fail();
    return requested;
  }
  const rest = checkShape(requested.toSpliced(unknown, 1), 'reshape');
  const inferred = rest === 0 ? Number.NaN : size / rest;
  if (!Number.isInteger(inferred)) throw fail();
  return requested.with(unknown, inferred);
}

/** Checks that `axes` names every axis once; without it, the axes in reverse. */
export function resolvePermutation(shape: readonly number[], axes?: readonly number[]): number[] {
  if (axes === undefined) return shape.map((_, axis) => shape.length - 1 - axis);
  const resolved = axes.map((axis) => resolveAxis(axis, shape, 'transpose'));
  if (resolved.length !== shape.length || new Set(resolved).size !== resolved.length) {
    throw new RangeError(
      `transpose: axes ${formatShape(axes)} must name each axis of ${formatShape(shape)} once`,
    );
  }
  return resolved;
}
