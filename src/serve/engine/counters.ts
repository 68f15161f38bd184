import type { ModelConfig } from '../../config/modelConfig';

/** Numbers in front of the experts' counts. */
const FIGURES = 3;

/**
 * Counters in shared memory, which a worker writes and the engine's thread reads. Messages would be too many.
 */
export class WorkerCounters {
  readonly data: Float64Array;
  /** For each layer its number of experts, 0 for a dense one. */
  readonly #experts: readonly number[];

  constructor(config: ModelConfig, data?: Float64Array) {
    this.#experts = expertsPerLayer(config);
    const size = FIGURES + config.nMoeLayers * config.nExperts;
    this.data = data ?? new Float64Array(new SharedArrayBuffer(size * Float64Array.BYTES_PER_ELEMENT));
  }

  /** Number of tokens in the cache. */
  get cachedTokens(): number {
    return this.data[0];
  }

  set cachedTokens(count: number) {
    this.data[0] = count;
  }

  /** Number of tokens that were guessed. */
  get draftedTokens(): number {
    return this.data[1];
  }

  /** Number of guessed tokens that were right. */
  get acceptedTokens(): number {
    return this.data[2];
  }

  countGuesses(drafted: number, accepted: number): void {
    this.data[1] += drafted;
    this.data[2] += accepted;
  }

  /** Counts the experts [nLayers,T,K] of T tokens. */
  countExperts(experts: Int32Array, choicesPerLayer: number): void {
    const { data } = this;
    let at = FIGURES;
    for (let layer = 0; layer < this.#experts.length; layer++) {
      const count = this.#experts[layer];
      if (count === 0) continue;
      const from = layer * choicesPerLayer;
      for (let i = 0; i < choicesPerLayer; i++) data[at + experts[from + i]]++;
      at += count;
    }
  }

  /** Adds the choices of each layer to `sum`, which has the lengths of `expertsPerLayer`. */
  addLoadTo(sum: number[][]): void {
    let at = FIGURES;
    for (const layer of sum) for (let e = 0; e < layer.length; e++) layer[e] += this.data[at++];
  }
}

/** The number of experts of each layer, 0 for a dense one. */
export function expertsPerLayer(config: ModelConfig): number[] {
  return Array.from({ length: config.nLayers }, (_, i) => (config.isDense(i) ? 0 : config.nExperts));
}
