import { convertInto, fromStorageBits } from './dtype';
import { STORAGE_TYPES, type StorageType } from './storageTypes';

/*
 * Numbers from blocks, as ggml's format defines them (ggml-common.h; the Python package gguf computes the same floats).
 * A float16 scale times small integers is exact in float64, and so is the difference of two such products; storing into
 * a Float32Array is then the only rounding. Only Q4_1 and Q5_1 add a float16 to such a product, exact as well.
 */

type Floats = Float32Array | Float64Array;

/** Writes the numbers of block `b`, which starts at byte `at`, to `out` from index `to` on. */
type Widen = (bytes: Uint8Array, at: number, out: Floats, to: number) => void;

/** The values of all 65,536 float16 bit patterns, made at the first use. */
let halves: Float32Array | undefined;
function half(bytes: Uint8Array, at: number): number {
  halves ??= Float32Array.from({ length: 2 ** 16 }, (_, bits) => fromStorageBits(bits, 'float16'));
  return halves[bytes[at] | (bytes[at + 1] << 8)];
}

/** x = d (q - 8), 4 bits each: the low halves of the 16 bytes come first. */
const widenQ4_0: Widen = (bytes, at, out, to) => {
  const d = half(bytes, at);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 2 + i];
    out[to + i] = d * ((pair & 15) - 8);
    out[to + 16 + i] = d * ((pair >> 4) - 8);
  }
};

/** x = d q + m. */
const widenQ4_1: Widen = (bytes, at, out, to) => {
  const [d, m] = [half(bytes, at), half(bytes, at + 2)];
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 4 + i];
    out[to + i] = d * (pair & 15) + m;
    out[to + 16 + i] = d * (pair >> 4) + m;
  }
};

/** Calls `put` with the 32 numbers of 5 bits: bit 4 of number i is bit i of the 32-bit word at `word`. */
function fiveBits(bytes: Uint8Array, word: number, put: (i: number, q: number) => void): void {
  for (let i = 0; i < 16; i++) {
    const pair = bytes[word + 4 + i];
    put(i, (pair & 15) | (((bytes[word + (i >> 3)] >> (i & 7)) & 1) << 4));
    put(16 + i, (pair >> 4) | (((bytes[word + 2 + (i >> 3)] >> (i & 7)) & 1) << 4));
  }
}

/** x = d (q - 16). */
const widenQ5_0: Widen = (bytes, at, out, to) => {
  const d = half(bytes, at);
  fiveBits(bytes, at + 2, (i, q) => {
    out[to + i] = d * (q - 16);
  });
};

/** x = d q + m. */
const widenQ5_1: Widen = (bytes, at, out, to) => {
  const [d, m] = [half(bytes, at), half(bytes, at + 2)];
  fiveBits(bytes, at + 4, (i, q) => {
    out[to + i] = d * q + m;
  });
};

/** x = d q, q a signed byte. */
const widenQ8_0: Widen = (bytes, at, out, to) => {
  const d = half(bytes, at);
  for (let i = 0; i < 32; i++) out[to + i] = d * ((bytes[at + 2 + i] << 24) >> 24);
};

/** The 6-bit scale and minimum of sub-block j of 8, packed into the 12 bytes at `at`. */
function scaleAndMinimum(bytes: Uint8Array, at: number, j: number): readonly [number, number] {
  if (j < 4) return [bytes[at + j] & 63, bytes[at + 4 + j] & 63];
  const low = bytes[at + 4 + j];
  return [(low & 15) | ((bytes[at + j - 4] >> 6) << 4), (low >> 4) | ((bytes[at + j] >> 6) << 4)];
}

/** x = d s q - dmin m with s, m of each 32 numbers. Bytes `quants` hold 4 bits of each, bytes `high` (or none) bit 4. */
function widenWithMinimum(bytes: Uint8Array, at: number, out: Floats, to: number, high: number | null): void {
  const [d, dmin] = [half(bytes, at), half(bytes, at + 2)];
  const quants = high === null ? at + 16 : high + 32;
  for (let j = 0; j < 8; j++) {
    const [scale, minimum] = scaleAndMinimum(bytes, at + 4, j);
    const [step, shift] = [d * scale, dmin * minimum];
    for (let i = 0; i < 32; i++) {
      const pair = bytes[quants + 32 * (j >> 1) + i];
      const bit = high === null ? 0 : (bytes[high + i] >> j) & 1;
      out[to + 32 * j + i] = step * ((j % 2 === 0 ? pair & 15 : pair >> 4) | (bit << 4)) - shift;
    }
  }
}

