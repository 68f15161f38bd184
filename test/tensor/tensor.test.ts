import fc from 'fast-check';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { DTYPES, type DType } from '../../src/base/dtype';
import { Tensor } from '../../src/tensor/tensor';
import { anyTensor, elements, elementsBy, shapeArb } from './oracle';

const sizeOf = (shape: readonly number[]) => shape.reduce((product, dim) => product * dim, 1);

describe('the constructor', () => {
  it('shares the data, takes its dtype from the array, and copies and freezes the shape', () => {
    const data = new Float64Array(6);
    const shape = [2, 3];
    const t = new Tensor(data, shape);
    shape[0] = 5;
    expect(t.data).toBe(data);
    expect(t.dtype).toBe('float64');
    expect([t.shape, t.size, t.ndim]).toEqual([[2, 3], 6, 2]);
    expect(() => (t.shape as number[]).push(1)).toThrow(TypeError);
  });

  it('accepts memory shared between threads', () => {
    const data = new Float32Array(new SharedArrayBuffer(16));
    expect(new Tensor(data, [2, 2]).addInPlace(1).subTensor(1).data.buffer).toBe(data.buffer);
    expect([...data]).toEqual([1, 1, 1, 1]);
  });

  it('refuses data that is not the array of the dtype', () => {
    const make = (data: unknown, dtype?: unknown) => () => new Tensor(data as never, [2], dtype as never);
    expect(make(new Float32Array(2), 'int32')).toThrow(
      new TypeError('Tensor: data is not the typed array of int32'),
    );
    expect(make([1, 2])).toThrow(TypeError);
    expect(make(new Uint16Array(2))).toThrow(/Uint16Array with dtype 'float16' or 'bfloat16'/);
    expect(make(new Uint8Array(2))).toThrow(TypeError);
    expect(make(new Float32Array(2), 'float8')).toThrow(
      /^Tensor: dtype must be one of float32, .*, got float8$/,
    );
    expect(make(new Float32Array(2), 'toString')).toThrow(TypeError);
  });

  it('refuses invalid shapes, and shapes of another number of elements', () => {
    const make = (shape: unknown) => () => new Tensor(new Float32Array(6), shape as number[]);
    expect(make([2, 4])).toThrow(new RangeError('Tensor: [2,4] needs 8 elements, data has 6'));
    expect(make([-2, -3])).toThrow(new RangeError('Tensor: dimensions must be integers >= 0, got [-2,-3]'));
    for (const bad of [[1.5, 4], [Number.NaN], [2 ** 40, 2 ** 40], [Number.POSITIVE_INFINITY]]) {
      expect(make(bad)).toThrow(RangeError);
    }
    expect(make(6)).toThrow(new TypeError('Tensor: shape must be an array, got number'));
  });
});

