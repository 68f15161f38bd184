import { type StorageDType, toStorageBits } from '../../base/dtype';
import { STORAGE_TYPES, type StorageType } from '../../base/storageTypes';
import { type Numbers, quantizeQ4_K, quantizeQ5_K, quantizeQ6_K } from './quantizeParts';

/*
 * float32 to blocks. Of the types of 32 numbers every step is a float32 operation, rounded to nearest, in the order of ggml's
 * reference quantisers, which the Python package gguf repeats. native/quantize.cc computes the same bytes.
 */

/** Writes the block of the numbers x[at ..] at byte `to`. */
type Quantize = (x: Numbers, at: number, bytes: Uint8Array, to: number) => void;

const f = Math.fround;

function putHalf(bytes: Uint8Array, at: number, value: number, dtype: StorageDType = 'float16'): void {
  const bits = toStorageBits(value, dtype);
  bytes[at] = bits & 255;
  bytes[at + 1] = bits >> 8;
}

/** The whole part, in [0, most]; 0 for NaN. */
function clamped(value: number, most: number): number {
  return value >= most ? most : value > 0 ? Math.trunc(value) : 0;
}

const inverse = (d: number): number => (d === 0 ? 0 : f(1 / d));

/** The number of largest magnitude, the first of several. */
function extreme(x: Numbers, at: number): number {
  let most = x[at];
  for (let i = 1; i < 32; i++) if (Math.abs(x[at + i]) > Math.abs(most)) most = x[at + i];
  return f(most);
}

const q = new Uint8Array(32);

/** 4 bits each: number i in the low half of byte i, number 16 + i in its high half. */
function putNibbles(bytes: Uint8Array, to: number): void {
  for (let i = 0; i < 16; i++) bytes[to + i] = (q[i] & 15) | ((q[16 + i] & 15) << 4);
}

/** Bit 4 of number i as bit i of a word. */
function putFifthBits(bytes: Uint8Array, to: number): void {
  for (let i = 0; i < 4; i++) {
    let byte = 0;
    for (let bit = 0; bit < 8; bit++) byte |= (q[8 * i + bit] >> 4) << bit;
    bytes[to + i] = byte;
  }
}

/** d = extreme / -half, q = x / d + half in [0, 2 half). Returns d. */
function symmetric(x: Numbers, at: number, half: number): number {
  const d = f(extreme(x, at) / -half);
  const id = inverse(d);
  for (let i = 0; i < 32; i++) q[i] = clamped(f(f(f(x[at + i]) * id) + f(half + 0.5)), 2 * half - 1);
  return d;
}

/** d = (max - min) / most, q = (x - min) / d in [0, most]. Returns both. */
function withMinimum(x: Numbers, at: number, most: number): readonly [number, number] {
  let [min, max] = [f(x[at]), f(x[at])];
  for (let i = 1; i < 32; i++) {
    const value = f(x[at + i]);
    if (value < min) min = value;
    if (value > max) max = value;
  }
  const d = f(f(max - min) / most);
  const id = inverse(d);
  for (let i = 0; i < 32; i++) q[i] = clamped(f(f(f(f(x[at + i]) - min) * id) + 0.5), most);
  return [d, min];
}

const quantizeQ4_0: Quantize = (x, at, bytes, to) => {
  putHalf(bytes, to, symmetric(x, at, 8));
  putNibbles(bytes, to + 2);
};

const quantizeQ4_1: Quantize = (x, at, bytes, to) => {
  const [d, min] = withMinimum(x, at, 15);
  putHalf(bytes, to, d);
  putHalf(bytes, to + 2, min);
  putNibbles(bytes, to + 4);
};

const quantizeQ5_0: Quantize = (x, at, bytes, to) => {
  putHalf(bytes, to, symmetric(x, at, 16));
  putFifthBits(bytes, to + 2);
  putNibbles(bytes, to + 6);
};

const quantizeQ5_1: Quantize = (x, at, bytes, to) => {
  const [d, min] = withMinimum(x, at, 31);
  putHalf(bytes, to, d);
  putHalf(bytes, to + 2, min);
  putFifthBits(bytes, to + 4);
  putNibbles(bytes, to + 8);
};

/** d = max |x| / 127, q = x / d to the nearest integer, ties away from zero. */
const quantizeQ8_0: Quantize = (x, at, bytes, to) => {
  const d = f(Math.abs(extreme(x, at)) / 127);
  const id = inverse(d);
  putHalf(bytes, to, d);
  for (let i = 0; i < 32; i++) {
    const value = f(f(x[at + i]) * id);
    const magnitude = clamped(Math.abs(value) + 0.5, 127);
    bytes[to + 2 + i] = value < 0 ? -magnitude : magnitude;
  }
};

const word = new DataView(new ArrayBuffer(4));

const quantizeFloat32: Quantize = (x, at, bytes, to) => {
  word.setFloat32(0, x[at], true);
  for (let i = 0; i < 4; i++) bytes[to + i] = word.getUint8(i);
};

const QUANTIZE: Record<StorageType, Quantize> = {
  float32: quantizeFloat32,
  bfloat16: (x, at, bytes, to) => putHalf(bytes, to, f(x[at]), 'bfloat16'),
  float16: (x, at, bytes, to) => putHalf(bytes, to, f(x[at])),
  q4_0: quantizeQ4_0,
  q4_1: quantizeQ4_1,
  q5_0: quantizeQ5_0,
  q5_1: quantizeQ5_1,
  q8_0: quantizeQ8_0,
  q4_k: quantizeQ4_K,
  q5_k: quantizeQ5_K,
  q6_k: quantizeQ6_K,
};

/** Writes the blocks of the numbers x[at .. at + count), whole blocks, from byte `to` on. */
export function quantizeRow(
  type: StorageType,
  x: Numbers,
  at: number,
  count: number,
  bytes: Uint8Array,
  to: number,
): void {
  const { elements, bytes: blockBytes } = STORAGE_TYPES[type];
  const quantize = QUANTIZE[type];
  for (let i = 0, b = to; i < count; i += elements, b += blockBytes) quantize(x, at + i, bytes, b);
}
