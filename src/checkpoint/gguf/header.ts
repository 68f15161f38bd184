import { corrupt, elementCount, quoteName } from '../safetensorsHeader';
import { BLOCK_TYPE_NAMES, type BlockType, blockTypeOf, describeType, layoutOf } from './blockTypes';
import { ByteCursor } from './byteCursor';

/** The longest header that is read, in bytes; one with 256,000 tokens and their merges has about 12 MB. */
export const MAX_GGUF_HEADER_BYTES = 2 ** 26;
const MAGIC = 0x46554747;
const MAX_DIMENSIONS = 4;
const MAX_DEPTH = 4;
const DEFAULT_ALIGNMENT = 32;
const MAX_ALIGNMENT = 2 ** 16;
const ALIGNMENT_KEY = 'general.alignment';
/** The shortest entries: an empty key, a type, a byte; an empty name, a count of dimensions, a type, an offset. */
const MIN_ENTRY_BYTES = 13;
const MIN_TENSOR_BYTES = 24;

/** A metadata value. Arrays of numbers are typed arrays, of truth values Uint8Arrays; 64-bit integers beyond 2^53 are bigints. */
export type GgufValue = number | bigint | boolean | string | NumberArray | readonly GgufValue[];
type NumberArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** The checked entry of one tensor. */
export interface GgufTensor {
  readonly name: string;
  readonly type: BlockType;
  /** The slowest axis comes first, as in safetensors; the file has the reverse order. */
  readonly shape: readonly number[];
  readonly elements: number;
  /** Offset from the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Tensors by name, in the order of their data. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** Value types by their number, without STRING and ARRAY. */
const NUMBER_TYPES = [
  { id: 0, array: Uint8Array },
  { id: 1, array: Int8Array },
  { id: 2, array: Uint16Array },
  { id: 3, array: Int16Array },
  { id: 4, array: Uint32Array },
  { id: 5, array: Int32Array },
  { id: 6, array: Float32Array },
  { id: 7, array: Uint8Array },
  { id: 10, array: BigUint64Array },
  { id: 11, array: BigInt64Array },
  { id: 12, array: Float64Array },
] as const;
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;

/**
 * Checks every field of a GGUF header (version 2 or 3, little-endian) against the size of the file.
 * @param bytes the file's first bytes. Returns null if the header is longer than them and the file.
 * @throws SgemoeError SGEMOE_CHECKPOINT_HEADER, _DTYPE, _OFFSETS or _TRUNCATED; the message names the file and the part.
 */
export function parseGgufHeader(path: string, bytes: Uint8Array, fileSize: number): GgufHeader | null {
  const cursor = new ByteCursor(path, bytes, fileSize);
  const parsed = cursor.whileThereAreBytes(() => readHeader(path, cursor));
  if (parsed === null) return null;
  const { version, metadata, entries } = parsed;
  const alignment = alignmentOf(path, metadata);
  const dataStart = align(cursor.at, alignment);
  const tensors = entries.map(({ offset, ...tensor }) => ({ ...tensor, byteOffset: dataStart + offset }));
  tensors.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkLayout(path, tensors, dataStart, alignment, fileSize);
  return { version, metadata, tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])) };
}

interface Entry extends Omit<GgufTensor, 'byteOffset'> {
  /** Offset from the start of the tensor data. */
  offset: number;
}

function readHeader(path: string, cursor: ByteCursor) {
  if (cursor.uint32() !== MAGIC) throw headerError(path, 'the file does not begin with "GGUF"');
  const version = cursor.uint32();
  if (version !== 2 && version !== 3) {
    const swapped = version !== 0 && (version & 0xffff) === 0;
    const what = swapped ? 'the file is big-endian' : `the version of GGUF is ${version}`;
    throw headerError(path, `${what}, must be little-endian, of version 2 or 3`);
  }
  const tensorCount = cursor.count('tensors', MIN_TENSOR_BYTES);
  const entryCount = cursor.count('metadata entries', MIN_ENTRY_BYTES);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < entryCount; i++) {
    const key = cursor.string('a metadata key');
    if (metadata.has(key)) throw headerError(path, `the metadata key ${quoteName(key)} stands there twice`);
    metadata.set(key, readValue(path, cursor, key));
  }
  const entries = new Map<string, Entry>();
  for (let i = 0; i < tensorCount; i++) {
    const entry = readTensor(path, cursor);
    if (entries.has(entry.name))
      throw headerError(path, `tensor ${quoteName(entry.name)} stands there twice`);
    entries.set(entry.name, entry);
  }
  return { version, metadata, entries: [...entries.values()] };
}

function readValue(path: string, cursor: ByteCursor, key: string): GgufValue {
  const type = cursor.uint32();
  if (type === STRING) return cursor.string(`the value of ${quoteName(key)}`);
  if (type === ARRAY) return readArray(path, cursor, key, 1);
  const [value] = readNumbers(path, cursor, key, type, 1);
  if (type === BOOL) return value === 1;
  return typeof value === 'bigint' && BigInt.asIntN(54, value) === value ? Number(value) : value;
}