describe('creation', () => {
  it('zeros, ones and full fill every dtype', () => {
    for (const dtype of DTYPES) {
      expect(Tensor.zeros([2], { dtype }).toArray()).toEqual([0, 0]);
      expect(Tensor.ones([2], { dtype }).toArray()).toEqual([1, 1]);
      expect(Tensor.full([1, 2], -3, { dtype }).toArray()).toEqual([[-3, -3]]);
      expect(Tensor.zeros([2], { dtype }).dtype).toBe(dtype);
    }
    expect(Tensor.ones([]).item()).toBe(1);
    expect(Tensor.zeros([2]).dtype).toBe('float32');
    expect(() => Tensor.zeros([2], { dtype: 'float' as DType })).toThrow(TypeError);
  });

  it('arange counts from start to before stop', () => {
    expect(Tensor.arange(4).toArray()).toEqual([0, 1, 2, 3]);
    expect(Tensor.arange(2, 5).toArray()).toEqual([2, 3, 4]);
    expect(Tensor.arange(1, 0, -0.25).toArray()).toEqual([1, 0.75, 0.5, 0.25]);
    expect(Tensor.arange(0, 7, 3, { dtype: 'int64' }).data).toEqual(BigInt64Array.of(0n, 3n, 6n));
    expect(Tensor.arange(3, 1).shape).toEqual([0]);
    for (const run of [
      () => Tensor.arange(0, 1, 0),
      () => Tensor.arange(Number.NaN),
      () => Tensor.arange(0, Number.POSITIVE_INFINITY),
      () => Tensor.arange(0, 1, 0.5, { dtype: 'int32' }),
    ]) {
      expect(run).toThrow(RangeError);
    }
  });

  it('randn is normal, a function of seed and stream, and the same in both float dtypes', () => {
    const a = Tensor.randn([20_000], { seed: 7, std: 2 });
    // Mean of n normals: std 2/sqrt(n) = 0.014; the variance's is 4*sqrt(2/n) = 0.04. Five of each.
    expect(Math.abs(a.mean().item())).toBeLessThan(0.07);
    expect(Math.abs(a.mul(a).mean().item() - 4)).toBeLessThan(0.2);
    expect(Tensor.randn([3], { seed: 7, std: 2 }).data).toEqual(a.data.slice(0, 3));
    const wide = Tensor.randn([3], { seed: 7, std: 2, dtype: 'float64' });
    expect(wide.astype('float32').data).toEqual(a.data.slice(0, 3));
    const others = [{ seed: 8 }, { seed: 7, stream: 1 }, { seed: 7 + 2 ** 32 }, {}].map(
      (options) => Tensor.randn([1], { std: 2, ...options }).data[0],
    );
    expect(new Set([...others, a.data[0]]).size).toBe(5);
  });

  it('randn refuses invalid seeds and streams', () => {
    for (const options of [
      { seed: -1 },
      { seed: 2 ** 53 },
      { seed: 0.5 },
      { stream: 2 ** 32 },
      { stream: -1 },
    ]) {
      expect(() => Tensor.randn([1], options)).toThrow(RangeError);
    }
    expect(() => Tensor.randn([1], { dtype: 'int32' as 'float32' })).toThrow(TypeError);
  });
});

describe('Tensor.from', () => {
  it('shares a typed array that already is of the dtype, named or not', () => {
    const arrays = [
      ['float32', new Float32Array(4)],
      ['float64', new Float64Array(4)],
      ['int32', new Int32Array(4)],
      ['int64', new BigInt64Array(4)],
    ] as const;
    for (const [dtype, data] of arrays) {
      expect(Tensor.from(data).data).toBe(data);
      expect(Tensor.from(data).dtype).toBe(dtype);
      expect(Tensor.from(data, [2, 2], dtype).data).toBe(data);
    }
    const bits = Uint16Array.of(0x3f80);
    expect(Tensor.from(bits, [1], 'bfloat16').data).toBe(bits);
    expect(Tensor.from(bits, undefined, 'bfloat16').item()).toBe(1);
  });

  it('copies everything else, converted', () => {
    const data = Float64Array.of(1.5, 2.5);
    const t = Tensor.from(data, [2], 'float32');
    data[0] = 9;
    expect(t.data).toEqual(Float32Array.of(1.5, 2.5));
    expect(Tensor.from(Uint8Array.of(1, 255)).data).toEqual(Float32Array.of(1, 255));
    expect(Tensor.from(Int16Array.of(-1), [1, 1], 'int64').data).toEqual(BigInt64Array.of(-1n));
    expect(Tensor.from(Float32Array.of(1, 2.7), [2], 'int32').toArray()).toEqual([1, 2]);
  });

  it('reads nested arrays of any depth, also with typed rows', () => {
    expect(Tensor.from(5).shape).toEqual([]);
    expect(
      Tensor.from([
        [[1], [2]],
        [[3], [4]],
      ]).shape,
    ).toEqual([2, 2, 1]);
    expect(Tensor.from([Float64Array.of(1, 2), [3, 4]]).toArray()).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect(Tensor.from([1, 2, 3, 4], [2, 2]).toArray()).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect([Tensor.from([]).shape, Tensor.from([[], []]).shape]).toEqual([[0], [2, 0]]);
    expect(Tensor.from([1n, 2n ** 60n], undefined, 'int64').data).toEqual(BigInt64Array.of(1n, 2n ** 60n));
  });

  it('gives nested arrays back by toArray, whatever the shape', () => {
    fc.assert(
      fc.property(anyTensor, (t) => {
        const again = Tensor.from(t.toArray(), undefined, t.dtype);
        // A zero-size axis hides the ones behind it.
        const empty = t.shape.indexOf(0);
        expect(again.shape).toEqual(empty < 0 ? t.shape : t.shape.slice(0, empty + 1));
        expect(again.data).toEqual(t.data);
      }),
    );
  });

  it('refuses ragged nesting, strange elements, bits without a dtype, and shapes that do not fit', () => {
    const from = (data: unknown, shape?: number[], dtype?: DType) => () =>
      Tensor.from(data as number, shape, dtype);
    const message = 'Tensor.from: nested arrays must all have the shape of the first';
    expect(from([[1, 2], [3]])).toThrow(new RangeError(`${message}, [2,2]; got an array of 1 1 levels deep`));
    expect(from([[1], 2])).toThrow(new RangeError(`${message}, [2,1]; got number 1 levels deep`));
    expect(from([1, [2]])).toThrow(new RangeError(`${message}, [2]; got an array of 1 1 levels deep`));
    expect(from(['1'])).toThrow(new TypeError('Tensor.from: value must be a number, got string'));
    expect(from([null])).toThrow(TypeError);
    expect(from([1n])).toThrow(TypeError);
    expect(from(undefined)).toThrow(TypeError);
    expect(from(Uint16Array.of(1))).toThrow(TypeError);
    expect(from(Uint16Array.of(1), [1], 'float32')).toThrow(TypeError);
    expect(from([1, 2, 3], [2, 2])).toThrow(new RangeError('Tensor: [2,2] needs 4 elements, data has 3'));
    expect(from([1.5], undefined, 'int32')).toThrow(RangeError);
    expect(from([1], undefined, 'float8' as DType)).toThrow(/^Tensor.from: dtype must be one of/);
  });
});

