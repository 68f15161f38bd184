import { STORAGE_TYPES, type StorageType } from '../../base/storageTypes';

/** How a type stores numbers: `elements` of them in a block of `bytes`. */
interface BlockLayout {
  /** The number that stands for the type in a file. */
  readonly id: number;
  readonly storage: StorageType;
  readonly elements: number;
  readonly bytes: number;
}

/** The tensor types of GGUF that are read: their numbers in a file, and what they are called here. */
const BLOCK_TYPES = {
  F32: { id: 0, storage: 'float32' },
  F16: { id: 1, storage: 'float16' },
  BF16: { id: 30, storage: 'bfloat16' },
  Q4_0: { id: 2, storage: 'q4_0' },
  Q4_1: { id: 3, storage: 'q4_1' },
  Q5_0: { id: 6, storage: 'q5_0' },
  Q5_1: { id: 7, storage: 'q5_1' },
  Q8_0: { id: 8, storage: 'q8_0' },
  Q4_K: { id: 12, storage: 'q4_k' },
  Q5_K: { id: 13, storage: 'q5_k' },
  Q6_K: { id: 14, storage: 'q6_k' },
} as const satisfies Record<string, Pick<BlockLayout, 'id' | 'storage'>>;

export type BlockType = keyof typeof BLOCK_TYPES;
export const BLOCK_TYPE_NAMES = Object.keys(BLOCK_TYPES) as readonly BlockType[];

/** Names of types that aren't read, for messages. */
const UNREAD_TYPES: Readonly<Record<number, string>> = {
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

export function layoutOf(type: BlockType): BlockLayout {
  const { id, storage } = BLOCK_TYPES[type];
  return { id, storage, ...STORAGE_TYPES[storage] };
}

/** The type with this number; undefined for one that isn't read. */
export function blockTypeOf(id: number): BlockType | undefined {
  return BLOCK_TYPE_NAMES.find((name) => BLOCK_TYPES[name].id === id);
}

/** A type's name for a message, whether or not it is read. */
export function describeType(id: number): string {
  return blockTypeOf(id) ?? UNREAD_TYPES[id] ?? `number ${id}`;
}

/** The type that is called `storage` here. */
export function blockTypeFor(storage: StorageType): BlockType {
  return BLOCK_TYPE_NAMES.find((name) => BLOCK_TYPES[name].storage === storage)!;
}
