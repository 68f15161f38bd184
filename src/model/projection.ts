import type { IndexView, MatrixView } from '../memory/matrixView';
import type { Products } from '../memory/operations/matmul';
import type { ParameterStore } from '../memory/parameters';
import type { Matrix, Panel } from '../memory/weight';
import type { Planner } from '../memory/workspace';
import type { Dropout } from './dropout';
import type { AdapterScratch, AdapterSlots, LowRankAdapter } from './lowRankAdapter';

/** Rows of a projection's matrix that an adapter can change, under the name of their module: 'layers.0.self_attn.q_proj'. */
export interface ProjectionPart {
  readonly name: string;
  /** Rows of each matrix; parts lie one below the other. */
  readonly rows: number;
}

/** What all adapters of a model have in common, which decides the memory of their passes. */
export interface AdapterForm {
  readonly rank: number;
  readonly dropout: Dropout;
}

/** How the rows of x belong to the matrices of a projection that has several: the experts'. */
export interface RowGroups {
  /** [E+1] rows of matrix e: rowStarts[e] .. rowStarts[e+1]; a whole array or a part of one. */
  readonly rowStarts: IndexView;
  /** [rows] the token of each row. */
  readonly slotToToken: IndexView;
}

/** Adapters that only some rows of a pass use. */
export interface RowAdapters {
  /** y += alpha adapter(x) in the rows that have an adapter at this projection. */
  addAt(projection: Projection, x: MatrixView, y: MatrixView, alpha: number, groups: RowGroups | null): void;
  /** y += adapter(ids) in the rows that have an adapter at the embedding. */
  addEmbeddedAt(ids: IndexView, y: MatrixView): void;
}

export interface ProjectionSlots {
  /** One for each part; empty in a model without adapters. */
  readonly adapters: readonly AdapterSlots[];
  /** What multiplies by the matrix, in the plan's precision. */
  readonly products: Products;
}

export interface ProjectionScratch {
  readonly adapters: readonly AdapterScratch[];
  /** null unless the model keeps matrices as they are stored. */
  readonly panel: Panel | null;
}

/**
 * A product by a weight matrix with the adapters of its parts: y = alpha (x W^T + sum_a adapter_a(x)) + beta y. Every layer
 * multiplies through one, so that this is the one place where adapters enter and where a matrix that isn't trained saves
 * its gradient. With `groups` (one matrix for each group of rows) it is the experts' product.
 * docs/gradients/lora.md
 */
export class Projection {
  /** The adapter of each part, null for none. */
  adapters: readonly (LowRankAdapter | null)[] = [];
  /** null in a model without adapters. */
  form: AdapterForm | null = null;
  /** Set while a step runs some of whose rows have adapters of their own. */
  rowAdapters: RowAdapters | null = null;

  constructor(
    readonly store: ParameterStore,
    readonly matrix: Matrix,
    readonly parts: readonly ProjectionPart[],
  ) {}

  /** @param rows rows of x. */
  plan(planner: Planner, rows: number): ProjectionSlots {
    const adapters = this.#planEach(planner, rows, (u, kept): AdapterSlots => ({ u, kept }));
    const products = this.store.productsIn(this.matrix.isGate ? 'float32' : planner.precision);
    return { adapters, products };
  }

  planBackward(planner: Planner, rows: number): ProjectionScratch {
    return {
      adapters: this.#planEach(planner, rows, (du, dKept): AdapterScratch => ({ du, dKept })),
      panel: this.store.isStored ? this.matrix.planPanel(planner) : null,
    };
  }

  /** Plans for every part, adapted or not: blocks share plans, and one may have adapters where another has none. */
  #planEach<T>(
    planner: Planner,
    rows: number,
    made: (ofRank: MatrixView, ofInput: MatrixView | null) => T,
  ): T[] {
    const { form, parts, matrix } = this;
    if (form === null) return [];
    const drops = form.dropout.rate > 0 && matrix.count === 1;
    return parts.map(() => {
      return made(planner.floats(rows, form.rank), drops ? planner.floats(rows, matrix.cols) : null);
    });
  }

  forwardAt(
    { adapters, products }: ProjectionSlots,
    x: MatrixView,
    y: MatrixView,
    alpha = 1,
    beta = 0,
    groups: RowGroups | null = null,
  ): void {
    const starts = groups?.rowStarts ?? null;
    if (starts === null) this.matrix.multiply(products, x, y, alpha, beta);
    else this.matrix.multiplyGroups(products, starts, x, y, alpha, beta);
    for (let i = 0; i < adapters.length; i++) this.adapters[i]?.forwardAt(adapters[i], x, y, alpha, starts);
    this.rowAdapters?.addAt(this, x, y, alpha, groups);
  }

  /** dx = alpha dy (W + sum_a s B_a A_a) + beta dx, and the gradients of what is trained. */
  backwardAt(
    slots: ProjectionSlots,
    { adapters, panel }: ProjectionScratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    alpha = 1,
    beta = 0,
  ): void {
    const { matrix, store } = this;
    matrix.addGradient(slots.products, dy, x, store.gradBeta, alpha);
    matrix.multiplyBack(slots.products, dy, dx, alpha, beta, panel);
    for (let i = 0; i < adapters.length; i++) {
      this.adapters[i]?.backwardAt(slots.adapters[i], adapters[i], x, dy, dx, alpha, null);
    }
  }

  /** As `backwardAt` with beta 0, for a forward with groups. */
  groupsBackwardAt(
    slots: ProjectionSlots,
    { adapters, panel }: ProjectionScratch,
    groups: IndexView,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    alpha = 1,
  ): void {
    const { matrix, store } = this;
    matrix.addGroupGradients(slots.products, groups, dy, x, store.gradBeta, alpha);
    matrix.multiplyGroupsBack(slots.products, groups, dy, dx, alpha, 0, panel);
    for (let i = 0; i < adapters.length; i++) {
      this.adapters[i]?.backwardAt(slots.adapters[i], adapters[i], x, dy, dx, alpha, groups);
    }
  }
}
