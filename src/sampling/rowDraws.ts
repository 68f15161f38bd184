import type { Kernels } from '../backend/kernels';
import type { Sampler } from './sampler';

/**
 * Draws the next tokens of several samplers from rows of one matrix of logits: a call of the kernel for each run of rows that
 * stand together, usually one. Each sampler's next choice then takes its draw, the one that it would have made alone.
 */
export class RowDraws {
  readonly #samplers: Sampler[] = [];
  readonly #rows: Int32Array;
  readonly #settings: Float32Array;
  readonly #choices: Int32Array;
  readonly #tokens: Int32Array;

  /** @param most the largest number of samplers in a call of `draw`. */
  constructor(
    private readonly kernels: Kernels,
    most: number,
  ) {
    this.#rows = new Int32Array(most);
    this.#settings = new Float32Array(3 * most);
    this.#choices = new Int32Array(2 * most);
    this.#tokens = new Int32Array(most);
  }

  /** Adds a sampler that draws from a row behind those before. One that changes its logits first isn't added, and draws alone. */
  add(sampler: Sampler, row: number): void {
    if (sampler.isPlain) this.#rows[this.#samplers.push(sampler) - 1] = row;
  }

  /** Draws for all that were added, from rows of ld numbers, and forgets them. */
  draw(logits: Float32Array, ld: number): void {
    const samplers = this.#samplers;
    for (const [r, sampler] of samplers.entries()) sampler.prepareDraw(this.#settings, this.#choices, r);
    for (let from = 0, to = 0; from < samplers.length; from = to) {
      while (this.#continues(from, to)) to++;
      const at = this.#rows[from] * ld;
      const { vocabSize } = samplers[from];
      const [settings, choices, tokens] = [this.#settings, this.#choices, this.#tokens];
      this.kernels.sampleRows(
        logits,
        at,
        ld,
        settings,
        3 * from,
        choices,
        2 * from,
        tokens,
        from,
        to - from,
        vocabSize,
      );
    }
    for (const [r, sampler] of samplers.entries()) sampler.foresee(this.#tokens[r]);
    samplers.length = 0;
  }

  /** Whether sampler `to` may be drawn in one call with those from `from` on. */
  #continues(from: number, to: number): boolean {
    if (to === this.#samplers.length) return false;
    const isNext = this.#rows[to] === this.#rows[from] + to - from;
    return isNext && this.#samplers[to].vocabSize === this.#samplers[from].vocabSize;
  }
}
