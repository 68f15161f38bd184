import { TextDecoder } from 'node:util';
import { type ErrorCode, SgemoeError } from '../base/errors';

/** The typed array of each dtype: a Uint16Array holds the bits of half floats, a byte array float8 and BOOL. */
const ARRAY_TYPES = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  F8_E4M3: Uint8Array,
  F8_E5M2: Uint8Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U64: BigUint64Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const;

export type Dtype = keyof typeof ARRAY_TYPES;
export type TensorArray =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

/** The checked header entry of one tensor. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Product of the shape; 1 for a scalar, whose shape is []. */
  readonly elements: number;
  /** Offset from the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  /** Tensors by name, in the order of their data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The `__metadata__` entry; empty if there is none. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Bytes before the header, which hold its length as a little-endian 64-bit integer. */
export const LENGTH_BYTES = 8;
/** The format's own limit for the header, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;
export const METADATA_KEY = '__metadata__';

export function arrayType(dtype: Dtype): (typeof ARRAY_TYPES)[Dtype] {
  return ARRAY_TYPES[dtype];
}

export function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(ARRAY_TYPES, value);
}

/** A name from a file for use in a message: quoted, control characters escaped, cut to a limited length. */
export function quoteName(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}...` : name);
}

/** Product of the dimensions, or NaN when it is not a safe integer. */
export function elementCount(shape: readonly number[]): number {
  if (shape.includes(0)) return 0;
  const product = shape.reduce((count, dim) => count * dim, 1);
  return Number.isSafeInteger(product) ? product : Number.NaN;
}

/**
 * The header length in the first 8 bytes of a file of `fileSize` bytes.
 * @throws SgemoeError SGEMOE_CHECKPOINT_HEADER or SGEMOE_CHECKPOINT_TRUNCATED when no such header can be
 * there.
 */
export function checkHeaderLength(path: string, length: bigint, fileSize: number): number {
  if (length < 2n) throw headerError(path, `the header length is ${length}, too short for "{}"`);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw headerError(
      path,
      `the header length is ${length} bytes, above the format's limit of ${MAX_HEADER_BYTES}`,
    );
  }
  const available = fileSize - LENGTH_BYTES;
  if (length > BigInt(available)) {
    throw corrupt(
      'SGEMOE_CHECKPOINT_TRUNCATED',
      path,
      `the header should have ${length} bytes, ${available} are there`,
    );
  }
  return Number(length);
}

/**
 * Checks every field of a header (the bytes after the length) against the size of the file.
 * @throws SgemoeError with code SGEMOE_CHECKPOINT_HEADER, _DTYPE, _OFFSETS or _TRUNCATED; the message names
 * the file and the tensor.
 */
export function parseHeader(path: string, bytes: Uint8Array, fileSize: number): SafetensorsHeader {
  const root = parseJsonObject(path, bytes);
  const dataStart = LENGTH_BYTES + bytes.length;
  const metadata = new Map<string, string>();
  const tensors: TensorInfo[] = [];
  for (const [name, entry] of Object.entries(root)) {
    if (name === METADATA_KEY) readMetadata(path, entry, metadata);
    else tensors.push(readEntry(path, name, entry, dataStart));
  }
  tensors.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkLayout(path, tensors, dataStart, fileSize);
  return { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata };
}

function parseJsonObject(path: string, bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  let root: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    root = JSON.parse(text);
  } catch (cause) {
    throw headerError(path, 'the header is not JSON in UTF-8', cause);
  }
  if (!isObject(root)) throw headerError(path, 'the header is not a JSON object');
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined)
    throw headerError(path, `the header has the key ${quoteName(duplicate)} twice`);
  return root;
}

/** The first key that a (valid) JSON text repeats in one object; JSON.parse would silently keep the last. */
export function findDuplicateKey(text: string): string | undefined {
  const openObjects: (Set<string> | null)[] = [];
  let keyExpected = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      if (!keyExpected) continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      const keys = openObjects.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
      keyExpected = false;
    } else if (char === '{' || char === '[') {
      openObjects.push(char === '{' ? new Set() : null);
      keyExpected = char === '{';
    } else if (char === '}' || char === ']') {
      openObjects.pop();
      keyExpected = false;
    } else if (char === ',') {
      keyExpected = openObjects.at(-1) != null;
    }
  }
  return undefined;
}