const widenQ4_K: Widen = (bytes, at, out, to) => widenWithMinimum(bytes, at, out, to, null);
const widenQ5_K: Widen = (bytes, at, out, to) => widenWithMinimum(bytes, at, out, to, at + 16);

/** x = d s (q - 32), s a signed byte of each 16 numbers; 128 bytes hold 4 bits of each q, 64 bytes 2 bits. */
const widenQ6_K: Widen = (bytes, at, out, to) => {
  const [high, scales] = [at + 128, at + 192];
  const d = half(bytes, at + 208);
  for (let i = 0; i < 256; i++) {
    const [half128, quarter, lane] = [i >> 7, (i >> 5) & 3, i & 31];
    const four = bytes[at + 64 * half128 + 32 * (quarter & 1) + lane] >> (quarter < 2 ? 0 : 4);
    const two = (bytes[high + 32 * half128 + lane] >> (2 * quarter)) & 3;
    const scale = (bytes[scales + (i >> 4)] << 24) >> 24;
    out[to + i] = d * scale * (((four & 15) | (two << 4)) - 32);
  }
};

const word = new DataView(new ArrayBuffer(4));

/** The bits of a float32, byte by byte, since blocks may lie at any address. */
const widenFloat32: Widen = (bytes, at, out, to) => {
  for (let i = 0; i < 4; i++) word.setUint8(i, bytes[at + i]);
  out[to] = word.getFloat32(0, true);
};

const widenBfloat16: Widen = (bytes, at, out, to) => {
  word.setUint32(0, (bytes[at] << 16) | (bytes[at + 1] << 24), true);
  out[to] = word.getFloat32(0, true);
};

const widenFloat16: Widen = (bytes, at, out, to) => {
  out[to] = half(bytes, at);
};

const WIDEN: Record<StorageType, Widen> = {
  float32: widenFloat32,
  bfloat16: widenBfloat16,
  float16: widenFloat16,
  q4_0: widenQ4_0,
  q4_1: widenQ4_1,
  q5_0: widenQ5_0,
  q5_1: widenQ5_1,
  q8_0: widenQ8_0,
  q4_k: widenQ4_K,
  q5_k: widenQ5_K,
  q6_k: widenQ6_K,
};

/** Widens the blocks of `count` numbers from byte `bytesAt` on to out[outAt ..]. The numbers must be whole blocks. */
export function widenInto(
  type: StorageType,
  bytes: Uint8Array,
  bytesAt: number,
  count: number,
  out: Floats,
  outAt: number,
): void {
  const { elements, bytes: blockBytes } = STORAGE_TYPES[type];
  const widen = WIDEN[type];
  for (let at = bytesAt, i = 0; i < count; at += blockBytes, i += elements) widen(bytes, at, out, outAt + i);
}

/**
 * Widens whole blocks to float32: `bytes` holds exactly the blocks of `out.length` numbers.
 * @throws RangeError for other lengths.
 */
export function widenBlocks(type: StorageType, bytes: Uint8Array, out: Float32Array): void {
  const { elements, bytes: blockBytes } = STORAGE_TYPES[type];
  if (out.length % elements !== 0 || bytes.length !== (out.length / elements) * blockBytes) {
    throw new RangeError(
      `${type} blocks of ${out.length} numbers must have ${blockBytes} bytes for each ${elements}, got ${bytes.length}`,
    );
  }
  if (type === 'float32') {
    new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes);
  } else if ((type === 'float16' || type === 'bfloat16') && bytes.byteOffset % 2 === 0) {
    convertInto(new Uint16Array(bytes.buffer, bytes.byteOffset, out.length), type, out, 'float32');
  } else {
    widenInto(type, bytes, 0, out.length, out, 0);
  }
}
