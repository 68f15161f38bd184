/**
 * How matrices that only serve are stored, under GGUF's names in lower case. A row is blocks one behind the other: of one
 * number (float32, bfloat16, float16), of 32 numbers with one scale (q4_0 ... q8_0), or of 256 with scales of their parts
 * (q4_k, q5_k, q6_k).
 */

interface StorageLayout {
  /** Numbers of a block. */
  readonly elements: number;
  /** Bytes of a block. */
  readonly bytes: number;
}

export const STORAGE_TYPES = {
  float32: { elements: 1, bytes: 4 },
  bfloat16: { elements: 1, bytes: 2 },
  float16: { elements: 1, bytes: 2 },
  q4_0: { elements: 32, bytes: 18 },
  q4_1: { elements: 32, bytes: 20 },
  q5_0: { elements: 32, bytes: 22 },
  q5_1: { elements: 32, bytes: 24 },
  q8_0: { elements: 32, bytes: 34 },
  q4_k: { elements: 256, bytes: 144 },
  q5_k: { elements: 256, bytes: 176 },
  q6_k: { elements: 256, bytes: 210 },
} as const satisfies Record<string, StorageLayout>;

export type StorageType = keyof typeof STORAGE_TYPES;
export const STORAGE_TYPE_NAMES = Object.keys(STORAGE_TYPES) as readonly StorageType[];

/** How a Decoder may keep keys and values. */
export const KV_CACHE_DTYPES = ['float32', 'float16', 'q8_0'] as const satisfies readonly StorageType[];
export type KvCacheDtype = (typeof KV_CACHE_DTYPES)[number];

export function isStorageType(value: unknown): value is StorageType {
  return typeof value === 'string' && Object.hasOwn(STORAGE_TYPES, value);
}

/** Whether rows of `cols` numbers are whole blocks. */
export function fitsRows(type: StorageType, cols: number): boolean {
  return cols % STORAGE_TYPES[type].elements === 0;
}

/** Bytes of `count` numbers, which are whole blocks. */
export function storedBytes(type: StorageType, count: number): number {
  const { elements, bytes } = STORAGE_TYPES[type];
  return (count / elements) * bytes;
}

/** The types that llama.cpp takes for rows that don't fit a type of 256 numbers. */
const SMALLER_BLOCKS: Partial<Record<StorageType, StorageType>> = {
  q4_k: 'q5_0',
  q5_k: 'q5_1',
  q6_k: 'q8_0',
};

/** `type` itself or, if rows of `cols` numbers aren't whole blocks, the type that llama.cpp takes instead. */
export function storageTypeFor(type: StorageType, cols: number): StorageType {
  if (fitsRows(type, cols)) return type;
  const smaller = SMALLER_BLOCKS[type];
  return smaller !== undefined && fitsRows(smaller, cols) ? smaller : 'float16';
}
