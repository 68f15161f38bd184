import type { Kernels } from '../backend/kernels';
import type { IndexView, MatrixView } from './matrixView';

/*
 * The kernels on matrix views. This file turns views into the kernels' arrays and scalars; sizes come from the views.
 * Where a kernel takes no leading dimension, rows must be adjacent (ld = cols). backend/kernels.ts has the formulas.
 */

/** out = alpha a b + beta out, a [m,k], b [k,n], out [m,n]. */
export function matmul(k: Kernels, a: MatrixView, b: MatrixView, out: MatrixView, alpha = 1, beta = 0): void {
  checkInner(a.cols, b.rows);
  // biome-ignore format: arguments grouped by array
  k.sgemm(
    false, false, out.rows, out.cols, a.cols, alpha,
    a.data, a.at, a.ld, b.data, b.at, b.ld, beta, out.data, out.at, out.ld,
  );
}

/** out = alpha a^T b + beta out, a [k,m], b [k,n], out [m,n]. */
export function matmulTransA(
  k: Kernels,
  a: MatrixView,
  b: MatrixView,
  out: MatrixView,
  alpha = 1,
  beta = 0,
): void {
  checkInner(a.rows, b.rows);
  // biome-ignore format: arguments grouped by array
  k.sgemm(
    true, false, out.rows, out.cols, a.rows, alpha,
    a.data, a.at, a.ld, b.data, b.at, b.ld, beta, out.data, out.at, out.ld,
  );
}

/** out = alpha a b^T + beta out, a [m,k], b [n,k], out [m,n]. */
export function matmulTransB(
  k: Kernels,
  a: MatrixView,
  b: MatrixView,
  out: MatrixView,
  alpha = 1,
  beta = 0,
): void {
  checkInner(a.cols, b.cols);
  // biome-ignore format: arguments grouped by array
  k.sgemm(
    false, true, out.rows, out.cols, a.cols, alpha,
    a.data, a.at, a.ld, b.data, b.at, b.ld, beta, out.data, out.at, out.ld,
  );
}

function checkInner(a: number, b: number): void {
  if (a !== b) throw new RangeError(`matmul: inner dimensions differ: ${a} and ${b}`);
}

/** x = factor x, rows adjacent. */
export function scale(k: Kernels, x: MatrixView, factor: number): void {
  k.scale(x.data, x.at, x.size, factor);
}

/** The sum of squares of x, rows adjacent. */
export function sumSquares(k: Kernels, x: MatrixView): number {
  return k.sumSquares(x.data, x.at, x.size);
}

/** x = 0, rows adjacent. */
export function clear(x: MatrixView): void {
  x.data.fill(0, x.at, x.at + x.size);
}

/**
 * x = 0 in shared memory, rows adjacent. A matmul over k = 0 is four times as fast as `fill`, which writes single
 * elements.
 */
export function clearShared(k: Kernels, x: MatrixView): void {
  const { rows, cols, data, at, ld } = x;
  k.sgemm(false, false, rows, cols, 0, 1, data, 0, 0, data, 0, cols, 0, data, at, ld);
}

/** to = from; both have one size, adjacent rows and one space. */
export function copy(from: MatrixView, to: MatrixView): void {
  to.data.copyWithin(to.at, from.at, from.at + from.size);
}

/** out[at ..] = the elements of a view with adjacent rows. A loop copies them, since `set` would need a new typed array. */
export function copyOut(from: MatrixView | IndexView, out: Float32Array | Int32Array, at = 0): void {
  const { data, at: first, size } = from;
  for (let i = 0; i < size; i++) out[at + i] = data[first + i];
}

/**
 * RMSNorm of x [T, p size] to y [T, p size], separately for each of the p pieces of a row. All pieces share gamma [size].
 * invRms [p T] is in the order that the backward expects. A norm of whole rows has p = 1.
 */