function readArray(path: string, cursor: ByteCursor, key: string, depth: number): GgufValue {
  const type = cursor.uint32();
  const what = `elements of ${quoteName(key)}`;
  if (type === STRING) {
    const strings: string[] = [];
    const length = cursor.count(what, 8);
    for (let i = 0; i < length; i++) strings.push(cursor.string(`an element of ${quoteName(key)}`));
    return strings;
  }
  if (type === ARRAY) {
    if (depth === MAX_DEPTH)
      throw headerError(path, `${quoteName(key)} nests arrays more than ${MAX_DEPTH} deep`);
    const arrays: GgufValue[] = [];
    const length = cursor.count(what, 12);
    for (let i = 0; i < length; i++) arrays.push(readArray(path, cursor, key, depth + 1));
    return arrays;
  }
  return readNumbers(path, cursor, key, type, null);
}

/** Reads numbers of a type: `length` of them, or as many as the file says next. */
function readNumbers(
  path: string,
  cursor: ByteCursor,
  key: string,
  type: number,
  length: number | null,
): NumberArray {
  const known = NUMBER_TYPES.find(({ id }) => id === type);
  if (known === undefined) throw headerError(path, `${quoteName(key)} has the unknown value type ${type}`);
  const size = known.array.BYTES_PER_ELEMENT;
  const count = length ?? cursor.count(`elements of ${quoteName(key)}`, size);
  const values = new known.array(cursor.bytes(count * size).slice().buffer as ArrayBuffer);
  if (type === BOOL && !(values as Uint8Array).every((value) => value <= 1))
    throw headerError(path, `${quoteName(key)} has a truth value other than 0 and 1`);
  return values;
}

function readTensor(path: string, cursor: ByteCursor): Entry {
  const name = cursor.string('the name of a tensor');
  const tensor = `tensor ${quoteName(name)}`;
  const axes = cursor.uint32();
  if (axes > MAX_DIMENSIONS)
    throw headerError(path, `${tensor} has ${axes} dimensions, at most ${MAX_DIMENSIONS} are possible`);
  const shape = Array.from({ length: axes }, () => Number(cursor.uint64())).reverse();
  const id = cursor.uint32();
  const type = blockTypeOf(id);
  const offset = Number(cursor.uint64());
  if (type === undefined) {
    const what = `${tensor} is of type ${describeType(id)}`;
    throw corrupt('SGEMOE_CHECKPOINT_DTYPE', path, `${what}; read are ${BLOCK_TYPE_NAMES.join(', ')}`);
  }
  const elements = elementCount(shape);
  if (!(elements >= 1)) throw headerError(path, `the shape [${shape.join(', ')}] of ${tensor} is impossible`);
  const block = layoutOf(type);
  if ((shape.at(-1) ?? 1) % block.elements !== 0) {
    const rows = `rows of ${shape.at(-1) ?? 1} numbers, which ${type} can't divide into blocks of ${block.elements}`;
    throw headerError(path, `${tensor} has ${rows}`);
  }
  const byteLength = (elements / block.elements) * block.bytes;
  if (!Number.isSafeInteger(byteLength)) throw headerError(path, `the shape of ${tensor} overflows`);
  return { name, type, shape, elements, byteLength, offset };
}

function alignmentOf(path: string, metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get(ALIGNMENT_KEY) ?? DEFAULT_ALIGNMENT;
  const possible =
    typeof alignment === 'number' &&
    alignment >= 8 &&
    alignment <= MAX_ALIGNMENT &&
    Number.isInteger(Math.log2(alignment));
  if (possible) return alignment;
  const got = typeof alignment === 'number' ? alignment : typeof alignment;
  throw headerError(path, `${ALIGNMENT_KEY} must be a power of two in [8, ${MAX_ALIGNMENT}], got ${got}`);
}

const align = (at: number, alignment: number): number => Math.ceil(at / alignment) * alignment;

/** Checks that tensors follow each other, each from the next aligned offset on, up to the end of the file. */
function checkLayout(
  path: string,
  tensors: readonly GgufTensor[],
  dataStart: number,
  alignment: number,
  fileSize: number,
): void {
  let [position, end] = [dataStart, 0];
  for (const { name, byteOffset, byteLength } of tensors) {
    const tensor = `tensor ${quoteName(name)}`;
    if (byteOffset !== position) {
      const what = byteOffset < position ? 'overlaps the one before it' : 'leaves a hole before it';
      const where = `it starts at ${byteOffset - dataStart}, expected ${position - dataStart}`;
      throw corrupt('SGEMOE_CHECKPOINT_OFFSETS', path, `the data of ${tensor} ${what}: ${where}`);
    }
    end = byteOffset + byteLength;
    if (end > fileSize) {
      const sizes = `${end} bytes promised, ${fileSize} there`;
      throw corrupt(
        'SGEMOE_CHECKPOINT_TRUNCATED',
        path,
        `the file ends inside the data of ${tensor}: ${sizes}`,
      );
    }
    position = align(end, alignment);
  }
  if (fileSize > position) {
    const what = `${fileSize - position} bytes at the end belong to no tensor`;
    throw corrupt('SGEMOE_CHECKPOINT_OFFSETS', path, what);
  }
}

function headerError(path: string, what: string): Error {
  return corrupt('SGEMOE_CHECKPOINT_HEADER', path, what);
}
