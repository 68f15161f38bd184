import type { Kernels } from '../backend/kernels';
import type { StoredMatrices } from '../backend/kernels/stored';
import { type IndexView, type MatrixView, Space, viewIn } from './matrixView';
import {
  matmul,
  matmulGrouped,
  matmulGroupedTransA,
  matmulTransA,
  matmulTransB,
  type Products,
} from './operations/matmul';
import { gatherRows } from './operations/mixture';
import { gatherStored, multiplyStored, multiplyStoredGroups } from './operations/stored';
import type { Planner } from './workspace';

/** The initial values of a weight: Kaiming normal with std sqrt(2/fanIn) (He et al. 2015, eq. 10), ones, or zeros. */
export type Init = { kind: 'kaiming'; fanIn: number } | { kind: 'ones' } | { kind: 'zeros' };

/** The kind of a weight, which decides whether it decays (TrainConfig.weightDecayExclude). */
export type WeightKind = 'matrix' | 'embedding' | 'norm' | 'bias';

/** Rows [row, row + rows) of matrices [matrix, matrix + count) of a weight, which a training changes. */
export interface TrainedPart {
  readonly matrix: number;
  readonly count: number;
  readonly row: number;
  readonly rows: number;
  /** [count rows, cols] the gradient; empty until gradients are first needed. */
  readonly gradient: MatrixView;
  /** Index of the store's gradient buffer, followed by the offset in it. */
  readonly shard: number;
  readonly offset: number;
}

/** A weight of a layer: a matrix in the store's flat buffers, and its gradient in the gradient buffers. */
export class Weight {
  /** [rows,cols]; empty until the store allocates. */
  readonly values: MatrixView;
  /** [rows,cols] gradient of the whole; empty until gradients are first needed, and where only parts are trained. */
  readonly gradient: MatrixView;
  /** What a training changes, in the order of memory; empty for a weight that stays as it is. */
  trained: readonly TrainedPart[] = [];
  /** Whether writing is an error, which ParameterStore.freeze sets. */
  frozen = false;
  /** Whether it is kept as it is stored (a Table), which takes no room in the store's buffers. */
  isStored = false;
  /** Of matrices that are divided over ranks the number of the first one here; null for a weight that all ranks have. */
  dividedFrom: number | null = null;
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

  /** How it is cut into what can be trained alone: `rows` of each of `count` matrices. A vector is one column. */
  get form(): { readonly count: number; readonly rows: number; readonly cols: number } {
    return { count: 1, rows: this.size, cols: 1 };
  }

  /**
   * Elements to draw apart for the initial values of a part: from the begin of the whole, since a stream of random numbers has no other;
   * 0 for what begins there.
   */
  get drawnApart(): number {
    const { dividedFrom, size, form } = this;
    return dividedFrom && size ? dividedFrom * form.rows * form.cols + size : 0;
  }

  /** A view for the gradient of `rows` such rows, without memory yet. */
  emptyRows(rows: number): MatrixView {
    return viewIn(new Space(new Float32Array(0)), 0, 1, rows);
  }