export function rmsNorm(
  k: Kernels,
  x: MatrixView,
  gamma: MatrixView,
  y: MatrixView,
  invRms: MatrixView,
  eps: number,
): void {
  const size = gamma.size;
  const pieces = x.cols / size;
  // A call norms one piece of all rows, or all pieces of one row, whichever needs fewer calls.
  const down = pieces <= x.rows;
  const calls = down ? pieces : x.rows;
  const rows = down ? x.rows : pieces;
  for (let i = 0; i < calls; i++) {
    const from = x.at + i * (down ? size : x.ld);
    const to = y.at + i * (down ? size : y.ld);
    // biome-ignore format: arguments grouped by array
    k.rmsNormForward(
      x.data, from, down ? x.ld : size, gamma.data, gamma.at, y.data, to, down ? y.ld : size,
      invRms.data, invRms.at + i * rows, rows, size, eps,
    );
  }
}

/** A gain and its gradient. */
export interface Gain {
  readonly values: MatrixView;
  readonly gradient: MatrixView;
}

/** The backward of `rmsNorm`: dx from dy, added to dx or written. It adds to the gain's gradient. */
export function rmsNormBackward(
  k: Kernels,
  x: MatrixView,
  { values: gamma, gradient: dGamma }: Gain,
  invRms: MatrixView,
  dy: MatrixView,
  dx: MatrixView,
  accumulate: boolean,
): void {
  const size = gamma.size;
  const pieces = x.cols / size;
  const down = pieces <= x.rows;
  const calls = down ? pieces : x.rows;
  const rows = down ? x.rows : pieces;
  for (let i = 0; i < calls; i++) {
    const xAt = x.at + i * (down ? size : x.ld);
    const dyAt = dy.at + i * (down ? size : dy.ld);
    const dxAt = dx.at + i * (down ? size : dx.ld);
    // biome-ignore format: arguments grouped by array
    k.rmsNormBackward(
      x.data, xAt, down ? x.ld : size, gamma.data, gamma.at, invRms.data, invRms.at + i * rows,
      dy.data, dyAt, down ? dy.ld : size, dx.data, dxAt, down ? dx.ld : size, accumulate,
      dGamma.data, dGamma.at, rows, size,
    );
  }
}

/** y [T,F] = silu(gate) up, gateUp [T,2F]. */
export function swiglu(k: Kernels, gateUp: MatrixView, y: MatrixView): void {
  k.swigluForward(gateUp.data, gateUp.at, y.data, y.at, y.rows, y.cols);
}

/** dGateUp [T,2F] from dy [T,F]. */
export function swigluBackward(k: Kernels, gateUp: MatrixView, dy: MatrixView, dGateUp: MatrixView): void {
  // biome-ignore format: arguments grouped by array
  k.swigluBackward(
    gateUp.data, gateUp.at, dy.data, dy.at, dGateUp.data, dGateUp.at, dy.rows, dy.cols,
  );
}

/** cos and sin [length, headDim/2] of the rotary angles. */
export interface RotaryAngles {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  readonly length: number;
  readonly headDim: number;
}

/** Rotates the heads of x [T, n headDim] in place by the angles of their positions [T]; `inverse` rotates back. */
export function rope(
  k: Kernels,
  x: MatrixView,
  angles: RotaryAngles,
  positions: IndexView,
  inverse: boolean,
): void {
  const { cos, sin, length, headDim } = angles;
  // biome-ignore format: arguments grouped by array
  k.rope(
    x.data, x.at, x.ld, cos, 0, sin, 0, length, positions.data, positions.at,
    x.rows, x.cols / headDim, headDim, inverse,
  );
}

/** Queries, keys and values of B sequences, and the results of attention. */
export interface AttentionViews {
  /** [T, nHeads D] queries */
  readonly q: MatrixView;
  /** [.., nKvHeads D] keys; an `AttentionRun` says which rows are used */
  readonly k: MatrixView;
  /** [.., nKvHeads D] values, laid out as k */
  readonly v: MatrixView;
  /** [T, nHeads D] the heads' outputs */
  readonly out: MatrixView;
  /** [B, nHeads, S] row log-sum-exp of the scores, declared as [T, nHeads] */
  readonly lse: MatrixView;
  /** [B] position of each sequence's first query */
  readonly queryStarts: IndexView;
  /** [B] keys that each sequence has */
  readonly kvLengths: IndexView;
}

/** Neighbouring sequences with equally many queries, which one call of the attention kernel computes. */
export interface AttentionRun {
  /** Index of the first sequence, followed by that of its first query. */
  sequence: number;
  token: number;
  sequences: number;
  /** Number of queries of each sequence. */
  newTokens: number;
  /** Row of k and v at which the first sequence begins. */
  kvRow: number;
  /** Rows of k and v from one sequence to the next. */
  kvRows: number;
}

