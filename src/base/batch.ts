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
  /**
   * Makes the samples pairs, the chosen answer of each before the rejected one: a train step then learns the preference (DPO)
   * instead of the tokens. Needs positions. Absent where samples stand for themselves.
   */
  readonly preferences?: Preferences | undefined;
}

/** What a loss on pairs of samples needs beside their tokens. */
export interface Preferences {
  /** [samples] log-probability of each sample's counted targets under the reference model, in nats. */
  readonly reference: ArrayLike<number>;
  /** How strongly the reference holds the model back, > 0. */
  readonly beta: number;
}
