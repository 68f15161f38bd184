import type { Kernels } from '../kernels';
import { type Area, matrix, reads, repeated, requireApart, requireDistinct, writes } from './areas';
import { type Definition, type Definitions, requireLd, requireRowStarts } from './checks';
import { Scratch } from './scratch';

// A tile of 2 x 4 sums fits the registers; rows of A are packed BLOCK_ROWS at a time, columns of B in panels.
const TILE_ROWS = 2;
const TILE_COLS = 4;
const BLOCK_ROWS = 64;

const packedA = new Scratch();
const packedB = new Scratch();
const tile = new Float64Array(TILE_ROWS * TILE_COLS);

const rounding = new Float32Array(1);
const roundingBits = new Uint32Array(rounding.buffer);

/** The bfloat16 nearest to x: ties to even, overflow to infinity, NaN stays NaN. */
function toBfloat16(x: number): number {
  if (Number.isNaN(x)) return x;
  rounding[0] = x;
  const bits = roundingBits[0];
  roundingBits[0] = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
  return rounding[0];
}

/**
 * Packs a panel in the order in which the tile reads it, whatever the transposition:
 * dst[p*width + w] = x[start + w*widthStep + p*depthStep] for w < used, 0 for the other w < width.
 */
function pack(
  dst: Float64Array,
  dstOffset: number,
  x: Float32Array,
  start: number,
  width: number,
  used: number,
  widthStep: number,
  depth: number,
  depthStep: number,
  rounded: boolean,
): void {
  for (let p = 0; p < depth; p++) {
    const to = dstOffset + p * width;
    const from = start + p * depthStep;
    for (let w = 0; w < used; w++) dst[to + w] = x[from + w * widthStep];
    for (let w = used; w < width; w++) dst[to + w] = 0;
  }
  if (!rounded) return;
  for (let i = dstOffset; i < dstOffset + depth * width; i++) dst[i] = toBfloat16(dst[i]);
}

/** tile[r, c] = sum_p panelA[p, r] * panelB[p, c]. */
function multiplyPanels(a: Float64Array, aOffset: number, b: Float64Array, depth: number): void {
  let s00 = 0,
    s01 = 0,
    s02 = 0,
    s03 = 0;
  let s10 = 0,
    s11 = 0,
    s12 = 0,
    s13 = 0;
  for (let p = 0, ia = aOffset, ib = 0; p < depth; p++, ia += TILE_ROWS, ib += TILE_COLS) {
    const a0 = a[ia],
      a1 = a[ia + 1];
    const b0 = b[ib],
      b1 = b[ib + 1],
      b2 = b[ib + 2],
      b3 = b[ib + 3];
    s00 += a0 * b0;
    s01 += a0 * b1;
    s02 += a0 * b2;
    s03 += a0 * b3;
    s10 += a1 * b0;
    s11 += a1 * b1;
    s12 += a1 * b2;
    s13 += a1 * b3;
  }
  tile[0] = s00;
  tile[1] = s01;
  tile[2] = s02;
  tile[3] = s03;
  tile[4] = s10;
  tile[5] = s11;
  tile[6] = s12;
  tile[7] = s13;
}

/** C tile = alpha * tile + beta * C tile. */
function storeTile(
  alpha: number,
  beta: number,
  c: Float32Array,
  cOffset: number,
  ldc: number,
  rows: number,
  cols: number,
): void {
  for (let r = 0; r < rows; r++) {
    const row = cOffset + r * ldc;
    for (let j = 0; j < cols; j++) {
      const value = alpha * tile[r * TILE_COLS + j];
      c[row + j] = beta === 0 ? value : value + beta * c[row + j];
    }
  }
}

