/**
 * Counters that a worker writes and the engine's thread reads without asking, on shared memory: what a model computes would
 * take too many messages.
 */
export class WorkerCounters {
  readonly data: Float64Array;

  constructor(
    readonly nLayers: number,
    readonly nExperts: number,
    data?: Float64Array,
  ) {
    const size = 1 + nLayers * nExperts;
    this.data = data ?? new Float64Array(new SharedArrayBuffer(size * Float64Array.BYTES_PER_ELEMENT));
  }

  /** Tokens that the cache holds. */
  get cachedTokens(): number {
    return this.data[0];
  }

  set cachedTokens(count: number) {
    this.data[0] = count;
  }

  /** Counts experts [nLayers,T,K] that T tokens reached. */
  countExperts(experts: Int32Array, choicesPerLayer: number): void {
    const { data, nLayers, nExperts } = this;
    for (let layer = 0; layer < nLayers; layer++) {
      const at = 1 + layer * nExperts;
      const from = layer * choicesPerLayer;
      for (let i = 0; i < choicesPerLayer; i++) data[at + experts[from + i]]++;
    }
  }

  /** Adds [nLayers][nExperts] choices to `sum`. */
  addLoadTo(sum: number[][]): void {
    for (let layer = 0; layer < this.nLayers; layer++) {
      for (let e = 0; e < this.nExperts; e++) sum[layer][e] += this.data[1 + layer * this.nExperts + e];
    }
  }
}
