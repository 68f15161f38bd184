import { checkFactor, checkInteger } from '../base/checks';
import type { Parameter } from '../memory/parameters';
import type { Matrix, Weight } from '../memory/weight';
import type { Planner, Workspace } from '../memory/workspace';
import { Tensor } from '../tensor/tensor';
import type { RopeTable, SequenceSlots } from './attention';
import { type AttentionDims, type AttentionScratch, type AttentionSlots, MQAttention } from './attention';
import { Layer, type LayerOptions, RMSNorm } from './layers';
import { SharedExpert, type SharedExpertScratch, type SharedExpertSlots } from './sharedExpert';

/** What a router's backward adds to the upstream gradient. Shared by all routers of a model. */
export interface RouterLosses {
  /** alpha of the balance loss alpha * E * sum_e f_e P_e. */
  auxLossAlpha: number;
  /** Weight of the z-loss, the mean of (log sum_e exp logit_e)^2 over tokens (Zoph et al. 2022, eq. 5). */
  zLossCoef: number;
  /** Share of these tokens in the whole batch: gradient accumulation weighs micro-batches by it. */
  weight: number;
}

export interface RouterSlots {
  tokens: number;
  /** [T,E] */
  logits: number;
  /** [T,E] softmax over all experts */
  probs: number;
  /** [T] log-sum-exp of the logits */
  lse: number;
  /** [E] mean of probs over tokens */
  probMeans: number;
  /** [T,K] gate weights as the backward needs them */
  weights: number;
  /** int32 [T,K] chosen experts, best first */
  indices: number;
  /** int32 [E+1]: expert e owns slots rowStarts[e] .. rowStarts[e+1] */
  rowStarts: number;
  /** int32 [T*K] */
  slotToToken: number;
  /** int32 [T,K] */
  tokenToSlots: number;
}

export interface RouterScratch {
  dLogits: number;
}

/** One routing, for people to read. T tokens, E experts, K choices. */
export interface Routing {
  /** [T,E] before the softmax */
  logits: Tensor<'float32'>;
  /** [T,E] */
  probs: Tensor<'float32'>;
  /** int32 [T,K], largest p + b first */
  indices: Tensor<'int32'>;
  /** [T,K], summing to 1 unless they aren't renormalised */
  weights: Tensor<'float32'>;
}

/**
 * Chooses K of E experts for each token: p = softmax(x Wg^T) over all experts, the K largest of p + b (ties: lower
 * index), their p, divided by their sum unless `renormalise` is false (Shazeer et al. 2017; Jiang et al. 2024). The
 * selection bias b changes the choice alone (Wang et al. 2024). As a layer its output is the gate weights [T,K].
 * Backward: through weights and renormalisation into every logit, plus the gradients of the balance and z-loss set in
 * `losses`; none for b. docs/gradients/router.md
 */
export class Router extends Layer<RouterSlots, RouterScratch> {
  /** Wg [nExperts, dim]. */
  readonly weight: Parameter;
  /** b [nExperts], zeros at first; a buffer, not a parameter: `updateSelectionBias` moves it, no gradient does. */
  readonly selectionBias: Parameter;
  readonly losses: RouterLosses;
  readonly renormalise: boolean;
  /** Assignments to each expert in the last forward; they add up to T*K. */
  readonly counts: Int32Array;
  /** P_e of the last forward: mean probability of each expert over all tokens. */
  readonly meanProbs: Float64Array;
  /** Mean squared log-sum-exp of the logits in the last forward; 0 without tokens. */
  meanSquaredLse = 0;
  readonly #gate: Matrix;
  readonly #bias: Weight;