/** One matmul with the checked arguments of sgemm or, `rounded`, gemmBfloat16. As in every BLAS, alpha = 0 reads neither A nor B. */
function multiply(
  rounded: boolean,
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
): void {
  if (m === 0 || n === 0) return;
  const depth = alpha === 0 ? 0 : k;
  const aRowStep = transA ? 1 : lda;
  const aDepthStep = transA ? lda : 1;
  const bColStep = transB ? ldb : 1;
  const bDepthStep = transB ? 1 : ldb;
  const panelA = packedA.take((Math.min(m, BLOCK_ROWS) + 1) * depth);
  const panelB = packedB.take(TILE_COLS * depth);
  for (let block = 0; block < m; block += BLOCK_ROWS) {
    const blockEnd = Math.min(m, block + BLOCK_ROWS);
    for (let i = block; i < blockEnd; i += TILE_ROWS) {
      const rows = Math.min(TILE_ROWS, blockEnd - i);
      const start = aOffset + i * aRowStep;
      pack(panelA, (i - block) * depth, a, start, TILE_ROWS, rows, aRowStep, depth, aDepthStep, rounded);
    }
    for (let j = 0; j < n; j += TILE_COLS) {
      const cols = Math.min(TILE_COLS, n - j);
      pack(panelB, 0, b, bOffset + j * bColStep, TILE_COLS, cols, bColStep, depth, bDepthStep, rounded);
      for (let i = block; i < blockEnd; i += TILE_ROWS) {
        multiplyPanels(panelA, (i - block) * depth, panelB, depth);
        storeTile(alpha, beta, c, cOffset + i * ldc + j, ldc, Math.min(TILE_ROWS, blockEnd - i), cols);
      }
    }
  }
}

/** The area of a matrix with `cols` columns that the groups' rows use. */
export function groupRows(
  rowStarts: Int32Array,
  offset: number,
  groups: number,
  cols: number,
  ld: number,
): Area {
  const first = rowStarts[offset],
    end = rowStarts[offset + groups];
  if (first === end) return matrix(0, cols, ld);
  return { ...matrix(end, cols, ld), rows: end - first, first: first * ld };
}

/** Calls body(g, first, rows) for each group, whose rows begin at `first`. */
export function forGroups(
  rowStarts: Int32Array,
  offset: number,
  groups: number,
  body: (g: number, first: number, rows: number) => void,
): void {
  for (let g = 0; g < groups; g++) {
    const first = rowStarts[offset + g];
    body(g, first, rowStarts[offset + g + 1] - first);
  }
}

/** Elements of a packed matrix, which in the reference is the matrix itself with rows without gaps. */
function packedSize(n: number, k: number): number {
  return Math.ceil((n * k) / 16) * 16;
}

type MatmulName =
  | 'sgemm'
  | 'sgemmBatch'
  | 'sgemmGrouped'
  | 'sgemmGroupedTransA'
  | 'gemmBfloat16'
  | 'gemmBfloat16Grouped'
  | 'gemmBfloat16GroupedTransA'
  | 'packedSize'
  | 'packWeights'
  | 'sgemmPacked'
  | 'sgemmGroupedPacked';

/** The definition of sgemm or, `rounded`, gemmBfloat16. */
function plain(name: 'sgemm' | 'gemmBfloat16', rounded: boolean): Definition<Kernels['sgemm']> {
  return {
    signature: `transA:flag transB:flag m n k alpha:real a:floats aOffset lda b:floats bOffset ldb
      beta:real c:floats cOffset ldc`,
    run(transA, transB, m, n, k, alpha, a, aOffset, lda, b, bOffset, ldb, beta, c, cOffset, ldc) {
      requireLd(name, 'lda', lda, transA ? m : k);
      requireLd(name, 'ldb', ldb, transB ? k : n);
      requireLd(name, 'ldc', ldc, n);
      reads(name, 'a', a, aOffset, transA ? matrix(k, m, lda) : matrix(m, k, lda));
      reads(name, 'b', b, bOffset, transB ? matrix(n, k, ldb) : matrix(k, n, ldb));
      writes(name, 'c', c, cOffset, matrix(m, n, ldc));
      requireApart(name);
      multiply(
        rounded,
        transA,
        transB,
        m,
        n,
        k,
        alpha,
        a,
        aOffset,
        lda,
        b,
        bOffset,
        ldb,
        beta,
        c,
        cOffset,
        ldc,
      );
    },
  };
}

