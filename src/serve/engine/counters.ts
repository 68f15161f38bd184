/**
 * Counters in shared memory, which a worker writes and the engine's thread reads. Messages would be too many.
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

  /** Number of tokens in the cache. */
  get cachedTokens(): number {
    return this.data[0];
  }

  set cachedTokens(count: number) {
    this.data[0] = count;
  }

  /** Counts the experts [nLayers,T,K] of T tokens. */
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