/** out and lse of a run's tokens: softmax(scale q k^T) v, causal. */
export function attention(kernels: Kernels, views: AttentionViews, scale: number, run: AttentionRun): void {
  const { q, k, v, out, lse, queryStarts, kvLengths } = views;
  const { sequence, token, kvRow, kvRows } = run;
  const nHeads = lse.cols;
  const headDim = q.cols / nHeads;
  // biome-ignore format: arguments grouped by array
  kernels.attentionForward(
    q.data, q.at + token * q.ld, q.ld,
    k.data, k.at + kvRow * k.ld, k.ld, kvRows * k.ld,
    v.data, v.at + kvRow * v.ld, v.ld, kvRows * v.ld,
    out.data, out.at + token * out.ld, out.ld, lse.data, lse.at + token * nHeads,
    queryStarts.data, queryStarts.at + sequence, kvLengths.data, kvLengths.at + sequence,
    run.sequences, run.newTokens, nHeads, k.cols / headDim, headDim, scale,
  );
}

/** Gradients of attention's views; each has the leading dimension of its view. */
export interface AttentionGradients {
  readonly dOut: MatrixView;
  readonly dQ: MatrixView;
  readonly dK: MatrixView;
  readonly dV: MatrixView;
}

/** dQ, dK, dV from dOut, for a single run that covers all tokens. */
export function attentionBackward(
  kernels: Kernels,
  views: AttentionViews,
  { dOut, dQ, dK, dV }: AttentionGradients,
  scale: number,
  run: AttentionRun,
): void {
  const { q, k, v, out, lse, queryStarts, kvLengths } = views;
  const nHeads = lse.cols;
  const headDim = q.cols / nHeads;
  // biome-ignore format: arguments grouped by array
  kernels.attentionBackward(
    q.data, q.at, q.ld, k.data, k.at, k.ld, run.kvRows * k.ld, v.data, v.at, v.ld, run.kvRows * v.ld,
    out.data, out.at, out.ld, lse.data, lse.at,
    dOut.data, dOut.at, dQ.data, dQ.at, dK.data, dK.at, dV.data, dV.at,
    queryStarts.data, queryStarts.at, kvLengths.data, kvLengths.at,
    run.sequences, run.newTokens, nHeads, k.cols / headDim, headDim, scale,
  );
}

/** A routing of T tokens to K of E experts. */
export interface RoutingViews {
  /** [T,E] logits of the router */
  readonly logits: MatrixView;
  /** [T,E] softmax over all experts */
  readonly probs: MatrixView;
  /** [T] log-sum-exp of the logits */
  readonly lse: MatrixView;
  /** [E] mean of probs over tokens */
  readonly probMeans: MatrixView;
  /** [T,K] gate weights */
  readonly weights: MatrixView;
  /** [T,K] chosen experts, best first */
  readonly indices: IndexView;
  /** [E+1]: expert e owns slots rowStarts[e] .. rowStarts[e+1] */
  readonly rowStarts: IndexView;
  /** [T*K] token of each slot */
  readonly slotToToken: IndexView;
  /** [T,K] slot of each choice of each token */
  readonly tokenToSlots: IndexView;
}

/** Computes a routing from its logits. @param bias [E] selection bias, or null for zeros. */
export function route(k: Kernels, r: RoutingViews, bias: Float32Array | null, renormalise: boolean): void {
  // biome-ignore format: arguments grouped by array
  k.routeForward(
    r.logits.data, r.logits.at, bias, 0, r.probs.data, r.probs.at, r.lse.data, r.lse.at,
    r.indices.data, r.indices.at, r.weights.data, r.weights.at, r.rowStarts.data, r.rowStarts.at,
    r.slotToToken.data, r.slotToToken.at, r.tokenToSlots.data, r.tokenToSlots.at,
    r.probMeans.data, r.probMeans.at, r.logits.rows, r.logits.cols, r.weights.cols, renormalise,
  );
}

