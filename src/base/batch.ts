/** Token ids and the next token of each, both [batch * seqLen] in row-major order. */
export interface Batch {
  readonly ids: Int32Array;
  readonly targets: Int32Array;
  readonly batch: number;
  readonly seqLen: number;
}
