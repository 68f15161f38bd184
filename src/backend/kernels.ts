/**
 * The one boundary between TypeScript and C++.
 *
 * Everything the model computes is a call of one of these functions, on typed arrays the caller owns.
 * `reference.ts` defines each of them in plain TypeScript; the addon (`native.ts`) must agree with it.
 *
 * Conventions
 * - Matrices are row-major. An array argument `x` is followed by `xOffset`, in elements. A matrix whose rows
 *   are not adjacent has a leading dimension (`ldx`, elements from one row to the next, >= its columns).
 * - Axis letters: B batch, S sequence, T = B*S tokens, H hidden, D head dim, E experts, K top-k, F ffn, V vocab.
 * - A function writes only what its documentation names. What it writes must not overlap anything else of the call; "in
 *   place", or "y may be x", allows that output to be that input, element by element (same offset and leading dimension).
 *   Matrices may interleave: in one buffer, columns beside each other of rows that are equally far apart.
 * - A dimension may be 0: nothing is read or written (except that a matmul over k = 0 is C = beta*C).
 * - Dimensions, offsets, strides: integers in [0, 2^53).
 *
 * Errors, the same from every backend, thrown before anything is written:
 * - `TypeError`  "<kernel>: <argument> must be a Float32Array, got <what>" (or Int32Array, number, boolean)
 * - `RangeError` "<kernel>: <argument> must be an integer >= 0, got <value>" (also NaN, fractions, overflow)
 * - `RangeError` "<kernel>: <argument> is too short: needs <n> elements from offset <o>, has <length>"
 * - `RangeError` "<kernel>: <argument>[<i>] is <value>, must be in [0, <bound>)" for ids, slots, positions
 * - `RangeError` "<kernel>: <argument> must not overlap <argument>" when one of them is written
 * Arrays shared with another thread must not change while a call runs.
 */
export interface Kernels {
  /** What computes: backend, BLAS library, instruction set, threads. */
  readonly info: BackendInfo;

  /**
   * Element type of every float argument. 'float32' everywhere but in the reference's float64 form, which
   * exists so that finite differences can be taken on the very same model code.
   */
  readonly floatType: 'float32' | 'float64';

  /** Sets the size of the thread pool, 1..256. Results don't depend on it. */
  setThreads(threads: number): void;

  /** Elements to skip from the start of `x` to the next address that is a multiple of 64 bytes. */
  alignmentPadding(x: Float32Array): number;

  /**
   * Asks the operating system for large pages behind `x`, when it is at least 4 MiB long: a hint for a new buffer,
   * before its first touch. Does nothing where there is no such thing. Contents stay.
   */
  adviseHugePages(x: Float32Array): void;

  // ---------------------------------------------------------------- matmul

  /**
   * C = alpha * op(A) op(B) + beta * C, op(X) = X or X^T.
   * op(A) is [m,k]: A is [m,k] with lda >= k, or [k,m] with lda >= m when transA. op(B) is [k,n]: B is [k,n]
   * with ldb >= n, or [n,k] with ldb >= k when transB. C is [m,n], ldc >= n. beta = 0 never reads C.
   */
  sgemm(
    transA: boolean, transB: boolean, m: number, n: number, k: number,
    alpha: number, a: Float32Array, aOffset: number, lda: number,
    b: Float32Array, bOffset: number, ldb: number,
    beta: number, c: Float32Array, cOffset: number, ldc: number,
  ): void;

  /**
   * `batch` matmuls of one shape; matrix i of X starts at xOffset + i*strideX (strideA or strideB may be 0).
   * Elements of different C must not coincide: RangeError "sgemmBatch: strideC must keep the matrices apart, got ...".
   */
  sgemmBatch(
    transA: boolean, transB: boolean, m: number, n: number, k: number,
    alpha: number, a: Float32Array, aOffset: number, lda: number, strideA: number,
    b: Float32Array, bOffset: number, ldb: number, strideB: number,
    beta: number, c: Float32Array, cOffset: number, ldc: number, strideC: number,
    batch: number,
  ): void;

  /**
   * One matmul for each group of rows: rows rowStarts[g] .. rowStarts[g+1] of A and C belong to group g.
   * C_g = alpha * A_g op(B_g) + beta * C_g, with A_g [rows_g,k], B_g at bOffset + g*strideB ([k,n], or [n,k]
   * when transB). rowStarts: Int32Array [groups+1], >= 0 and non-decreasing. A group may be empty.
   */
  sgemmGrouped(
    transB: boolean, groups: number, rowStarts: Int32Array, rowStartsOffset: number, n: number, k: number,
    alpha: number, a: Float32Array, aOffset: number, lda: number,
    b: Float32Array, bOffset: number, ldb: number, strideB: number,
    beta: number, c: Float32Array, cOffset: number, ldc: number,
  ): void;

