import { fromStorageBits, toStorageBits } from '../../base/dtype';

/*
 * Blocks of 256 numbers, in parts with scales of their own (float64 throughout; native/quantize.cc takes the same steps in the
 * same order). Scale and minimum of a part minimise sum w (scale q - minimum - x)^2 over the integers q that some
 * candidates of the scale round to: for fixed q that is a linear least-squares problem. Large numbers weigh more, since they
 * move a product more.
 */

export type Numbers = Float32Array | Float64Array;

const ROUND = 6755399441055744; // 1.5 * 2^52: adding it rounds to an integer, ties to even
const rounded = (value: number): number => value + ROUND - ROUND;

/** The nearest integer in [low, high]; low for NaN. */
function nearest(value: number, low: number, high: number): number {
  const whole = rounded(value);
  return whole >= high ? high : whole > low ? whole : low;
}

function half(value: number): { readonly bits: number; readonly value: number } {
  const bits = toStorageBits(Math.fround(value), 'float16');
  return { bits, value: fromStorageBits(bits, 'float16') };
}

function putBits(bytes: Uint8Array, at: number, bits: number): void {
  bytes[at] = bits & 255;
  bytes[at + 1] = bits >> 8;
}

const part = new Float64Array(32);
const weights = new Float64Array(32);
/** Scale and minimum (>= 0, to be taken off) of the 8 parts. */
const scales = new Float64Array(8);
const minima = new Float64Array(8);
const quotients = new Int32Array(256);

/** Candidates of the inverse scale: (most + first + i / 10) / range, i of [0, count). */
interface Search {
  readonly most: number;
  readonly first: number;
  readonly count: number;
}

/** Fits part `j`, which `part` holds. */
function fitPart(j: number, { most, first, count }: Search): void {
  let [min, max, squares] = [0, part[0], 0];
  for (let i = 0; i < 32; i++) {
    if (part[i] < min) min = part[i];
    if (part[i] > max) max = part[i];
    squares += part[i] * part[i];
  }
  scales[j] = 0;
  minima[j] = -min;
  const range = max - min;
  if (!(range > 0)) return;
  scales[j] = range / most;
  const mean = Math.sqrt(squares / 32);
  let [sumW, sumX, sumXX] = [0, 0, 0];
  for (let i = 0; i < 32; i++) {
    weights[i] = mean + Math.abs(part[i]);
    sumW += weights[i];
    sumX += weights[i] * part[i];
    sumXX += weights[i] * part[i] * part[i];
  }
  let best = Number.POSITIVE_INFINITY;
  for (let candidate = -1; candidate < count; candidate++) {
    const inverse = (candidate < 0 ? most : most + first + candidate / 10) / range;
    let [sumQ, sumQQ, sumQX] = [0, 0, 0];
    for (let i = 0; i < 32; i++) {
      const q = nearest(inverse * (part[i] - min), 0, most);
      sumQ += weights[i] * q;
      sumQQ += weights[i] * q * q;
      sumQX += weights[i] * q * part[i];
    }
    const determinant = sumW * sumQQ - sumQ * sumQ;
    // Quotients that are all the same leave the scale open: then it stays.
    if (!(determinant > 1e-7 * sumW * sumQQ)) continue;
    let scale = (sumW * sumQX - sumX * sumQ) / determinant;
    let shift = (sumQQ * sumX - sumQ * sumQX) / determinant;
    if (shift > 0) {
      shift = 0;
      scale = sumQX / sumQQ;
    }
    const error =
      scale * scale * sumQQ +
      shift * shift * sumW +
      sumXX +
      2 * (scale * shift * sumQ - scale * sumQX - shift * sumX);
    if (error < best) {
      best = error;
      scales[j] = scale;
      minima[j] = -shift;
    }
  }
}

/** The 12 bytes of eight 6-bit scales and minima: what widenWithMinimum of storedBlocks.ts takes apart. */
function putScales(bytes: Uint8Array, to: number, scale: Uint8Array, minimum: Uint8Array): void {
  for (let j = 0; j < 4; j++) {
    bytes[to + j] = scale[j] | ((scale[4 + j] >> 4) << 6);
    bytes[to + 4 + j] = minimum[j] | ((minimum[4 + j] >> 4) << 6);
    bytes[to + 8 + j] = (scale[4 + j] & 15) | ((minimum[4 + j] & 15) << 4);
  }
}

const scale6 = new Uint8Array(8);
const minimum6 = new Uint8Array(8);

