/** Naive definitions that the tests compare with: one element at a time, by its indices. */
import fc from 'fast-check';
import type { FloatDType } from '../../src/base/dtype';
import { Tensor } from '../../src/tensor/tensor';

/** Every index of a shape, in row-major order. */
export function* indicesOf(shape: readonly number[]): Generator<number[]> {
  if (shape.length === 0) {
    yield [];
    return;
  }
  for (let i = 0; i < shape[0]; i++) {
    for (const rest of indicesOf(shape.slice(1))) yield [i, ...rest];
  }
}

/** The element a broadcast tensor shows at an index of the larger shape. */
export function broadcastAt(tensor: Tensor, index: readonly number[]): number {
  const own = index.slice(index.length - tensor.ndim).map((i, axis) => (tensor.shape[axis] === 1 ? 0 : i));
  return tensor.at(...own);
}

/** The elements `at` gives for every index, row-major. */
export function elementsBy(shape: readonly number[], at: (index: number[]) => number): number[] {
  return Array.from(indicesOf(shape), at);
}

/** Elements as doubles, whatever the dtype. */
export function elements(tensor: Tensor): number[] {
  return Array.from(tensor.astype('float64').data);
}

export const dimension = fc.integer({ min: 0, max: 4 });
export const shapeArb = fc.array(dimension, { maxLength: 4 });
export const floatDType = fc.constantFrom<FloatDType>('float32', 'float64');

/** Integers and halves: sums and products of a few of them are exact in float32, so that results must be equal. */
export const exactNumber = fc.integer({ min: -16, max: 16 }).map((n) => n / 2);

export function tensorArb(shape: readonly number[], dtype: FloatDType): fc.Arbitrary<Tensor<FloatDType>> {
  const size = shape.reduce((product, dim) => product * dim, 1);
  return fc
    .array(exactNumber, { minLength: size, maxLength: size })
    .map((values) => Tensor.from(values, shape, dtype));
}

/** A tensor of any small shape and float dtype. */
export const anyTensor = fc
  .tuple(shapeArb, floatDType)
  .chain(([shape, dtype]) => tensorArb(shape, dtype)) as fc.Arbitrary<Tensor<FloatDType>>;

/** Two shapes that broadcast: both are cut from one, with some dimensions replaced by 1 and leading ones dropped. */
export const compatibleShapes = fc
  .tuple(
    shapeArb,
    fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 4, maxLength: 4 }),
    fc.nat(4),
    fc.boolean(),
  )
  .map(([shape, choices, dropped, dropFirst]) => {
    const a = shape.map((dim, axis) => (choices[axis] === 1 ? 1 : dim));
    const b = shape.map((dim, axis) => (choices[axis] === 2 ? 1 : dim));
    return dropFirst ? [a.slice(dropped), b] : [a, b.slice(dropped)];
  });
