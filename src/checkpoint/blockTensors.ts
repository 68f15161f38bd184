import { isStorageType, STORAGE_TYPES, type StorageType, storedBytes } from '../base/storageTypes';
import { widenBlocks } from '../base/storedBlocks';
import { blockTypeFor } from './gguf/blockTypes';
import { corrupt, elementCount, isObject, quoteName, type TensorArray } from './safetensorsHeader';
import type { StoredSpan, StoredTensor, TensorReader } from './tensorReader';

/**
 * Matrices of GGUF's block types in a safetensors file, which has no such dtypes: each is a U8 tensor [rows, bytes of a row],
 * and this key of `__metadata__` has their types as JSON, { "<tensor>": "q8_0" }.
 */
export const BLOCK_TYPES_KEY = 'sgemoe.block_types';

/** Numbers widened at a time: a multiple of every block. */
const CHUNK = 2 ** 16;

interface BlockTensor extends StoredTensor {
  /** undefined for a tensor that is what its dtype says. */
  readonly type: StorageType | undefined;
}

/** A reader of safetensors files. */
export interface RangedReader extends TensorReader {
  /** Where a tensor lies; null for a file in memory. */
  range(name: string): Omit<StoredSpan, 'type' | 'neighbours'> | null;
}

/** A reader that shows such tensors as the matrices they are; the same one if the files have none. */
export function withBlockTensors(file: RangedReader): TensorReader {
  const json = file.metadata.get(BLOCK_TYPES_KEY);
  return json === undefined ? file : new BlockTensors(file, parseTypes(file.path, json));
}

function parseTypes(path: string, json: string): ReadonlyMap<string, StorageType> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw corrupt('SGEMOE_CHECKPOINT_HEADER', path, `${BLOCK_TYPES_KEY} is not JSON`, cause);
  }
  if (!isObject(value))
    throw corrupt('SGEMOE_CHECKPOINT_HEADER', path, `${BLOCK_TYPES_KEY} must be an object`);
  return new Map(
    Object.entries(value).map(([name, type]) => {
      if (isStorageType(type)) return [name, type];
      const what = `tensor ${quoteName(name)} has the unknown block type ${quoteName(String(type))}`;
      throw corrupt('SGEMOE_CHECKPOINT_DTYPE', path, what);
    }),
  );
}

class BlockTensors implements TensorReader {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, BlockTensor>;

  constructor(
    private readonly file: RangedReader,
    types: ReadonlyMap<string, StorageType>,
  ) {
    this.path = file.path;
    this.metadata = file.metadata;
    for (const name of types.keys()) file.info(name);
    this.tensors = new Map(
      Array.from(file.tensors, ([name, tensor]) => [name, describe(file.path, tensor, types.get(name))]),
    );
  }

  info(name: string): BlockTensor {
    this.file.info(name); // throws for a missing one
    return this.tensors.get(name)!;
  }

  async read(name: string): Promise<TensorArray> {
    const { type, elements } = this.info(name);
    if (type === undefined) return this.file.read(name);
    const destination = new Float32Array(elements);
    await this.readPartInto(name, 0, destination);
    return destination;
  }

  async readInto(name: string, destination: TensorArray): Promise<void> {
    const { type, elements } = this.info(name);
    if (type === undefined) return this.file.readInto(name, destination);
    if (destination.length !== elements) {
      const what = `destination of tensor ${quoteName(name)}`;
      throw new RangeError(`${what} must have ${elements} elements, got ${destination.length}`);
    }
    await this.readPartInto(name, 0, destination);
  }

  async readPartInto(name: string, start: number, destination: TensorArray): Promise<void> {
    const { type, elements, dtype } = this.info(name);
    if (type === undefined) return this.file.readPartInto(name, start, destination);
    if (!(destination instanceof Float32Array)) {
      const what = `tensor ${quoteName(name)} is ${dtype} and can not be read into a`;
      throw corrupt('SGEMOE_CHECKPOINT_DTYPE', this.path, `${what} ${destination.constructor.name}`);
    }
    const end = start + destination.length;
    if (!Number.isSafeInteger(start) || start < 0 || end > elements) {
      const what = `elements of tensor ${quoteName(name)}`;
      throw new RangeError(`${what} must be in [0, ${elements}), got ${start} .. ${end}`);
    }
    const block = STORAGE_TYPES[type].elements;
    for (let from = start - (start % block); from < end; from += CHUNK) {
      const count = Math.min(CHUNK, Math.ceil((end - from) / block) * block);
      const bytes = new Uint8Array(storedBytes(type, count));
      await this.file.readPartInto(name, storedBytes(type, from), bytes);
      const numbers = new Float32Array(count);
      widenBlocks(type, bytes, numbers);
      const [first, last] = [Math.max(start, from), Math.min(end, from + count)];
      destination.set(numbers.subarray(first - from, last - from), first - start);
    }
  }

  span(name: string, start: number, elements: number): StoredSpan | null {
    const { type } = this.info(name);
    if (type === undefined) return this.file.span(name, start, elements);
    const block = STORAGE_TYPES[type].elements;
    if (start % block !== 0 || elements % block !== 0) return null;
    const range = this.file.range(name);
    if (range === null) return null;
    const [offset, bytes] = [range.offset + storedBytes(type, start), storedBytes(type, elements)];
    return { file: range.file, offset, bytes, type, neighbours: false };
  }

  close(): Promise<void> {
    return this.file.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function describe(path: string, tensor: StoredTensor, type: StorageType | undefined): BlockTensor {
  if (type === undefined) return { ...tensor, type };
  const { name, dtype, shape, byteLength } = tensor;
  const [rows, rowBytes] = shape;
  const { bytes } = STORAGE_TYPES[type];
  if (dtype !== 'U8' || shape.length !== 2 || rowBytes % bytes !== 0) {
    const what = `tensor ${quoteName(name)} must be U8 with rows of whole ${type} blocks (${bytes} bytes)`;
    throw corrupt('SGEMOE_CHECKPOINT_SHAPE', path, `${what}, is ${dtype} [${shape.join(', ')}]`);
  }
  const numbers = [rows, (rowBytes / bytes) * STORAGE_TYPES[type].elements];
  return {
    name,
    dtype: blockTypeFor(type),
    shape: numbers,
    elements: elementCount(numbers),
    byteLength,
    type,
  };
}
