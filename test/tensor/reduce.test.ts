import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Tensor } from '../../src/tensor/tensor';
import { anyTensor, elements, elementsBy } from './oracle';

const REDUCTIONS = {
  sum: (values: number[]) => values.reduce((a, b) => a + b, 0),
  mean: (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length,
  max: (values: number[]) => Math.max(...values),
  min: (values: number[]) => Math.min(...values),
  argmax: (values: number[]) => values.indexOf(Math.max(...values)),
} as const;
const NAMES = Object.keys(REDUCTIONS) as (keyof typeof REDUCTIONS)[];

describe.each(NAMES)('%s', (name) => {
  const naive = REDUCTIONS[name];
  const needsElements = name !== 'sum' && name !== 'mean';

  it('agrees with the naive definition over every axis, with and without keepDims', () => {
    const withAxis = anyTensor
      .filter((a) => a.ndim > 0)
      .chain((a) => fc.tuple(fc.constant(a), fc.nat(a.ndim - 1)));
    fc.assert(
      fc.property(withAxis, fc.boolean(), fc.boolean(), ([a, axis], keepDims, negative) => {
        const run = () => a[name](negative ? axis - a.ndim : axis, { keepDims }) as Tensor;
        const kept = a.shape.with(axis, 1);
        const dropped = a.shape.toSpliced(axis, 1);
        if (needsElements && a.shape[axis] === 0 && !dropped.includes(0)) {
          expect(run).toThrow(new RangeError(`${name}: no elements to choose from in [${a.shape}]`));
          return;
        }
        const result = run();
        expect(result.shape).toEqual(keepDims ? kept : dropped);
        expect(result.dtype).toBe(name === 'argmax' ? 'int32' : a.dtype);
        const expected = elementsBy(kept, (index) =>
          naive(Array.from({ length: a.shape[axis] }, (_, j) => a.at(...index.with(axis, j)))),
        );
        expect(elements(result)).toEqual(a.dtype === 'float32' ? expected.map(Math.fround) : expected);
      }),
      { numRuns: 200 },
    );
  });

  it('takes everything at once without an axis', () => {
    fc.assert(
      fc.property(anyTensor, fc.boolean(), (a, keepDims) => {
        if (needsElements && a.size === 0) {
          expect(() => a[name]()).toThrow(RangeError);
          return;
        }
        const result = a[name](null, { keepDims }) as Tensor;
        expect(result.shape).toEqual(keepDims ? a.shape.map(() => 1) : []);
        const expected = naive(elements(a));
        expect(result.item()).toBe(a.dtype === 'float32' ? Math.fround(expected) : expected);
      }),
    );
  });

  it('names the axis and the shape when there is no such axis', () => {
    for (const axis of [2, -3, 0.5, Number.NaN]) {
      const message = `${name}: axis ${axis} is out of range for [2,3]`;
      expect(() => Tensor.zeros([2, 3])[name](axis)).toThrow(new RangeError(message));
    }
    expect(() => Tensor.zeros([])[name](0)).toThrow(RangeError);
  });
});

describe('reductions', () => {
  it('sum accumulates in float64: a million small numbers on a large one are not lost', () => {
    const a = Tensor.full([1_000_001], 2 ** -20).set(2 ** 10, 0);
    // In float32 each addend would vanish: the spacing at 2^10 is 2^-13. The exact sum rounds to this float32.
    const exact = Math.fround(2 ** 10 + 1_000_000 * 2 ** -20);
    expect(a.sum().item()).toBe(exact);
    expect(a.reshape([-1, 1]).sum(0).item()).toBe(exact);
    expect(
      a
        .reshape([1, -1, 1])
        .mul(Tensor.ones([2]))
        .sum(1)
        .toArray(),
    ).toEqual([[exact, exact]]);
  });

  it('the sum of nothing is 0, its mean NaN', () => {
    expect(Tensor.zeros([2, 0]).sum(1).toArray()).toEqual([0, 0]);
    expect(Tensor.zeros([2, 0]).mean(1).toArray()).toEqual([Number.NaN, Number.NaN]);
  });

  it('NaN is the maximum, the minimum and the argmax, wherever it stands', () => {
    for (const at of [0, 1, 2]) {
      const a = Tensor.from([1, 2, 3]).set(Number.NaN, at);
      expect(a.max().item()).toBeNaN();
      expect(a.min().item()).toBeNaN();
      expect(a.argmax().item()).toBe(at);
    }
    expect(Tensor.from([Number.NaN, 1, Number.NaN]).argmax().item()).toBe(0);
  });

  it('argmax takes the first of equal elements, also when all are -inf', () => {
    expect(
      Tensor.from([
        [1, 3, 3],
        [2, 2, 1],
      ])
        .argmax(1)
        .toArray(),
    ).toEqual([1, 0]);
    expect(Tensor.full([3], Number.NEGATIVE_INFINITY).argmax().item()).toBe(0);
    expect(Tensor.full([3], Number.NEGATIVE_INFINITY).max().item()).toBe(Number.NEGATIVE_INFINITY);
  });
});

describe('softmax', () => {
  it('agrees with the naive definition over every axis', () => {
    const withAxis = anyTensor
      .filter((a) => a.ndim > 0)
      .chain((a) => fc.tuple(fc.constant(a), fc.nat(a.ndim - 1)));
    fc.assert(
      fc.property(withAxis, fc.boolean(), ([a, axis], negative) => {
        const result = a.softmax(negative ? axis - a.ndim : axis);
        expect(result.shape).toEqual(a.shape);
        expect(result.dtype).toBe(a.dtype);
        const expected = elementsBy(a.shape, (index) => {
          const along = Array.from({ length: a.shape[axis] }, (_, j) => a.at(...index.with(axis, j)));
          const max = Math.max(...along);
          return Math.exp(a.at(...index) - max) / along.reduce((sum, x) => sum + Math.exp(x - max), 0);
        });
        // exp within 2 ulp above and below the fraction bar, then a division: under 8 ulp of float32.
        const actual = elements(result);
        expected.forEach((value, i) => {
          expect(Math.abs(actual[i] - value)).toBeLessThanOrEqual(8 * 2 ** -23 * value);
        });
      }),
    );
  });

  it('is over the last axis unless told otherwise', () => {
    expect(Tensor.zeros([2, 4]).softmax().toArray()).toEqual([Array(4).fill(0.25), Array(4).fill(0.25)]);
    expect(Tensor.zeros([2, 4]).softmax(0).at(1, 3)).toBe(0.5);
  });

  it('gives zeros for a slice of nothing but -inf, and does not overflow', () => {
    const inf = Number.POSITIVE_INFINITY;
    expect(
      Tensor.from([
        [-inf, -inf],
        [1000, 1000],
      ])
        .softmax()
        .toArray(),
    ).toEqual([
      [0, 0],
      [0.5, 0.5],
    ]);
  });

  it('refuses axes that are not there, and accepts empty ones', () => {
    expect(() => Tensor.zeros([2]).softmax(1)).toThrow(
      new RangeError('softmax: axis 1 is out of range for [2]'),
    );
    expect(() => Tensor.zeros([]).softmax()).toThrow(RangeError);
    expect(Tensor.zeros([3, 0]).softmax().shape).toEqual([3, 0]);
    expect(Tensor.zeros([0, 3]).softmax(0).shape).toEqual([0, 3]);
  });
});
