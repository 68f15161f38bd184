/** Choice of tokens. Conventions and errors: `Kernels`. */
export interface SamplingKernels {
  /**
   * tokens[r]: a column drawn from row r of logits [rows,cols]; -1 if no logit of it is a number above -Infinity. Row r of
   * settings [rows,3] is temperature >= 0, topP, minP; row r of choices [rows,2] is topK (none if < 1) and 32 random bits.
   *
   * The weight of column c is exp((logits[c] - max) / temperature), 1 for the largest; NaN and what rounds to 0 can't be
   * drawn. Larger weights come first, of equal ones the lower column. Of this order stay the first topK; of these the fewest
   * from the first on, one at least, whose sum is topP of theirs; of these the weights >= minP. With u = bits / 2^32 in [0, 1),
   * in the order of columns, the one is drawn at which the sum of the weights so far first exceeds u times the sum of all that
   * stayed. At temperature 0 it is the first of the largest logits. Weights are float32, sums float64.
   */
  sampleRows(
    logits: Float32Array,
    logitsOffset: number,
    ldLogits: number,
    settings: Float32Array,
    settingsOffset: number,
    choices: Int32Array,
    choicesOffset: number,
    tokens: Int32Array,
    tokensOffset: number,
    rows: number,
    cols: number,
  ): void;
}
