import type { StampedFile } from '../base/fileStamp';
import type { StorageType } from '../base/storageTypes';
import type { BlockType } from './gguf/blockTypes';
import type { Dtype, TensorArray, TensorInfo } from './safetensorsHeader';

/** What is known of a stored tensor before it is read. */
export interface StoredTensor extends Omit<TensorInfo, 'dtype' | 'byteOffset'> {
  readonly dtype: Dtype | BlockType;
}

/** Elements of a tensor as they lie in a file: whole blocks, one behind the other. */
export interface StoredSpan {
  readonly file: StampedFile;
  readonly offset: number;
  readonly bytes: number;
  readonly type: StorageType;
  /** Whether these rows of queries or keys pair neighbours, where `readInto` gives the order that pairs halves. */
  readonly neighbours: boolean;
}

/** Reads tensors by name from one safetensors file, from the shards that an index names, or from a GGUF file. */
export interface TensorReader extends AsyncDisposable {
  /** The path of the file or of the index. */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** The `__metadata__` of the headers. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The header entry of a tensor. @throws SgemoeError SGEMOE_CHECKPOINT_MISSING_TENSOR if there is no such tensor. */
  info(name: string): StoredTensor;
  /** Reads a tensor into a new array of its dtype's type; of float32 for GGUF. */
  read(name: string): Promise<TensorArray>;
  /** Reads a whole tensor into `destination`, an array of its dtype's type, or a Float32Array for F16, BF16 and the types of GGUF. */
  readInto(name: string, destination: TensorArray): Promise<void>;
  /** Reads the tensor's elements [start, start + destination.length) as readInto does. */
  readPartInto(name: string, start: number, destination: TensorArray): Promise<void>;
  /**
   * Where elements [start, start + elements) of a tensor lie; null if they are several pieces, cut a block, aren't in a file
   * or are of a type that matrices aren't stored in.
   */
  span(name: string, start: number, elements: number): StoredSpan | null;
  close(): Promise<void>;
}
