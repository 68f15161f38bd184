import { checkFactor, checkInteger } from '../base/checks';
import { elementsOf, type MatrixView } from '../memory/matrixView';
import {
  gatherRows,
  type RoutingViews,
  route,
  routeBackward,
  scatterAddRows,
  scatterAddRowsBackward,
} from '../memory/operations/mixture';
import { clear, copy, sumSquares } from '../memory/operations/rows';
import type { Parameter } from '../memory/parameters';
import type { Weight } from '../memory/weight';
import type { Planner } from '../memory/workspace';
import { Tensor } from '../tensor/tensor';
import type { ExpertDivision } from './expertLayout';
import { Experts, type RowExperts } from './experts';
import { Layer, type LayerOptions } from './layer';
import { Projection, type ProjectionScratch, type ProjectionSlots } from './projection';
import { SharedExpert, type SharedExpertScratch, type SharedExpertSlots } from './sharedExpert';

/** The losses whose gradients a router's backward adds to the upstream gradient. All routers of a model share them. */
export interface RouterLosses {
  /** Factor alpha of the balance loss alpha * E * sum_e f_e P_e. */
  auxLossAlpha: number;
  /** Weight of the z-loss, the mean of (log sum_e exp logit_e)^2 over tokens (Zoph et al. 2022, eq. 5). */
  zLossCoef: number;
  /** Share of these tokens in the whole batch, by which gradient accumulation weighs micro-batches. */
  weight: number;
}

export interface RouterSlots extends RoutingViews {
  product: ProjectionSlots;
}

export interface RouterScratch {
  product: ProjectionScratch;
  /** [T,E] gradient of the logits */
  dLogits: MatrixView;
}

/** A copy of a routing for users. T tokens, E experts, K choices. */
export interface Routing {
  /** [T,E] before the softmax */
  logits: Tensor<'float32'>;
  /** [T,E] softmax over all experts */
  probs: Tensor<'float32'>;
  /** int32 [T,K] chosen experts, largest p + b first */
  indices: Tensor<'int32'>;
  /** [T,K] gate weights; a token's sum is 1 if they are renormalised */
  weights: Tensor<'float32'>;
}

/**
 * Chooses K of E experts for each token: p = softmax(x Wg^T) over all experts, the K largest of p + b (ties: lower
 * index), their p, divided by their sum unless `renormalise` is false (Shazeer et al. 2017; Jiang et al. 2024). The
 * selection bias b only changes the choice (Wang et al. 2024). The layer's output is the gate weights [T,K].
 * Backward: through weights and renormalisation into every logit, plus the gradients of the balance and z-loss set in
 * `losses`; none for b. docs/gradients/router.md
 */
export class Router extends Layer<RouterSlots, RouterScratch> {
  /** Wg [nExperts, dim]. */
  readonly weight: Parameter;
  /** b [nExperts], initially zeros. It is a buffer, not a parameter: `updateSelectionBias` changes it, no gradient does. */
  readonly selectionBias: Parameter;
  readonly losses: RouterLosses;
  readonly renormalise: boolean;
  /** [E] assignments to each expert in the last forward; they add up to T*K. */
  readonly counts: Int32Array;
  /** [E] P_e of the last forward: mean probability of each expert over all tokens. */
  readonly meanProbs: Float64Array;
  /** Mean squared log-sum-exp of the logits in the last forward; 0 without tokens. */
  meanSquaredLse = 0;
  readonly #gate: Projection;
  readonly #bias: Weight;

