import type { Kernels } from '../../backend/kernels';
import type { StorageType } from '../../base/storageTypes';
import type { IndexView, MatrixView } from '../matrixView';

/** cos and sin [length, headDim/2] of the rotary angles. */
export interface RotaryAngles {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  readonly length: number;
  readonly headDim: number;
}

/**
 * Rotates the heads of x [T, n headDim] in place by the angles of their positions [T]; `inverse` rotates back.
 * @param halves pairs (i, i + headDim/2) instead of neighbours.
 */
export function rope(
  k: Kernels,
  x: MatrixView,
  angles: RotaryAngles,
  positions: IndexView,
  halves: boolean,
  inverse: boolean,
): void {
  const { cos, sin, length, headDim } = angles;
  const { data, at, ld, rows } = x;
  const { data: ids, at: idsAt } = positions;
  const heads = x.cols / headDim;
  k.rope(data, at, ld, cos, 0, sin, 0, length, ids, idsAt, rows, heads, headDim, halves, inverse);
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

/** out and lse of a run's tokens: softmax(scale q k^T) v, causal. @param cached keys and values in place of the views'. */
export function attention(
  kernels: Kernels,
  views: AttentionViews,
  scale: number,
  run: AttentionRun,
  { k, v }: Pick<AttentionViews, 'k' | 'v'> = views,
): void {
  const { q, out, lse, queryStarts, kvLengths } = views;
  const { sequence, token, kvRow, kvRows } = run;
  const nHeads = lse.cols;
  const headDim = q.cols / nHeads;
  kernels.attentionForward(
    q.data,
    q.at + token * q.ld,
    q.ld,
    k.data,
    k.at + kvRow * k.ld,
    k.ld,
    kvRows * k.ld,
    v.data,
    v.at + kvRow * v.ld,
    v.ld,
    kvRows * v.ld,
    out.data,
    out.at + token * out.ld,
    out.ld,
    lse.data,
    lse.at + token * nHeads,
    queryStarts.data,
    queryStarts.at + sequence,
    kvLengths.data,
    kvLengths.at + sequence,
    run.sequences,
    run.newTokens,
    nHeads,
    k.cols / headDim,
    headDim,
    scale,
  );
}

/** Rows of keys or values in a storage type, one behind the other. */
export interface StoredRows {
  readonly type: StorageType;
  readonly data: Uint8Array;
  readonly rowBytes: number;
}

/** Rounds `count` rows of x, from row `from` on, to the rows of `to` from row `toRow` on. */
export function storeRows(
  kernels: Kernels,
  { data, at, cols, ld }: MatrixView,
  from: number,
  count: number,
  to: StoredRows,
  toRow: number,
): void {
  kernels.quantize(to.type, count, cols, data, at + from * ld, ld, to.data, toRow * to.rowBytes);
}

/** out and lse of a run over stored keys and values; `views.k` tells how many heads they have. */
export function attentionStored(
  kernels: Kernels,
  views: AttentionViews,
  scale: number,
  run: AttentionRun,
  keys: StoredRows,
  values: StoredRows,
): void {
  const { q, k, out, lse, queryStarts, kvLengths } = views;
  const { sequence, token, kvRow, kvRows } = run;
  const nHeads = lse.cols;
  const headDim = q.cols / nHeads;
  kernels.attentionForwardStored(
    q.data,
    q.at + token * q.ld,
    q.ld,
    keys.type,
    keys.data,
    kvRow * keys.rowBytes,
    keys.rowBytes,
    kvRows * keys.rowBytes,
    values.data,
    kvRow * values.rowBytes,
    values.rowBytes,
    kvRows * values.rowBytes,
    out.data,
    out.at + token * out.ld,
    out.ld,
    lse.data,
    lse.at + token * nHeads,
    queryStarts.data,
    queryStarts.at + sequence,
    kvLengths.data,
    kvLengths.at + sequence,
    run.sequences,
    run.newTokens,
    nHeads,
    k.cols / headDim,
    headDim,
    scale,
  );
}

/** Gradients of attention's views; each has the leading dimension of its view. */
export interface AttentionGradients {
  readonly dOut: MatrixView;
  readonly dQ: MatrixView;
  readonly dK: MatrixView;
  readonly dV: MatrixView;
}

/** dQ, dK, dV from dOut, for the tokens of a run without a past. */
export function attentionBackward(
  kernels: Kernels,
  views: AttentionViews,
  { dOut, dQ, dK, dV }: AttentionGradients,
  scale: number,
  run: AttentionRun,
): void {
  const { q, k, v, out, lse, queryStarts, kvLengths } = views;
  const { sequence, token, kvRow, kvRows } = run;
  const nHeads = lse.cols;
  const headDim = q.cols / nHeads;
  kernels.attentionBackward(
    q.data,
    q.at + token * q.ld,
    q.ld,
    k.data,
    k.at + kvRow * k.ld,
    k.ld,
    kvRows * k.ld,
    v.data,
    v.at + kvRow * v.ld,
    v.ld,
    kvRows * v.ld,
    out.data,
    out.at + token * out.ld,
    out.ld,
    lse.data,
    lse.at + token * nHeads,
    dOut.data,
    dOut.at + token * dOut.ld,
    dQ.data,
    dQ.at + token * dQ.ld,
    dK.data,
    dK.at + kvRow * dK.ld,
    dV.data,
    dV.at + kvRow * dV.ld,
    queryStarts.data,
    queryStarts.at + sequence,
    kvLengths.data,
    kvLengths.at + sequence,
    run.sequences,
    run.newTokens,
    nHeads,
    k.cols / headDim,
    headDim,
    scale,
  );
}
