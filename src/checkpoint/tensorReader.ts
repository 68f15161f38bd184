import type { TensorArray, TensorInfo } from './safetensorsHeader';

/** Tensors that can be read by name: those of one safetensors file, or of the shards that an index names. */
export interface TensorReader extends AsyncDisposable {
  /** Of the file, or of the index. */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The headers' `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
  /** @throws SgemoeError SGEMOE_CHECKPOINT_MISSING_TENSOR when there is no tensor of this name. */
  info(name: string): TensorInfo;
  /** A tensor in a new array of its dtype's type. */
  read(name: string): Promise<TensorArray>;
  /** A whole tensor into `destination`, of its dtype's type, or a Float32Array for F16 and BF16. */
  readInto(name: string, destination: TensorArray): Promise<void>;
  /** As readInto, for the elements `start ..` of the tensor, as many as `destination` holds. */
  readPartInto(name: string, start: number, destination: TensorArray): Promise<void>;
  close(): Promise<void>;
}