  constructor(
    dim: number,
    readonly nExperts: number,
    readonly topK: number,
    options: LayerOptions & { losses?: RouterLosses | undefined; renormalise?: boolean | undefined } = {},
  ) {
    super(dim, topK, options, ['losses', 'renormalise']);
    this.renormalise = options.renormalise ?? true;
    checkInteger('Router: nExperts', nExperts, 1);
    if (topK > nExperts) {
      throw new RangeError(`Router: topK must be at most nExperts (${nExperts}), got ${topK}`);
    }
    this.losses = options.losses ?? { auxLossAlpha: 0, zLossCoef: 0, weight: 1 };
    const { store } = this;
    const prefix = options.prefix ?? '';
    const gate = store.addGate(nExperts, dim);
    this.weight = store.expose(`${prefix}weight`, [nExperts, dim], gate);
    this.#gate = new Projection(store, gate, [{ name: prefix.slice(0, -1), rows: nExperts }]);
    this.#bias = store.addBuffer(`${prefix}e_score_correction_bias`, nExperts);
    this.selectionBias = store.buffers[store.buffers.length - 1];
    this.counts = new Int32Array(nExperts);
    this.meanProbs = new Float64Array(nExperts);
    this.built();
  }

  override get projections(): readonly Projection[] {
    return [this.#gate];
  }

  plan(planner: Planner, batch: number, seq: number): RouterSlots {
    const { nExperts: E, topK: K } = this;
    const tokens = batch * seq;
    return {
      product: this.#gate.plan(planner, tokens),
      logits: planner.floats(tokens, E),
      probs: planner.floats(tokens, E),
      lse: planner.floats(tokens),
      probMeans: planner.floats(E),
      weights: planner.floats(tokens, K),
      indices: planner.ints(tokens, K),
      rowStarts: planner.ints(E + 1),
      slotToToken: planner.ints(tokens * K),
      tokenToSlots: planner.ints(tokens, K),
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): RouterScratch {
    const tokens = batch * seq;
    return {
      product: this.#gate.planBackward(planner, tokens),
      dLogits: planner.floats(tokens, this.nExperts),
    };
  }

  /** y receives the gate weights [T,K]; the slots keep them too. */
  forwardAt(s: RouterSlots, x: MatrixView, y: MatrixView): void {
    const { rowStarts, probMeans, weights, lse } = s;
    this.#gate.forwardAt(s.product, x, s.logits);
    route(this.kernels, s, this.#biasInUse(), this.renormalise);
    if (y !== weights) copy(weights, y);
    for (let e = 0; e < this.nExperts; e++) {
      this.counts[e] = rowStarts.data[rowStarts.at + e + 1] - rowStarts.data[rowStarts.at + e];
      this.meanProbs[e] = probMeans.data[probMeans.at + e];
    }
    this.meanSquaredLse = lse.rows === 0 ? 0 : sumSquares(this.kernels, lse) / lse.rows;
  }

  /** b, or null if all of it is 0, since the kernel is faster without. */
  #biasInUse(): Float32Array | null {
    const { data } = this.#bias;
    for (let e = 0; e < data.length; e++) if (data[e] !== 0) return data;
    return null;
  }

  /** dy is the gradient of the gate weights [T,K]. */
  backwardAt(
    s: RouterSlots,
    { product, dLogits }: RouterScratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    accumulate: boolean,
  ): void {
    const { kernels, nExperts: E, topK: K } = this;
    const { auxLossAlpha, zLossCoef, weight } = this.losses;
    const tokens = x.rows;
    // alpha E sum_e f_e P_e with f_e = count_e/(T K), dP_e/dp[t,e] = 1/T.
    const auxScale = tokens > 0 ? (weight * auxLossAlpha * E) / (tokens * K * tokens) : 0;
    const zScale = tokens > 0 ? (weight * 2 * zLossCoef) / tokens : 0;
    routeBackward(kernels, s, dy, dLogits, this.renormalise, auxScale, zScale);
    this.#gate.backwardAt(s.product, product, x, dLogits, dx, 1, accumulate ? 1 : 0);
  }

  /**
   * alpha * E * sum_e f_e P_e of the last forward (Fedus et al. 2021, eq. 4), f_e the share of the T*K assignments,
   * P_e the mean full-softmax probability. Equals alpha when the load is even. 0 before any forward.
   */
  computeAuxLoss(alpha: number): number {
    let assignments = 0;
    let dot = 0;
    for (let e = 0; e < this.nExperts; e++) {
      assignments += this.counts[e];
      dot += this.counts[e] * this.meanProbs[e];
    }
    return assignments === 0 ? 0 : (alpha * this.nExperts * dot) / assignments;
  }

  /** coef * mean_t lse_t^2 of the last forward; 0 before any forward and for a coef of 0. */
  computeZLoss(coef: number): number {
    return coef === 0 ? 0 : coef * this.meanSquaredLse;
  }

  /**
   * Balances the load without a loss (Wang et al. 2024, alg. 1): b_e += rate * sign(1/E - load_e), so that an expert with
   * less than an even share is chosen more easily from now on.
   * @param load the share of a batch's assignments that each expert got, [E]. @param rate >= 0; 0 changes nothing.
   * @throws SgemoeError SGEMOE_MODEL_FROZEN
   */
  updateSelectionBias(load: ArrayLike<number>, rate: number): void {
    this.store.requireWritable();
    const { data } = this.#bias;
    // Shares are quotients of integers, so an even share equals 1/E exactly.
    for (let e = 0; e < data.length; e++) data[e] += rate * Math.sign(1 / data.length - load[e]);
  }

  /** Routes x [B,S,dim] or [T,dim] and returns a copy of the routing. */
  route(x: Tensor): Routing {
    this.forward(x);
    return this.readRouting(this.pass!.slots);
  }

  /** Copies a routing out of a workspace. */
  readRouting({ logits, probs, weights, indices }: RoutingViews): Routing {
    const type = this.kernels.floatType as 'float32'; // see Kernels.floatType
    const floats = (view: MatrixView) => new Tensor(elementsOf(view), [view.rows, view.cols], type);
    return {
      logits: floats(logits),
      probs: floats(probs),
      weights: floats(weights),
      indices: new Tensor(elementsOf(indices), [indices.rows, indices.cols], 'int32'),
    };
  }
}

/** Prefix of the names of a block's mixture, behind the block's own. */
export const MIXTURE_PREFIX = 'block_sparse_moe.';

export interface MoEDims {
  hiddenDim: number;
  nExperts: number;
  topKExperts: number;
  ffnDim: number;
  /** Whether gate weights are divided by their sum. Default true. */
  normTopkProb?: boolean | undefined;
  /** Width of the shared expert; 0 means none. Default 0. */
  sharedFfnDim?: number | undefined;
  /** Factor r of the output, a number > 0. Default 1. */
  residualMultiplier?: number | undefined;
}

export interface MoESlots {
  router: RouterSlots;
  /** What `RowExperts` keeps. */
  experts: unknown;
  /** [T*K, H] inputs of the experts, sorted by expert */
  gathered: MatrixView;
  /** [T*K, H] outputs of the experts */
  expertOut: MatrixView;
  shared: SharedExpertSlots | null;
}

export interface MoEScratch {
  router: RouterScratch;
  experts: unknown;
  shared: SharedExpertScratch | null;
  /** [T,K] gradient of the gate weights */
  dWeights: MatrixView;
  /** [T*K, H] gradient of the experts' outputs, then of their inputs */
  dExpertOut: MatrixView;
}

/**
 * y_t = r (sum_j w_tj SwiGLU_e(t,j)(x_t) + Shared(x_t)): K of E experts for each token, no token is dropped (Shazeer et al.
 * 2017). Tokens are sorted by expert, for `Experts` or, where the experts are divided over ranks, for the exchange that has them
 * computed. Parameters: gate.weight (router) [E,H], and those of the experts. With sharedFfnDim there is a SharedExpert too.
 * Backward: docs/gradients/moe.md
 */
export class MoELayer extends Layer<MoESlots, MoEScratch> {
  readonly router: Router;
  readonly shared: SharedExpert | null;
  readonly #experts: RowExperts;

  constructor(
    readonly dims: MoEDims,
    options: LayerOptions & {
      losses?: RouterLosses | undefined;
      /** Divides the experts over ranks. Default: all are here. */
      exchange?: ExpertDivision | null | undefined;
    } = {},
  ) {
    super(dims?.hiddenDim, dims?.hiddenDim, options, ['losses', 'exchange']);
    for (const name of ['nExperts', 'topKExperts', 'ffnDim'] as const)
      checkInteger(`MoELayer: ${name}`, dims[name], 1);
    const { hiddenDim: H, nExperts: E, residualMultiplier: scale = 1 } = dims;
    const prefix = options.prefix ?? '';
    const { store, kernels } = this;
    this.router = new Router(H, E, dims.topKExperts, {
      prefix: `${prefix}gate.`,
      store,
      kernels,
      losses: options.losses,
      renormalise: dims.normTopkProb,
    });
    checkFactor('MoELayer: residualMultiplier', scale);
    this.#experts =
      options.exchange?.addLayer(store, prefix, dims, scale) ?? new Experts(store, prefix, dims, scale);
    this.shared = dims.sharedFfnDim ? new SharedExpert(H, dims.sharedFfnDim, { store, prefix, scale }) : null;
    this.built();
  }

  override get projections(): readonly Projection[] {
    const shared = this.shared?.projections ?? [];
    return [...this.router.projections, ...this.#experts.projections, ...shared];
  }

  plan(planner: Planner, batch: number, seq: number): MoESlots {
    const { hiddenDim: H, topKExperts: K } = this.dims;
    const rows = batch * seq * K;
    return {
      experts: this.#experts.plan(planner, rows),
      router: this.router.plan(planner, batch, seq),
      gathered: planner.floats(rows, H),
      expertOut: planner.floats(rows, H),
      shared: this.shared?.plan(planner, batch, seq) ?? null,
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): MoEScratch {
    const { hiddenDim: H, topKExperts: K } = this.dims;
    const tokens = batch * seq;
    const rows = tokens * K;
    return {
      experts: this.#experts.planBackward(planner, rows),
      router: this.router.planBackward(planner, batch, seq),
      shared: this.shared?.planBackward(planner, batch, seq) ?? null,
      dWeights: planner.floats(tokens, K),
      dExpertOut: planner.floats(rows, H),
    };
  }

  forwardAt(s: MoESlots, x: MatrixView, y: MatrixView, accumulate: boolean): void {
    const { kernels } = this;
    const { weights, slotToToken, tokenToSlots } = s.router;
    this.router.forwardAt(s.router, x, weights);
    gatherRows(kernels, x, slotToToken, s.gathered);
    this.#experts.forwardAt(s.experts, s.router, s.gathered, s.expertOut);
    if (!accumulate) clear(y);
    scatterAddRows(kernels, s.expertOut, tokenToSlots, weights, y);
    this.shared?.forwardAt(s.shared!, x, y, true);
  }

  backwardAt(
    s: MoESlots,
    scratch: MoEScratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    accumulate: boolean,
  ): void {
    const { kernels } = this;
    const { dExpertOut, dWeights } = scratch;
    const { tokenToSlots, weights, rowStarts } = s.router;
    scatterAddRowsBackward(kernels, dy, s.expertOut, tokenToSlots, weights, dExpertOut, dWeights);
    this.#experts.backwardAt(s.experts, scratch.experts, rowStarts, s.gathered, dExpertOut);
    if (!accumulate) clear(dx);
    scatterAddRows(kernels, dExpertOut, tokenToSlots, null, dx);
    this.router.backwardAt(s.router, scratch.router, x, dWeights, dx, true);
    this.shared?.backwardAt(s.shared!, scratch.shared!, x, dy, dx, true);
  }
}