/** Fits all parts, writes the head of the block and leaves the quotients of x ~ d scale q - dmin minimum. */
function withMinima(x: Numbers, at: number, bytes: Uint8Array, to: number, search: Search): void {
  let [maxScale, maxMinimum] = [0, 0];
  for (let j = 0; j < 8; j++) {
    for (let i = 0; i < 32; i++) part[i] = Math.fround(x[at + 32 * j + i]);
    fitPart(j, search);
    if (scales[j] > maxScale) maxScale = scales[j];
    if (minima[j] > maxMinimum) maxMinimum = minima[j];
  }
  const [d, dmin] = [half(maxScale / 63), half(maxMinimum / 63)];
  for (let j = 0; j < 8; j++) {
    scale6[j] = maxScale > 0 ? nearest((63 / maxScale) * scales[j], 0, 63) : 0;
    minimum6[j] = maxMinimum > 0 ? nearest((63 / maxMinimum) * minima[j], 0, 63) : 0;
    const [step, shift] = [d.value * scale6[j], dmin.value * minimum6[j]];
    for (let i = 0; i < 32; i++) {
      const number = Math.fround(x[at + 32 * j + i]);
      quotients[32 * j + i] = step === 0 ? 0 : nearest((number + shift) / step, 0, search.most);
    }
  }
  putBits(bytes, to, d.bits);
  putBits(bytes, to + 2, dmin.bits);
  putScales(bytes, to + 4, scale6, minimum6);
}

/** 4 bits of each number: part 2 i in the low halves of 32 bytes, part 2 i + 1 in the high halves. */
function putPairs(bytes: Uint8Array, to: number): void {
  for (let i = 0; i < 4; i++) {
    for (let b = 0; b < 32; b++) {
      bytes[to + 32 * i + b] = (quotients[64 * i + b] & 15) | ((quotients[64 * i + 32 + b] & 15) << 4);
    }
  }
}

const SEARCH_Q4: Search = { most: 15, first: -1, count: 21 };
const SEARCH_Q5: Search = { most: 31, first: -0.5, count: 16 };

export function quantizeQ4_K(x: Numbers, at: number, bytes: Uint8Array, to: number): void {
  withMinima(x, at, bytes, to, SEARCH_Q4);
  putPairs(bytes, to + 16);
}

export function quantizeQ5_K(x: Numbers, at: number, bytes: Uint8Array, to: number): void {
  withMinima(x, at, bytes, to, SEARCH_Q5);
  for (let b = 0; b < 32; b++) {
    let byte = 0;
    for (let j = 0; j < 8; j++) byte |= (quotients[32 * j + b] >> 4) << j;
    bytes[to + 16 + b] = byte;
  }
  putPairs(bytes, to + 48);
}

/** The scale of 16 numbers that minimises sum x^2 (scale q - x)^2, q of [-32, 31]; its sign may be either. */
function fitSigned(): number {
  let most = 0;
  for (let i = 0; i < 16; i++) if (Math.abs(part[i]) > Math.abs(most)) most = part[i];
  if (!(Math.abs(most) > 0)) return 0;
  let [best, scale] = [0, 0];
  for (let candidate = -9; candidate <= 9; candidate++) {
    const inverse = -(32 + candidate / 10) / most;
    let [sumQX, sumQQ] = [0, 0];
    for (let i = 0; i < 16; i++) {
      const weight = part[i] * part[i];
      const q = nearest(inverse * part[i], -32, 31);
      sumQX += weight * q * part[i];
      sumQQ += weight * q * q;
    }
    if (sumQQ > 0 && sumQX * sumQX > best * sumQQ) {
      scale = sumQX / sumQQ;
      best = scale * sumQX;
    }
  }
  return scale;
}

const scales16 = new Float64Array(16);

export function quantizeQ6_K(x: Numbers, at: number, bytes: Uint8Array, to: number): void {
  let most = 0;
  for (let j = 0; j < 16; j++) {
    for (let i = 0; i < 16; i++) part[i] = Math.fround(x[at + 16 * j + i]);
    scales16[j] = fitSigned();
    if (Math.abs(scales16[j]) > Math.abs(most)) most = scales16[j];
  }
  const d = half(most === 0 ? 0 : most / -128);
  for (let j = 0; j < 16; j++) {
    const scale = most === 0 ? 0 : nearest((-128 / most) * scales16[j], -128, 127);
    bytes[to + 192 + j] = scale;
    const step = d.value * scale;
    for (let i = 0; i < 16; i++) {
      const number = Math.fround(x[at + 16 * j + i]);
      quotients[16 * j + i] = 32 + (step === 0 ? 0 : nearest(number / step, -32, 31));
    }
  }
  for (let h = 0; h < 2; h++) {
    for (let b = 0; b < 32; b++) {
      const [q0, q1, q2, q3] = [0, 1, 2, 3].map((quarter) => quotients[128 * h + 32 * quarter + b]);
      bytes[to + 64 * h + b] = (q0 & 15) | ((q2 & 15) << 4);
      bytes[to + 64 * h + 32 + b] = (q1 & 15) | ((q3 & 15) << 4);
      bytes[to + 128 + 32 * h + b] = (q0 >> 4) | ((q1 >> 4) << 2) | ((q2 >> 4) << 4) | ((q3 >> 4) << 6);
    }
  }
  putBits(bytes, to + 208, d.bits);
}
