import type { AvailableMemory } from '../base/machineMemory';

/**
 * Where the arrays lie that a model computes on. Kernels take others as well; a backend with a memory of its own copies
 * those in and out at each call.
 */
export interface KernelMemory {
  /**
   * `length` zeroed floats of `Kernels.floatType`, from a 64-byte boundary on.
   * @param shared on memory that other threads can be given. Default false.
   * @throws SgemoeError SGEMOE_MEMORY where the backend's own memory has no room.
   */
  floats(length: number, shared?: boolean): Float32Array;
  /** `length` zeroed integers. Errors as `floats`. */
  ints(length: number): Int32Array;
  /** Gives back at once what `floats` or `ints` made and nobody reads or writes any more. Without it: the garbage collector. */
  release(array: Float32Array | Int32Array): void;
  /** The memory of an array that other threads may hold longer than this one does is never used again. */
  keep(array: Float32Array | Int32Array): void;
  /** What can still be allocated, and what limits it. */
  available(): AvailableMemory;
}
