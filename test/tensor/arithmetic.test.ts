import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Tensor } from '../../src/tensor/tensor';
import {
  anyTensor,
  broadcastAt,
  compatibleShapes,
  elements,
  elementsBy,
  floatDType,
  shapeArb,
  tensorArb,
} from './oracle';

const OPERATIONS = {
  add: (a: number, b: number) => a + b,
  sub: (a: number, b: number) => a - b,
  mul: (a: number, b: number) => a * b,
  div: (a: number, b: number) => a / b,
  pow: (a: number, b: number) => (a === 1 ? 1 : a ** b),
} as const;
const NAMES = Object.keys(OPERATIONS) as (keyof typeof OPERATIONS)[];

/** NumPy's rule, written differently from the implementation: pad with ones, then each axis must agree. */
function numpyShape(a: readonly number[], b: readonly number[]): number[] | null {
  const ndim = Math.max(a.length, b.length);
  const pad = (shape: readonly number[]) => [...Array<number>(ndim - shape.length).fill(1), ...shape];
  const [pa, pb] = [pad(a), pad(b)];
  const fits = pa.every((dim, i) => dim === pb[i] || dim === 1 || pb[i] === 1);
  return fits ? pa.map((dim, i) => (dim === 1 ? pb[i] : dim)) : null;
}

const pairArb = fc
  .tuple(compatibleShapes, floatDType, floatDType)
  .chain(([[a, b], aType, bType]) => fc.tuple(tensorArb(a, aType), tensorArb(b, bType)));

describe.each(NAMES)('%s', (name) => {
  const scalar = OPERATIONS[name];

  it('agrees with the naive definition on every pair of shapes that broadcast', () => {
    fc.assert(
      fc.property(pairArb, ([a, b]) => {
        const result = a[name](b);
        const shape = numpyShape(a.shape, b.shape)!;
        const dtype = a.dtype === 'float32' && b.dtype === 'float32' ? 'float32' : 'float64';
        const round = dtype === 'float32' ? Math.fround : (x: number) => x;
        expect(result.shape).toEqual(shape);
        expect(result.dtype).toBe(dtype);
        expect(elements(result)).toEqual(
          elementsBy(shape, (index) => round(scalar(broadcastAt(a, index), broadcastAt(b, index)))),
        );
      }),
      { numRuns: 200 },
    );
  });

  it('throws a RangeError that names it and both shapes exactly when shapes do not broadcast', () => {
    fc.assert(
      fc.property(shapeArb, shapeArb, (a, b) => {
        const run = () => Tensor.zeros(a)[name](Tensor.ones(b));
        if (numpyShape(a, b) === null) {
          expect(run).toThrow(new RangeError(`${name}: shapes [${a}] and [${b}] do not broadcast`));
        } else {
          expect(run).not.toThrow();
        }
      }),
    );
  });

  it('takes a number, rounded to the dtype of the tensor', () => {
    fc.assert(
      fc.property(anyTensor, (a) => {
        const result = a[name](0.1);
        const factor = a.dtype === 'float32' ? Math.fround(0.1) : 0.1;
        expect(result.dtype).toBe(a.dtype);
        expect(result.shape).toEqual(a.shape);
        const expected = elements(a).map((x) => scalar(x, factor));
        expect(elements(result)).toEqual(a.dtype === 'float32' ? expected.map(Math.fround) : expected);
      }),
    );
  });
});

const IN_PLACE = ['add', 'sub', 'mul', 'div'] as const;

describe.each(IN_PLACE)('%sInPlace', (name) => {
  const inPlace = `${name}InPlace` as const;

  it('leaves the result of the operation in the same memory, or says what does not broadcast', () => {
    fc.assert(
      fc.property(pairArb, ([a, b]) => {
        const target = a.clone();
        const { data } = target;
        const full = a[name](b);
        if (full.shape.join() === a.shape.join()) {
          expect(target[inPlace](b)).toBe(target);
          expect(target.data).toBe(data);
          expect(elements(target)).toEqual(elements(full.astype(a.dtype)));
        } else {
          const message = `${inPlace}: [${b.shape}] does not broadcast to [${a.shape}]`;
          expect(() => target[inPlace](b)).toThrow(new RangeError(message));
          expect(elements(target)).toEqual(elements(a));
        }
      }),
    );
  });

  it('reads an operand that is a part of it as it was before', () => {
    const a = Tensor.from([
      [2, 4, 8],
      [1, 2, 3],
      [5, 6, 7],
    ]);
    const expected = a[name](a.subTensor(0).clone());
    expect(elements(a[inPlace](a.subTensor(0)))).toEqual(elements(expected));
  });

  it('accepts itself and a number', () => {
    const a = Tensor.from([
      [2, 4],
      [8, 16],
    ]);
    expect(elements(a.clone()[inPlace](2))).toEqual(elements(a[name](2)));
    const itself = a.clone();
    expect(elements(itself[inPlace](itself))).toEqual(elements(a[name](a)));
  });
});

