import type { Kernels } from '../backend/kernels';
import type { StoredMatrices } from '../backend/kernels/stored';
import { type IndexView, type MatrixView, Space, viewIn } from './matrixView';
import { matmul, matmulGrouped, matmulGroupedTransA, matmulTransA, matmulTransB } from './operations/matmul';
import { gatherRows } from './operations/mixture';
import { gatherStored, multiplyStored, multiplyStoredGroups } from './operations/stored';
import type { Planner } from './workspace';

/** The initial values of a weight: Kaiming normal with std sqrt(2/fanIn) (He et al. 2015, eq. 10), ones, or zeros. */
export type Init = { kind: 'kaiming'; fanIn: number } | { kind: 'ones' } | { kind: 'zeros' };

/** The kind of a weight, which decides whether it decays (TrainConfig.weightDecayExclude). */
export type WeightKind = 'matrix' | 'embedding' | 'norm' | 'bias';

/** A weight of a layer: a matrix in the store's flat buffers, and its gradient in the gradient buffers. */
export class Weight {
  /** [rows,cols]; empty until the store allocates. */
  readonly values: MatrixView;
  /** [rows,cols] gradient; empty until gradients are first needed. */
  readonly gradient: MatrixView;
  /** Whether writing is an error, which ParameterStore.freeze sets. */
  frozen = false;
  /** Whether it is kept as it is stored (a Table), which takes no room in the store's buffers. */
  isStored = false;
  /** Index of the store's buffer, followed by the offset in it. */
  shard = 0;
  offset = 0;

  constructor(
    rows: number,
    cols: number,
    readonly init: Init,
    readonly kind: WeightKind,
  ) {
    this.values = viewIn(new Space(new Float32Array(0)), 0, rows, cols);
    this.gradient = viewIn(new Space(new Float32Array(0)), 0, rows, cols);
  }

  get size(): number {
    return this.values.size;
  }

  /** The values, row-major; a view of the store's buffer. */
  get data(): Float32Array {
    return this.values.data;
  }

  /** The gradient, row-major: a view of the store's buffer; null until gradients are first needed. */
  get grad(): Float32Array | null {
    const { data } = this.gradient;
    return data.length === 0 ? null : data;
  }
}

/** Rows [at, at + matrices.rows) of each matrix of a table, as they are stored. */
export interface StoredRows {
  readonly at: number;
  readonly matrices: StoredMatrices;
}

/** `count` contiguous matrices [rows,cols] whose rows are read: float32 in the store's buffers, or as they are stored. */
export class Table extends Weight {
  /** Parts that together are all rows; null for float32. */
  stored: readonly StoredRows[] | null = null;

  constructor(
    readonly rows: number,
    readonly cols: number,
    readonly count = 1,
    kind: WeightKind = 'embedding',
  ) {
    super(rows * count, cols, { kind: 'kaiming', fanIn: cols }, kind);
  }

  /** y [n,cols] = the rows ids [n] of the first matrix. */
  gather(kernels: Kernels, ids: IndexView, y: MatrixView): void {
    if (this.stored === null) gatherRows(kernels, this.values, ids, y);
    else gatherStored(kernels, this.stored[0].matrices, ids, y);
  }
}

/** Matrices with fewer rows are not packed: a router's 4 outputs took 1.2 to 1.5 times as long with a packed matrix. */
const LEAST_PACKED_ROWS = 16;

/**
 * Rows of x up to which a small, or large, matrix is multiplied as it is although it has a packed copy. Measured on Zen 4
 * with AVX-512 (bench/packed.js, docs/performance.md): with the copy, small matrices are 4 to 30 % faster from 3 rows on;
 * large ones, which come from memory, take up to twice as long at 8 rows, equally long at 16, and 12 to 40 % less from 32 on.
 */
const MOST_ROWS_BY_SMALL = 2;
const MOST_ROWS_BY_LARGE = 16;
/** Elements from which a matrix is large: 256 KB. */
const LARGE = 2 ** 16;

/**
 * `count` contiguous matrices W [rows,cols], which forwards multiply by: y = x W^T. Matrices that are read together are
 * stored as one (q|k|v, gate|up), and those of all experts are stacked (count). In the methods for groups, rows
 * rowStarts[g] .. rowStarts[g+1] of x and y belong to matrix g, with rowStarts [count+1].
 */
export class Matrix extends Table {
  /** The packed copy, with which products of many rows are fastest; null if the model keeps none. */
  packed: Float32Array | null = null;

  constructor(rows: number, cols: number, count: number, kind: WeightKind = 'matrix') {
    super(rows, cols, count, kind);
  }

