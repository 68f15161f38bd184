import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bytesPerElement,
  convert,
  convertInto,
  DTYPES,
  fromStorageBits,
  type StorageDType,
  toStorageBits,
} from '../../src/base/dtype';

const FORMATS = [
  { dtype: 'float16', mantissaBits: 10, bias: 15, quietBit: 0x200, infinity: 0x7c00 },
  { dtype: 'bfloat16', mantissaBits: 7, bias: 127, quietBit: 0x40, infinity: 0x7f80 },
] as const;
type Format = (typeof FORMATS)[number];

/** The value of the bits by the definition of the format; NaN has no value here. */
function decode(bits: number, { mantissaBits, bias }: Format): number {
  const sign = bits >= 0x8000 ? -1 : 1;
  const field = (bits & 0x7fff) >>> mantissaBits;
  const fraction = (bits & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  if (field === 2 ** (15 - mantissaBits) - 1)
    return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return field === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (field - bias);
}

const isNaNBits = (bits: number, format: Format) => (bits & 0x7fff) > format.infinity;
const allBits = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

/** The next float64 away from zero (towards: 1) or to zero (towards: -1). */
function neighbour64(value: number, towards: 1 | -1): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  view.setBigInt64(0, view.getBigInt64(0) + BigInt(towards));
  return view.getFloat64(0);
}

function neighbour32(value: number, towards: 1 | -1): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  view.setInt32(0, view.getInt32(0) + towards);
  return view.getFloat32(0);
}

/** Compares long arrays; `toEqual` would take seconds. */
function expectBits(actual: Uint16Array, expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  const at = expected.findIndex((bits, i) => bits !== actual[i]);
  expect({ at, bits: actual[at] }).toEqual({ at: -1, bits: undefined });
}

describe.each(FORMATS)('$dtype', (format) => {
  const { dtype, infinity, quietBit } = format;
  const all32 = convert(allBits, dtype, 'float32');

  it('gives every bit pattern its value, singly and in bulk', () => {
    for (const bits of allBits) {
      const value = decode(bits, format);
      if (!Object.is(all32[bits], value) || !Object.is(fromStorageBits(bits, dtype), value)) {
        expect.fail(`0x${bits.toString(16)}: ${all32[bits]}, ${fromStorageBits(bits, dtype)}, not ${value}`);
      }
    }
  });

  it('takes every value back to its bits, from float32, float64 and one number', () => {
    const from32 = convert(all32, 'float32', dtype);
    const from64 = convert(
      Float64Array.from(allBits, (bits) => decode(bits, format)),
      'float64',
      dtype,
    );
    for (const bits of allBits) {
      if (isNaNBits(bits, format)) continue;
      const single = toStorageBits(decode(bits, format), dtype);
      if (from32[bits] !== bits || from64[bits] !== bits || single !== bits) {
        expect.fail(`0x${bits.toString(16)}: ${from32[bits]}, ${from64[bits]}, ${single}`);
      }
    }
  });

  it('keeps NaN with sign and payload, made quiet, in both directions', () => {
    const words = new Uint32Array(all32.buffer);
    const back = convert(all32, 'float32', dtype);
    for (const bits of allBits) {
      if (!isNaNBits(bits, format)) continue;
      const isQuiet = (words[bits] & 0x7fc00000) >>> 0 === 0x7fc00000;
      const sameSign = words[bits] >>> 31 === bits >>> 15;
      if (!isQuiet || !sameSign || back[bits] !== (bits | quietBit)) {
        expect.fail(`0x${bits.toString(16)}: 0x${words[bits].toString(16)}, 0x${back[bits].toString(16)}`);
      }
    }
  });

  it('keeps a float64 NaN and its sign, and does not turn a small payload into infinity', () => {
    const words = new BigUint64Array([0xfff8000000000000n, 0x7ff0000000000001n]);
    expect([...convert(new Float64Array(words.buffer), 'float64', dtype)]).toEqual([
      0x8000 | infinity | quietBit,
      infinity | quietBit,
    ]);
    const words32 = new Uint32Array([0xff800001]);
    expect(convert(new Float32Array(words32.buffer), 'float32', dtype)[0]).toBe(0x8000 | infinity | quietBit);
  });

  it('rounds the midpoint of every two neighbours to even, and what is beside it to the nearer', () => {
    // Up to infinity: the midpoint between the largest number and 2^(max exponent + 1) overflows.
    const overflow = 2 ** (format.bias + 1);
    const sources64: number[] = [];
    const expected: number[] = [];
    for (let low = 0; low < infinity; low++) {
      const high = low + 1;
      const midpoint = (decode(low, format) + Math.min(decode(high, format), overflow)) / 2;
      const even = low % 2 === 0 ? low : high;
      sources64.push(neighbour64(midpoint, -1), midpoint, neighbour64(midpoint, 1));
      expected.push(low, even, high);
    }
    const negative = expected.map((bits) => bits | 0x8000);
    expectBits(convert(Float64Array.from(sources64), 'float64', dtype), expected);
    expectBits(
      convert(
        Float64Array.from(sources64, (x) => -x),
        'float64',
        dtype,
      ),
      negative,
    );

    // Midpoints need one bit more than the format has, so that float32 holds them too.
    const sources32 = Float32Array.from(sources64, (_, i) => {
      const midpoint = sources64[i - (i % 3) + 1];
      return i % 3 === 1 ? midpoint : neighbour32(midpoint, i % 3 === 0 ? -1 : 1);
    });
    expectBits(convert(sources32, 'float32', dtype), expected);
    expectBits(
      convert(
        sources32.map((x) => -x),
        'float32',
        dtype,
      ),
      negative,
    );
  });

  it('rounds any double to the nearest number of the format, at one go', () => {
    const finite = Float64Array.from({ length: infinity }, (_, bits) => decode(bits, format));
    const overflow = 2 ** (format.bias + 1);
    const anyDouble = fc.double({ noNaN: true, min: 0 });
    fc.assert(
      fc.property(anyDouble, fc.double({ noNaN: true, min: 0.25, max: 4 }), (any, near) => {
        for (const x of [any, near, near * finite[1], any * 2 ** -960]) {
          const bits = toStorageBits(x, dtype);
          const clamped = Math.min(x, overflow);
          const distance = (to: number) => Math.abs(clamped - (to === infinity ? overflow : finite[to]));
          if (bits > 0) expect(distance(bits)).toBeLessThanOrEqual(distance(bits - 1));
          if (bits < infinity) expect(distance(bits)).toBeLessThanOrEqual(distance(bits + 1));
        }
      }),
    );
  });
});

