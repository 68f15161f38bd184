import type { Kernels } from '../../backend/kernels';
import type { IndexView, MatrixView } from '../matrixView';

/*
 * The files of this folder are the kernels on matrix views. The formulas are in the files of backend/kernels/. The functions
 * turn views into the kernels' arrays and scalars, in the kernels' order; sizes come from the views. Where a kernel takes no
 * leading dimension, rows must be adjacent (ld = cols).
 */

/**
 * The kernels that multiply by matrices: all of a backend's, or those of `roundedProducts`. Without the forms for packed copies,
 * matrices are read as they are.
 */
export type Products = Pick<
  Kernels,
  'sgemm' | 'sgemmGrouped' | 'sgemmGroupedTransA' | 'multiplyStored' | 'multiplyStoredGroups' | 'gatherStored'
> &
  Partial<Pick<Kernels, 'sgemmPacked' | 'sgemmGroupedPacked'>>;

/** Products of float32 operands that are rounded to bfloat16, in the place of sgemm's; those of stored matrices stay. */
export function roundedProducts(kernels: Kernels): Products {
  const { gemmBfloat16, gemmBfloat16Grouped, gemmBfloat16GroupedTransA } = kernels;
  const { multiplyStored, multiplyStoredGroups, gatherStored } = kernels;
  return {
    sgemm: gemmBfloat16,
    sgemmGrouped: gemmBfloat16Grouped,
    sgemmGroupedTransA: gemmBfloat16GroupedTransA,
    multiplyStored,
    multiplyStoredGroups,
    gatherStored,
  };
}

/** out = alpha a b + beta out, a [m,k], b [k,n], out [m,n]. */
export function matmul(
  k: Products,
  a: MatrixView,
  b: MatrixView,
  out: MatrixView,
  alpha = 1,
  beta = 0,
): void {
  checkInner(a.cols, b.rows);
  multiplyAny(k, false, false, a.cols, a, b, out, alpha, beta);
}

/** out = alpha a^T b + beta out, a [k,m], b [k,n], out [m,n]. */
export function matmulTransA(
  k: Products,
  a: MatrixView,
  b: MatrixView,
  out: MatrixView,
  alpha = 1,
  beta = 0,
): void {
  checkInner(a.rows, b.rows);
  multiplyAny(k, true, false, a.rows, a, b, out, alpha, beta);
}

/** out = alpha a b^T + beta out, a [m,k], b [n,k], out [m,n]. */
export function matmulTransB(
  k: Products,
  a: MatrixView,
  b: MatrixView,
  out: MatrixView,
  alpha = 1,
  beta = 0,
): void {
  checkInner(a.cols, b.cols);
  multiplyAny(k, false, true, a.cols, a, b, out, alpha, beta);
}

/** out = alpha op(a) op(b) + beta out over an inner dimension of `inner`; op transposes or not. */
function multiplyAny(
  k: Products,
  transA: boolean,
  transB: boolean,
  inner: number,
  a: MatrixView,
  b: MatrixView,
  out: MatrixView,
  alpha: number,
  beta: number,
): void {
  const { rows: m, cols: n, data, at, ld } = out;
  k.sgemm(transA, transB, m, n, inner, alpha, a.data, a.at, a.ld, b.data, b.at, b.ld, beta, data, at, ld);
}

function checkInner(a: number, b: number): void {
  if (a !== b) throw new RangeError(`matmul: inner dimensions differ: ${a} and ${b}`);
}

/**
 * out_g = alpha a_g W_g + beta out_g, or with W_g^T when transposed, over the rows rowStarts[g] .. rowStarts[g+1] of each group g.
 * `weights` has the matrices W_g, all of one size, one below the other.
 */
export function matmulGrouped(
  k: Products,
  transposed: boolean,
  rowStarts: IndexView,
  a: MatrixView,
  weights: MatrixView,
  out: MatrixView,
  alpha: number,
  beta: number,
): void {
  const groups = rowStarts.rows - 1;
  k.sgemmGrouped(
    transposed,
    groups,
    rowStarts.data,
    rowStarts.at,
    out.cols,
    a.cols,
    alpha,
    a.data,
    a.at,
    a.ld,
    weights.data,
    weights.at,
    weights.ld,
    (weights.rows / groups) * weights.ld,
    beta,
    out.data,
    out.at,
    out.ld,
  );
}

/** out_g = alpha a_g^T b_g + beta out_g over the rows of each group g; `out` has the matrices one below the other. */
export function matmulGroupedTransA(
  k: Products,
  rowStarts: IndexView,
  a: MatrixView,
  b: MatrixView,
  out: MatrixView,
  alpha: number,
  beta: number,
): void {
  const groups = rowStarts.rows - 1;
  k.sgemmGroupedTransA(
    groups,
    rowStarts.data,
    rowStarts.at,
    a.cols,
    b.cols,
    alpha,
    a.data,
    a.at,
    a.ld,
    b.data,
    b.at,
    b.ld,
    beta,
    out.data,
    out.at,
    out.ld,
    (out.rows / groups) * out.ld,
  );
}