/** dLogits [T,E] from the gradient of the gate weights [T,K] and the scales of balance loss and z-loss. */
export function routeBackward(
  k: Kernels,
  r: RoutingViews,
  dWeights: MatrixView,
  dLogits: MatrixView,
  renormalise: boolean,
  auxScale: number,
  zScale: number,
): void {
  // biome-ignore format: arguments grouped by array
  k.routeBackward(
    r.probs.data, r.probs.at, r.lse.data, r.lse.at, r.indices.data, r.indices.at,
    r.weights.data, r.weights.at, dWeights.data, dWeights.at, r.rowStarts.data, r.rowStarts.at,
    dLogits.data, dLogits.at, r.logits.rows, r.logits.cols, r.weights.cols, renormalise, auxScale, zScale,
  );
}

/** out[r,:] = source[indices[r],:], rows adjacent. */
export function gatherRows(k: Kernels, source: MatrixView, indices: IndexView, out: MatrixView): void {
  // biome-ignore format: arguments grouped by array
  k.gatherRows(
    source.data, source.at, source.rows, indices.data, indices.at, out.data, out.at, out.rows, out.cols,
  );
}

/** y[t,:] += sum_k weights[t,k] x[slots[t,k],:], rows adjacent; weights null means 1. */
export function scatterAddRows(
  k: Kernels,
  x: MatrixView,
  slots: IndexView,
  weights: MatrixView | null,
  y: MatrixView,
): void {
  // biome-ignore format: arguments grouped by array
  k.scatterAddRows(
    x.data, x.at, x.rows, slots.data, slots.at, weights?.data ?? null, weights?.at ?? 0,
    y.data, y.at, y.rows, slots.cols, y.cols,
  );
}

/** The backward of `scatterAddRows`: dx and dWeights from dy; dx may be x. */
export function scatterAddRowsBackward(
  k: Kernels,
  dy: MatrixView,
  x: MatrixView,
  slots: IndexView,
  weights: MatrixView,
  dx: MatrixView,
  dWeights: MatrixView,
): void {
  // biome-ignore format: arguments grouped by array
  k.scatterAddRowsBackward(
    dy.data, dy.at, x.data, x.at, x.rows, slots.data, slots.at, weights.data, weights.at,
    dx.data, dx.at, dWeights.data, dWeights.at, dy.rows, slots.cols, dy.cols,
  );
}

/** dTable[ids[t],:] += dy[t,:], rows adjacent. */
export function embeddingBackward(k: Kernels, dy: MatrixView, ids: IndexView, dTable: MatrixView): void {
  // biome-ignore format: arguments grouped by array
  k.embeddingBackward(
    dy.data, dy.at, ids.data, ids.at, dTable.data, dTable.at, dTable.rows, dy.rows, dy.cols,
  );
}

/**
 * Returns the sum of the cross-entropies of logits [T,V] and writes each to losses [T], 0 where the target [T] is
 * ignoreIndex. With a gradScale, logits become gradScale times their gradient.
 */
export function crossEntropy(
  k: Kernels,
  logits: MatrixView,
  targets: IndexView,
  losses: MatrixView,
  ignoreIndex: number,
  gradScale: number | null,
): number {
  // biome-ignore format: arguments grouped by array
  return k.crossEntropy(
    logits.data, logits.at, targets.data, targets.at, losses.data, losses.at,
    logits.rows, logits.cols, ignoreIndex, gradScale ?? 1, gradScale !== null,
  );
}

/** Weights with their gradients and moments. */
export interface AdamWBuffers {
  readonly param: Float32Array;
  readonly grad: Float32Array;
  readonly m: Float32Array;
  readonly v: Float32Array;
}

/** The numbers of an update, the same for every weight; biasCorrectionI = 1 - betaI^t. */
export interface AdamWStep {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly biasCorrection1: number;
  readonly biasCorrection2: number;
  readonly gradScale: number;
}

/** Updates elements [offset, offset + size) of weights and moments. */
export function adamw(
  kernels: Kernels,
  { param, grad, m, v }: AdamWBuffers,
  offset: number,
  size: number,
  step: AdamWStep,
  weightDecay: number,
): void {
  // biome-ignore format: arguments grouped by array
  kernels.adamw(
    param, offset, grad, offset, m, offset, v, offset, size,
    step.lr, step.beta1, step.beta2, step.eps, weightDecay,
    step.biasCorrection1, step.biasCorrection2, step.gradScale,
  );
}