describe('conversion between dtypes', () => {
  it('rounds float64 to a storage type once, not by way of float32', () => {
    // 1 + 2^-11 is the float16 midpoint of 1 and 1 + 2^-10; the excess is lost in float32.
    const aboveMidpoint = 1 + 2 ** -11 + 2 ** -40;
    expect(Math.fround(aboveMidpoint)).toBe(1 + 2 ** -11);
    expect(toStorageBits(aboveMidpoint, 'float16')).toBe(0x3c01);
    const bf16 = convert(Float64Array.of(1 + 2 ** -8 + 2 ** -40), 'float64', 'bfloat16');
    expect(bf16[0]).toBe(0x3f81);
  });

  it('cuts off fractions on the way to integers', () => {
    const source = Float32Array.of(1.9, -1.9, -0.5, 2 ** 30);
    expect([...convert(source, 'float32', 'int32')]).toEqual([1, -1, 0, 2 ** 30]);
    expect([...convert(source, 'float32', 'int64')]).toEqual([1n, -1n, 0n, 2n ** 30n]);
  });

  it.each([
    ['float64', Float64Array.of(0, 2 ** 31), 'int32'],
    ['float64', Float64Array.of(0, -(2 ** 31) - 1), 'int32'],
    ['float32', Float32Array.of(0, Number.NaN), 'int32'],
    ['float32', Float32Array.of(0, Number.POSITIVE_INFINITY), 'int64'],
    ['float64', Float64Array.of(0, 2 ** 63), 'int64'],
    ['int64', BigInt64Array.of(0n, 2n ** 31n), 'int32'],
    ['bfloat16', Uint16Array.of(0, 0x7f80), 'int32'],
  ] as const)('refuses %s %s as %s, naming the element', (from, source, to) => {
    expect(() => convert(source, from, to, 'astype')).toThrow(/^astype: element 1 is .*can not hold$/);
    expect(() => convert(source, from, to)).toThrow(RangeError);
  });

  it('writes nothing when an element is refused', () => {
    const target = Int32Array.of(7, 7);
    expect(() => convertInto(Float32Array.of(1, Number.NaN), 'float32', target, 'int32')).toThrow(RangeError);
    expect([...target]).toEqual([7, 7]);
  });

  it('reaches the limits of the integer types', () => {
    const limits = Float64Array.of(-(2 ** 31), 2 ** 31 - 1);
    expect([...convert(limits, 'float64', 'int32')]).toEqual([...limits]);
    expect([...convert(Float64Array.of(-(2 ** 63)), 'float64', 'int64')]).toEqual([-(2n ** 63n)]);
    const ids = BigInt64Array.of(-(2n ** 31n), 2n ** 31n - 1n);
    expect([...convert(ids, 'int64', 'int32')]).toEqual([...limits]);
  });

  it('takes small integers through every pair of dtypes unchanged', () => {
    const values = fc.array(fc.integer({ min: -128, max: 128 }));
    fc.assert(
      fc.property(values, fc.constantFrom(...DTYPES), fc.constantFrom(...DTYPES), (numbers, from, to) => {
        const source = convert(Float64Array.from(numbers), 'float64', from);
        const there = convert(source, from, to);
        expect([...convert(there, to, 'float64')]).toEqual(numbers);
      }),
    );
  });

  it('writes into an offset view, and refuses unequal lengths', () => {
    const buffer = new Float32Array(4);
    convertInto(Uint16Array.of(0x3c00, 0xc000), 'float16', buffer.subarray(1, 3), 'float32');
    expect([...buffer]).toEqual([0, 1, -2, 0]);
    expect(() => convertInto(new Float32Array(2), 'float32', new Float32Array(3), 'float32')).toThrow(
      new RangeError('convertInto: source has 2 elements, target 3'),
    );
  });

  it('knows the size of an element', () => {
    const dtypes: StorageDType[] = ['float16', 'bfloat16'];
    expect(dtypes.map(bytesPerElement)).toEqual([2, 2]);
    expect((['float32', 'int32', 'float64', 'int64'] as const).map(bytesPerElement)).toEqual([4, 4, 8, 8]);
  });
});
