/** How a type stores numbers: `elements` of them in a block of `bytes`. */
interface BlockLayout {
  readonly id: number;
  readonly elements: number;
  readonly bytes: number;
}

/** The tensor types of GGUF that are read, with the numbers that stand for them in a file. */
const BLOCK_TYPES = {
  F32: { id: 0, elements: 1, bytes: 4 },
  F16: { id: 1, elements: 1, bytes: 2 },
  BF16: { id: 30, elements: 1, bytes: 2 },
  Q4_0: { id: 2, elements: 32, bytes: 18 },
  Q4_1: { id: 3, elements: 32, bytes: 20 },
  Q5_0: { id: 6, elements: 32, bytes: 22 },
  Q5_1: { id: 7, elements: 32, bytes: 24 },
  Q8_0: { id: 8, elements: 32, bytes: 34 },
  Q4_K: { id: 12, elements: 256, bytes: 144 },
  Q5_K: { id: 13, elements: 256, bytes: 176 },
  Q6_K: { id: 14, elements: 256, bytes: 210 },
} as const satisfies Record<string, BlockLayout>;

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
  return BLOCK_TYPES[type];
}

/** The type with this number; undefined for one that isn't read. */
export function blockTypeOf(id: number): BlockType | undefined {
  return BLOCK_TYPE_NAMES.find((name) => BLOCK_TYPES[name].id === id);
}

/** A type's name for a message, whether or not it is read. */
export function describeType(id: number): string {
  return blockTypeOf(id) ?? UNREAD_TYPES[id] ?? `number ${id}`;
}
