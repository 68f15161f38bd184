import type { Kernels } from '../../backend/kernels';
import type { IndexView, MatrixView } from '../matrixView';

/** x = factor x, rows adjacent. */
export function scale(k: Kernels, x: MatrixView, factor: number): void {
  k.scale(x.data, x.at, x.size, factor);
}

/** The sum of squares of x, rows adjacent. */
export function sumSquares(k: Kernels, x: MatrixView): number {
  return k.sumSquares(x.data, x.at, x.size);
}

/** x = 0, rows adjacent. */
export function clear(x: MatrixView): void {
  x.data.fill(0, x.at, x.at + x.size);
}

/**
 * x = 0 in shared memory, rows adjacent. A matmul over k = 0 is four times as fast as `fill`, which writes single
 * elements.
 */
export function clearShared(k: Kernels, x: MatrixView): void {
  const { rows, cols, data, at, ld } = x;
  k.sgemm(false, false, rows, cols, 0, 1, data, 0, 0, data, 0, cols, 0, data, at, ld);
}

/** to = from; both have one size, adjacent rows and one space. */
export function copy(from: MatrixView, to: MatrixView): void {
  to.data.copyWithin(to.at, from.at, from.at + from.size);
}

/** out[at ..] = the elements of a view with adjacent rows. A loop copies them, since `set` would need a new typed array. */
export function copyOut(from: MatrixView | IndexView, out: Float32Array | Int32Array, at = 0): void {
  const { data, at: first, size } = from;
  for (let i = 0; i < size; i++) out[at + i] = data[first + i];
}

/**
 * RMSNorm of x [T, p size] to y [T, p size], separately for each of the p pieces of a row. All pieces share gamma [size].
 * invRms [p T] is in the order that the backward expects. A norm of whole rows has p = 1.
 */
export function rmsNorm(
  k: Kernels,
  x: MatrixView,
  gamma: MatrixView,
  y: MatrixView,
  invRms: MatrixView,
  eps: number,
): void {
  const { data: g, at: gAt, size } = gamma;
  const pieces = x.cols / size;
  // A call norms one piece of all rows, or all pieces of one row, whichever needs fewer calls.
  const down = pieces <= x.rows;
  const calls = down ? pieces : x.rows;
  const rows = down ? x.rows : pieces;
  const ldx = down ? x.ld : size;
  const ldy = down ? y.ld : size;
  for (let i = 0; i < calls; i++) {
    const xAt = x.at + i * (down ? size : x.ld);
    const yAt = y.at + i * (down ? size : y.ld);
    const invAt = invRms.at + i * rows;
    k.rmsNormForward(x.data, xAt, ldx, g, gAt, y.data, yAt, ldy, invRms.data, invAt, rows, size, eps);
  }
}

/** A gain and its gradient. */
export interface Gain {
  readonly values: MatrixView;
  readonly gradient: MatrixView;
}

/** The backward of `rmsNorm`: dx from dy, added to dx or written. It adds to the gain's gradient. */
export function rmsNormBackward(
  k: Kernels,
  x: MatrixView,
  { values: gamma, gradient: dGamma }: Gain,
  invRms: MatrixView,
  dy: MatrixView,
  dx: MatrixView,
  accumulate: boolean,
): void {
  const size = gamma.size;
  const pieces = x.cols / size;
  const down = pieces <= x.rows;
  const calls = down ? pieces : x.rows;
  const rows = down ? x.rows : pieces;
  for (let i = 0; i < calls; i++) {
    const xAt = x.at + i * (down ? size : x.ld);
    const dyAt = dy.at + i * (down ? size : dy.ld);
    const dxAt = dx.at + i * (down ? size : dx.ld);
    k.rmsNormBackward(
      x.data,
      xAt,
      down ? x.ld : size,
      gamma.data,
      gamma.at,
      invRms.data,
      invRms.at + i * rows,
      dy.data,
      dyAt,
      down ? dy.ld : size,
      dx.data,
      dxAt,
      down ? dx.ld : size,
      accumulate,
      dGamma.data,
      dGamma.at,
      rows,
      size,
    );
  }
}

/** y [T,F] = silu(gate) up, gateUp [T,2F]. */
export function swiglu(k: Kernels, gateUp: MatrixView, y: MatrixView): void {
  k.swigluForward(gateUp.data, gateUp.at, y.data, y.at, y.rows, y.cols);
}

/** dGateUp [T,2F] from dy [T,F]. */
export function swigluBackward(k: Kernels, gateUp: MatrixView, dy: MatrixView, dGateUp: MatrixView): void {
  k.swigluBackward(gateUp.data, gateUp.at, dy.data, dy.at, dGateUp.data, dGateUp.at, dy.rows, dy.cols);
}