  /**
   * The weight gradient of `sgemmGrouped`: C_g = alpha * A_g^T B_g + beta * C_g, with A_g [rows_g,m] and
   * B_g [rows_g,n] the rows of group g, C_g [m,n] at cOffset + g*strideC, apart as those of sgemmBatch. An empty
   * group gives beta * C_g.
   */
  sgemmGroupedTransA(
    groups: number, rowStarts: Int32Array, rowStartsOffset: number, m: number, n: number,
    alpha: number, a: Float32Array, aOffset: number, lda: number,
    b: Float32Array, bOffset: number, ldb: number,
    beta: number, c: Float32Array, cOffset: number, ldc: number, strideC: number,
  ): void;

  /**
   * Elements that one matrix [n,k] takes when packed: a multiple of 16. 0 where packing has no use, since every matmul
   * goes to a library, or the matrix is empty: callers then multiply the matrix as it is.
   */
  packedSize(n: number, k: number): number;

  /**
   * Copies `groups` matrices [n,k], matrix g at bOffset + g*strideB, into a layout of the backend's own, in which
   * products by them are fastest: packed matrix g at packedOffset + g*packedSize(n,k). The same backend and
   * instruction set must read it.
   */
  packWeights(
    b: Float32Array, bOffset: number, ldb: number, strideB: number, groups: number, n: number, k: number,
    packed: Float32Array, packedOffset: number,
  ): void;

  /** C = alpha * A B^T + beta * C, as sgemm with transB, by a B [n,k] that packWeights has packed. */
  sgemmPacked(
    m: number, n: number, k: number, alpha: number, a: Float32Array, aOffset: number, lda: number,
    packed: Float32Array, packedOffset: number, beta: number, c: Float32Array, cOffset: number, ldc: number,
  ): void;

  /** As sgemmGrouped with transB, by matrices that packWeights has packed, one for each group. */
  sgemmGroupedPacked(
    groups: number, rowStarts: Int32Array, rowStartsOffset: number, n: number, k: number,
    alpha: number, a: Float32Array, aOffset: number, lda: number,
    packed: Float32Array, packedOffset: number,
    beta: number, c: Float32Array, cOffset: number, ldc: number,
  ): void;

  // ---------------------------------------------------------------- elementwise and rows

  /** y[i] = e^x[i]. At most 2 ulp off; exp(-inf) = 0, exp(inf) = inf, NaN stays. In place allowed. */
  exp(x: Float32Array, xOffset: number, y: Float32Array, yOffset: number, n: number): void;

  /** y[i] = x[i] * sigmoid(x[i]). silu(-inf) = 0. In place allowed. */
  silu(x: Float32Array, xOffset: number, y: Float32Array, yOffset: number, n: number): void;

  /**
   * y[r,:] = exp(x[r,:] - max) / sum. A -inf entry gives 0; a row of nothing but -inf gives zeros; a NaN or
   * +inf makes its row NaN. x, y: [rows,cols]. In place allowed.
   */
  softmaxForward(
    x: Float32Array, xOffset: number, y: Float32Array, yOffset: number, rows: number, cols: number,
  ): void;

  /**
   * dx[r,:] = y * (dy - sum_c y*dy). y is the softmax output. dx may be dy. For layers of your own: the model's softmaxes
   * have their backward inside attention, routing and the loss.
   */
  softmaxBackward(
    y: Float32Array, yOffset: number, dy: Float32Array, dyOffset: number, dx: Float32Array, dxOffset: number,
    rows: number, cols: number,
  ): void;

  /**
   * y = gamma * x * invRms, invRms[r] = 1 / sqrt(mean_c x[r,c]^2 + eps) (Zhang & Sennrich 2019, eq. 4).
   * x [rows,cols] with ldx, gamma [cols], y [rows,cols] with ldy, invRms [rows]. In place allowed.
   */
  rmsNormForward(
    x: Float32Array, xOffset: number, ldx: number, gamma: Float32Array, gammaOffset: number,
    y: Float32Array, yOffset: number, ldy: number, invRms: Float32Array, invRmsOffset: number,
    rows: number, cols: number, eps: number,
  ): void;

