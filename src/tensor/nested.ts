/** Nested arrays in and out. */
import { allocate, type DataOf, type DType, fromElement, type TensorData, toElement } from '../base/dtype';
import { formatShape, sizeOf } from './shape';

/** A number, or arrays of equal length nested to any depth. Rows may be typed arrays. */
export type NestedNumbers = number | bigint | NumberSequence | readonly NestedNumbers[];

type NumberSequence =
  | Float32Array
  | Float64Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Int8Array
  | Int16Array
  | Uint32Array;

/** Plain nested arrays of numbers. */
export type NestedArray = number | NestedArray[];

function isSequence(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && 'length' in value);
}

/** The shape of nested arrays, by their first elements. */
function nestedShape(nested: unknown): number[] {
  const shape: number[] = [];
  for (let value = nested; isSequence(value); value = value[0]) {
    shape.push(value.length);
    if (value.length === 0) break;
  }
  return shape;
}

/**
 * Reads nested arrays into the data of a tensor.
 *
 * @throws RangeError when the arrays are not rectangular, or a value doesn't fit the dtype
 * @throws TypeError when an element is no number
 */
export function readNested<D extends DType>(
  nested: unknown,
  dtype: D,
  what: string,
): { data: DataOf<D>; shape: number[] } {
  const shape = nestedShape(nested);
  const data = allocate(dtype, sizeOf(shape));
  let count = 0;
  const visit = (value: unknown, axis: number): void => {
    if (axis === shape.length && !isSequence(value)) {
      data[count++] = toElement(value, dtype, what);
      return;
    }
    if (axis === shape.length || !isSequence(value) || value.length !== shape[axis]) {
      const found = isSequence(value) ? `an array of ${value.length}` : typeof value;
      throw new RangeError(
        `${what}: nested arrays must all have the shape of the first, ${formatShape(shape)}; ` +
          `got ${found} ${axis} levels deep`,
      );
    }
    for (let i = 0; i < value.length; i++) visit(value[i], axis + 1);
  };
  visit(nested, 0);
  return { data, shape };
}

/** The elements as nested arrays of numbers; a tensor without axes is a number. */
export function writeNested(data: TensorData, dtype: DType, shape: readonly number[]): NestedArray {
  let position = 0;
  const build = (axis: number): NestedArray => {
    if (axis === shape.length) return fromElement(data[position++], dtype, 'toArray');
    return Array.from({ length: shape[axis] }, () => build(axis + 1));
  };
  return build(0);
}

const PRINTED_ELEMENTS = 8;

/** "1, 2.5, 3, ...": the first elements, to six digits. */
export function previewElements(data: TensorData, dtype: DType): string {
  const shown = Array.from(data.subarray(0, PRINTED_ELEMENTS) as ArrayLike<number | bigint>, (element) =>
    typeof element === 'bigint' ? `${element}` : `${Number(fromElement(element, dtype, '').toPrecision(6))}`,
  );
  return shown.join(', ') + (data.length > PRINTED_ELEMENTS ? ', ...' : '');
}
