import type { Kernels } from '../../backend/kernels';
import type { StoredMatrices } from '../../backend/kernels/stored';
import { type StorageType, storedBytes } from '../../base/storageTypes';
import type { IndexView, MatrixView } from '../matrixView';

/** y = alpha x W^T + beta y with the first matrix [rows,cols], in columns [column, column + rows) of y. */
export function multiplyStored(
  kernels: Pick<Kernels, 'multiplyStored'>,
  matrices: StoredMatrices,
  x: MatrixView,
  y: MatrixView,
  column: number,
  alpha: number,
  beta: number,
): void {
  kernels.multiplyStored(matrices, 0, x.rows, alpha, x.data, x.at, x.ld, beta, y.data, y.at + column, y.ld);
}

/** y = alpha x W_g^T + beta y for the rows of each group g, in columns [column, column + rows) of y. */
export function multiplyStoredGroups(
  kernels: Pick<Kernels, 'multiplyStoredGroups'>,
  matrices: StoredMatrices,
  rowStarts: IndexView,
  x: MatrixView,
  y: MatrixView,
  column: number,
  alpha: number,
  beta: number,
): void {
  const { data: starts, at } = rowStarts;
  const { data, at: first, ld } = y;
  kernels.multiplyStoredGroups(
    matrices,
    starts,
    at,
    alpha,
    x.data,
    x.at,
    x.ld,
    beta,
    data,
    first + column,
    ld,
  );
}

/** out [n,cols] = the rows ids [n] of matrix `index`. */
export function gatherStored(
  kernels: Pick<Kernels, 'gatherStored'>,
  matrices: StoredMatrices,
  ids: IndexView,
  out: MatrixView,
  index = 0,
): void {
  kernels.gatherStored(matrices, index, ids.rows, ids.data, ids.at, out.data, out.at, out.ld);
}

/** The bytes of a whole array [rows,cols], rounded to a storage type. */
export function quantized(
  kernels: Pick<Kernels, 'quantize'>,
  type: StorageType,
  rows: number,
  cols: number,
  values: Float32Array,
): Uint8Array {
  const bytes = new Uint8Array(storedBytes(type, rows * cols));
  kernels.quantize(type, rows, cols, values, 0, cols, bytes, 0);
  return bytes;
}

/** Rounds numbers to a storage type without blocks; `bytes` has room for just these. */
export function roundTo(
  kernels: Pick<Kernels, 'quantize'>,
  type: StorageType,
  values: Float32Array,
  bytes: Uint8Array,
): void {
  kernels.quantize(type, 1, values.length, values, 0, values.length, bytes, 0);
}

/** The other way round: the numbers that `roundTo` has left. */
export function widenTo(
  kernels: Pick<Kernels, 'dequantize'>,
  type: StorageType,
  bytes: Uint8Array,
  values: Float32Array,
): void {
  kernels.dequantize(type, 1, values.length, bytes, 0, values, 0, values.length);
}
