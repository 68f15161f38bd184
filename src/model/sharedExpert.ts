import type { Matrix } from '../memory/weight';
import type { Planner, Workspace } from '../memory/workspace';
import { Layer, type LayerOptions, SwiGLU } from './layers';

export interface SharedExpertSlots {
  tokens: number;
  swiglu: ReturnType<SwiGLU['plan']>;
  /** [T,H] the expert's output */
  out: number;
  /** [T] a, the sigmoid of the gate's logit */
  gate: number;
  /** int32 [T] 0..T-1: each token's own row */
  rows: number;
}

export interface SharedExpertScratch {
  swiglu: ReturnType<SwiGLU['planBackward']>;
  /** [T,H] */
  dOut: number;
  /** [T] */
  dGate: number;
}

/**
 * y = a SwiGLU(x), a = sigmoid(x wg^T): the expert that every token passes beside the chosen ones (Rajbhandari et al. 2022;
 * Qwen2-MoE weighs it by the gate). Parameters: shared_expert.w1, w3 [F,H], w2 [H,F], shared_expert_gate.weight [1,H].
 * Backward: docs/gradients/moe.md#shared-expert
 */
export class SharedExpert extends Layer<SharedExpertSlots, SharedExpertScratch> {
  readonly #swiglu: SwiGLU;
  readonly #gate: Matrix;

  /** @param options.scale factor of the output, > 0. Default 1. */
  constructor(dim: number, ffnDim: number, options: LayerOptions & { scale?: number } = {}) {
    super(dim, dim, options, ['scale']);
    const prefix = options.prefix ?? '';
    const { store } = this;
    this.#swiglu = new SwiGLU(dim, ffnDim, { store, prefix: `${prefix}shared_expert.`, scale: options.scale });
    this.#gate = store.addMatrix(1, dim);
    store.expose(`${prefix}shared_expert_gate.weight`, [1, dim], this.#gate);
    this.built();
  }

  plan(planner: Planner, batch: number, seq: number): SharedExpertSlots {
    const tokens = batch * seq;
    return {
      tokens,
      swiglu: this.#swiglu.plan(planner, batch, seq),
      out: planner.floats(tokens * this.inDim),
      gate: planner.floats(tokens),
      rows: planner.ints(tokens),
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): SharedExpertScratch {
    const tokens = batch * seq;
    const swiglu = this.#swiglu.planBackward(planner, batch, seq);
    return { swiglu, dOut: planner.floats(tokens * this.inDim), dGate: planner.floats(tokens) };
  }

  forwardAt(ws: Workspace, s: SharedExpertSlots, x: number, y: number, accumulate: boolean): void {
    const { kernels: k, inDim: H } = this;
    const { tokens } = s;
    const f = ws.floats;
    this.#swiglu.forwardAt(ws, s.swiglu, x, s.out, false);
    this.#gate.multiply(k, tokens, f, x, 0, f, s.gate);
    for (let t = 0; t < tokens; t++) {
      f[s.gate + t] = 1 / (1 + Math.exp(-f[s.gate + t]));
      ws.ints[s.rows + t] = t;
    }
    if (!accumulate) f.fill(0, y, y + tokens * H);
    k.scatterAddRows(f, s.out, tokens, ws.ints, s.rows, f, s.gate, f, y, tokens, 1, H);
  }

  backwardAt(
    ws: Workspace,
    s: SharedExpertSlots,
    { swiglu, dOut, dGate }: SharedExpertScratch,
    x: number,
    dy: number,
    dx: number,
    accumulate: boolean,
  ): void {
    const { kernels: k, inDim: H } = this;
    const { tokens, gate } = s;
    const { gradBeta } = this.store;
    const f = ws.floats;
    k.scatterAddRowsBackward(
      f, dy, f, s.out, tokens, ws.ints, s.rows, f, gate, f, dOut, f, dGate, tokens, 1, H,
    );
    for (let t = 0; t < tokens; t++) f[dGate + t] *= f[gate + t] * (1 - f[gate + t]);
    this.#swiglu.backwardAt(ws, s.swiglu, swiglu, x, dOut, dx, accumulate);
    k.sgemm(true, false, 1, H, tokens, 1, f, dGate, 1, f, x, H, gradBeta, this.#gate.grad!, 0, H);
    k.sgemm(false, false, tokens, H, 1, 1, f, dGate, 1, this.#gate.data, 0, H, 1, f, dx, H);
  }
}
