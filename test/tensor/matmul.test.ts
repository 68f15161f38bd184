import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Tensor } from '../../src/tensor/tensor';
import {
  broadcastAt,
  compatibleShapes,
  dimension,
  elements,
  elementsBy,
  floatDType,
  tensorArb,
} from './oracle';

/** numpy.matmul by its definition: pads one-axis operands, broadcasts the batch, drops the padding again. */
function naiveMatmul(a: Tensor, b: Tensor, batch: readonly number[]): { shape: number[]; values: number[] } {
  const left = a.ndim === 1 ? a.reshape([1, a.size]) : a;
  const right = b.ndim === 1 ? b.reshape([b.size, 1]) : b;
  const [m, k] = left.shape.slice(-2);
  const n = right.shape.at(-1)!;
  const values = elementsBy([...batch, m, n], (index) => {
    const [i, j] = index.slice(-2);
    let sum = 0;
    for (let p = 0; p < k; p++) {
      sum +=
        broadcastAt(left, [...index.slice(0, -2), i, p]) * broadcastAt(right, [...index.slice(0, -2), p, j]);
    }
    return sum;
  });
  return { shape: [...batch, ...(a.ndim > 1 ? [m] : []), ...(b.ndim > 1 ? [n] : [])], values };
}

/** A product that is 0 may have either sign, by the order of summation. */
const withoutNegativeZero = (tensor: Tensor) => elements(tensor).map((x) => x + 0);

const sizes = fc.tuple(dimension, dimension, dimension);

describe('matmul', () => {
  it('agrees with the naive definition for every pair of batch shapes that broadcast', () => {
    const operands = fc
      .tuple(compatibleShapes, sizes, floatDType, floatDType)
      .chain(([[aBatch, bBatch], [m, k, n], aType, bType]) =>
        fc.tuple(
          tensorArb([...aBatch, m, k], aType),
          tensorArb([...bBatch, k, n], bType),
          fc.constant(Tensor.zeros(aBatch).add(Tensor.zeros(bBatch)).shape),
        ),
      );
    fc.assert(
      // Sums of at most 4 products of halves: exact in float32 in any order.
      fc.property(operands, ([a, b, batch]) => {
        const result = a.matmul(b);
        const { shape, values } = naiveMatmul(a, b, batch);
        expect(result.shape).toEqual(shape);
        expect(result.dtype).toBe(a.dtype === 'float32' && b.dtype === 'float32' ? 'float32' : 'float64');
        expect(withoutNegativeZero(result)).toEqual(values);
      }),
      { numRuns: 300 },
    );
  });

  it('treats one axis on the left as a row and on the right as a column, and drops it', () => {
    const operands = fc
      .tuple(fc.array(dimension, { maxLength: 3 }), dimension, fc.constantFrom('left', 'right', 'both'))
      .chain(([rest, k, side]) => {
        const vector = tensorArb([k], 'float32');
        const other = side === 'left' ? [...rest.slice(0, -1), k, ...rest.slice(-1)] : [...rest, k];
        if (side === 'both') return fc.tuple(vector, vector, fc.constant<readonly number[]>([]));
        const matrix = tensorArb(side === 'left' && rest.length === 0 ? [k, 2] : other, 'float32');
        const batch = rest.slice(0, -1);
        return side === 'left'
          ? fc.tuple(vector, matrix, fc.constant<readonly number[]>(batch))
          : fc.tuple(matrix, vector, fc.constant<readonly number[]>(batch));
      });
    fc.assert(
      fc.property(operands, ([a, b, batch]) => {
        const result = a.matmul(b);
        const { shape, values } = naiveMatmul(a, b, batch);
        expect(result.shape).toEqual(shape);
        expect(withoutNegativeZero(result)).toEqual(values);
      }),
    );
  });

  it('stays within the rounding bound of float32 on a large product', () => {
    const [m, k, n] = [17, 300, 23];
    const a = Tensor.randn([m, k], { seed: 1 });
    const b = Tensor.randn([k, n], { seed: 2 });
    const product = a.matmul(b);
    const exact = a.astype('float64').matmul(b.astype('float64'));
    const magnitude = a.mul(a).sqrt().matmul(b.mul(b).sqrt());
    // Higham's gamma_k = k u / (1 - k u), u = 2^-24, times |A||B|: holds for every order of summation.
    const gamma = (k * 2 ** -24) / (1 - k * 2 ** -24);
    const errors = product.sub(exact).data.map((e, i) => Math.abs(e) / magnitude.data[i]);
    expect(Math.max(...errors)).toBeLessThan(gamma * (1 + 2 ** -10));
  });

  it('names both shapes when they do not fit', () => {
    const zeros = (shape: number[]) => Tensor.zeros(shape);
    const cases: [number[], number[], string][] = [
      [[2, 3], [4, 5], 'inner dimensions differ: [2,3] x [4,5]'],
      [[3], [4], 'inner dimensions differ: [3] x [4]'],
      [[2, 3], [2], 'inner dimensions differ: [2,3] x [2]'],
      [[2, 2, 3], [3, 3, 4], 'batch dimensions do not broadcast: [2,2,3] x [3,3,4]'],
      [[], [3], 'operands must have at least one axis: [] x [3]'],
      [[3], [], 'operands must have at least one axis: [3] x []'],
    ];
    for (const [a, b, message] of cases) {
      expect(() => zeros(a).matmul(zeros(b))).toThrow(new RangeError(`matmul: ${message}`));
    }
  });

  it('an empty inner dimension gives zeros', () => {
    expect(
      Tensor.ones([2, 0])
        .matmul(Tensor.ones([0, 3]))
        .toArray(),
    ).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
    expect(
      Tensor.ones([0])
        .matmul(Tensor.ones([0]))
        .item(),
    ).toBe(0);
  });
});
