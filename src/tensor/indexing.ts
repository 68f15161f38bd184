/** Indices and slices. */
import { formatShape, resolveIndex, stridesOf } from './shape';

/**
 * What to take of one axis: null for all of it, a number for one index (the axis goes away), [start, end) or [start]
 * for a range. Negative counts from the end; ranges are clamped to the axis, as in NumPy.
 */
export type SliceRange = null | number | readonly [start: number, end?: number];

/** Position of one element. RangeError unless there is one valid index for each axis. */
export function flatIndex(shape: readonly number[], indices: readonly number[], what: string): number {
  if (indices.length !== shape.length) {
    throw new RangeError(
      `${what}: ${formatShape(shape)} needs ${shape.length} indices, got ${indices.length}`,
    );
  }
  let position = 0;
  for (let axis = 0; axis < shape.length; axis++) {
    position = position * shape[axis] + resolveIndex(indices[axis], shape, axis, what);
  }
  return position;
}

function clampEnd(value: number, dim: number, range: readonly unknown[]): number {
  if (!Number.isInteger(value)) {
    throw new RangeError(`slice: a range must be [start, end] in integers, got [${range.join(',')}]`);
  }
  return Math.min(Math.max(value < 0 ? value + dim : value, 0), dim);
}

/** The box a slice takes: its shape, and the offset and strides that read it. */
export interface SlicePlan {
  readonly offset: number;
  readonly shape: number[];
  readonly strides: number[];
}

/** RangeError for more ranges than axes, and for an index outside of its axis. */
export function planSlice(shape: readonly number[], ranges: readonly SliceRange[]): SlicePlan {
  if (ranges.length > shape.length) {
    throw new RangeError(`slice: ${ranges.length} ranges for ${formatShape(shape)}`);
  }
  const strides = stridesOf(shape);
  const kept: SlicePlan & { offset: number } = { offset: 0, shape: [], strides: [] };
  for (let axis = 0; axis < shape.length; axis++) {
    const range = ranges[axis] ?? null;
    if (typeof range === 'number') {
      kept.offset += resolveIndex(range, shape, axis, 'slice') * strides[axis];
      continue;
    }
    if (range !== null && !Array.isArray(range)) {
      throw new TypeError(`slice: a range must be [start, end], a number or null, got ${typeof range}`);
    }
    const start = range === null ? 0 : clampEnd(range[0], shape[axis], range);
    const end = range === null ? shape[axis] : clampEnd(range[1] ?? shape[axis], shape[axis], range);
    kept.offset += start * strides[axis];
    kept.shape.push(Math.max(0, end - start));
    kept.strides.push(strides[axis]);
  }
  return kept;
}
