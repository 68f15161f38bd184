import type { Kernels } from '../backend/kernels';

/** How a weight starts: Kaiming normal with std sqrt(2/fanIn) (He et al. 2015, eq. 10), or all ones, or zeros. */
export type Init = { kind: 'kaiming'; fanIn: number } | { kind: 'ones' } | { kind: 'zeros' };

/** What a weight is for, which decides whether it decays: TrainConfig.weightDecayExclude. */
export type WeightKind = 'matrix' | 'embedding' | 'norm' | 'bias';

/**
 * What a layer computes with. `data` and `grad` are views into the store's flat buffers; `grad` is null until
 * gradients are first needed.
 */
export class Weight {
  data!: Float32Array;
  grad: Float32Array | null = null;
  /** Whether writing is an error: ParameterStore.freeze. */
  frozen = false;
  /** Which buffer of the store, and where in it. */
  shard = 0;
  offset = 0;

  constructor(
    readonly size: number,
    readonly init: Init,
    readonly kind: WeightKind,
  ) {}
}

/** Measured: a router's 4 columns of output take 1.2 to 1.5 times as long by a packed matrix. */
const LEAST_PACKED_ROWS = 16;

/** Measured: x of 1 or 2 rows mostly takes longer by a packed matrix, up to 1.8 times (256x256); 4 rows don't. */
const MOST_ROWS_BY_MATRIX = 2;

/**
 * `count` matrices W [rows,cols], one behind the other, by which forwards multiply: y = x W^T. Matrices that are read
 * together are one (q|k|v, gate|up), and so are those of all experts (count).
 */
export class Matrix extends Weight {
  /** The copy that products are fastest by, of a frozen model; null otherwise, and where the backend has none. */
  packed: Float32Array | null = null;

  constructor(
    readonly rows: number,
    readonly cols: number,
    readonly count: number,
    kind: WeightKind = 'matrix',
  ) {
    super(rows * cols * count, { kind: 'kaiming', fanIn: cols }, kind);
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

  /** y = alpha x W^T + beta y by the first matrix: x [m,cols] from xAt on, y [m,rows] from yAt on. */
  multiply(
    kernels: Kernels, m: number, x: Float32Array, xAt: number, beta: number, y: Float32Array, yAt: number, alpha = 1,
  ): void {
    const { rows, cols, packed } = this;
    if (packed === null || m <= MOST_ROWS_BY_MATRIX) {
      kernels.sgemm(false, true, m, rows, cols, alpha, x, xAt, cols, this.data, 0, cols, beta, y, yAt, rows);
    } else {
      kernels.sgemmPacked(m, rows, cols, alpha, x, xAt, cols, packed, 0, beta, y, yAt, rows);
    }
  }

  /** y = alpha x W_g^T by matrix g for the rows of group g, rowStarts[at + g] .. rowStarts[at + g + 1]. */
  multiplyGroups(
    kernels: Kernels, rowStarts: Int32Array, at: number, x: Float32Array, xAt: number, y: Float32Array, yAt: number,
    alpha = 1,
  ): void {
    const { rows, cols, count, packed } = this;
    const m = rowStarts[at + count] - rowStarts[at];
    if (packed === null || m <= MOST_ROWS_BY_MATRIX) {
      kernels.sgemmGrouped(
        true, count, rowStarts, at, rows, cols, alpha, x, xAt, cols, this.data, 0, cols, rows * cols, 0, y, yAt, rows,
      );
    } else {
      kernels.sgemmGroupedPacked(
        count, rowStarts, at, rows, cols, alpha, x, xAt, cols, packed, 0, 0, y, yAt, rows,
      );
    }
  }
}

/**
 * b [size], added to every row of y [m,size]. To spread it over rows, and to sum over them, is a matmul with a column of
 * m ones, which lies at ws[onesAt].
 */
export class Bias extends Weight {
  constructor(size: number) {
    super(size, { kind: 'zeros' }, 'bias');
  }

  /** y = alpha b + beta y in every row; fills the ones. */
  spread(kernels: Kernels, m: number, ws: Float32Array, onesAt: number, beta: number, y: Float32Array, yAt: number, alpha = 1) {
    const { size } = this;
    ws.fill(1, onesAt, onesAt + m);
    kernels.sgemm(false, false, m, size, 1, alpha, ws, onesAt, 1, this.data, 0, size, beta, y, yAt, size);
  }

  /** grad = alpha sum over rows of dy + gradBeta grad. The ones are those that `spread` left. */
  addGradient(kernels: Kernels, m: number, ws: Float32Array, onesAt: number, dyAt: number, gradBeta: number, alpha = 1) {
    const { size } = this;
    kernels.sgemm(false, false, 1, size, m, alpha, ws, onesAt, m, ws, dyAt, size, gradBeta, this.grad!, 0, size);
  }
}
