/**
 * Element types of tensors, and the conversions between them.
 *
 * float32 and float64 compute; int32 and int64 hold ids; float16 (IEEE 754 binary16) and bfloat16 (the upper half
 * of a float32) are storage types, kept as bits in a Uint16Array.
 */

/** Names of the element types. */
export type DType = 'float32' | 'float64' | 'int32' | 'int64' | 'float16' | 'bfloat16';

/** The element types that have arithmetic. */
export type FloatDType = 'float32' | 'float64';

/** The element types that are stored as 16 bits and have no arithmetic. */
export type StorageDType = 'float16' | 'bfloat16';

/** The typed array that holds the elements of each dtype. */
export interface DTypeArrays {
  float32: Float32Array;
  float64: Float64Array;
  int32: Int32Array;
  int64: BigInt64Array;
  float16: Uint16Array;
  bfloat16: Uint16Array;
}

/** The typed array that holds elements of D. */
export type DataOf<D extends DType> = DTypeArrays[D];

/** Any typed array a tensor can hold. */
export type TensorData = DTypeArrays[DType];

/** The array constructor of each dtype. */
const ARRAY_TYPES = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  int64: BigInt64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
} as const;

/** Every dtype. */
export const DTYPES = Object.keys(ARRAY_TYPES) as readonly DType[];

/** Throws a TypeError that starts with `what` unless `value` is the name of a dtype. */
export function checkDType(value: unknown, what: string): asserts value is DType {
  if (typeof value !== 'string' || !Object.hasOwn(ARRAY_TYPES, value)) {
    throw new TypeError(`${what}: dtype must be one of ${DTYPES.join(', ')}, got ${String(value)}`);
  }
}

/** Bytes of one element. */
export function bytesPerElement(dtype: DType): number {
  return ARRAY_TYPES[dtype].BYTES_PER_ELEMENT;
}

/** A zero-filled array for `length` elements of `dtype`. */
export function allocate<D extends DType>(dtype: D, length: number): DataOf<D> {
  return new ARRAY_TYPES[dtype](length) as DataOf<D>;
}

/**
 * An array with unspecified contents, for a result that overwrites all of it: zeroing 256 KB takes as long as a small
 * matmul.
 */
export function allocateUnset<D extends DType>(dtype: D, length: number): DataOf<D> {
  const bytes = length * bytesPerElement(dtype);
  return new ARRAY_TYPES[dtype](Buffer.allocUnsafeSlow(bytes).buffer) as DataOf<D>;
}

/** Whether `data` is the typed array that holds elements of `dtype`. */
export function holds(data: unknown, dtype: DType): data is TensorData {
  return data instanceof ARRAY_TYPES[dtype];
}

/** The dtype of an array's elements; null for other values and for a Uint16Array, which may be float16 or bfloat16. */
export function dtypeOfArray(data: unknown): DType | null {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof BigInt64Array) return 'int64';
  return null;
}

export function isStorageDType(dtype: DType): dtype is StorageDType {
  return dtype === 'float16' || dtype === 'bfloat16';
}

// ---------------------------------------------------------------- 16-bit floats

/** A binary format of 1 sign bit, an exponent field and `mantissaBits` of fraction: 16 bits in all. */
interface StorageFormat {
  readonly mantissaBits: number;
  /** Exponent of the smallest normal number. */
  readonly minExponent: number;
  /** Bits of +inf: the exponent field all ones. */
  readonly infinity: number;
  /** scales[e - minExponent] = 1 / (spacing of the numbers in [2^e, 2^(e+1))). */
  readonly scales: Float64Array;
}

function storageFormat(mantissaBits: number): StorageFormat {
  const exponentBits = 15 - mantissaBits;
  const minExponent = 2 - 2 ** (exponentBits - 1);
  const scales = new Float64Array(2 - 2 * minExponent);
  for (let i = 0; i < scales.length; i++) scales[i] = 2 ** (mantissaBits - minExponent - i);
  return { mantissaBits, minExponent, infinity: (2 ** exponentBits - 1) << mantissaBits, scales };
}

const STORAGE_FORMATS = { float16: storageFormat(10), bfloat16: storageFormat(7) } as const;

/** Adding this to 0 <= x < 2^51 leaves no fraction bits: the sum is x rounded to an integer, ties to even. */
const ROUND_TO_INTEGER = 2 ** 52;

/**
 * The bits of the number nearest to `magnitude` (ties to even), rounded once. `exponent` is floor(log2(magnitude)), or any
 * smaller number for a subnormal source; `fraction20` holds the top 20 fraction bits, of which a NaN keeps what fits.
 */
