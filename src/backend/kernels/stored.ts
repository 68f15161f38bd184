import type { StorageType } from '../../base/storageTypes';

/**
 * Matrices [rows, cols] as they are stored (base/storageTypes.ts), made by `storedMatrices` for the backend that made them and
 * the thread that asked. They keep their bytes alive.
 */
export interface StoredMatrices {
  readonly type: StorageType;
  readonly rows: number;
  readonly cols: number;
  /** How many matrices these are. */
  readonly count: number;
}

/**
 * Products by matrices as they are stored, and the conversions. Conventions and errors: `Kernels`; lengths of `bytes` are in
 * bytes. A `cols` that is no multiple of the type's block is a RangeError "<kernel>: cols must be a multiple of <n>, got ...".
 *
 * float32, bfloat16 and float16 are multiplied as their values: the error is that of `sgemm`, on a matrix unit too
 * (`info.matrixUnit`), where float32 activations by bfloat16 matrices are three products of bfloat16 parts. For the block types the
 * activations may be rounded too, to 8 bits in blocks of 32: x ~ d q with d = max |x| / 127 and integers q of -127 .. 127, so
 * that products are sums of integers. This adds at most sum over the blocks of d/2 * sum |w| to the error of an element of
 * y. From 96 rows on a matrix unit, if there is one, multiplies activations and weights rounded to bfloat16 instead, which adds at most
 * (2^-7 + 2^-16) sum |x w|, and of normal numbers less than half of what 8 bits add. `info.exactProducts` says that neither is
 * done: on instruction sets that don't gain by it, and wherever SGEMOE_EXACT=1 asks for the exact way.
 */
export interface StoredKernels {
  /**
   * `parts.length` matrices [rows, cols] of one type; part i holds the blocks of matrix i, row by row, and may be longer. Parts
   * may begin at any byte of any buffers. Nothing is copied (WebAssembly copies what lies outside of its memory), so the
   * bytes must not change while a product runs.
   * @throws TypeError for a part that isn't a Uint8Array, "storedMatrices: parts[<i>] must be a Uint8Array, got <what>";
   * RangeError for one that is too short, "storedMatrices: parts[<i>] is too short: needs <n> bytes, has <length>".
   */
  storedMatrices(type: StorageType, rows: number, cols: number, parts: readonly Uint8Array[]): StoredMatrices;

  /**
   * y = alpha * x W^T + beta * y with W matrix `index` of `matrices`, x [m, cols], y [m, rows]. beta = 0 never reads y.
   * @throws RangeError "multiplyStored: index must be in [0, <count>), got ..."; Error
   * "multiplyStored: the bytes of matrix <i> are gone" when the buffer that held them was transferred to another thread.
   */
  multiplyStored(
    matrices: StoredMatrices,
    index: number,
    m: number,
    alpha: number,
    x: Float32Array,
    xOffset: number,
    ldx: number,
    beta: number,
    y: Float32Array,
    yOffset: number,
    ldy: number,
  ): void;

  /**
   * One such product for each matrix: rows rowStarts[g] .. rowStarts[g+1] of x and y belong to matrix g. rowStarts: Int32Array
   * [count+1], >= 0 and non-decreasing. A group may be empty: its matrix isn't touched.
   */
  multiplyStoredGroups(
    matrices: StoredMatrices,
    rowStarts: Int32Array,
    rowStartsOffset: number,
    alpha: number,
    x: Float32Array,
    xOffset: number,
    ldx: number,
    beta: number,
    y: Float32Array,
    yOffset: number,
    ldy: number,
  ): void;

  /** Row i of out [count, cols] = row ids[i] of matrix `index`, widened to float32. */
  gatherStored(
    matrices: StoredMatrices,
    index: number,
    count: number,
    ids: Int32Array,
    idsOffset: number,
    out: Float32Array,
    outOffset: number,
    ldOut: number,
  ): void;

  /**
   * Rounds x [rows, cols] to `type`: the same bytes on every backend. q4_0 .. q8_0 are what ggml's reference gives; the types
   * of 256 numbers search scale and minimum of each part by weighted least squares. Block types need
   * finite numbers: what becomes of others is undefined.
   */
  quantize(
    type: StorageType,
    rows: number,
    cols: number,
    x: Float32Array,
    xOffset: number,
    ldx: number,
    bytes: Uint8Array,
    bytesOffset: number,
  ): void;

  /** Widens [rows, cols] of `type` to out. Every backend gives the same bits, those of Python's gguf. */
  dequantize(
    type: StorageType,
    rows: number,
    cols: number,
    bytes: Uint8Array,
    bytesOffset: number,
    out: Float32Array,
    outOffset: number,
    ldOut: number,
  ): void;
}
