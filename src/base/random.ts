/** The default seed of weights, data windows and samples. */
export const DEFAULT_SEED = 42;

// 6364136223846793005 = MULTIPLIER_HIGH * 2^32 + MULTIPLIER_LOW (Knuth's MMIX multiplier).
const MULTIPLIER_HIGH = 0x5851f42d;
const MULTIPLIER_LOW = 0x4c957f2d;
const MULTIPLIER_LOW_UPPER16 = MULTIPLIER_LOW >>> 16;
const MULTIPLIER_LOW_LOWER16 = MULTIPLIER_LOW & 0xffff;
const TWO_32 = 2 ** 32;

/**
 * The 64-bit linear congruential generator of the cross-language spec:
 * state = state * 6364136223846793005 + 1 mod 2^64; an output is the upper 32 bits of the new state. The same
 * seed gives the same numbers on every machine and in every language. It serves sampling and data windows; it is
 * not fit for secrets.
 *
 * The state lives in two 32-bit halves: a step allocates nothing and uses no BigInt.
 */
export class Lcg64 {
  private high = 0;
  private low = 0;

  /**
   * The first state is the seed itself, mod 2^64 (so -1 is 2^64 - 1). Seeds close to each other have close
   * first outputs; they are as far apart as any others a few steps later.
   * @throws RangeError when `seed` is a number that is not a safe integer.
   */
  constructor(seed: number | bigint) {
    if (typeof seed !== 'bigint' && !Number.isSafeInteger(seed)) {
      throw new RangeError(`seed must be a safe integer or a bigint, got ${String(seed)}`);
    }
    this.setState(BigInt.asUintN(64, BigInt(seed)));
  }

  /** The next output, an integer in [0, 2^32). */
  nextUint32(): number {
    const low = this.low;
    // 16-bit digits give the upper half of low * MULTIPLIER_LOW: every product stays below 2^49 and is exact
    // in a double.
    const lowerCarry = Math.floor((low * MULTIPLIER_LOW_LOWER16) / 65536);
    const carry = Math.floor((low * MULTIPLIER_LOW_UPPER16 + lowerCarry) / 65536);
    const crossTerms = Math.imul(this.high, MULTIPLIER_LOW) + Math.imul(low, MULTIPLIER_HIGH);
    this.low = (Math.imul(low, MULTIPLIER_LOW) + 1) >>> 0;
    const incrementCarry = this.low === 0 ? 1 : 0;
    this.high = (carry + crossTerms + incrementCarry) >>> 0;
    return this.high;
  }

  /** nextUint32() / 2^32, in [0, 1). */
  nextFloat(): number {
    return this.nextUint32() / TWO_32;
  }

  /**
   * A uniform integer in [0, bound): the outputs are cut into `bound` equal ranges, and the at most bound - 1
   * outputs left over are drawn again, so there is no bias and the high-quality upper bits decide.
   * @throws RangeError unless `bound` is an integer in [1, 2^32].
   */
  nextInt(bound: number): number {
    if (!Number.isInteger(bound) || bound < 1 || bound > TWO_32) {
      throw new RangeError(`bound must be an integer in [1, 2^32], got ${String(bound)}`);
    }
    const rangeSize = Math.floor(TWO_32 / bound);
    for (;;) {
      const range = Math.floor(this.nextUint32() / rangeSize);
      if (range < bound) return range;
    }
  }

  /** The 64-bit state. A generator that gets it by `setState` continues exactly as this one. */
  getState(): bigint {
    return (BigInt(this.high) << 32n) | BigInt(this.low);
  }

  /** @throws RangeError unless `state` is a bigint in [0, 2^64). */
  setState(state: bigint): void {
    if (typeof state !== 'bigint' || BigInt.asUintN(64, state) !== state) {
      throw new RangeError(`state must be a bigint in [0, 2^64), got ${String(state)}`);
    }
    this.high = Number(state >> 32n);
    this.low = Number(state & 0xffffffffn);
  }
}
