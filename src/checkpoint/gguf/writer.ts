import { storedBytes } from '../../base/storageTypes';
import { elementCount } from '../safetensorsHeader';
import { type BlockType, layoutOf } from './blockTypes';

/** A metadata value to write. */
export type GgufEntry =
  | { readonly type: 'uint32' | 'float32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'int32s' | 'float32s'; readonly value: ArrayLike<number> };

/** A tensor whose bytes are produced in pieces, on demand. Rows must be whole blocks of the type. */
export interface WrittenTensor {
  readonly name: string;
  readonly type: BlockType;
  /** Slowest axis first. */
  readonly shape: readonly number[];
  chunks(): Iterable<Uint8Array>;
}

const VERSION = 3;
const ALIGNMENT = 32;
/** Numbers of value types in a file. */
const VALUE = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;

/** The bytes of a GGUF file (version 3), whose tensors are produced on demand. */
export function* streamGguf(
  metadata: ReadonlyMap<string, GgufEntry>,
  tensors: readonly WrittenTensor[],
): Generator<Uint8Array> {
  const header = headerOf(metadata, tensors);
  yield header;
  yield padding(header.length);
  for (const tensor of tensors) {
    yield* tensor.chunks();
    yield padding(bytesOf(tensor));
  }
}

function headerOf(metadata: ReadonlyMap<string, GgufEntry>, tensors: readonly WrittenTensor[]): Uint8Array {
  const parts = [Buffer.from('GGUF'), uint32(VERSION), uint64(tensors.length), uint64(metadata.size)];
  for (const [key, entry] of metadata) parts.push(text(key), ...encoded(entry));
  let offset = 0;
  for (const tensor of tensors) {
    const { name, type, shape } = tensor;
    const dimensions = [...shape].reverse().map(uint64);
    parts.push(text(name), uint32(shape.length), ...dimensions, uint32(layoutOf(type).id), uint64(offset));
    offset += align(bytesOf(tensor));
  }
  return Buffer.concat(parts);
}

function encoded(entry: GgufEntry): Buffer[] {
  switch (entry.type) {
    case 'uint32':
      return [uint32(VALUE.uint32), uint32(entry.value)];
    case 'float32':
      return [uint32(VALUE.float32), words([entry.value], 'writeFloatLE')];
    case 'bool':
      return [uint32(VALUE.bool), Buffer.of(entry.value ? 1 : 0)];
    case 'string':
      return [uint32(VALUE.string), text(entry.value)];
    case 'strings':
      return [...arrayStart(VALUE.string, entry.value), ...entry.value.map(text)];
    case 'int32s':
      return [...arrayStart(VALUE.int32, entry.value), words(entry.value, 'writeInt32LE')];
    case 'float32s':
      return [...arrayStart(VALUE.float32, entry.value), words(entry.value, 'writeFloatLE')];
  }
}

function arrayStart(type: number, { length }: ArrayLike<unknown>): Buffer[] {
  return [uint32(VALUE.array), uint32(type), uint64(length)];
}

function bytesOf({ type, shape }: WrittenTensor): number {
  return storedBytes(layoutOf(type).storage, elementCount(shape));
}

const align = (at: number): number => Math.ceil(at / ALIGNMENT) * ALIGNMENT;
const padding = (length: number): Uint8Array => new Uint8Array(align(length) - length);

function words(values: ArrayLike<number>, write: 'writeInt32LE' | 'writeFloatLE' | 'writeUInt32LE'): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (let i = 0; i < values.length; i++) bytes[write](values[i], 4 * i);
  return bytes;
}

const uint32 = (value: number): Buffer => words([value], 'writeUInt32LE');

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([uint64(bytes.length), bytes]);
}