  constructor(
    dim: number,
    readonly nExperts: number,
    readonly topK: number,
    options: LayerOptions & { losses?: RouterLosses; renormalise?: boolean } = {},
  ) {
    super(dim, topK, options, ['losses', 'renormalise']);
    this.renormalise = options.renormalise ?? true;
    checkInteger('Router: nExperts', nExperts, 1);
    if (topK > nExperts) {
      throw new RangeError(`Router: topK must be at most nExperts (${nExperts}), got ${topK}`);
    }
    this.losses = options.losses ?? { auxLossAlpha: 0, zLossCoef: 0, weight: 1 };
    this.#gate = this.store.addMatrix(nExperts, dim);
    this.weight = this.store.expose(`${options.prefix ?? ''}weight`, [nExperts, dim], this.#gate);
    this.#bias = this.store.addBuffer(`${options.prefix ?? ''}e_score_correction_bias`, nExperts);
    this.selectionBias = this.store.buffers[this.store.buffers.length - 1];
    this.counts = new Int32Array(nExperts);
    this.meanProbs = new Float64Array(nExperts);
    this.built();
  }

  plan(planner: Planner, batch: number, seq: number): RouterSlots {
    const { nExperts: E, topK: K } = this;
    const tokens = batch * seq;
    return {
      tokens,
      logits: planner.floats(tokens * E), probs: planner.floats(tokens * E), lse: planner.floats(tokens),
      probMeans: planner.floats(E), weights: planner.floats(tokens * K), indices: planner.ints(tokens * K),
      rowStarts: planner.ints(E + 1), slotToToken: planner.ints(tokens * K), tokenToSlots: planner.ints(tokens * K),
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): RouterScratch {
    return { dLogits: planner.floats(batch * seq * this.nExperts) };
  }

  /** y: the gate weights [T,K]; the slots keep them too. */
  forwardAt(ws: Workspace, s: RouterSlots, x: number, y: number): void {
    const { kernels: k, nExperts: E, topK: K } = this;
    const f = ws.floats;
    this.#gate.multiply(k, s.tokens, f, x, 0, f, s.logits);
    k.routeForward(
      f, s.logits, this.#biasInUse(), 0, f, s.probs, f, s.lse, ws.ints, s.indices, f, s.weights, ws.ints, s.rowStarts,
      ws.ints, s.slotToToken, ws.ints, s.tokenToSlots, f, s.probMeans, s.tokens, E, K, this.renormalise,
    );
    if (y !== s.weights) f.copyWithin(y, s.weights, s.weights + s.tokens * K);
    for (let e = 0; e < E; e++) {
      this.counts[e] = ws.ints[s.rowStarts + e + 1] - ws.ints[s.rowStarts + e];
      this.meanProbs[e] = f[s.probMeans + e];
    }
    this.meanSquaredLse = s.tokens === 0 ? 0 : k.sumSquares(f, s.lse, s.tokens) / s.tokens;
  }

  /** b, or null when all of it is 0: the kernel is faster without. */
  #biasInUse(): Float32Array | null {
    const { data } = this.#bias;
    for (let e = 0; e < data.length; e++) if (data[e] !== 0) return data;
    return null;
  }

  /** dy: gradient of the gate weights [T,K]. */
  backwardAt(
    ws: Workspace, s: RouterSlots, scratch: RouterScratch, x: number, dy: number, dx: number, accumulate: boolean,
  ): void {
    const { kernels: k, inDim: H, nExperts: E, topK: K } = this;
    const { auxLossAlpha, zLossCoef, weight } = this.losses;
    const { tokens } = s;
    const { dLogits } = scratch;
    const f = ws.floats;
    // alpha E sum_e f_e P_e with f_e = count_e/(T K), dP_e/dp[t,e] = 1/T.
    const auxScale = tokens > 0 ? (weight * auxLossAlpha * E) / (tokens * K * tokens) : 0;
    const zScale = tokens > 0 ? (weight * 2 * zLossCoef) / tokens : 0;
    k.routeBackward(
      f, s.probs, f, s.lse, ws.ints, s.indices, f, s.weights, f, dy, ws.ints, s.rowStarts, f, dLogits,
      tokens, E, K, this.renormalise, auxScale, zScale,
    );
    k.sgemm(true, false, E, H, tokens, 1, f, dLogits, E, f, x, H, this.store.gradBeta, this.#gate.grad!, 0, H);
    k.sgemm(false, false, tokens, H, E, 1, f, dLogits, E, this.#gate.data, 0, H, accumulate ? 1 : 0, f, dx, H);
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

  /** coef * mean_t lse_t^2 of the last forward. 0 before any forward, and for a coef of 0. */
  computeZLoss(coef: number): number {
    return coef === 0 ? 0 : coef * this.meanSquaredLse;
  }

  /**
   * Balances the load without a loss (Wang et al. 2024, alg. 1): b_e += rate * sign(1/E - load_e), so that an expert that
   * got less than an even share is chosen more easily from now on.
   * @param load the share of a batch's assignments that each expert got, [E]. @param rate >= 0; 0 changes nothing.
   * @throws SgemoeError SGEMOE_MODEL_FROZEN
   */
  updateSelectionBias(load: ArrayLike<number>, rate: number): void {
    this.store.requireWritable();
    const { data } = this.#bias;
    // Shares are quotients of integers: one that is even equals 1/E exactly.
    for (let e = 0; e < data.length; e++) data[e] += rate * Math.sign(1 / data.length - load[e]);
  }

  /** Routes x [B,S,dim] or [T,dim] and returns everything there is to see. */
  route(x: Tensor): Routing {
    this.forward(x);
    const { ws, slots } = this.pass!;
    return this.readRouting(ws, slots);
  }

  /** Copies a routing out of a workspace. */
  readRouting(ws: Workspace, s: RouterSlots): Routing {
    const { nExperts: E, topK: K } = this;
    const type = this.kernels.floatType as 'float32'; // float64 hides behind the same type
    const floats = (at: number, cols: number) =>
      new Tensor(ws.floats.slice(at, at + s.tokens * cols), [s.tokens, cols], type);
    const indices = ws.ints.slice(s.indices, s.indices + s.tokens * K);
    return {
      logits: floats(s.logits, E), probs: floats(s.probs, E), weights: floats(s.weights, K),
      indices: new Tensor(indices, [s.tokens, K], 'int32'),
    };
  }
}

export interface MoEDims {
  hiddenDim: number;
  nExperts: number;
  topKExperts: number;
  ffnDim: number;
  /** Whether gate weights are divided by their sum. Default true. */
  normTopkProb?: boolean;
  /** Width of the shared expert, 0 for none. Default 0. */
  sharedFfnDim?: number;
  /** r, a number > 0. Default 1. */
  residualMultiplier?: number;
}

export interface MoESlots {
  router: RouterSlots;
  /** [T*K, H]: each expert's tokens, expert by expert */
  gathered: number;
  /** [T*K, 2F] */
  gateUp: number;
  /** [T*K, F] */
  act: number;
  /** [T*K, H] */
  expertOut: number;
  shared: SharedExpertSlots | null;
}

export interface MoEScratch {
  router: RouterScratch;
  shared: SharedExpertScratch | null;
  dWeights: number;
  dExpertOut: number;
  dAct: number;
  dGateUp: number;
}

/**
 * y_t = r (sum_j w_tj SwiGLU_e(t,j)(x_t) + Shared(x_t)): K of E experts for each token, none dropped (Shazeer et al. 2017). Tokens are
 * sorted by expert, so that all experts are one grouped matmul a weight matrix. Parameters: gate.weight (router),
 * experts.{e}.w1 (gate), w3 (up) [F,H], w2 (down) [H,F]; in memory one gate|up matrix an expert, experts stacked.
 * With sharedFfnDim, a SharedExpert beside them. Backward: docs/gradients/moe.md
 */
export class MoELayer extends Layer<MoESlots, MoEScratch> {
  readonly router: Router;
  readonly shared: SharedExpert | null;
  readonly #scale: number;
  readonly #gateUp: Matrix;
  readonly #down: Matrix;

  constructor(
    readonly dims: MoEDims,
    options: LayerOptions & { losses?: RouterLosses } = {},
  ) {
    super(dims?.hiddenDim, dims?.hiddenDim, options, ['losses']);
    for (const name of ['nExperts', 'topKExperts', 'ffnDim'] as const) checkInteger(`MoELayer: ${name}`, dims[name], 1);
    const { hiddenDim: H, nExperts: E, ffnDim: F } = dims;
    const prefix = options.prefix ?? '';
    const { store, kernels } = this;
    this.router = new Router(H, E, dims.topKExperts, {
      prefix: `${prefix}gate.`, store, kernels, losses: options.losses, renormalise: dims.normTopkProb,
    });
    this.#scale = dims.residualMultiplier ?? 1;
    checkFactor('MoELayer: residualMultiplier', this.#scale);
    this.#gateUp = store.addMatrix(2 * F, H, E);
    this.#down = store.addMatrix(H, F, E);
    for (let e = 0; e < E; e++) {
      const name = `${prefix}experts.${e}.`;
      store.expose(`${name}w1.weight`, [F, H], this.#gateUp, e * 2 * F * H);
      store.expose(`${name}w2.weight`, [H, F], this.#down, e * H * F);
      store.expose(`${name}w3.weight`, [F, H], this.#gateUp, (e * 2 + 1) * F * H);
    }
    this.shared = dims.sharedFfnDim ? new SharedExpert(H, dims.sharedFfnDim, { store, prefix, scale: this.#scale }) : null;
    this.built();
  }

  plan(planner: Planner, batch: number, seq: number): MoESlots {
    const { hiddenDim: H, topKExperts: K, ffnDim: F } = this.dims;
    const rows = batch * seq * K;
    return {
      router: this.router.plan(planner, batch, seq),
      gathered: planner.floats(rows * H), gateUp: planner.floats(rows * 2 * F), act: planner.floats(rows * F),
      expertOut: planner.floats(rows * H), shared: this.shared?.plan(planner, batch, seq) ?? null,
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): MoEScratch {
    const { hiddenDim: H, topKExperts: K, ffnDim: F } = this.dims;
    const rows = batch * seq * K;
    return {
      router: this.router.planBackward(planner, batch, seq),
      shared: this.shared?.planBackward(planner, batch, seq) ?? null,
      dWeights: planner.floats(rows), dExpertOut: planner.floats(rows * H), dAct: planner.floats(rows * F),
      dGateUp: planner.floats(rows * 2 * F),
    };
  }

  forwardAt(ws: Workspace, s: MoESlots, x: number, y: number, accumulate: boolean): void {
    const { kernels: k } = this;
    const { hiddenDim: H, topKExperts: K, ffnDim: F } = this.dims;
    const r = s.router;
    const f = ws.floats;
    const rows = r.tokens * K;
    this.router.forwardAt(ws, r, x, r.weights);
    k.gatherRows(f, x, r.tokens, ws.ints, r.slotToToken, f, s.gathered, rows, H);
    this.#gateUp.multiplyGroups(k, ws.ints, r.rowStarts, f, s.gathered, f, s.gateUp);
    k.swigluForward(f, s.gateUp, f, s.act, rows, F);
    this.#down.multiplyGroups(k, ws.ints, r.rowStarts, f, s.act, f, s.expertOut, this.#scale);
    if (!accumulate) f.fill(0, y, y + r.tokens * H);
    k.scatterAddRows(f, s.expertOut, rows, ws.ints, r.tokenToSlots, f, r.weights, f, y, r.tokens, K, H);
    if (this.shared) this.shared.forwardAt(ws, s.shared!, x, y, true);
  }

  backwardAt(
    ws: Workspace, s: MoESlots, scratch: MoEScratch, x: number, dy: number, dx: number, accumulate: boolean,
  ): void {
    const { kernels: k } = this;
    const { hiddenDim: H, topKExperts: K } = this.dims;
    const { dExpertOut, dWeights } = scratch;
    const r = s.router;
    const f = ws.floats;
    const rows = r.tokens * K;
    k.scatterAddRowsBackward(
      f, dy, f, s.expertOut, rows, ws.ints, r.tokenToSlots, f, r.weights, f, dExpertOut, f, dWeights, r.tokens, K, H,
    );
    // The gradient of the gathered rows takes the place of the experts' outputs' gradient, which is used up by then.
    this.#expertsBackward(ws, s, scratch, dExpertOut);
    if (!accumulate) f.fill(0, dx, dx + r.tokens * H);
    k.scatterAddRows(f, dExpertOut, rows, ws.ints, r.tokenToSlots, null, 0, f, dx, r.tokens, K, H);
    this.router.backwardAt(ws, r, scratch.router, x, dWeights, dx, true);
    if (this.shared) this.shared.backwardAt(ws, s.shared!, scratch.shared!, x, dy, dx, true);
  }

  /** In: gradient of expertOut [T*K, H] at `d`. Out: gradient of gathered, in the same place. */
  #expertsBackward(ws: Workspace, s: MoESlots, scratch: MoEScratch, d: number): void {
    const { kernels: k } = this;
    const { hiddenDim: H, nExperts: E, topKExperts: K, ffnDim: F } = this.dims;
    const { dAct, dGateUp } = scratch;
    const { tokens, rowStarts } = s.router;
    const f = ws.floats;
    k.sgemmGroupedTransA(
      E, ws.ints, rowStarts, H, F, this.#scale, f, d, H, f, s.act, F, this.store.gradBeta, this.#down.grad!, 0, F, H * F,
    );
    k.sgemmGrouped(
      false, E, ws.ints, rowStarts, F, H, this.#scale, f, d, H, this.#down.data, 0, F, H * F, 0, f, dAct, F,
    );
    k.swigluBackward(f, s.gateUp, f, dAct, f, dGateUp, tokens * K, F);
    k.sgemmGroupedTransA(
      E, ws.ints, rowStarts, 2 * F, H, 1, f, dGateUp, 2 * F, f, s.gathered, H,
      this.store.gradBeta, this.#gateUp.grad!, 0, H, 2 * F * H,
    );
    k.sgemmGrouped(
      false, E, ws.ints, rowStarts, H, 2 * F, 1, f, dGateUp, 2 * F, this.#gateUp.data, 0, H, 2 * F * H, 0, f, d, H,
    );
  }
}

export interface BlockSlots {
  norm1: { rows: number; invRms: number };
  /** [T,H] input of the attention */
  norm1Out: number;
  attention: AttentionSlots;
  /** [T,H] x + attention */
  h: number;
  norm2: { rows: number; invRms: number };
  /** [T,H] input of the experts */
  norm2Out: number;
  moe: MoESlots;
}

export interface BlockScratch {
  attention: AttentionScratch;
  moe: MoEScratch;
  /** [T,H] gradient of a norm's output */
  dNorm: number;
}

export type BlockDims = AttentionDims & MoEDims & { rmsNormEps?: number };

/**
 * h = x + Attention(RMSNorm(x)); y = h + MoE(RMSNorm(h)). Backward in reverse order, the gradient of the residual
 * stream in place: dh = dy + RMSNorm'(MoE'(dy)), dx = dh + RMSNorm'(Attention'(dh)).
 */
export class TransformerBlock extends Layer<BlockSlots, BlockScratch> {
  readonly norm1: RMSNorm;
  readonly attention: MQAttention;
  readonly norm2: RMSNorm;
  readonly moe: MoELayer;

  constructor(
    readonly dims: BlockDims,
    options: LayerOptions & { rope?: RopeTable; losses?: RouterLosses } = {},
  ) {
    super(dims?.hiddenDim, dims?.hiddenDim, options, ['rope', 'losses']);
    const prefix = options.prefix ?? '';
    const { store } = this;
    const eps = dims.rmsNormEps;
    this.norm1 = new RMSNorm(dims.hiddenDim, { store, prefix: `${prefix}input_layernorm.`, eps });
    this.attention = new MQAttention(dims, { store, prefix: `${prefix}self_attn.`, rope: options.rope });
    this.norm2 = new RMSNorm(dims.hiddenDim, { store, prefix: `${prefix}post_attention_layernorm.`, eps });
    this.moe = new MoELayer(dims, { store, prefix: `${prefix}block_sparse_moe.`, losses: options.losses });
    this.built();
  }

  plan(planner: Planner, batch: number, seq: number, sequence?: SequenceSlots): BlockSlots {
    const size = batch * seq * this.inDim;
    return {
      norm1: this.norm1.plan(planner, batch, seq), norm1Out: planner.floats(size),
      attention: this.attention.plan(planner, batch, seq, sequence), h: planner.floats(size),
      norm2: this.norm2.plan(planner, batch, seq), norm2Out: planner.floats(size),
      moe: this.moe.plan(planner, batch, seq),
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): BlockScratch {
    return {
      attention: this.attention.planBackward(planner, batch, seq), moe: this.moe.planBackward(planner, batch, seq),
      dNorm: planner.floats(batch * seq * this.inDim),
    };
  }

  override prepare(ws: Workspace, s: BlockSlots): void {
    this.attention.prepare(ws, s.attention);
  }

  /** Always writes y, which must not overlap x. */
  forwardAt(ws: Workspace, s: BlockSlots, x: number, y: number): void {
    const f = ws.floats;
    const size = s.norm1.rows * this.inDim;
    this.norm1.forwardAt(ws, s.norm1, x, s.norm1Out);
    f.copyWithin(s.h, x, x + size);
    this.attention.forwardAt(ws, s.attention, s.norm1Out, s.h, true);
    this.norm2.forwardAt(ws, s.norm2, s.h, s.norm2Out);
    f.copyWithin(y, s.h, s.h + size);
    this.moe.forwardAt(ws, s.moe, s.norm2Out, y, true);
  }

  /** Always writes dx, which may be dy: then the gradient of the residual stream stays in place. */
  backwardAt(ws: Workspace, s: BlockSlots, scratch: BlockScratch, x: number, dy: number, dx: number): void {
    const f = ws.floats;
    const { dNorm } = scratch;
    if (dx !== dy) f.copyWithin(dx, dy, dy + s.norm1.rows * this.inDim);
    this.moe.backwardAt(ws, s.moe, scratch.moe, s.norm2Out, dx, dNorm, false);
    this.norm2.backwardAt(ws, s.norm2, undefined, s.h, dNorm, dx, true);
    this.attention.backwardAt(ws, s.attention, scratch.attention, s.norm1Out, dx, dNorm, false);
    this.norm1.backwardAt(ws, s.norm1, undefined, x, dNorm, dx, true);
  }
}
