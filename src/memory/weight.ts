import type { Kernels } from '../backend/kernels';
import { type IndexView, type MatrixView, Space, viewIn } from './matrixView';
import { matmul, matmulTransA, matmulTransB } from './operations';
import type { Planner } from './workspace';

/** How a weight starts: Kaiming normal with std sqrt(2/fanIn) (He et al. 2015, eq. 10), or all ones, or zeros. */
export type Init = { kind: 'kaiming'; fanIn: number } | { kind: 'ones' } | { kind: 'zeros' };

/** What a weight is for, which decides whether it decays: TrainConfig.weightDecayExclude. */
export type WeightKind = 'matrix' | 'embedding' | 'norm' | 'bias';

/** What a layer computes with: a matrix in the store's flat buffers, and its gradient in theirs. */
export class Weight {
  /** [rows,cols]; empty until the store allocates. */
  readonly values: MatrixView;
  /** As `values`; empty until gradients are first needed. */
  readonly gradient: MatrixView;
  /** Whether writing is an error: ParameterStore.freeze. */
  frozen = false;
  /** Which buffer of the store, and where in it. */
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

  /** The gradient likewise; null until gradients are first needed. */
  get grad(): Float32Array | null {
    const { data } = this.gradient;
    return data.length === 0 ? null : data;
  }
}

/** Measured: a router's 4 columns of output take 1.2 to 1.5 times as long by a packed matrix. */
const LEAST_PACKED_ROWS = 16;

/**
 * Rows of x up to which a matrix is multiplied as it is although there is a packed copy. Measured on Zen 4 with AVX-512
 * (bench/packed.js, docs/performance.md): small matrices win by the copy from 3 rows on, by 4 to 30 %; larger ones that come
 * from memory take up to twice as long by it at 8 rows, are even at 16 and win by 12 to 40 % from 32 on.
 */
const MOST_ROWS_BY_SMALL = 2;
const MOST_ROWS_BY_LARGE = 16;
/** Elements from which a matrix is large: 256 KB. */
const LARGE = 2 ** 16;

/**
 * `count` matrices W [rows,cols], one behind the other, by which forwards multiply: y = x W^T. Matrices that are read
 * together are one (q|k|v, gate|up), and so are those of all experts (count). Rows of x and y that belong to matrix g, in
 * the methods for groups, are rowStarts[g] .. rowStarts[g+1], rowStarts [count+1].
 */
export class Matrix extends Weight {
  /** The copy that products of many rows are fastest by, where the model keeps one. */
  packed: Float32Array | null = null;

  constructor(
    readonly rows: number,
    readonly cols: number,
    readonly count: number,
    kind: WeightKind = 'matrix',
  ) {
    super(rows * count, cols, { kind: 'kaiming', fanIn: cols }, kind);
  }

  /** Whether so many rows of x for each matrix are multiplied faster by the packed copy. */
  #byPacked(rows: number): boolean {
    const most = this.rows * this.cols < LARGE ? MOST_ROWS_BY_SMALL : MOST_ROWS_BY_LARGE;
    return rows > most;
  }

  /** Elements of the packed copy, 0 where it has no use. */
  packedSize(kernels: Kernels): number {
    return this.rows < LEAST_PACKED_ROWS ? 0 : this.count * kernels.packedSize(this.rows, this.cols);
  }

  pack(kernels: Kernels, packed: Float32Array): void {
    const { rows, cols, count } = this;
    kernels.packWeights(this.data, 0, cols, rows * cols, count, rows, cols, packed, 0);
    this.packed = packed;
  }

  /** y = alpha x W^T + beta y by the first matrix: x [T,cols], y [T,rows]. */
  multiply(kernels: Kernels, x: MatrixView, y: MatrixView, alpha = 1, beta = 0): void {
    const { rows, cols, packed } = this;
    if (packed === null || !this.#byPacked(x.rows)) {
      matmulTransB(kernels, x, this.values, y, alpha, beta);
      return;
    }
    // biome-ignore format: arguments grouped by array
    kernels.sgemmPacked(
      x.rows, rows, cols, alpha, x.data, x.at, x.ld, packed, 0, beta, y.data, y.at, y.ld,
    );
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
    const { rows, cols, count, packed, values } = this;
    const { data: starts, at } = rowStarts;
    if (packed === null || !this.#byPacked((starts[at + count] - starts[at]) / count)) {
      // biome-ignore format: arguments grouped by array
      kernels.sgemmGrouped(
        true, count, starts, at, rows, cols, alpha, x.data, x.at, x.ld,
        values.data, values.at, cols, rows * cols, 0, y.data, y.at, y.ld,
      );
      return;
    }
    // biome-ignore format: arguments grouped by array
    kernels.sgemmGroupedPacked(
      count, starts, at, rows, cols, alpha, x.data, x.at, x.ld, packed, 0, 0, y.data, y.at, y.ld,
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
    const { rows, cols, count, values } = this;
    // biome-ignore format: arguments grouped by array
    kernels.sgemmGrouped(
      false, count, rowStarts.data, rowStarts.at, cols, rows, alpha, dy.data, dy.at, dy.ld,
      values.data, values.at, cols, rows * cols, 0, dx.data, dx.at, dx.ld,
    );
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
    const { rows, cols, count, gradient } = this;
    // biome-ignore format: arguments grouped by array
    kernels.sgemmGroupedTransA(
      count, rowStarts.data, rowStarts.at, rows, cols, alpha, dy.data, dy.at, dy.ld, x.data, x.at, x.ld,
      gradBeta, gradient.data, gradient.at, cols, rows * cols,
    );
  }
}

/** T ones, as a column [T,1] and as a row [1,T]. */
export interface Ones {
  readonly column: MatrixView;
  readonly row: MatrixView;
}

/** Room for `tokens` ones, which `Bias.spread` fills. */
export function planOnes(planner: Planner, tokens: number): Ones {
  const column = planner.floats(tokens);
  return { column, row: viewIn(column.space, column.at, 1, tokens) };
}

/** b [size], added to every row of y [T,size]. To spread it over rows, and to sum over them, are products with ones. */
export class Bias extends Weight {
  constructor(size: number) {
    super(1, size, { kind: 'zeros' }, 'bias');
  }

  /** y = alpha b + beta y in every row; fills the ones. */
  spread(kernels: Kernels, { column }: Ones, y: MatrixView, alpha = 1, beta = 0): void {
    column.data.fill(1, column.at, column.at + column.rows);
    matmul(kernels, column, this.values, y, alpha, beta);
  }

  /** gradient = alpha sum over the rows of dy + gradBeta gradient. The ones are those that `spread` left. */
  addGradient(kernels: Kernels, { row }: Ones, dy: MatrixView, gradBeta: number, alpha = 1): void {
    matmul(kernels, row, dy, this.gradient, alpha, gradBeta);
  }
}
