import { writes } from './areas';
import type { Definitions } from './checks';

/**
 * Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3") and a
 * normal transform from + - * / sqrt alone, which IEEE 754 rounds the same everywhere, unlike log, sin and
 * cos.
 */
const ROUNDS = 10;
const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** The high 32 bits of the 64-bit product of two 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16,
    aLow = a & 0xffff;
  const bHigh = b >>> 16,
    bLow = b & 0xffff;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = (aLow * bHigh + (middle & 0xffff)) >>> 16;
  return (aHigh * bHigh + (middle >>> 16) + carry) >>> 0;
}

/** words = Philox4x32-10 of a counter (c0..c3) under a key (k0, k1), all 32-bit integers. */
export function philox4x32(
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
  words: Uint32Array,
): void {
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0),
      low0 = Math.imul(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2),
      low1 = Math.imul(MULTIPLIER_1, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

/**
 * ln((word + 0.5) / 2^32). With word + 0.5 = m * 2^e and m in [1/sqrt 2, sqrt 2]: ln m = 2 artanh(s),
 * s = (m-1)/(m+1), |s| < 0.172, whose series up to s^17 is off by less than 1e-15.
 */
function logUniform(word: number): number {
  let e = word === 0 ? -1 : 31 - Math.clz32(word);
  let m = word === 0 ? 1 : (word + 0.5) / ((1 << e) >>> 0);
  if (m > Math.SQRT2) {
    m *= 0.5;
    e += 1;
  }
  const s = (m - 1) / (m + 1);
  const z = s * s;
  let p = 1 / 17;
  p = p * z + 1 / 15;
  p = p * z + 1 / 13;
  p = p * z + 1 / 11;
  p = p * z + 1 / 9;
  p = p * z + 1 / 7;
  p = p * z + 1 / 5;
  p = p * z + 1 / 3;
  p = p * z + 1;
  const ln = e * Math.LN2 + 2 * s * p;
  return ln - 22.180709777918249;
}

/** sin t for t in [0, pi/2), its series up to t^17 (off by 4.4e-14 at most), w = t^2. */
function sine(t: number, w: number): number {
  let h = 1 / 355687428096000;
  h = h * w - 1 / 1307674368000;
  h = h * w + 1 / 6227020800;
  h = h * w - 1 / 39916800;
  h = h * w + 1 / 362880;
  h = h * w - 1 / 5040;
  h = h * w + 1 / 120;
  h = h * w - 1 / 6;
  h = h * w + 1;
  return t * h;
}

/** cos t for t in [0, pi/2), its series up to t^18 (off by 4e-15 at most), w = t^2. */
function cosine(w: number): number {
  let h = -1 / 6402373705728000;
  h = h * w + 1 / 20922789888000;
  h = h * w - 1 / 87178291200;
  h = h * w + 1 / 479001600;
  h = h * w - 1 / 3628800;
  h = h * w + 1 / 40320;
  h = h * w - 1 / 720;
  h = h * w + 1 / 24;
  h = h * w - 1 / 2;
  h = h * w + 1;
  return h;
}

/**
 * Box-Muller: pair[at], pair[at+1] = two independent normals from two words. The first is the radius; the
 * high two bits of the second are the quarter turn, the low thirty the angle within it.
 */
function normalPair(radiusWord: number, angleWord: number, pair: Float64Array, at: number): void {
  const r = Math.sqrt(-2 * logUniform(radiusWord));
  const t = (angleWord & 0x3fffffff) * 2 ** -30 * 1.5707963267948966;
  const w = t * t;
  const sn = sine(t, w),
    cs = cosine(w);
  const quarter = angleWord >>> 30;
  const x = quarter === 0 ? cs : quarter === 1 ? -sn : quarter === 2 ? -cs : sn;
  const y = quarter === 0 ? sn : quarter === 1 ? cs : quarter === 2 ? -sn : -cs;
  pair[at] = r * x;
  pair[at + 1] = r * y;
}

const words = new Uint32Array(4);
const normals = new Float64Array(4);

export const random: Definitions<'randomNormal'> = {
  randomNormal: {
    signature: 'out:floats outOffset n seedLow:word seedHigh:word stream:word std:real',
    run(out, outOffset, n, seedLow, seedHigh, stream, std) {
      writes('randomNormal', 'out', out, outOffset, n);
      for (let i = 0; i < n; i += 4) {
        const block = i / 4;
        philox4x32(block % 2 ** 32, Math.floor(block / 2 ** 32), stream, 0, seedLow, seedHigh, words);
        normalPair(words[0], words[1], normals, 0);
        normalPair(words[2], words[3], normals, 2);
        const end = Math.min(4, n - i);
        for (let lane = 0; lane < end; lane++) out[outOffset + i + lane] = std * normals[lane];
      }
    },
  },
};
