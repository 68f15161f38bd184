/** Elements of which `sumSquares` makes one sum before it adds these. */
export const SQUARES_BLOCK = 65_536;

/** Loss, norms of gradients, optimizer, initial weights. Conventions and errors: `Kernels`. */
export interface TrainingKernels {
  /**
   * losses[r] = log sum_c exp(logits[r,c]) - logits[r, targets[r]]; returns their sum (float64). A row whose
   * target is ignoreIndex has loss 0 and gradient 0; any other target must be in [0, cols).
   * writeGradient turns logits into gradScale * (softmax - onehot) in place; otherwise they stay as they are.
   */
  crossEntropy(
    logits: Float32Array,
    logitsOffset: number,
    targets: Int32Array,
    targetsOffset: number,
    losses: Float32Array,
    lossesOffset: number,
    rows: number,
    cols: number,
    ignoreIndex: number,
    gradScale: number,
    writeGradient: boolean,
  ): number;

  /**
   * sum_i x[i]^2, accumulated in float64: a sum of each SQUARES_BLOCK elements from the first on, then of these sums in their order.
   * So it can be computed block by block, to the same bits.
   */
  sumSquares(x: Float32Array, xOffset: number, n: number): number;

  /** x *= factor. */
  scale(x: Float32Array, xOffset: number, n: number, factor: number): void;

  /** y += alpha * x. It serves your own sums of gradients, and bench/, which measures memory bandwidth with it. */
  axpy(n: number, alpha: number, x: Float32Array, xOffset: number, y: Float32Array, yOffset: number): void;

  /**
   * AdamW (Loshchilov & Hutter 2019, alg. 2): g = gradScale*grad; m = beta1*m + (1-beta1)*g;
   * v = beta2*v + (1-beta2)*g^2; param -= lr * (weightDecay*param + (m/biasCorrection1) /
   * (sqrt(v/biasCorrection2) + eps)), with biasCorrectionI = 1 - betaI^t computed by the caller.
   */
  adamw(
    param: Float32Array,
    paramOffset: number,
    grad: Float32Array,
    gradOffset: number,
    m: Float32Array,
    mOffset: number,
    v: Float32Array,
    vOffset: number,
    n: number,
    lr: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    biasCorrection1: number,
    biasCorrection2: number,
    gradScale: number,
  ): void;

  /**
   * out[i] = std * N(0,1), a pure function of (seed, stream, i): Philox4x32-10 (Salmon et al. 2011) with key
   * (seedLow, seedHigh) and counter (j mod 2^32, floor(j / 2^32), stream, 0), j = floor(i/4), gives four words; words
   * (0,1) and (2,3) become two normals each by Box-Muller, computed in float64 from + - * / sqrt alone, so that
   * every backend and machine gets the same bits. seedLow, seedHigh, stream: integers in [0, 2^32).
   */
  randomNormal(
    out: Float32Array,
    outOffset: number,
    n: number,
    seedLow: number,
    seedHigh: number,
    stream: number,
    std: number,
  ): void;
}
