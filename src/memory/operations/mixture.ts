import type { Kernels } from '../../backend/kernels';
import type { IndexView, MatrixView } from '../matrixView';

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
  k.routeForward(
    r.logits.data,
    r.logits.at,
    bias,
    0,
    r.probs.data,
    r.probs.at,
    r.lse.data,
    r.lse.at,
    r.indices.data,
    r.indices.at,
    r.weights.data,
    r.weights.at,
    r.rowStarts.data,
    r.rowStarts.at,
    r.slotToToken.data,
    r.slotToToken.at,
    r.tokenToSlots.data,
    r.tokenToSlots.at,
    r.probMeans.data,
    r.probMeans.at,
    r.logits.rows,
    r.logits.cols,
    r.weights.cols,
    renormalise,
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
  k.routeBackward(
    r.probs.data,
    r.probs.at,
    r.lse.data,
    r.lse.at,
    r.indices.data,
    r.indices.at,
    r.weights.data,
    r.weights.at,
    dWeights.data,
    dWeights.at,
    r.rowStarts.data,
    r.rowStarts.at,
    dLogits.data,
    dLogits.at,
    r.logits.rows,
    r.logits.cols,
    r.weights.cols,
    renormalise,
    auxScale,
    zScale,
  );
}

/** out[r,:] = source[indices[r],:], rows adjacent. */
export function gatherRows(k: Kernels, source: MatrixView, indices: IndexView, out: MatrixView): void {
  const { data, at, rows, cols } = out;
  k.gatherRows(source.data, source.at, source.rows, indices.data, indices.at, data, at, rows, cols);
}

/** y[t,:] += sum_k weights[t,k] x[slots[t,k],:], rows adjacent; weights null means 1. */
export function scatterAddRows(
  k: Kernels,
  x: MatrixView,
  slots: IndexView,
  weights: MatrixView | null,
  y: MatrixView,
): void {
  const w = weights?.data ?? null;
  const wAt = weights?.at ?? 0;
  const { data, at, cols: topK } = slots;
  k.scatterAddRows(x.data, x.at, x.rows, data, at, w, wAt, y.data, y.at, y.rows, topK, y.cols);
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
  k.scatterAddRowsBackward(
    dy.data,
    dy.at,
    x.data,
    x.at,
    x.rows,
    slots.data,
    slots.at,
    weights.data,
    weights.at,
    dx.data,
    dx.at,
    dWeights.data,
    dWeights.at,
    dy.rows,
    slots.cols,
    dy.cols,
  );
}

/** dTable[ids[t],:] += dy[t,:], rows adjacent. */
export function embeddingBackward(k: Kernels, dy: MatrixView, ids: IndexView, dTable: MatrixView): void {
  const { data, at, rows, cols } = dTable;
  k.embeddingBackward(dy.data, dy.at, ids.data, ids.at, data, at, rows, dy.rows, cols);
}

/** y[rows[t],:] += x[t,:], rows adjacent: what an embedding's backward is, too. */
export function addRows(k: Kernels, x: MatrixView, rows: IndexView, y: MatrixView): void {
  embeddingBackward(k, x, rows, y);
}
