import type { IndexView, MatrixView } from '../memory/matrixView';
import { swiglu, swigluBackward } from '../memory/operations/rows';
import type { ParameterStore } from '../memory/parameters';
import type { Planner } from '../memory/workspace';
import { Projection, type ProjectionScratch, type ProjectionSlots, type RowGroups } from './projection';

export interface ExpertsDims {
  hiddenDim: number;
  ffnDim: number;
  /** Number of experts of the layer. */
  nExperts: number;
}

/** Experts [first, first + count) of a layer. */
export interface ExpertRange {
  readonly first: number;
  readonly count: number;
}

export interface ExpertsSlots {
  products: { gateUp: ProjectionSlots; down: ProjectionSlots };
  /** [R,2F] gate|up */
  gateUp: MatrixView;
  /** [R,F] silu(gate) up */
  act: MatrixView;
}

export interface ExpertsScratch {
  products: { gateUp: ProjectionScratch; down: ProjectionScratch };
  /** [R,F] gradient of act */
  dAct: MatrixView;
  /** [R,2F] gradient of gateUp */
  dGateUp: MatrixView;
}

/** What computes the experts of a layer for R rows that are sorted by expert. */
export interface RowExperts<Slots = unknown, Scratch = unknown> {
  /** The products that adapters can join. */
  readonly projections: readonly Projection[];
  plan(planner: Planner, rows: number): Slots;
  planBackward(planner: Planner, rows: number): Scratch;
  /** y [R,H] = r SwiGLU_e(x) for the rows x [R,H] of each expert e. */
  forwardAt(s: Slots, groups: RowGroups, x: MatrixView, y: MatrixView): void;
  /** Replaces dy [R,H], the gradient of y, by that of x. */
  backwardAt(s: Slots, scratch: Scratch, rowStarts: IndexView, x: MatrixView, dy: MatrixView): void;
}

/**
 * The experts of a layer, or a range of them, each a SwiGLU times r. One grouped matmul for each weight matrix computes all: memory
 * holds one gate|up matrix [2F,H] and one down matrix [H,F] for each expert, with experts stacked. Parameters:
 * experts.{e}.w1 (gate), w3 (up) [F,H], w2 (down) [H,F], by their numbers in the layer.
 */
export class Experts implements RowExperts<ExpertsSlots, ExpertsScratch> {
  readonly projections: readonly [gateUp: Projection, down: Projection];
  readonly #store: ParameterStore;
  readonly #ffnDim: number;
  readonly #scale: number;

  /** @param scale r. @param range of the experts here, where they are divided over ranks. */
  constructor(
    store: ParameterStore,
    prefix: string,
    { hiddenDim: H, ffnDim: F, nExperts }: ExpertsDims,
    scale: number,
    range?: ExpertRange,
  ) {
    this.#store = store;
    this.#ffnDim = F;
    this.#scale = scale;
    const { first, count } = range ?? { first: 0, count: nExperts };
    const reserve = (rows: number, cols: number) =>
      range ? store.addDivided(rows, cols, range) : store.addMatrix(rows, cols, count);
    const gateUp = reserve(2 * F, H);
    const down = reserve(H, F);
    for (let e = 0; e < count; e++) {
      const name = `${prefix}experts.${first + e}.`;
      store.expose(`${name}w1.weight`, [F, H], gateUp, e * 2 * F * H);
      store.expose(`${name}w2.weight`, [H, F], down, e * H * F);
      store.expose(`${name}w3.weight`, [F, H], gateUp, (e * 2 + 1) * F * H);
    }
    this.projections = [
      new Projection(store, gateUp, [{ name: `${prefix}experts.gate_up`, rows: 2 * F }]),
      new Projection(store, down, [{ name: `${prefix}experts.down`, rows: H }]),
    ];
  }

  plan(planner: Planner, rows: number): ExpertsSlots {
    const [gateUp, down] = this.projections;
    return {
      products: { gateUp: gateUp.plan(planner, rows), down: down.plan(planner, rows) },
      gateUp: planner.floats(rows, 2 * this.#ffnDim),
      act: planner.floats(rows, this.#ffnDim),
    };
  }

  planBackward(planner: Planner, rows: number): ExpertsScratch {
    const [gateUp, down] = this.projections;
    return {
      products: { gateUp: gateUp.planBackward(planner, rows), down: down.planBackward(planner, rows) },
      dAct: planner.floats(rows, this.#ffnDim),
      dGateUp: planner.floats(rows, 2 * this.#ffnDim),
    };
  }

  forwardAt(s: ExpertsSlots, groups: RowGroups, x: MatrixView, y: MatrixView): void {
    const [gateUp, down] = this.projections;
    gateUp.forwardAt(s.products.gateUp, x, s.gateUp, 1, 0, groups);
    swiglu(this.#store.kernels, s.gateUp, s.act);
    down.forwardAt(s.products.down, s.act, y, this.#scale, 0, groups);
  }

  backwardAt(
    s: ExpertsSlots,
    { products, dAct, dGateUp }: ExpertsScratch,
    rowStarts: IndexView,
    x: MatrixView,
    dy: MatrixView,
  ): void {
    const [gateUp, down] = this.projections;
    down.groupsBackwardAt(s.products.down, products.down, rowStarts, s.act, dy, dAct, this.#scale);
    swigluBackward(this.#store.kernels, s.gateUp, dAct, dGateUp);
    gateUp.groupsBackwardAt(s.products.gateUp, products.gateUp, rowStarts, x, dGateUp, dy);
  }
}