  /**
   * With s = invRms[r], g = dy*gamma: dx = s*g - s^3 * x * mean_c(g*x) (the full Jacobian), added to dx when
   * accumulateDx, written otherwise. dGamma[c] += sum_r dy*x*s. dx may be dy when not accumulating.
   */
  rmsNormBackward(
    x: Float32Array, xOffset: number, ldx: number, gamma: Float32Array, gammaOffset: number,
    invRms: Float32Array, invRmsOffset: number, dy: Float32Array, dyOffset: number, lddy: number,
    dx: Float32Array, dxOffset: number, lddx: number, accumulateDx: boolean,
    dGamma: Float32Array, dGammaOffset: number, rows: number, cols: number,
  ): void;

  /**
   * y = silu(gate) * up (Shazeer 2020, eq. 6). gateUp [rows, 2*ffn]: row = gate | up. y [rows, ffn].
   */
  swigluForward(
    gateUp: Float32Array, gateUpOffset: number, y: Float32Array, yOffset: number, rows: number, ffn: number,
  ): void;

  /**
   * dGate = dy * up * s * (1 + gate*(1-s)), dUp = dy * gate*s, s = sigmoid(gate). dGateUp [rows, 2*ffn] is
   * written; it may be gateUp itself.
   */
  swigluBackward(
    gateUp: Float32Array, gateUpOffset: number, dy: Float32Array, dyOffset: number,
    dGateUp: Float32Array, dGateUpOffset: number, rows: number, ffn: number,
  ): void;

  // ---------------------------------------------------------------- attention

  /**
   * Rotates interleaved pairs in place (Su et al. 2021, eq. 34): with p = positions[r], for each head and pair
   * i: (a,b) = (x[2i], x[2i+1]) -> (a cos - b sin, a sin + b cos), cos = cos[p, i], sin = sin[p, i].
   * `inverse` turns the other way: the backward. x: [rows, nHeads*headDim] with ldx; headDim even;
   * cos, sin: [maxPositions, headDim/2]; positions: Int32Array [rows], each in [0, maxPositions).
   */
  rope(
    x: Float32Array, xOffset: number, ldx: number, cos: Float32Array, cosOffset: number,
    sin: Float32Array, sinOffset: number, maxPositions: number, positions: Int32Array, positionsOffset: number,
    rows: number, nHeads: number, headDim: number, inverse: boolean,
  ): void;

  /**
   * Causal grouped-query attention (Vaswani et al. 2017, eq. 1; Ainslie et al. 2023), for every sequence b,
   * head h, query i: out = sum_j softmax_j(scale * q.k_j) v_j over keys j <= queryStarts[b]+i, j < kvLengths[b].
   * Head h reads kv head floor(h / (nHeads/nKvHeads)).
   * q: row b*queryLen+i at ldq, [nHeads*headDim]. k, v: row j of sequence b at b*kBatchStride + j*ldk,
   * [nKvHeads*headDim] (so a key-value cache is the same call). out: as q, with ldo.
   * lse [batch, nHeads, queryLen]: log sum_j exp(scale * q.k_j), kept for the backward; scores never are.
   * A query that sees no key gives zeros and lse = -inf. What a query doesn't see doesn't touch its output, not even
   * where it is NaN. Temporary memory grows with the lengths, not with their product.
   * queryStarts, kvLengths: Int32Array [batch], >= 0.
   */
  attentionForward(
    q: Float32Array, qOffset: number, ldq: number,
    k: Float32Array, kOffset: number, ldk: number, kBatchStride: number,
    v: Float32Array, vOffset: number, ldv: number, vBatchStride: number,
    out: Float32Array, outOffset: number, ldo: number, lse: Float32Array, lseOffset: number,
    queryStarts: Int32Array, queryStartsOffset: number, kvLengths: Int32Array, kvLengthsOffset: number,
    batch: number, queryLen: number, nHeads: number, nKvHeads: number, headDim: number, scale: number,
  ): void;

  /**
   * With P_ij = exp(scale*q_i.k_j - lse_i): dv_j = sum_i P_ij dOut_i, dP_ij = dOut_i.v_j,
   * dS_ij = P_ij (dP_ij - dOut_i.out_i), dq_i = scale sum_j dS_ij k_j, dk_j = scale sum_i dS_ij q_i; dk and dv
   * add up the heads of a kv head. dq, dk, dv are written (rows j < kvLengths[b]) with the strides of q, k, v;
   * dOut has the strides of out.
   */
  attentionBackward(
    q: Float32Array, qOffset: number, ldq: number,
    k: Float32Array, kOffset: number, ldk: number, kBatchStride: number,
    v: Float32Array, vOffset: number, ldv: number, vBatchStride: number,
    out: Float32Array, outOffset: number, ldo: number, lse: Float32Array, lseOffset: number,
    dOut: Float32Array, dOutOffset: number, dq: Float32Array, dqOffset: number,
    dk: Float32Array, dkOffset: number, dv: Float32Array, dvOffset: number,
    queryStarts: Int32Array, queryStartsOffset: number, kvLengths: Int32Array, kvLengthsOffset: number,
    batch: number, queryLen: number, nHeads: number, nKvHeads: number, headDim: number, scale: number,
  ): void;

