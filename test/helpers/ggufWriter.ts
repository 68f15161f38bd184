/** Writes GGUF files for tests: little-endian, with float32 tensors unless a type and its bytes are given. */

export type Value =
  | { type: 'u32' | 'f32' | 'u64' | 'i64' | 'bool'; value: number }
  | { type: 'string'; value: string }
  | { type: 'array'; of: 'string'; values: readonly string[] }
  | { type: 'array'; of: 'u32' | 'f32'; values: readonly number[] }
  | { type: 'raw'; bytes: Uint8Array };

export interface TestTensor {
  name: string;
  /** Shape, slowest axis first. */
  shape: readonly number[];
  type?: number;
  data: Float32Array | Uint8Array;
  /** Value to write instead of the right one. */
  offset?: number;
}

const TYPES = { u32: 4, f32: 6, bool: 7, string: 8, array: 9, u64: 10, i64: 11 } as const;

const uint = (size: 4 | 8, value: number): Uint8Array => {
  const view = new DataView(new ArrayBuffer(size));
  if (size === 4) view.setUint32(0, value, true);
  else view.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(view.buffer);
};
export const u32 = (value: number) => uint(4, value);
export const u64 = (value: number) => uint(8, value);
const f32 = (value: number) => new Uint8Array(Float32Array.of(value).buffer);
export const join = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));
export const text = (value: string): Uint8Array => {
  const bytes = new TextEncoder().encode(value);
  return join(u64(bytes.length), bytes);
};

function number(type: 'u32' | 'f32' | 'u64' | 'i64' | 'bool', value: number): Uint8Array {
  if (type === 'f32') return f32(value);
  if (type === 'bool') return Uint8Array.of(value);
  return type === 'u32' ? u32(value) : u64(value);
}

function encode(value: Value): Uint8Array {
  if (value.type === 'raw') return value.bytes;
  const head = u32(TYPES[value.type]);
  if (value.type === 'string') return join(head, text(value.value));
  if (value.type !== 'array') return join(head, number(value.type, value.value));
  const start = join(head, u32(TYPES[value.of]), u64(value.values.length));
  if (value.of === 'string') return new Uint8Array(Buffer.concat([start, ...value.values.map(text)]));
  return join(start, ...value.values.map((one) => number(value.of as 'u32' | 'f32', one)));
}

export interface GgufContent {
  metadata?: readonly (readonly [string, Value])[];
  tensors?: readonly TestTensor[];
  version?: number;
  alignment?: number;
}

export function ggufBytes({
  metadata = [],
  tensors = [],
  version = 3,
  alignment = 32,
}: GgufContent): Uint8Array {
  const pad = (length: number) => new Uint8Array((alignment - (length % alignment)) % alignment);
  const infos: Uint8Array[] = [];
  const data: Uint8Array[] = [];
  let offset = 0;
  for (const { name, shape, type = 0, data: values, offset: told = offset } of tensors) {
    const dims = [...shape].reverse().map(u64);
    infos.push(join(text(name), u32(shape.length), ...dims, u32(type), u64(told)));
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    data.push(bytes, pad(bytes.length));
    offset += bytes.length + pad(bytes.length).length;
  }
  const entries = metadata.map(([key, value]) => join(text(key), encode(value)));
  const counts = join(u64(tensors.length), u64(metadata.length));
  const header = join(new TextEncoder().encode('GGUF'), u32(version), counts, ...entries, ...infos);
  return join(header, pad(header.length), ...data);
}
