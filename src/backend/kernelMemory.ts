import type { AvailableMemory } from '../base/machineMemory';

/** A file in memory. The mapping ends when this object and all its buffers are collected. */
export interface FileMapping {
  /** Bytes of the file. */
  readonly size: number;
  /** The ranges asked for. Writing to one changes this process's memory, not the file. */
  readonly buffers: readonly ArrayBuffer[];
  /** 'lost' once a page could not be read, which then holds zeros; 'changed' if the file isn't what was mapped any more. */
  state(): 'whole' | 'lost' | 'changed';
}

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
  /**
   * Maps a file and hands out ranges of it, pairs of offset and bytes, each at most as long as a typed array may be. null
   * where the host allows no such buffers. Without this function the backend maps no files.
   * @param regions such pairs, too, in which the system may use large pages.
   * @throws Error if the system refuses; RangeError for a range outside the file.
   */
  mapFile?(path: string, ranges: Float64Array, regions: Float64Array): FileMapping | null;
  /** What can still be allocated, and what limits it. */
  available(): AvailableMemory;
}