  // ---------------------------------------------------------------- mixture of experts

  /**
   * Routing of T tokens to K of E experts (Shazeer et al. 2017; Fedus et al. 2021 for f and P).
   * probs = softmax(logits) [T,E]; lse [T] the row log-sum-exp of the logits; the K experts with the largest
   * probs + bias (bias [E] or null; NaN counts as lowest; ties: lower index), best first, in topkIndices [T,K];
   * topkWeights [T,K] their probs, divided by their sum when renormalise (a sum of 0 gives 0).
   * The T*K assignments sorted by expert, then token: expert e owns slots rowStarts[e] .. rowStarts[e+1]
   * (rowStarts [E+1]); slotToToken [T*K]; tokenToSlots [T,K] the slot of each choice. probMeans [E]: P_e, the mean
   * of probs over tokens (0 when T = 0). Requires 1 <= topK <= nExperts.
   */
  routeForward(
    logits: Float32Array, logitsOffset: number, bias: Float32Array | null, biasOffset: number,
    probs: Float32Array, probsOffset: number, lse: Float32Array, lseOffset: number,
    topkIndices: Int32Array, topkIndicesOffset: number, topkWeights: Float32Array, topkWeightsOffset: number,
    rowStarts: Int32Array, rowStartsOffset: number, slotToToken: Int32Array, slotToTokenOffset: number,
    tokenToSlots: Int32Array, tokenToSlotsOffset: number, probMeans: Float32Array, probMeansOffset: number,
    tokens: number, nExperts: number, topK: number, renormalise: boolean,
  ): void;

  /**
   * dLogits [T,E] (written). Through the gate weights: with s the sum of the chosen probs,
   * dp_j = (dw_j - sum_i dw_i w_i) / s when renormalise (0 where s = 0), dw_j otherwise. Through the balance
   * loss: dp[t,e] += auxScale * (rowStarts[e+1] - rowStarts[e]). Then the softmax: p * (dp - sum p*dp). Through
   * the z-loss: += zScale * lse[t] * p.
   */
  routeBackward(
    probs: Float32Array, probsOffset: number, lse: Float32Array, lseOffset: number,
    topkIndices: Int32Array, topkIndicesOffset: number, topkWeights: Float32Array, topkWeightsOffset: number,
    dTopkWeights: Float32Array, dTopkWeightsOffset: number, rowStarts: Int32Array, rowStartsOffset: number,
    dLogits: Float32Array, dLogitsOffset: number,
    tokens: number, nExperts: number, topK: number, renormalise: boolean, auxScale: number, zScale: number,
  ): void;

  /** dst[r,:] = src[indices[r],:], src [srcRows,cols], dst [rows,cols]. The embedding, and the tokens of each slot. */
  gatherRows(
    src: Float32Array, srcOffset: number, srcRows: number, indices: Int32Array, indicesOffset: number,
    dst: Float32Array, dstOffset: number, rows: number, cols: number,
  ): void;

  /**
   * y[t,:] += sum_k weights[t,k] * x[slots[t,k],:], k in order; weights null means 1. x [xRows,cols],
   * slots [tokens,topK], y [tokens,cols]. Combines the experts' outputs, and is the backward of their gather.
   */
  scatterAddRows(
    x: Float32Array, xOffset: number, xRows: number, slots: Int32Array, slotsOffset: number,
    weights: Float32Array | null, weightsOffset: number, y: Float32Array, yOffset: number,
    tokens: number, topK: number, cols: number,
  ): void;

  /**
   * dx[slots[t,k],:] = weights[t,k] * dy[t,:], dWeights[t,k] = dy[t,:] . x[slots[t,k],:]. Both are written; each
   * slot may occur once at most. dx [xRows,cols] may be x.
   */
  scatterAddRowsBackward(
    dy: Float32Array, dyOffset: number, x: Float32Array, xOffset: number, xRows: number,
    slots: Int32Array, slotsOffset: number, weights: Float32Array, weightsOffset: number,
    dx: Float32Array, dxOffset: number, dWeights: Float32Array, dWeightsOffset: number,
    tokens: number, topK: number, cols: number,
  ): void;