function readMetadata(path: string, entry: unknown, metadata: Map<string, string>): void {
  if (!isObject(entry)) throw headerError(path, `${METADATA_KEY} is not a JSON object`);
  for (const [key, value] of Object.entries(entry)) {
    if (typeof value !== 'string')
      throw headerError(path, `${METADATA_KEY} entry ${quoteName(key)} is not a string`);
    metadata.set(key, value);
  }
}

function readEntry(path: string, name: string, entry: unknown, dataStart: number): TensorInfo {
  const tensor = `tensor ${quoteName(name)}`;
  if (!isObject(entry)) throw headerError(path, `the entry of ${tensor} is not a JSON object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string') throw headerError(path, `${tensor} has no dtype`);
  if (!isDtype(dtype)) {
    throw corrupt('SGEMOE_CHECKPOINT_DTYPE', path, `${tensor} has the unknown dtype ${quoteName(dtype)}`);
  }
  if (!isSizeArray(shape)) throw headerError(path, `the shape of ${tensor} is not a list of integers >= 0`);
  if (!isSizeArray(offsets) || offsets.length !== 2) {
    throw headerError(path, `the data_offsets of ${tensor} are not two integers >= 0`);
  }
  const elements = elementCount(shape);
  const byteLength = elements * ARRAY_TYPES[dtype].BYTES_PER_ELEMENT;
  if (!Number.isSafeInteger(byteLength)) throw headerError(path, `the shape of ${tensor} overflows`);
  const [begin, end] = offsets;
  if (end - begin !== byteLength) {
    const size = `${dtype} [${shape.join(', ')}] takes ${byteLength} bytes`;
    throw corrupt(
      'SGEMOE_CHECKPOINT_OFFSETS',
      path,
      `${tensor}: ${size}, but its offsets are [${begin}, ${end}]`,
    );
  }
  return { name, dtype, shape, elements, byteOffset: dataStart + begin, byteLength };
}

/**
 * Checks that tensor data follow each other without overlap or hole, from the end of the header to the end of the file.
 */
function checkLayout(
  path: string,
  tensors: readonly TensorInfo[],
  dataStart: number,
  fileSize: number,
): void {
  let position = dataStart;
  for (const { name, byteOffset, byteLength } of tensors) {
    if (byteOffset !== position) {
      const what = byteOffset < position ? 'overlaps the tensor before it' : 'leaves a hole before it';
      const where = `it starts at ${byteOffset - dataStart}, expected ${position - dataStart}`;
      throw corrupt(
        'SGEMOE_CHECKPOINT_OFFSETS',
        path,
        `the data of tensor ${quoteName(name)} ${what}: ${where}`,
      );
    }
    position += byteLength;
  }
  if (position > fileSize) {
    const last = tensors.find((tensor) => tensor.byteOffset + tensor.byteLength > fileSize)!;
    const where = `the file ends inside the data of tensor ${quoteName(last.name)}`;
    const sizes = `${position} bytes promised, ${fileSize} there`;
    throw corrupt('SGEMOE_CHECKPOINT_TRUNCATED', path, `${where}: ${sizes}`);
  }
  if (position < fileSize) {
    throw corrupt(
      'SGEMOE_CHECKPOINT_OFFSETS',
      path,
      `${fileSize - position} bytes at the end belong to no tensor`,
    );
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSizeArray(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function headerError(path: string, what: string, cause?: unknown): SgemoeError {
  return corrupt('SGEMOE_CHECKPOINT_HEADER', path, what, cause);
}

export function corrupt(code: ErrorCode, path: string, what: string, cause?: unknown): SgemoeError {
  return new SgemoeError(code, `${path}: ${what}.`, { cause });
}
