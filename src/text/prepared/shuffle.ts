import { Lcg64 } from '../../base/random';

const ROUNDS = 6;
/** Number of first outputs that are discarded, since close seeds have close first outputs. */
const WARM_UP = 8;
/** 2^64 / golden ratio, made odd, so that epochs of one seed and close seeds start far apart. */
const EPOCH_STEP = 0x9e3779b97f4a7c15n;

/**
 * A random permutation of 0 .. count - 1 that needs no memory, since each place is computed on its own. It is a Feistel
 * network (Luby and Rackoff 1988) with six rounds of an integer hash, on the least even number of bits that can hold the
 * numbers, applied until the result is below count (Black and Rogaway 2002). It mixes data and isn't fit for secrets.
 */
export class Shuffle {
  readonly #keys: Int32Array;
  readonly #halfBits: number;
  readonly #mask: number;

  /** @param count in [1, 2^32]. */
  constructor(
    readonly count: number,
    random: Lcg64,
  ) {
    if (!Number.isInteger(count) || count < 1 || count > 2 ** 32) {
      throw new RangeError(`count must be an integer in [1, 2^32], got ${count}`);
    }
    this.#keys = Int32Array.from({ length: ROUNDS }, () => random.nextUint32() | 0);
    let halfBits = 1;
    while (4 ** halfBits < count) halfBits++;
    this.#halfBits = halfBits;
    this.#mask = 2 ** halfBits - 1;
  }

  /** The number at a place in [0, count). */
  at(place: number): number {
    let value = place;
    do value = this.#permute(value);
    while (value >= this.count);
    return value;
  }

  #permute(value: number): number {
    let left = Math.floor(value / 2 ** this.#halfBits);
    let right = value & this.#mask;
    for (const key of this.#keys) {
      const next = left ^ (hash(right ^ key) & this.#mask);
      left = right;
      right = next;
    }
    return left * 2 ** this.#halfBits + right;
  }
}

/** The generator of one pass over the data. */
export function epochRandom(seed: number | bigint, epoch: number): Lcg64 {
  const random = new Lcg64(BigInt.asUintN(64, BigInt(seed) + BigInt(epoch) * EPOCH_STEP));
  for (let i = 0; i < WARM_UP; i++) random.nextUint32();
  return random;
}

/** Mixes 32 bits: xor-shifts and odd multipliers, a bijection in which each input bit reaches each output bit. */
function hash(x: number): number {
  let h = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b | 0);
  return h ^ (h >>> 16);
}