describe('Tensor.fromIds', () => {
  it('makes int32 tensors of nested arrays, flat ones and BigInt64Array, and shares an Int32Array', () => {
    const ids = Tensor.fromIds([
      [1, 2],
      [3, 4],
    ]);
    expect([ids.dtype, ids.shape, ids.data]).toEqual(['int32', [2, 2], Int32Array.of(1, 2, 3, 4)]);
    expect(Tensor.fromIds([1, 2], [1, 2]).shape).toEqual([1, 2]);
    expect(Tensor.fromIds(BigInt64Array.of(7n, -1n), [2, 1]).toArray()).toEqual([[7], [-1]]);
    expect(Tensor.fromIds(Uint8Array.of(200)).toArray()).toEqual([200]);
    const data = Int32Array.of(1, 2, 3, 4);
    expect(Tensor.fromIds(data, [2, 2]).data).toBe(data);
  });

  it.each([
    [[0, 1.5]],
    [[Number.NaN]],
    [[2 ** 31]],
    [BigInt64Array.of(2n ** 40n)],
    [Float32Array.of(0.5)],
    [[[1], [2, 3]]],
  ])('refuses %s', (ids) => {
    expect(() => Tensor.fromIds(ids)).toThrow(RangeError);
    expect(() => Tensor.fromIds(ids)).toThrow(/^Tensor.fromIds: /);
  });
});