  /** dTable[ids[t],:] += dy[t,:], t in order, so that repeated ids add up. dTable [vocabSize,cols]. */
  embeddingBackward(
    dy: Float32Array, dyOffset: number, ids: Int32Array, idsOffset: number,
    dTable: Float32Array, dTableOffset: number, vocabSize: number, tokens: number, cols: number,
  ): void;

  // ---------------------------------------------------------------- loss and optimizer

  /**
   * losses[r] = log sum_c exp(logits[r,c]) - logits[r, targets[r]]; returns their sum (float64). A row whose
   * target is ignoreIndex has loss 0 and gradient 0; any other target must be in [0, cols).
   * writeGradient turns logits into gradScale * (softmax - onehot) in place; otherwise they stay as they are.
   */
  crossEntropy(
    logits: Float32Array, logitsOffset: number, targets: Int32Array, targetsOffset: number,
    losses: Float32Array, lossesOffset: number, rows: number, cols: number,
    ignoreIndex: number, gradScale: number, writeGradient: boolean,
  ): number;

  /** sum_i x[i]^2, accumulated in float64. */
  sumSquares(x: Float32Array, xOffset: number, n: number): number;

  /** x *= factor. */
  scale(x: Float32Array, xOffset: number, n: number, factor: number): void;

  /** y += alpha * x. For sums of gradients of your own, and for bench/, which measures the memory's rate by it. */
  axpy(n: number, alpha: number, x: Float32Array, xOffset: number, y: Float32Array, yOffset: number): void;

  /**
   * AdamW (Loshchilov & Hutter 2019, alg. 2): g = gradScale*grad; m = beta1*m + (1-beta1)*g;
   * v = beta2*v + (1-beta2)*g^2; param -= lr * (weightDecay*param + (m/biasCorrection1) /
   * (sqrt(v/biasCorrection2) + eps)), with biasCorrectionI = 1 - betaI^t computed by the caller.
   */
  adamw(
    param: Float32Array, paramOffset: number, grad: Float32Array, gradOffset: number,
    m: Float32Array, mOffset: number, v: Float32Array, vOffset: number, n: number,
    lr: number, beta1: number, beta2: number, eps: number, weightDecay: number,
    biasCorrection1: number, biasCorrection2: number, gradScale: number,
  ): void;

  /**
   * out[i] = std * N(0,1), a pure function of (seed, stream, i): Philox4x32-10 (Salmon et al. 2011) with key
   * (seedLow, seedHigh) and counter (j mod 2^32, floor(j / 2^32), stream, 0), j = floor(i/4), gives four words; words
   * (0,1) and (2,3) become two normals each by Box-Muller, computed in float64 from + - * / sqrt alone, so that
   * every backend and machine gets the same bits. seedLow, seedHigh, stream: integers in [0, 2^32).
   */
  randomNormal(
    out: Float32Array, outOffset: number, n: number,
    seedLow: number, seedHigh: number, stream: number, std: number,
  ): void;
}

export type BackendName = 'reference' | 'builtin' | 'openblas' | 'accelerate' | 'blas';

/** What computes, and why nothing faster does. Printed by `sgemoe info`. */
export interface BackendInfo {
  /** 'reference' (pure TypeScript), 'builtin' (addon, own sgemm), 'openblas', 'accelerate', or 'blas' (SGEMOE_BLAS). */
  readonly backend: BackendName;
  /** Operating system and processor, such as 'linux-x64'. */
  readonly platform: string;
  /** The BLAS library in use, null for 'reference' and 'builtin'. */
  readonly blas: BlasInfo | null;
  /** 'baseline' (SSE2), 'avx2', 'avx512' or 'neon'; 'none' for the reference backend. */
  readonly instructionSet: string;
  /** Size of the thread pool. */
  readonly threads: number;
  /** The addon's file, null for the reference backend. */
  readonly addonPath: string | null;
  /** Why a faster backend isn't in use, a sentence each, with the command that helps. Empty when nothing is amiss. */
  readonly notes: readonly string[];
}

export interface BlasInfo {
  /** 'OpenBLAS', 'Accelerate', 'MKL', 'BLIS' or 'cblas' when the library doesn't say. */
  readonly name: string;
  readonly version: string;
  /** The processor family the library chose its kernels for ('SkylakeX', 'Haswell', ...), '' when it doesn't say. */
  readonly core: string;
  /** The file that was opened. */
  readonly path: string;
}
