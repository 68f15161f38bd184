/** Token ids and the next token of each, both [batch * seqLen] in row-major order. */
export interface Batch {
  readonly ids: Int32Array;
  readonly targets: Int32Array;
  readonly batch: number;
  readonly seqLen: number;
  /**
   * [batch * seqLen] the place of each token within its sample, where rows hold several samples: 0 begins a sample, and tokens
   * see those of their own sample alone. -1 stands for padding, which isn't computed; it ends a row, and its targets don't
   * count. Absent where each row is one sample.
   */
  readonly positions?: Int32Array | undefined;
}