function packStorage(
  signBit: number,
  exponent: number,
  magnitude: number,
  fraction20: number,
  format: StorageFormat,
): number {
  const { mantissaBits, minExponent, infinity, scales } = format;
  if (Number.isNaN(magnitude)) {
    return signBit | infinity | (1 << (mantissaBits - 1)) | (fraction20 >>> (20 - mantissaBits));
  }
  const row = exponent > minExponent ? exponent - minExponent : 0;
  if (row >= scales.length) return signBit | infinity;
  const units = magnitude * scales[row] + ROUND_TO_INTEGER - ROUND_TO_INTEGER;
  // The implicit one of a normal number (units >= 2^mantissaBits) raises the exponent field by one. A rounding that
  // carries does the same: from the subnormals to the normals, into the next binade, into infinity.
  return signBit | ((row << mantissaBits) + units);
}

function packFloat32(value: number, bits: number, format: StorageFormat): number {
  const exponent = ((bits >>> 23) & 0xff) - 127;
  return packStorage((bits >>> 16) & 0x8000, exponent, Math.abs(value), (bits & 0x7fffff) >>> 3, format);
}

/** `high` is the upper half of the float64's bits. */
function packFloat64(value: number, high: number, format: StorageFormat): number {
  const exponent = ((high >>> 20) & 0x7ff) - 1023;
  return packStorage((high >>> 16) & 0x8000, exponent, Math.abs(value), high & 0xfffff, format);
}

/** The float32 bits of a 16-bit float: exact; a signalling NaN becomes quiet. */
function unpackStorage(bits: number, format: StorageFormat): number {
  const { mantissaBits, minExponent, infinity } = format;
  const sign = (bits & 0x8000) << 16;
  const field = bits & infinity;
  const fraction = bits & ((1 << mantissaBits) - 1);
  const widen = 23 - mantissaBits;
  if (field === infinity) {
    return fraction === 0 ? sign | 0x7f800000 : sign | 0x7fc00000 | (fraction << widen);
  }
  const rebias = minExponent + 126;
  if (field !== 0) return sign | (((field >>> mantissaBits) + rebias) << 23) | (fraction << widen);
  if (fraction === 0 || rebias === 0) return sign | (fraction << widen);
  const shift = Math.clz32(fraction) - (31 - mantissaBits);
  return sign | ((rebias + 1 - shift) << 23) | (((fraction << shift) & ((1 << mantissaBits) - 1)) << widen);
}

const scratchFloat64 = new Float64Array(1);
const scratchView = new DataView(scratchFloat64.buffer);
const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** The bits of the float16 or bfloat16 nearest to `value`: ties to even, overflow to infinity, NaN kept. */
export function toStorageBits(value: number, dtype: StorageDType): number {
  scratchView.setFloat64(0, value);
  return packFloat64(value, scratchView.getUint32(0), STORAGE_FORMATS[dtype]);
}

/** The value of float16 or bfloat16 bits, exact. */
export function fromStorageBits(bits: number, dtype: StorageDType): number {
  scratchView.setUint32(0, unpackStorage(bits, STORAGE_FORMATS[dtype]));
  return scratchView.getFloat32(0);
}

/** target[i] = source[i] rounded to `dtype`. Bits are read from memory, since JavaScript may rewrite a NaN. */
function encodeStorage(source: Float32Array | Float64Array, target: Uint16Array, dtype: StorageDType): void {
  const format = STORAGE_FORMATS[dtype];
  const words = new Uint32Array(source.buffer, source.byteOffset, source.byteLength / 4);
  if (source instanceof Float32Array) {
    for (let i = 0; i < source.length; i++) target[i] = packFloat32(source[i], words[i], format);
    return;
  }
  const highWord = LITTLE_ENDIAN ? 1 : 0;
  for (let i = 0; i < source.length; i++) {
    target[i] = packFloat64(source[i], words[2 * i + highWord], format);
  }
}

/**
 * Elements from which on conversion uses a table of all 2^16 values (256 KiB): it takes 0.4 of the time of unpacking each
 * element.
 */
const TABLE_ELEMENTS = 2 ** 16;
const tables = new Map<StorageDType, Int32Array>();

function tableOf(dtype: StorageDType): Int32Array {
  let table = tables.get(dtype);
  if (table === undefined) {
    table = Int32Array.from({ length: 2 ** 16 }, (_, bits) => unpackStorage(bits, STORAGE_FORMATS[dtype]));
    tables.set(dtype, table);
  }
  return table;
}

function decodeStorage(source: Uint16Array, target: Float32Array, dtype: StorageDType): void {
  // Signed: V8 keeps an unsigned word above 2^31 as a float64 on the way.
  const words = new Int32Array(target.buffer, target.byteOffset, target.length);
  if (source.length >= TABLE_ELEMENTS) {
    decodeByTable(source, words, tableOf(dtype));
    return;
  }
  const format = STORAGE_FORMATS[dtype];
  for (let i = 0; i < source.length; i++) words[i] = unpackStorage(source[i], format);
}

/** This is a separate function so that V8 compiles its loop for these three types alone. */
function decodeByTable(source: Uint16Array, words: Int32Array, table: Int32Array): void {
  const n = source.length;
  for (let i = 0; i < n; i++) words[i] = table[source[i]];
}

// ---------------------------------------------------------------- conversion

const INT32_LIMIT = 2 ** 31;
const INT64_LIMIT = 2 ** 63;

