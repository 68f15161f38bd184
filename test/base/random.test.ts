import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Lcg64 } from '../../src/base/random';

const MASK = (1n << 64n) - 1n;
const step = (state: bigint): bigint => (state * 6364136223846793005n + 1n) & MASK;
const uint64 = fc.bigInt({ min: 0n, max: MASK });

describe('Lcg64', () => {
  it('takes the steps of the 64-bit recurrence and outputs the upper half', () => {
    fc.assert(
      fc.property(uint64, (seed) => {
        const generator = new Lcg64(seed);
        let state = seed;
        for (let i = 0; i < 20; i++) {
          state = step(state);
          expect(generator.nextUint32()).toBe(Number(state >> 32n));
          expect(generator.getState()).toBe(state);
        }
      }),
    );
  });

  it('carries into the upper half when the increment overflows the lower one', () => {
    // The state before one whose lower half is 0: (0 - 1) / multiplier mod 2^64.
    let inverse = 1n;
    for (let i = 0; i < 6; i++) inverse = (inverse * (2n - 6364136223846793005n * inverse)) & MASK;
    const before = (((7n << 32n) - 1n) * inverse) & MASK;
    const generator = new Lcg64(before);
    expect(generator.nextUint32()).toBe(7);
    expect(generator.getState()).toBe(7n << 32n);
  });

  it('gives known first outputs', () => {
    const generator = new Lcg64(42);
    expect([generator.nextUint32(), generator.nextUint32(), generator.nextUint32()]).toEqual([
      2104627054, 2013331137, 2406144595,
    ]);
    expect(new Lcg64(0).nextUint32()).toBe(0);
  });

  it('reads seeds modulo 2^64', () => {
    expect(new Lcg64(-1).getState()).toBe(MASK);
    expect(new Lcg64(1n << 64n).getState()).toBe(0n);
    expect(new Lcg64(Number.MAX_SAFE_INTEGER).getState()).toBe(BigInt(Number.MAX_SAFE_INTEGER));
    for (const seed of [0.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY]) {
      expect(() => new Lcg64(seed)).toThrow(RangeError);
    }
  });

  it('divides outputs by 2^32 for floats', () => {
    const floats = new Lcg64(9);
    const ints = new Lcg64(9);
    for (let i = 0; i < 100; i++) expect(floats.nextFloat()).toBe(ints.nextUint32() / 2 ** 32);
  });

  it('draws integers below any bound, in order of the output', () => {
    fc.assert(
      fc.property(
        uint64,
        fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 2 ** 32 })),
        (seed, bound) => {
          const generator = new Lcg64(seed);
          const twin = new Lcg64(seed);
          const rangeSize = Math.floor(2 ** 32 / bound);
          for (let i = 0; i < 5; i++) {
            const drawn = generator.nextInt(bound);
            let output = twin.nextUint32();
            while (output >= rangeSize * bound) output = twin.nextUint32();
            expect(drawn).toBe(Number(BigInt(output) / BigInt(rangeSize)));
            expect(drawn).toBeLessThan(bound);
          }
        },
      ),
    );
    expect(new Lcg64(5).nextInt(1)).toBe(0);
    expect(new Lcg64(5).nextInt(2 ** 32)).toBe(new Lcg64(5).nextUint32());
    for (const bound of [0, -1, 1.5, Number.NaN, 2 ** 32 + 1]) {
      expect(() => new Lcg64(1).nextInt(bound)).toThrow(/^bound must be an integer in \[1, 2\^32\], got/);
    }
  });

  it('draws each of ten values about equally often', () => {
    const generator = new Lcg64(1234);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 100_000; i++) counts[generator.nextInt(10)]++;
    // Standard deviation of a count is sqrt(1e5 * 0.1 * 0.9) = 95; six of them.
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(570);
  });

  it('goes on exactly after its state is handed over', () => {
    fc.assert(
      fc.property(uint64, fc.nat(50), (seed, steps) => {
        const generator = new Lcg64(seed);
        for (let i = 0; i < steps; i++) generator.nextUint32();
        const resumed = new Lcg64(0);
        resumed.setState(generator.getState());
        for (let i = 0; i < 10; i++) expect(resumed.nextUint32()).toBe(generator.nextUint32());
      }),
    );
    expect(() => new Lcg64(0).setState(-1n)).toThrow(RangeError);
    expect(() => new Lcg64(0).setState(1n << 64n)).toThrow(RangeError);
  });
});