describe('shapes', () => {
  it('reshape shares memory, infers -1, and comes back', () => {
    fc.assert(
      fc.property(anyTensor, shapeArb, fc.nat(3), (t, shape, unknown) => {
        const flat = t.reshape([-1]);
        expect(flat.data).toBe(t.data);
        expect(flat.shape).toEqual([t.size]);
        expect(flat.reshape(t.shape).shape).toEqual(t.shape);
        if (sizeOf(shape) !== t.size) {
          const message = `reshape: [${t.shape}] does not fit [${shape}]`;
          expect(() => t.reshape(shape)).toThrow(new RangeError(message));
        }
        if (t.size > 0 && unknown < t.ndim)
          expect(t.reshape(t.shape.with(unknown, -1)).shape).toEqual(t.shape);
      }),
    );
  });

  it('reshape refuses what can not be inferred', () => {
    const t = Tensor.zeros([2, 3]);
    expect(() => t.reshape([4, -1])).toThrow(new RangeError('reshape: [2,3] does not fit [4,-1]'));
    expect(() => t.reshape([-1, -1])).toThrow(RangeError);
    expect(() => t.reshape([-2, -3])).toThrow(RangeError);
    expect(() => t.reshape(6 as never)).toThrow(TypeError);
    expect(() => Tensor.zeros([0]).reshape([0, -1])).toThrow(RangeError);
    expect(Tensor.zeros([0, 2]).reshape([-1, 5]).shape).toEqual([0, 5]);
  });

  it('transpose moves axis axes[i] to i, copies, and its inverse undoes it', () => {
    const permuted = anyTensor.chain((t) =>
      fc.tuple(
        fc.constant(t),
        fc.shuffledSubarray(
          t.shape.map((_, axis) => axis),
          { minLength: t.ndim },
        ),
      ),
    );
    fc.assert(
      fc.property(permuted, ([t, axes]) => {
        const result = t.transpose(axes);
        expect(result.shape).toEqual(axes.map((axis) => t.shape[axis]));
        expect(result.data.buffer).not.toBe(t.data.buffer);
        const source = (index: number[]) => t.shape.map((_, axis) => index[axes.indexOf(axis)]);
        expect(elements(result)).toEqual(elementsBy(result.shape, (index) => t.at(...source(index))));
        const inverse = axes.map((_, axis) => axes.indexOf(axis));
        expect(result.transpose(inverse).data).toEqual(t.data);
        expect(t.transpose().transpose().data).toEqual(t.data);
      }),
    );
  });

  it('transpose reverses the axes by default, and refuses what is no permutation', () => {
    const t = Tensor.arange(6).reshape([1, 2, 3]);
    expect(t.transpose().shape).toEqual([3, 2, 1]);
    expect(t.transpose([-1, 0, 1]).shape).toEqual([3, 1, 2]);
    const message = 'transpose: axes [0,0,1] must name each axis of [1,2,3] once';
    expect(() => t.transpose([0, 0, 1])).toThrow(new RangeError(message));
    expect(() => t.transpose([0, 1])).toThrow(RangeError);
    expect(() => t.transpose([0, 1, 3])).toThrow(RangeError);
  });

  it('clone and astype have memory of their own, also for the same dtype', () => {
    const t = Tensor.from([1, 2]);
    t.clone().fill(0);
    t.astype('float32').fill(0);
    expect(t.toArray()).toEqual([1, 2]);
    expect(t.astype('bfloat16').data).toEqual(Uint16Array.of(0x3f80, 0x4000));
    expect(() => t.astype('float' as DType)).toThrow(TypeError);
    expect(() => Tensor.from([Number.NaN]).astype('int32')).toThrow(
      new RangeError('astype: element 0 is NaN, which int32 can not hold'),
    );
  });
});