/** Throws a RangeError unless the integer part of every value fits in [-limit, limit). NaN doesn't. */
function checkIntegerRange(
  values: ArrayLike<number | bigint>,
  limit: number,
  dtype: DType,
  what: string,
): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    // Number(bigint) rounds to nearest, which can't carry an int64 across +-2^31: both neighbours are exact.
    const whole = Math.trunc(Number(value));
    if (!(whole >= -limit && whole < limit)) {
      throw new RangeError(`${what}: element ${i} is ${value}, which ${dtype} can not hold`);
    }
  }
}

/** Converts to int32 or int64 (towards zero). Everything is checked before anything is written. */
function convertToInteger(
  source: Float32Array | Float64Array | Int32Array | BigInt64Array,
  target: Int32Array | BigInt64Array,
  what: string,
): void {
  if (target instanceof Int32Array) {
    checkIntegerRange(source, INT32_LIMIT, 'int32', what);
    for (let i = 0; i < source.length; i++) target[i] = Number(source[i]);
    return;
  }
  checkIntegerRange(source, INT64_LIMIT, 'int64', what);
  for (let i = 0; i < source.length; i++) target[i] = BigInt(Math.trunc(Number(source[i])));
}

/**
 * Writes `source` into `target`, element by element, converting from dtype `from` to dtype `to`.
 *
 * To a floating type: rounded once to nearest, ties to even, overflow to infinity, NaN stays NaN (16-bit types keep
 * its sign and what fits of its payload, and make it quiet); only int64 beyond 2^53 passes through float64. To an
 * integer type: the fraction is cut off.
 *
 * @param what begins the error messages
 * @throws RangeError when the lengths differ, or an integer type can not hold a value; nothing is written then
 */
export function convertInto(
  source: TensorData,
  from: DType,
  target: TensorData,
  to: DType,
  what = 'convertInto',
): void {
  if (source.length !== target.length) {
    throw new RangeError(`${what}: source has ${source.length} elements, target ${target.length}`);
  }
  if (from === to) {
    (target as Float32Array).set(source as Float32Array);
  } else if (isStorageDType(from)) {
    const direct = to === 'float32';
    const values = direct ? (target as Float32Array) : new Float32Array(source.length);
    decodeStorage(source as Uint16Array, values, from);
    if (!direct) convertInto(values, 'float32', target, to, what);
  } else if (isStorageDType(to)) {
    const isFloat = from === 'float32' || from === 'float64';
    const values = isFloat ? (source as Float32Array | Float64Array) : convert(source, from, 'float64', what);
    encodeStorage(values, target as Uint16Array, to);
  } else if (to === 'int32' || to === 'int64') {
    convertToInteger(source as Float32Array, target as Int32Array | BigInt64Array, what);
  } else if (from === 'int64') {
    for (let i = 0; i < source.length; i++) target[i] = Number(source[i]);
  } else {
    (target as Float32Array).set(source as Float32Array);
  }
}

/** A new array with the elements of `source`, converted as `convertInto` does. */
export function convert<D extends DType>(
  source: TensorData,
  from: DType,
  to: D,
  what = 'convert',
): DataOf<D> {
  const target = allocate(to, source.length);
  convertInto(source, from, target, to, what);
  return target;
}

// ---------------------------------------------------------------- single elements

/**
 * The array element that stores `value`.
 *
 * @throws TypeError when value is not a number (int64 takes a bigint too)
 * @throws RangeError when an integer dtype is given a fraction, NaN, or a value it can not hold
 */
export function toElement(value: unknown, dtype: DType, what: string): number | bigint {
  if (typeof value === 'bigint' && dtype === 'int64') {
    if (BigInt.asIntN(64, value) === value) return value;
  } else if (typeof value !== 'number') {
    throw new TypeError(`${what}: value must be a number, got ${typeof value}`);
  } else if (dtype === 'float32' || dtype === 'float64') {
    return value;
  } else if (isStorageDType(dtype)) {
    return toStorageBits(value, dtype);
  } else if (dtype === 'int32') {
    if (Number.isInteger(value) && value >= -INT32_LIMIT && value < INT32_LIMIT) return value;
  } else if (Number.isSafeInteger(value)) {
    return BigInt(value);
  }
  const range = dtype === 'int32' ? '[-2^31, 2^31)' : 'the range of int64 (bigint beyond 2^53)';
  throw new RangeError(`${what}: value must be an integer in ${range}, got ${value}`);
}

/**
 * The value of an array element as a number.
 *
 * @throws RangeError for an int64 beyond +-2^53, which a number can not represent
 */
export function fromElement(element: number | bigint, dtype: DType, what: string): number {
  if (typeof element === 'bigint') {
    const value = Number(element);
    if (!Number.isSafeInteger(value)) {
      throw new RangeError(`${what}: the int64 ${element} is beyond 2^53; read it from data as a bigint`);
    }
    return value;
  }
  return isStorageDType(dtype) ? fromStorageBits(element, dtype) : element;
}
