/** Routing, and the moving of rows to experts and back. Conventions and errors: `Kernels`. */
export interface MixtureKernels {
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
    logits: Float32Array,
    logitsOffset: number,
    bias: Float32Array | null,
    biasOffset: number,
    probs: Float32Array,
    probsOffset: number,
    lse: Float32Array,
    lseOffset: number,
    topkIndices: Int32Array,
    topkIndicesOffset: number,
    topkWeights: Float32Array,
    topkWeightsOffset: number,
    rowStarts: Int32Array,
    rowStartsOffset: number,
    slotToToken: Int32Array,
    slotToTokenOffset: number,
    tokenToSlots: Int32Array,
    tokenToSlotsOffset: number,
    probMeans: Float32Array,
    probMeansOffset: number,
    tokens: number,
    nExperts: number,
    topK: number,
    renormalise: boolean,
  ): void;

  /**
   * dLogits [T,E] (written). Through the gate weights: with s the sum of the chosen probs,
   * dp_j = (dw_j - sum_i dw_i w_i) / s when renormalise (0 where s = 0), dw_j otherwise. Through the balance
   * loss: dp[t,e] += auxScale * (rowStarts[e+1] - rowStarts[e]). Then the softmax: p * (dp - sum p*dp). Through
   * the z-loss: += zScale * lse[t] * p.
   */
  routeBackward(
    probs: Float32Array,
    probsOffset: number,
    lse: Float32Array,
    lseOffset: number,
    topkIndices: Int32Array,
    topkIndicesOffset: number,
    topkWeights: Float32Array,
    topkWeightsOffset: number,
    dTopkWeights: Float32Array,
    dTopkWeightsOffset: number,
    rowStarts: Int32Array,
    rowStartsOffset: number,
    dLogits: Float32Array,
    dLogitsOffset: number,
    tokens: number,
    nExperts: number,
    topK: number,
    renormalise: boolean,
    auxScale: number,
    zScale: number,
  ): void;

  /** dst[r,:] = src[indices[r],:], src [srcRows,cols], dst [rows,cols]. The embedding, and the tokens of each slot. */
  gatherRows(
    src: Float32Array,
    srcOffset: number,
    srcRows: number,
    indices: Int32Array,
    indicesOffset: number,
    dst: Float32Array,
    dstOffset: number,
    rows: number,
    cols: number,
  ): void;

  /**
   * y[t,:] += sum_k weights[t,k] * x[slots[t,k],:], k in order; weights null means 1. x [xRows,cols],
   * slots [tokens,topK], y [tokens,cols]. Combines the experts' outputs, and is the backward of their gather.
   */
  scatterAddRows(
    x: Float32Array,
    xOffset: number,
    xRows: number,
    slots: Int32Array,
    slotsOffset: number,
    weights: Float32Array | null,
    weightsOffset: number,
    y: Float32Array,
    yOffset: number,
    tokens: number,
    topK: number,
    cols: number,
  ): void;

  /**
   * dx[slots[t,k],:] = weights[t,k] * dy[t,:], dWeights[t,k] = dy[t,:] . x[slots[t,k],:]. Both are written; each
   * slot may occur once at most. dx [xRows,cols] may be x.
   */
  scatterAddRowsBackward(
    dy: Float32Array,
    dyOffset: number,
    x: Float32Array,
    xOffset: number,
    xRows: number,
    slots: Int32Array,
    slotsOffset: number,
    weights: Float32Array,
    weightsOffset: number,
    dx: Float32Array,
    dxOffset: number,
    dWeights: Float32Array,
    dWeightsOffset: number,
    tokens: number,
    topK: number,
    cols: number,
  ): void;

  /** dTable[ids[t],:] += dy[t,:], t in order, so that repeated ids add up. dTable [vocabSize,cols]. */
  embeddingBackward(
    dy: Float32Array,
    dyOffset: number,
    ids: Int32Array,
    idsOffset: number,
    dTable: Float32Array,
    dTableOffset: number,
    vocabSize: number,
    tokens: number,
    cols: number,
  ): void;
}