/** The definition of sgemmGrouped or, `rounded`, gemmBfloat16Grouped. */
function grouped(
  name: 'sgemmGrouped' | 'gemmBfloat16Grouped',
  rounded: boolean,
): Definition<Kernels['sgemmGrouped']> {
  return {
    signature: `transB:flag groups rowStarts:ints rowStartsOffset n k alpha:real a:floats aOffset lda
      b:floats bOffset ldb strideB beta:real c:floats cOffset ldc`,
    run(
      transB,
      groups,
      rowStarts,
      rowStartsOffset,
      n,
      k,
      alpha,
      a,
      aOffset,
      lda,
      b,
      bOffset,
      ldb,
      strideB,
      beta,
      c,
      cOffset,
      ldc,
    ) {
      requireLd(name, 'lda', lda, k);
      requireLd(name, 'ldb', ldb, transB ? k : n);
      requireLd(name, 'ldc', ldc, n);
      reads(name, 'rowStarts', rowStarts, rowStartsOffset, groups + 1);
      const oneB = transB ? matrix(n, k, ldb) : matrix(k, n, ldb);
      reads(name, 'b', b, bOffset, repeated(groups, oneB, strideB));
      requireRowStarts(name, 'rowStarts', rowStarts, rowStartsOffset, groups);
      reads(name, 'a', a, aOffset, groupRows(rowStarts, rowStartsOffset, groups, k, lda));
      writes(name, 'c', c, cOffset, groupRows(rowStarts, rowStartsOffset, groups, n, ldc));
      requireApart(name);
      forGroups(rowStarts, rowStartsOffset, groups, (g, first, m) => {
        const ag = aOffset + first * lda,
          bg = bOffset + g * strideB,
          cg = cOffset + first * ldc;
        multiply(rounded, false, transB, m, n, k, alpha, a, ag, lda, b, bg, ldb, beta, c, cg, ldc);
      });
    },
  };
}

/** The definition of sgemmGroupedTransA or, `rounded`, gemmBfloat16GroupedTransA. */
function groupedTransA(
  name: 'sgemmGroupedTransA' | 'gemmBfloat16GroupedTransA',
  rounded: boolean,
): Definition<Kernels['sgemmGroupedTransA']> {
  return {
    signature: `groups rowStarts:ints rowStartsOffset m n alpha:real a:floats aOffset lda
      b:floats bOffset ldb beta:real c:floats cOffset ldc strideC`,
    run(
      groups,
      rowStarts,
      rowStartsOffset,
      m,
      n,
      alpha,
      a,
      aOffset,
      lda,
      b,
      bOffset,
      ldb,
      beta,
      c,
      cOffset,
      ldc,
      strideC,
    ) {
      requireLd(name, 'lda', lda, m);
      requireLd(name, 'ldb', ldb, n);
      requireLd(name, 'ldc', ldc, n);
      reads(name, 'rowStarts', rowStarts, rowStartsOffset, groups + 1);
      const areaC = repeated(groups, matrix(m, n, ldc), strideC);
      writes(name, 'c', c, cOffset, areaC);
      requireRowStarts(name, 'rowStarts', rowStarts, rowStartsOffset, groups);
      reads(name, 'a', a, aOffset, groupRows(rowStarts, rowStartsOffset, groups, m, lda));
      reads(name, 'b', b, bOffset, groupRows(rowStarts, rowStartsOffset, groups, n, ldb));
      requireDistinct(name, 'strideC', areaC);
      requireApart(name);
      forGroups(rowStarts, rowStartsOffset, groups, (g, first, k) => {
        const ag = aOffset + first * lda,
          bg = bOffset + first * ldb,
          cg = cOffset + g * strideC;
        multiply(rounded, true, false, m, n, k, alpha, a, ag, lda, b, bg, ldb, beta, c, cg, ldc);
      });
    },
  };
}

