import type { TensorArray, TensorInfo } from './safetensorsHeader';

/** Reads tensors by name from one safetensors file, or from the shards that an index names. */
export interface TensorReader extends AsyncDisposable {
  /** The path of the file or of the index. */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The `__metadata__` of the headers. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The header entry of a tensor. @throws SgemoeError SGEMOE_CHECKPOINT_MISSING_TENSOR if there is no such tensor. */
  info(name: string): TensorInfo;
  /** Reads a tensor into a new array of its dtype's type. */
  read(name: string): Promise<TensorArray>;
  /** Reads a whole tensor into `destination`, an array of its dtype's type, or a Float32Array for F16 and BF16. */
  readInto(name: string, destination: TensorArray): Promise<void>;
  /** Reads the tensor's elements [start, start + destination.length) as readInto does. */
  readPartInto(name: string, start: number, destination: TensorArray): Promise<void>;
  close(): Promise<void>;
}
