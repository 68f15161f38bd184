import type { StorageType } from '../../base/storageTypes';

/** Rotary positions and attention. Conventions and errors: `Kernels`. */
export interface AttentionKernels {
  /**
   * Rotates pairs in place (Su et al. 2021, eq. 34): with p = positions[r], for each head and pair
   * i: (a,b) -> (a cos - b sin, a sin + b cos), cos = cos[p, i], sin = sin[p, i]. Pairs are neighbours,
   * (x[2i], x[2i+1]), or with `halves` (x[i], x[i + headDim/2]). `inverse` rotates back, which is the backward.
   * x: [rows, nHeads*headDim] with ldx; headDim even; cos, sin: [maxPositions, headDim/2];
   * positions: Int32Array [rows], each in [0, maxPositions).
   */
  rope(
    x: Float32Array,
    xOffset: number,
    ldx: number,
    cos: Float32Array,
    cosOffset: number,
    sin: Float32Array,
    sinOffset: number,
    maxPositions: number,
    positions: Int32Array,
    positionsOffset: number,
    rows: number,
    nHeads: number,
    headDim: number,
    halves: boolean,
    inverse: boolean,
  ): void;

  /**
   * Causal grouped-query attention (Vaswani et al. 2017, eq. 1; Ainslie et al. 2023), for every sequence b,
   * head h, query i: out = sum_j softmax_j(scale * q.k_j) v_j over keys j <= queryStarts[b]+i, j < kvLengths[b].
   * Head h reads kv head floor(h / (nHeads/nKvHeads)).
   * q: row b*queryLen+i at ldq, [nHeads*headDim]. k, v: row j of sequence b at b*kBatchStride + j*ldk,
   * [nKvHeads*headDim] (so a key-value cache is the same call). out: as q, with ldo.
   * lse [batch, nHeads, queryLen]: log sum_j exp(scale * q.k_j), kept for the backward; scores never are.
   * A query that sees no key gives zeros and lse = -inf. Keys and values that a query doesn't see never change its
   * output, even if they are NaN. Temporary memory grows with the lengths, not with their product.
   * queryStarts, kvLengths: Int32Array [batch], >= 0.
   */
  attentionForward(
    q: Float32Array,
    qOffset: number,
    ldq: number,
    k: Float32Array,
    kOffset: number,
    ldk: number,
    kBatchStride: number,
    v: Float32Array,
    vOffset: number,
    ldv: number,
    vBatchStride: number,
    out: Float32Array,
    outOffset: number,
    ldo: number,
    lse: Float32Array,
    lseOffset: number,
    queryStarts: Int32Array,
    queryStartsOffset: number,
    kvLengths: Int32Array,
    kvLengthsOffset: number,
    batch: number,
    queryLen: number,
    nHeads: number,
    nKvHeads: number,
    headDim: number,
    scale: number,
  ): void;

  /**
   * The same over keys and values as they are stored: a head's D numbers are whole blocks of `type`, and the heads of a token
   * follow each other. kOffset, ldk, kBatchStride and those of v count bytes; `quantize` of rows [tokens, D nKvHeads] writes
   * such keys and values. The error is that of `attentionForward` over the dequantised numbers: neither queries nor weights are
   * rounded. Block types need finite numbers: what a scale that is none makes of its own and other rows is undefined.
   * @throws RangeError for a headDim that isn't whole blocks, "attentionForwardStored: headDim must be a multiple of <n>, got ...".
   */
  attentionForwardStored(
    q: Float32Array,
    qOffset: number,
    ldq: number,
    type: StorageType,
    k: Uint8Array,
    kOffset: number,
    ldk: number,
    kBatchStride: number,
    v: Uint8Array,
    vOffset: number,
    ldv: number,
    vBatchStride: number,
    out: Float32Array,
    outOffset: number,
    ldo: number,
    lse: Float32Array,
    lseOffset: number,
    queryStarts: Int32Array,
    queryStartsOffset: number,
    kvLengths: Int32Array,
    kvLengthsOffset: number,
    batch: number,
    queryLen: number,
    nHeads: number,
    nKvHeads: number,
    headDim: number,
    scale: number,
  ): void;

  /**
   * With P_ij = exp(scale*q_i.k_j - lse_i): dv_j = sum_i P_ij dOut_i, dP_ij = dOut_i.v_j,
   * dS_ij = P_ij (dP_ij - dOut_i.out_i), dq_i = scale sum_j dS_ij k_j, dk_j = scale sum_i dS_ij q_i; dk and dv
   * add up the heads of a kv head. dq, dk, dv are written (rows j < kvLengths[b]) with the strides of q, k, v;
   * dOut has the strides of out.
   */
  attentionBackward(
    q: Float32Array,
    qOffset: number,
    ldq: number,
    k: Float32Array,
    kOffset: number,
    ldk: number,
    kBatchStride: number,
    v: Float32Array,
    vOffset: number,
    ldv: number,
    vBatchStride: number,
    out: Float32Array,
    outOffset: number,
    ldo: number,
    lse: Float32Array,
    lseOffset: number,
    dOut: Float32Array,
    dOutOffset: number,
    dq: Float32Array,
    dqOffset: number,
    dk: Float32Array,
    dkOffset: number,
    dv: Float32Array,
    dvOffset: number,
    queryStarts: Int32Array,
    queryStartsOffset: number,
    kvLengths: Int32Array,
    kvLengthsOffset: number,
    batch: number,
    queryLen: number,
    nHeads: number,
    nKvHeads: number,
    headDim: number,
    scale: number,
  ): void;
}