  /** Whether the packed copy is faster for `rows` rows of x for each matrix. */
  #byPacked(rows: number): boolean {
    const most = this.rows * this.cols < LARGE ? MOST_ROWS_BY_SMALL : MOST_ROWS_BY_LARGE;
    return rows > most;
  }

  /** Elements of the packed copy; 0 if packing is useless. */
  packedSize(kernels: Kernels): number {
    return this.rows < LEAST_PACKED_ROWS ? 0 : this.count * kernels.packedSize(this.rows, this.cols);
  }

  pack(kernels: Kernels, packed: Float32Array): void {
    const { rows, cols, count } = this;
    kernels.packWeights(this.data, 0, cols, rows * cols, count, rows, cols, packed, 0);
    this.packed = packed;
  }

  /** y = alpha x W^T + beta y with the first matrix: x [T,cols], y [T,rows]. */
  multiply(kernels: Kernels, x: MatrixView, y: MatrixView, alpha = 1, beta = 0): void {
    const { rows, cols, packed, stored } = this;
    if (stored !== null) {
      for (const part of stored) multiplyStored(kernels, part.matrices, x, y, part.at, alpha, beta);
      return;
    }
    if (packed === null || !this.#byPacked(x.rows)) {
      matmulTransB(kernels, x, this.values, y, alpha, beta);
      return;
    }
    kernels.sgemmPacked(x.rows, rows, cols, alpha, x.data, x.at, x.ld, packed, 0, beta, y.data, y.at, y.ld);
  }

  /** dx = alpha dy W + beta dx: the backward of `multiply`. */
  multiplyBack(kernels: Kernels, dy: MatrixView, dx: MatrixView, alpha = 1, beta = 0): void {
    matmul(kernels, dy, this.values, dx, alpha, beta);
  }

  /** gradient = alpha dy^T x + gradBeta gradient. */
  addGradient(kernels: Kernels, dy: MatrixView, x: MatrixView, gradBeta: number, alpha = 1): void {
    matmulTransA(kernels, dy, x, this.gradient, alpha, gradBeta);
  }

  /** y = alpha x W_g^T for the rows of each group g. */
  multiplyGroups(kernels: Kernels, rowStarts: IndexView, x: MatrixView, y: MatrixView, alpha = 1): void {
    const { rows, cols, count, packed, values, stored } = this;
    const { data: starts, at } = rowStarts;
    if (stored !== null) {
      for (const part of stored)
        multiplyStoredGroups(kernels, part.matrices, rowStarts, x, y, part.at, alpha);
      return;
    }
    if (packed === null || !this.#byPacked((starts[at + count] - starts[at]) / count)) {
      matmulGrouped(kernels, true, rowStarts, x, values, y, alpha);
      return;
    }
    kernels.sgemmGroupedPacked(
      count,
      starts,
      at,
      rows,
      cols,
      alpha,
      x.data,
      x.at,
      x.ld,
      packed,
      0,
      0,
      y.data,
      y.at,
      y.ld,
    );
  }

  /** dx = alpha dy W_g for the rows of each group g. */
  multiplyGroupsBack(
    kernels: Kernels,
    rowStarts: IndexView,
    dy: MatrixView,
    dx: MatrixView,
    alpha = 1,
  ): void {
    matmulGrouped(kernels, false, rowStarts, dy, this.values, dx, alpha);
  }

  /** gradient_g = alpha dy^T x + gradBeta gradient_g over the rows of each group g. */
  addGroupGradients(
    kernels: Kernels,
    rowStarts: IndexView,
    dy: MatrixView,
    x: MatrixView,
    gradBeta: number,
    alpha = 1,
  ): void {
    matmulGroupedTransA(kernels, rowStarts, dy, x, this.gradient, alpha, gradBeta);
  }
}

/** A vector of T ones, as a column [T,1] and as a row [1,T]. */
export interface Ones {
  readonly column: MatrixView;
  readonly row: MatrixView;
}

/** Reserves `tokens` ones, which `Bias.spread` fills. */
export function planOnes(planner: Planner, tokens: number): Ones {
  const column = planner.floats(tokens);
  return { column, row: viewIn(column.space, column.at, 1, tokens) };
}

/**
 * A bias b [size], added to every row of y [T,size]. Adding it and summing its gradient over rows are products with
 * ones.
 */
export class Bias extends Weight {
  constructor(size: number) {
    super(1, size, { kind: 'zeros' }, 'bias');
  }

  /** y = alpha b + beta y in every row; fills the ones. */
  spread(kernels: Kernels, { column }: Ones, y: MatrixView, alpha = 1, beta = 0): void {
    column.data.fill(1, column.at, column.at + column.rows);
    matmul(kernels, column, this.values, y, alpha, beta);
  }

  /** gradient = alpha sum_t dy_t + gradBeta gradient, with the ones that `spread` filled. */
  addGradient(kernels: Kernels, { row }: Ones, dy: MatrixView, gradBeta: number, alpha = 1): void {
    matmul(kernels, row, dy, this.gradient, alpha, gradBeta);
  }
}