  get isTrained(): boolean {
    return this.trained.length > 0;
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

  override get form() {
    return { count: this.count, rows: this.rows, cols: this.cols };
  }

  override emptyRows(rows: number): MatrixView {
    return viewIn(new Space(new Float32Array(0)), 0, rows, this.cols);
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

/** Elements of a panel, about: 2 MB of float32. A taller panel makes fewer, larger products. */
const PANEL = 2 ** 19;

/** Rows of a stored matrix widened to float32, for products that no kernel makes of the stored form. */
export interface Panel {
  /** [P] the indices of the rows */
  readonly ids: IndexView;
  /** [P,cols] the rows */
  readonly rows: MatrixView;
}

/**
 * `count` contiguous matrices W [rows,cols], which forwards multiply by: y = x W^T. Matrices that are read together are
 * stored as one (q|k|v, gate|up), and those of all experts are stacked (count). In the methods for groups, rows
 * rowStarts[g] .. rowStarts[g+1] of x and y belong to matrix g, with rowStarts [count+1].
 */
export class Matrix extends Table {
  /** The packed copy, with which products of many rows are fastest; null if the model keeps none. */
  packed: Float32Array | null = null;

  /** @param isGate whether it is a router's, which is float32 in every model and in every precision. */
  constructor(
    rows: number,
    cols: number,
    count: number,
    kind: WeightKind = 'matrix',
    readonly isGate = false,
  ) {
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
  multiply(kernels: Products, x: MatrixView, y: MatrixView, alpha = 1, beta = 0): void {
    const { rows, cols, packed, stored } = this;
    if (stored !== null) {
      for (const part of stored) multiplyStored(kernels, part.matrices, x, y, part.at, alpha, beta);
      return;
    }
    const { sgemmPacked } = kernels;
    if (packed === null || sgemmPacked === undefined || !this.#byPacked(x.rows)) {
      matmulTransB(kernels, x, this.values, y, alpha, beta);
      return;
    }
    sgemmPacked(x.rows, rows, cols, alpha, x.data, x.at, x.ld, packed, 0, beta, y.data, y.at, y.ld);
  }

  /** Reserves what the backwards need if the matrix is stored. */
  planPanel(planner: Planner): Panel {
    const rows = Math.min(this.rows, Math.max(1, Math.floor(PANEL / this.cols)));
    return { ids: planner.ints(rows), rows: planner.floats(rows, this.cols) };
  }

  /** dx = alpha dy W + beta dx: the backward of `multiply`. A stored matrix needs a panel. */
  multiplyBack(
    kernels: Products,
    dy: MatrixView,
    dx: MatrixView,
    alpha = 1,
    beta = 0,
    panel: Panel | null = null,
  ): void {
    if (this.stored === null) matmul(kernels, dy, this.values, dx, alpha, beta);
    else this.#multiplyPanels(kernels, 0, dy, dx, alpha, beta, panel!);
  }

  /** dx = alpha dy W_index + beta dx, widening some rows of the stored W at a time. */
  #multiplyPanels(
    kernels: Products,
    index: number,
    dy: MatrixView,
    dx: MatrixView,
    alpha: number,
    beta: number,
    { ids, rows }: Panel,
  ): void {
    let factor = beta;
    for (const { at, matrices } of this.stored!) {
      for (let row = 0; row < matrices.rows; row += rows.rows) {
        const count = Math.min(rows.rows, matrices.rows - row);
        for (let i = 0; i < count; i++) ids.data[ids.at + i] = row + i;
        const widened = rows.slice(0, count);
        gatherStored(kernels, matrices, ids.slice(0, count), widened, index);
        matmul(kernels, dy.columns(at + row, count), widened, dx, alpha, factor);
        factor = 1;
      }
    }
  }

  /** gradient = alpha dy^T x + gradBeta gradient, for the rows that are trained. */
  addGradient(kernels: Products, dy: MatrixView, x: MatrixView, gradBeta: number, alpha = 1): void {
    for (const { row, rows, gradient } of this.trained) {
      const upstream = rows === dy.cols ? dy : dy.columns(row, rows);
      matmulTransA(kernels, upstream, x, gradient, alpha, gradBeta);
    }
  }

  /** y = alpha x W_g^T + beta y for the rows of each group g. */
  multiplyGroups(
    kernels: Products,
    rowStarts: IndexView,
    x: MatrixView,
    y: MatrixView,
    alpha = 1,
    beta = 0,
  ): void {
    const { rows, cols, count, packed, values, stored } = this;
    const { data: starts, at } = rowStarts;
    if (stored !== null) {
      for (const part of stored)
        multiplyStoredGroups(kernels, part.matrices, rowStarts, x, y, part.at, alpha, beta);
      return;
    }
    const { sgemmGroupedPacked } = kernels;
    const rowsEach = (starts[at + count] - starts[at]) / count;
    if (packed === null || sgemmGroupedPacked === undefined || !this.#byPacked(rowsEach)) {
      matmulGrouped(kernels, true, rowStarts, x, values, y, alpha, beta);
      return;
    }
    sgemmGroupedPacked(
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
      beta,
      y.data,
      y.at,
      y.ld,
    );
  }

  /** dx = alpha dy W_g + beta dx for the rows of each group g. A stored matrix needs a panel. */
  multiplyGroupsBack(
    kernels: Products,
    rowStarts: IndexView,
    dy: MatrixView,
    dx: MatrixView,
    alpha = 1,
    beta = 0,
    panel: Panel | null = null,
  ): void {
    if (this.stored === null) {
      matmulGrouped(kernels, false, rowStarts, dy, this.values, dx, alpha, beta);
      return;
    }
    const { data: starts, at } = rowStarts;
    for (let g = 0; g < this.count; g++) {
      const [first, rows] = [starts[at + g], starts[at + g + 1] - starts[at + g]];
      if (rows === 0) continue;
      const [upstream, out] = [dy.slice(first, rows), dx.slice(first, rows)];
      this.#multiplyPanels(kernels, g, upstream, out, alpha, beta, panel!);
    }
  }

  /** gradient_g = alpha dy^T x + gradBeta gradient_g over the rows of each group g, for what is trained. */
  addGroupGradients(
    kernels: Products,
    rowStarts: IndexView,
    dy: MatrixView,
    x: MatrixView,
    gradBeta: number,
    alpha = 1,
  ): void {
    for (const { matrix, count, row, rows, gradient } of this.trained) {
      const starts = count === this.count ? rowStarts : rowStarts.slice(matrix, count + 1);
      const upstream = rows === dy.cols ? dy : dy.columns(row, rows);
      matmulGroupedTransA(kernels, starts, upstream, x, gradient, alpha, gradBeta);
    }
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
    for (const part of this.trained) {
      const upstream = part.rows === dy.cols ? dy : dy.columns(part.row, part.rows);
      matmul(kernels, row, upstream, part.gradient, alpha, gradBeta);
    }
  }
}
