/** Elementwise functions and functions of rows. Conventions and errors: `Kernels`. */
export interface RowKernels {
  /** y[i] = e^x[i]. At most 2 ulp off; exp(-inf) = 0, exp(inf) = inf, NaN stays. In place allowed. */
  exp(x: Float32Array, xOffset: number, y: Float32Array, yOffset: number, n: number): void;

  /** y[i] = x[i] * sigmoid(x[i]). silu(-inf) = 0. In place allowed. */
  silu(x: Float32Array, xOffset: number, y: Float32Array, yOffset: number, n: number): void;

  /**
   * y[r,:] = exp(x[r,:] - max) / sum. A -inf entry gives 0; a row of only -inf gives zeros; a NaN or +inf makes its
   * row NaN. x, y: [rows,cols]. In place allowed.
   */
  softmaxForward(
    x: Float32Array,
    xOffset: number,
    y: Float32Array,
    yOffset: number,
    rows: number,
    cols: number,
  ): void;

  /**
   * dx[r,:] = y * (dy - sum_c y*dy). y is the softmax output. dx may be dy. It serves layers of your own: attention,
   * routing and the loss contain the backward of their softmax.
   */
  softmaxBackward(
    y: Float32Array,
    yOffset: number,
    dy: Float32Array,
    dyOffset: number,
    dx: Float32Array,
    dxOffset: number,
    rows: number,
    cols: number,
  ): void;

  /**
   * y = gamma * x * invRms, invRms[r] = 1 / sqrt(mean_c x[r,c]^2 + eps) (Zhang & Sennrich 2019, eq. 4).
   * x [rows,cols] with ldx, gamma [cols], y [rows,cols] with ldy, invRms [rows]. In place allowed.
   */
  rmsNormForward(
    x: Float32Array,
    xOffset: number,
    ldx: number,
    gamma: Float32Array,
    gammaOffset: number,
    y: Float32Array,
    yOffset: number,
    ldy: number,
    invRms: Float32Array,
    invRmsOffset: number,
    rows: number,
    cols: number,
    eps: number,
  ): void;

  /**
   * With s = invRms[r], g = dy*gamma: dx = s*g - s^3 * x * mean_c(g*x) (the full Jacobian), added to dx when
   * accumulateDx, written otherwise. dGamma[c] += sum_r dy*x*s. dx may be dy when not accumulating.
   */
  rmsNormBackward(
    x: Float32Array,
    xOffset: number,
    ldx: number,
    gamma: Float32Array,
    gammaOffset: number,
    invRms: Float32Array,
    invRmsOffset: number,
    dy: Float32Array,
    dyOffset: number,
    lddy: number,
    dx: Float32Array,
    dxOffset: number,
    lddx: number,
    accumulateDx: boolean,
    dGamma: Float32Array,
    dGammaOffset: number,
    rows: number,
    cols: number,
  ): void;

  /**
   * y = silu(gate) * up (Shazeer 2020, eq. 6). gateUp [rows, 2*ffn]: row = gate | up. y [rows, ffn].
   */
  swigluForward(
    gateUp: Float32Array,
    gateUpOffset: number,
    y: Float32Array,
    yOffset: number,
    rows: number,
    ffn: number,
  ): void;

  /**
   * dGate = dy * up * s * (1 + gate*(1-s)), dUp = dy * gate*s, s = sigmoid(gate). dGateUp [rows, 2*ffn] is
   * written; it may be gateUp itself.
   */
  swigluBackward(
    gateUp: Float32Array,
    gateUpOffset: number,
    dy: Float32Array,
    dyOffset: number,
    dGateUp: Float32Array,
    dGateUpOffset: number,
    rows: number,
    ffn: number,
  ): void;
}
