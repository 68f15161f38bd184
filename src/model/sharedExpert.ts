import type { IndexView, MatrixView } from '../memory/matrixView';
import { scatterAddRows, scatterAddRowsBackward } from '../memory/operations/mixture';
import { clear } from '../memory/operations/rows';
import type { Planner } from '../memory/workspace';
import { Layer, type LayerOptions } from './layer';
import { SwiGLU } from './layers';
import { Projection, type ProjectionScratch, type ProjectionSlots } from './projection';

export interface SharedExpertSlots {
  gateProduct: ProjectionSlots;
  swiglu: ReturnType<SwiGLU['plan']>;
  /** [T,H] the expert's output */
  out: MatrixView;
  /** [T] a, the sigmoid of the gate's logit */
  gate: MatrixView;
  /** [T] 0..T-1, each token's own row */
  rows: IndexView;
}

export interface SharedExpertScratch {
  gateProduct: ProjectionScratch;
  swiglu: ReturnType<SwiGLU['planBackward']>;
  /** [T,H] gradient of the expert's output */
  dOut: MatrixView;
  /** [T] gradient of a, then of its logit */
  dGate: MatrixView;
}

/**
 * y = a SwiGLU(x), a = sigmoid(x wg^T): an expert that every token passes beside its chosen ones (Rajbhandari et al. 2022;
 * the gate a is Qwen2-MoE's). Parameters: shared_expert.w1, w3 [F,H], w2 [H,F], shared_expert_gate.weight [1,H].
 * Backward: docs/gradients/moe.md#shared-expert
 */
export class SharedExpert extends Layer<SharedExpertSlots, SharedExpertScratch> {
  readonly #swiglu: SwiGLU;
  readonly #gate: Projection;

  /** @param options.scale factor of the output, > 0. Default 1. */
  constructor(dim: number, ffnDim: number, options: LayerOptions & { scale?: number | undefined } = {}) {
    super(dim, dim, options, ['scale']);
    const prefix = options.prefix ?? '';
    const { store } = this;
    this.#swiglu = new SwiGLU(dim, ffnDim, {
      store,
      prefix: `${prefix}shared_expert.`,
      scale: options.scale,
    });
    const gate = store.addGate(1, dim);
    store.expose(`${prefix}shared_expert_gate.weight`, [1, dim], gate);
    this.#gate = new Projection(store, gate, [{ name: `${prefix}shared_expert_gate`, rows: 1 }]);
    this.built();
  }

  override get projections(): readonly Projection[] {
    return [...this.#swiglu.projections, this.#gate];
  }

  plan(planner: Planner, batch: number, seq: number): SharedExpertSlots {
    const tokens = batch * seq;
    return {
      gateProduct: this.#gate.plan(planner, tokens),
      swiglu: this.#swiglu.plan(planner, batch, seq),
      out: planner.floats(tokens, this.inDim),
      gate: planner.floats(tokens),
      rows: planner.ints(tokens),
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): SharedExpertScratch {
    const tokens = batch * seq;
    const swiglu = this.#swiglu.planBackward(planner, batch, seq);
    const gateProduct = this.#gate.planBackward(planner, tokens);
    return { gateProduct, swiglu, dOut: planner.floats(tokens, this.inDim), dGate: planner.floats(tokens) };
  }

  forwardAt(s: SharedExpertSlots, x: MatrixView, y: MatrixView, accumulate: boolean): void {
    const { out, gate, rows } = s;
    this.#swiglu.forwardAt(s.swiglu, x, out, false);
    this.#gate.forwardAt(s.gateProduct, x, gate);
    for (let t = 0; t < x.rows; t++) {
      gate.data[gate.at + t] = 1 / (1 + Math.exp(-gate.data[gate.at + t]));
      rows.data[rows.at + t] = t;
    }
    if (!accumulate) clear(y);
    scatterAddRows(this.kernels, out, rows, gate, y);
  }

  backwardAt(
    s: SharedExpertSlots,
    { gateProduct, swiglu, dOut, dGate }: SharedExpertScratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    accumulate: boolean,
  ): void {
    const { kernels } = this;
    const { out, gate, rows } = s;
    scatterAddRowsBackward(kernels, dy, out, rows, gate, dOut, dGate);
    for (let t = 0; t < x.rows; t++) {
      const a = gate.data[gate.at + t];
      dGate.data[dGate.at + t] *= a * (1 - a);
    }
    this.#swiglu.backwardAt(s.swiglu, swiglu, x, dOut, dx, accumulate);
    this.#gate.backwardAt(s.gateProduct, gateProduct, x, dGate, dx, 1, 1);
  }
}