describe('arithmetic', () => {
  it('keeps float32 in place when the operand is float64', () => {
    const a = Tensor.ones([2]);
    expect(elements(a.addInPlace(Tensor.full([1], 0.1, { dtype: 'float64' })))).toEqual(
      Array(2).fill(Math.fround(1.1)),
    );
    expect(a.dtype).toBe('float32');
  });

  it.each(['int32', 'int64', 'float16', 'bfloat16'] as const)('refuses %s and says how to go on', (dtype) => {
    const t = Tensor.zeros([2], { dtype });
    const f = Tensor.zeros([2]);
    const runs: [string, () => unknown][] = [
      ['add', () => t.add(1)],
      ['mul', () => f.mul(t)],
      ['subInPlace', () => f.subInPlace(t)],
      ['exp', () => t.exp()],
      ['silu', () => t.silu()],
      ['sqrt', () => t.sqrt()],
      ['softmax', () => t.softmax()],
      ['matmul', () => t.matmul(f)],
      ['matmul', () => f.matmul(t)],
      ['sum', () => t.sum()],
      ['max', () => t.max()],
      ['argmax', () => t.argmax()],
    ];
    for (const [what, run] of runs) {
      const message = `${what}: ${dtype} has no arithmetic; convert first, such as with astype('float32')`;
      expect(run).toThrow(new TypeError(message));
    }
  });

  it('refuses operands that are no tensors', () => {
    const t = Tensor.zeros([2]);
    const add = (other: unknown) => () => t.add(other as number);
    expect(add('1')).toThrow(new TypeError('add: other must be a Tensor or a number, got string'));
    expect(add(null)).toThrow(new TypeError('add: other must be a Tensor or a number, got null'));
    expect(add([1, 2])).toThrow(TypeError);
    expect(add(undefined)).toThrow(TypeError);
    expect(() => t.matmul(2 as never)).toThrow(new TypeError('matmul: other must be a Tensor, got number'));
    expect(() => t.scale(t as never)).toThrow(new TypeError('scale: factor must be a number, got object'));
    expect(() => t.scaleInPlace(t as never)).toThrow(TypeError);
  });

  it('scales by a number', () => {
    const a = Tensor.from([1, -2, 0.5]);
    expect(elements(a.scale(-2))).toEqual([-2, 4, -1]);
    expect(a.scaleInPlace(3)).toBe(a);
    expect(elements(a)).toEqual([3, -6, 1.5]);
  });

  it('raises 1 to any power, and anything to the power 0, to 1', () => {
    const exponents = Tensor.from([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3]);
    expect(elements(Tensor.ones([4]).pow(exponents))).toEqual([1, 1, 1, 1]);
    expect(elements(exponents.pow(0))).toEqual([1, 1, 1, 1]);
  });
});

describe('elementwise functions', () => {
  // Exact for neg, sqrt (IEEE) and log (Math.log); exp and silu come from the kernels, exp within 2 float32 ulp.
  const FUNCTIONS = {
    neg: (x: number) => -x,
    sqrt: Math.sqrt,
    log: Math.log,
    exp: Math.exp,
    silu: (x: number) => x / (1 + Math.exp(-x)),
  } as const;
  const relativeBound = { neg: 0, sqrt: 0, log: 0, exp: 2 ** -21, silu: 2 ** -20 } as const;

  it.each(Object.keys(FUNCTIONS) as (keyof typeof FUNCTIONS)[])('%s agrees with its definition', (name) => {
    fc.assert(
      fc.property(anyTensor, (a) => {
        const result = a[name]();
        expect(result.shape).toEqual(a.shape);
        expect(result.dtype).toBe(a.dtype);
        const actual = elements(result);
        elements(a).forEach((x, i) => {
          const exact = FUNCTIONS[name](x);
          const expected = a.dtype === 'float32' ? Math.fround(exact) : exact;
          if (!(Math.abs(actual[i] - expected) <= relativeBound[name] * Math.abs(expected))) {
            expect(actual[i]).toBe(expected);
          }
        });
      }),
    );
  });

  it('computes float64 in float64', () => {
    const x = Tensor.from([0.1, -1.3], undefined, 'float64');
    // The reference's formulas on doubles: a few roundings of 2^-53.
    expect(x.exp().at(0)).toBeCloseTo(Math.exp(0.1), 14);
    expect(x.silu().at(1)).toBeCloseTo(-1.3 / (1 + Math.exp(1.3)), 14);
    expect(x.softmax().at(0)).toBeCloseTo(1 / (1 + Math.exp(-1.4)), 14);
  });

  it('leaves the tensor unchanged', () => {
    const a = Tensor.from([0.5, 2]);
    for (const name of Object.keys(FUNCTIONS) as (keyof typeof FUNCTIONS)[]) a[name]();
    a.softmax();
    expect(elements(a)).toEqual([0.5, 2]);
  });
});
