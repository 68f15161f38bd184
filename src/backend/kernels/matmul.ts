/**
 * Matrix products: plain, batched, grouped by experts, of operands rounded to bfloat16, by packed weights. Conventions and errors: `Kernels`.
 *
 * Sums are float32. Where `info.matmul` is 'split', large products are sums of six products of bfloat16 parts, a = a1 + a2 + a3:
 * a1 b1 + a1 b2 + a2 b1 + a1 b3 + a2 b2 + a3 b1. What that leaves out is below 2^-24 of |a b|, and the whole error is no larger
 * than that of multiply-adds; products in which numbers might be lost are computed by those (docs/performance.md).
 */
export interface MatmulKernels {
  /**
   * C = alpha * op(A) op(B) + beta * C, op(X) = X or X^T.
   * op(A) is [m,k]: A is [m,k] with lda >= k, or [k,m] with lda >= m when transA. op(B) is [k,n]: B is [k,n]
   * with ldb >= n, or [n,k] with ldb >= k when transB. C is [m,n], ldc >= n. beta = 0 never reads C.
   */
  sgemm(
    transA: boolean,
    transB: boolean,
    m: number,
    n: number,
    k: number,
    alpha: number,
    a: Float32Array,
    aOffset: number,
    lda: number,
    b: Float32Array,
    bOffset: number,
    ldb: number,
    beta: number,
    c: Float32Array,
    cOffset: number,
    ldc: number,
  ): void;

  /**
   * `batch` matmuls of one shape; matrix i of X starts at xOffset + i*strideX (strideA or strideB may be 0).
   * Elements of different C must not coincide: RangeError "sgemmBatch: strideC must keep the matrices apart, got ...".
   */
  sgemmBatch(
    transA: boolean,
    transB: boolean,
    m: number,
    n: number,
    k: number,
    alpha: number,
    a: Float32Array,
    aOffset: number,
    lda: number,
    strideA: number,
    b: Float32Array,
    bOffset: number,
    ldb: number,
    strideB: number,
    beta: number,
    c: Float32Array,
    cOffset: number,
    ldc: number,
    strideC: number,
    batch: number,
  ): void;

  /**
   * One matmul for each group of rows: rows rowStarts[g] .. rowStarts[g+1] of A and C belong to group g.
   * C_g = alpha * A_g op(B_g) + beta * C_g, with A_g [rows_g,k], B_g at bOffset + g*strideB ([k,n], or [n,k]
   * when transB). rowStarts: Int32Array [groups+1], >= 0 and non-decreasing. A group may be empty.
   */
  sgemmGrouped(
    transB: boolean,
    groups: number,
    rowStarts: Int32Array,
    rowStartsOffset: number,
    n: number,
    k: number,
    alpha: number,
    a: Float32Array,
    aOffset: number,
    lda: number,
    b: Float32Array,
    bOffset: number,
    ldb: number,
    strideB: number,
    beta: number,
    c: Float32Array,
    cOffset: number,
    ldc: number,
  ): void;

  /**
   * The weight gradient of `sgemmGrouped`: C_g = alpha * A_g^T B_g + beta * C_g, with A_g [rows_g,m] and
   * B_g [rows_g,n] the rows of group g, C_g [m,n] at cOffset + g*strideC, apart as those of sgemmBatch. An empty
   * group gives beta * C_g.
   */
  sgemmGroupedTransA(
    groups: number,
    rowStarts: Int32Array,
    rowStartsOffset: number,
    m: number,
    n: number,
    alpha: number,
    a: Float32Array,
    aOffset: number,
    lda: number,
    b: Float32Array,
    bOffset: number,
    ldb: number,
    beta: number,
    c: Float32Array,
    cOffset: number,
    ldc: number,
    strideC: number,
  ): void;

  /**
   * `sgemm` of mixed precision: the elements of A and B are rounded to the nearest bfloat16 (8 bits, ties to even; NaN stays
   * NaN, what is from 2^128 (1 - 2^-9) on becomes infinite), their products, which float32 holds exactly, are summed in float32.
   * Arrays, alpha and beta are float32 as ever. On a matrix unit numbers below 2^-126 count as 0, operands, products and sums
   * alike. The same sums in another order are all that backends differ in.
   */
  gemmBfloat16(
    transA: boolean,
    transB: boolean,
    m: number,
    n: number,
    k: number,
    alpha: number,
    a: Float32Array,
    aOffset: number,
    lda: number,
    b: Float32Array,
    bOffset: number,
    ldb: number,
    beta: number,
    c: Float32Array,
    cOffset: number,
    ldc: number,
  ): void;

  /** `sgemmGrouped` of operands rounded as those of gemmBfloat16. */
  gemmBfloat16Grouped(
    transB: boolean,
    groups: number,
    rowStarts: Int32Array,
    rowStartsOffset: number,
    n: number,
    k: number,
    alpha: number,
    a: Float32Array,
    aOffset: number,
    lda: number,
    b: Float32Array,
    bOffset: number,
    ldb: number,
    strideB: number,
    beta: number,
    c: Float32Array,
    cOffset: number,
    ldc: number,
  ): void;

  /** `sgemmGroupedTransA` of operands rounded as those of gemmBfloat16. */
  gemmBfloat16GroupedTransA(
    groups: number,
    rowStarts: Int32Array,
    rowStartsOffset: number,
    m: number,
    n: number,
    alpha: number,
    a: Float32Array,
    aOffset: number,
    lda: number,
    b: Float32Array,
    bOffset: number,
    ldb: number,
    beta: number,
    c: Float32Array,
    cOffset: number,
    ldc: number,
    strideC: number,
  ): void;

  /**
   * Elements of a packed matrix [n,k], a multiple of 16. 0 means that packing is useless, because a library does every
   * matmul or the matrix is empty: callers then multiply the matrix as it is.
   */
  packedSize(n: number, k: number): number;

  /**
   * Copies `groups` matrices [n,k], matrix g at bOffset + g*strideB, into the backend's own layout, in which products
   * by them are fastest: packed matrix g at packedOffset + g*packedSize(n,k). Only the same backend and instruction
   * set can read it.
   */
  packWeights(
    b: Float32Array,
    bOffset: number,
    ldb: number,
    strideB: number,
    groups: number,
    n: number,
    k: number,
    packed: Float32Array,
    packedOffset: number,
  ): void;

  /** C = alpha * A B^T + beta * C, as sgemm with transB, for a B [n,k] packed by packWeights. */
  sgemmPacked(
    m: number,
    n: number,
    k: number,
    alpha: number,
    a: Float32Array,
    aOffset: number,
    lda: number,
    packed: Float32Array,
    packedOffset: number,
    beta: number,
    c: Float32Array,
    cOffset: number,
    ldc: number,
  ): void;

  /** As sgemmGrouped with transB, with one matrix packed by packWeights for each group. */
  sgemmGroupedPacked(
    groups: number,
    rowStarts: Int32Array,
    rowStartsOffset: number,
    n: number,
    k: number,
    alpha: number,
    a: Float32Array,
    aOffset: number,
    lda: number,
    packed: Float32Array,
    packedOffset: number,
    beta: number,
    c: Float32Array,
    cOffset: number,
    ldc: number,
  ): void;
}