describe('elements', () => {
  it('at and set take one index an axis, negative ones from the end, in every dtype', () => {
    for (const dtype of DTYPES) {
      const t = Tensor.zeros([2, 3], { dtype });
      expect(t.set(-2, 1, -1)).toBe(t);
      expect(t.toArray()).toEqual([
        [0, 0, 0],
        [0, 0, -2],
      ]);
      expect([t.at(1, 2), t.at(-1, -1), t.at(0, 2)]).toEqual([-2, -2, 0]);
    }
    expect(Tensor.from(3).at()).toBe(3);
  });

  it('names index, axis and shape when an index is wrong', () => {
    const t = Tensor.zeros([2, 3]);
    expect(() => t.at(0, 3)).toThrow(new RangeError('at: index 3 is out of range for axis 1 of [2,3]'));
    expect(() => t.set(1, -3, 0)).toThrow(
      new RangeError('set: index -3 is out of range for axis 0 of [2,3]'),
    );
    expect(() => t.at(0)).toThrow(new RangeError('at: [2,3] needs 2 indices, got 1'));
    expect(() => t.at(0, 0.5)).toThrow(RangeError);
    expect(() => t.at(0, Number.NaN)).toThrow(RangeError);
  });

  it('writes only integers that fit into integer tensors', () => {
    const ids = Tensor.zeros([1], { dtype: 'int32' });
    const big = Tensor.zeros([1], { dtype: 'int64' });
    expect(() => ids.set(0.5, 0)).toThrow(
      new RangeError('set: value must be an integer in [-2^31, 2^31), got 0.5'),
    );
    expect(() => ids.fill(2 ** 31)).toThrow(RangeError);
    expect(() => ids.fill(1n)).toThrow(TypeError);
    expect(() => big.fill(2 ** 60)).toThrow(RangeError);
    expect(() => big.fill(2n ** 63n)).toThrow(RangeError);
    expect(big.fill(-(2n ** 63n)).data[0]).toBe(-(2n ** 63n));
    expect(() => Tensor.zeros([1]).fill('1' as never)).toThrow(
      new TypeError('fill: value must be a number, got string'),
    );
  });

  it('reads an int64 beyond 2^53 from data only', () => {
    const t = Tensor.from(BigInt64Array.of(2n ** 53n));
    expect(() => t.at(0)).toThrow(RangeError);
    expect(() => t.item()).toThrow(/^item: the int64 9007199254740992 is beyond 2\^53/);
    expect(() => t.toArray()).toThrow(RangeError);
    expect(t.toString()).toBe('Tensor(int64 [1]: 9007199254740992)');
  });

  it('slice agrees with the naive definition, and copies', () => {
    const range = fc.oneof(
      fc.constant(null),
      fc.tuple(fc.integer({ min: -6, max: 6 })),
      fc.tuple(fc.integer({ min: -6, max: 6 }), fc.integer({ min: -6, max: 6 })),
      fc.nat(3),
    );
    fc.assert(
      fc.property(anyTensor, fc.array(range, { maxLength: 4 }), fc.boolean(), (t, all, negative) => {
        const ranges = all
          .slice(0, t.ndim)
          .map((r, axis) => (typeof r === 'number' ? Math.min(r, t.shape[axis] - 1) : r))
          .map((r, axis) => (typeof r === 'number' && negative ? r - t.shape[axis] : r));
        if (ranges.some((r, axis) => typeof r === 'number' && t.shape[axis] === 0)) {
          expect(() => t.slice(...ranges)).toThrow(RangeError);
          return;
        }
        // What JavaScript's own slice keeps of the indices of each axis.
        const kept = t.shape.map((dim, axis) => {
          const r = ranges[axis] ?? null;
          const every = Array.from({ length: dim }, (_, i) => i);
          return typeof r === 'number' ? every.slice(r).slice(0, 1) : r === null ? every : every.slice(...r);
        });
        const result = t.slice(...ranges);
        const isRange = (_: unknown, axis: number) => typeof ranges[axis] !== 'number';
        expect(result.shape).toEqual(kept.map((indices) => indices.length).filter(isRange));
        const expected = elementsBy(
          kept.map((indices) => indices.length),
          (index) => t.at(...index.map((i, axis) => kept[axis][i])),
        );
        expect(elements(result)).toEqual(expected);
        expect(result.data.buffer).not.toBe(t.data.buffer);
      }),
      { numRuns: 300 },
    );
  });

  it('slice refuses too many ranges, indices outside and things that are no ranges', () => {
    const t = Tensor.zeros([2, 3]);
    expect(() => t.slice(0, 0, 0)).toThrow(new RangeError('slice: 3 ranges for [2,3]'));
    expect(() => t.slice(2)).toThrow(new RangeError('slice: index 2 is out of range for axis 0 of [2,3]'));
    expect(() => t.slice([0.5, 1])).toThrow(
      new RangeError('slice: a range must be [start, end] in integers, got [0.5,1]'),
    );
    expect(() => t.slice('0' as never)).toThrow(TypeError);
    expect(() => t.slice([0, '1'] as never)).toThrow(RangeError);
  });

  it('subTensor is a view on one index of the first axis', () => {
    const t = Tensor.arange(12).reshape([2, 3, 2]);
    const part = t.subTensor(-1);
    expect(part.toArray()).toEqual([
      [6, 7],
      [8, 9],
      [10, 11],
    ]);
    part.subTensor(0).fill(0);
    expect(t.at(1, 0, 1)).toBe(0);
    expect(t.at(0, 2, 1)).toBe(5);
    expect(Tensor.arange(3).subTensor(1).item()).toBe(1);
    expect(() => t.subTensor(2)).toThrow(
      new RangeError('subTensor: index 2 is out of range for axis 0 of [2,3,2]'),
    );
    expect(() => Tensor.zeros([]).subTensor(0)).toThrow(RangeError);
  });

  it('item wants exactly one element', () => {
    expect(Tensor.from([[7]]).item()).toBe(7);
    expect(() => Tensor.zeros([2]).item()).toThrow(new RangeError('item: [2] is not a single element'));
    expect(() => Tensor.zeros([0]).item()).toThrow(RangeError);
  });

  it('copyFrom broadcasts, converts, and survives overlap', () => {
    const t = Tensor.zeros([2, 3]);
    expect(t.copyFrom(Tensor.fromIds([1, 2, 3]))).toBe(t);
    expect(t.toArray()).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);
    expect(t.copyFrom(Tensor.from([[4], [5]], undefined, 'float64')).toArray()).toEqual([
      [4, 4, 4],
      [5, 5, 5],
    ]);
    const buffer = Float32Array.of(1, 2, 3, 4);
    new Tensor(buffer.subarray(1), [3]).copyFrom(new Tensor(buffer.subarray(0, 3), [3]));
    expect([...buffer]).toEqual([1, 1, 2, 3]);
    const halves = Tensor.zeros([2], { dtype: 'float16' }).copyFrom(Tensor.from(0.5));
    expect(halves.data).toEqual(Uint16Array.of(0x3800, 0x3800));
    expect(() => t.copyFrom(Tensor.zeros([2, 1, 3]))).toThrow(
      new RangeError('copyFrom: [2,1,3] does not broadcast to [2,3]'),
    );
    expect(() => Tensor.zeros([1]).copyFrom(Tensor.zeros([2]))).toThrow(RangeError);
    expect(() => t.copyFrom([1, 2, 3] as never)).toThrow(TypeError);
  });

  it('toString names dtype, shape and the first elements', () => {
    expect(`${Tensor.from([[0.1, 2]])}`).toBe('Tensor(float32 [1,2]: 0.1, 2)');
    expect(`${Tensor.arange(10)}`).toBe('Tensor(float32 [10]: 0, 1, 2, 3, 4, 5, 6, 7, ...)');
    expect(`${Tensor.from([1.5]).astype('bfloat16')}`).toBe('Tensor(bfloat16 [1]: 1.5)');
    expect(`${Tensor.from(Number.NaN)}`).toBe('Tensor(float32 []: NaN)');
  });
});

describe('types', () => {
  it('follow the dtype', () => {
    expectTypeOf(Tensor.zeros([1]).data).toEqualTypeOf<Float32Array>();
    expectTypeOf(Tensor.from([[1, 2]])).toEqualTypeOf<Tensor<'float32'>>();
    expectTypeOf(Tensor.from(new Float64Array(1))).toEqualTypeOf<Tensor<'float64'>>();
    expectTypeOf(Tensor.from(new Float64Array(1), [1], 'int32').data).toEqualTypeOf<Int32Array>();
    expectTypeOf(Tensor.fromIds([1]).data).toEqualTypeOf<Int32Array>();
    expectTypeOf(Tensor.zeros([1]).add(Tensor.zeros([1], { dtype: 'float64' }))).toEqualTypeOf<
      Tensor<'float64'>
    >();
    expectTypeOf(Tensor.zeros([1]).add(1).sum()).toEqualTypeOf<Tensor<'float32'>>();
    expectTypeOf(Tensor.zeros([1]).argmax()).toEqualTypeOf<Tensor<'int32'>>();
    expectTypeOf(Tensor.zeros([1])).toExtend<Tensor>();
  });
});