export const matmul: Definitions<MatmulName> = {
  sgemm: plain('sgemm', false),
  gemmBfloat16: plain('gemmBfloat16', true),

  sgemmBatch: {
    signature: `transA:flag transB:flag m n k alpha:real a:floats aOffset lda strideA
      b:floats bOffset ldb strideB beta:real c:floats cOffset ldc strideC batch`,
    run(
      transA,
      transB,
      m,
      n,
      k,
      alpha,
      a,
      aOffset,
      lda,
      strideA,
      b,
      bOffset,
      ldb,
      strideB,
      beta,
      c,
      cOffset,
      ldc,
      strideC,
      batch,
    ) {
      const name = 'sgemmBatch';
      requireLd(name, 'lda', lda, transA ? m : k);
      requireLd(name, 'ldb', ldb, transB ? k : n);
      requireLd(name, 'ldc', ldc, n);
      const oneA = transA ? matrix(k, m, lda) : matrix(m, k, lda);
      const oneB = transB ? matrix(n, k, ldb) : matrix(k, n, ldb);
      reads(name, 'a', a, aOffset, repeated(batch, oneA, strideA));
      reads(name, 'b', b, bOffset, repeated(batch, oneB, strideB));
      const areaC = repeated(batch, matrix(m, n, ldc), strideC);
      writes(name, 'c', c, cOffset, areaC);
      if (m === 0 || n === 0) return;
      requireDistinct(name, 'strideC', areaC);
      requireApart(name);
      for (let i = 0; i < batch; i++) {
        const ai = aOffset + i * strideA,
          bi = bOffset + i * strideB,
          ci = cOffset + i * strideC;
        multiply(false, transA, transB, m, n, k, alpha, a, ai, lda, b, bi, ldb, beta, c, ci, ldc);
      }
    },
  },

  sgemmGrouped: grouped('sgemmGrouped', false),
  gemmBfloat16Grouped: grouped('gemmBfloat16Grouped', true),

  sgemmGroupedTransA: groupedTransA('sgemmGroupedTransA', false),
  gemmBfloat16GroupedTransA: groupedTransA('gemmBfloat16GroupedTransA', true),

  packedSize: { signature: 'n k', run: packedSize },

  packWeights: {
    signature: 'b:floats bOffset ldb strideB groups n k packed:floats packedOffset',
    run(b, bOffset, ldb, strideB, groups, n, k, packed, packedOffset) {
      const name = 'packWeights',
        size = packedSize(n, k);
      requireLd(name, 'ldb', ldb, k);
      reads(name, 'b', b, bOffset, repeated(groups, matrix(n, k, ldb), strideB));
      writes(name, 'packed', packed, packedOffset, groups * size);
      if (size === 0) return;
      requireApart(name);
      for (let g = 0; g < groups; g++) {
        for (let j = 0; j < n; j++) {
          const from = bOffset + g * strideB + j * ldb;
          packed.set(b.subarray(from, from + k), packedOffset + g * size + j * k);
        }
      }
    },
  },

  sgemmPacked: {
    signature:
      'm n k alpha:real a:floats aOffset lda packed:floats packedOffset beta:real c:floats cOffset ldc',
    run(m, n, k, alpha, a, aOffset, lda, packed, packedOffset, beta, c, cOffset, ldc) {
      const name = 'sgemmPacked';
      requireLd(name, 'lda', lda, k);
      requireLd(name, 'ldc', ldc, n);
      reads(name, 'a', a, aOffset, matrix(m, k, lda));
      reads(name, 'packed', packed, packedOffset, packedSize(n, k));
      writes(name, 'c', c, cOffset, matrix(m, n, ldc));
      requireApart(name);
      multiply(
        false,
        false,
        true,
        m,
        n,
        k,
        alpha,
        a,
        aOffset,
        lda,
        packed,
        packedOffset,
        k,
        beta,
        c,
        cOffset,
        ldc,
      );
    },
  },

  sgemmGroupedPacked: {
    signature: `groups rowStarts:ints rowStartsOffset n k alpha:real a:floats aOffset lda
      packed:floats packedOffset beta:real c:floats cOffset ldc`,
    run(
      groups,
      rowStarts,
      rowStartsOffset,
      n,
      k,
      alpha,
      a,
      aOffset,
      lda,
      packed,
      packedOffset,
      beta,
      c,
      cOffset,
      ldc,
    ) {
      const name = 'sgemmGroupedPacked',
        size = packedSize(n, k);
      requireLd(name, 'lda', lda, k);
      requireLd(name, 'ldc', ldc, n);
      reads(name, 'rowStarts', rowStarts, rowStartsOffset, groups + 1);
      reads(name, 'packed', packed, packedOffset, groups * size);
      requireRowStarts(name, 'rowStarts', rowStarts, rowStartsOffset, groups);
      reads(name, 'a', a, aOffset, groupRows(rowStarts, rowStartsOffset, groups, k, lda));
      writes(name, 'c', c, cOffset, groupRows(rowStarts, rowStartsOffset, groups, n, ldc));
      requireApart(name);
      forGroups(rowStarts, rowStartsOffset, groups, (g, first, m) => {
        const ag = aOffset + first * lda,
          pg = packedOffset + g * size,
          cg = cOffset + first * ldc;
        multiply(false, false, true, m, n, k, alpha, a, ag, lda, packed, pg, k, beta, c, cg, ldc);
      });
    },
  },
};
