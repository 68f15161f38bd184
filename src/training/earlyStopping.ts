import { checkInteger, checkOptions, checkWeight } from '../base/checks';

export interface EarlyStoppingOptions {
  /** Evaluations in a row without an improvement after which training should end, an integer >= 1. */
  patience: number;
  /** Nats, >= 0, by which a loss must be lower than the best before it to be an improvement. Default 0. */
  minDelta?: number | undefined;
}

export interface EarlyStoppingState {
  /** The loss of the last improvement; null before the first. */
  best: number | null;
  /** Evaluations since the last improvement. */
  waited: number;
}

/**
 * Decides when validation losses have stopped falling (Prechelt 1998, "Early stopping - but when?"):
 * `if (stopping.add(loss)) break`.
 */
export class EarlyStopping {
  readonly patience: number;
  readonly minDelta: number;
  #best = Number.POSITIVE_INFINITY;
  #waited = 0;

  /** @throws TypeError for an unknown option, RangeError for one out of range. */
  constructor(options: EarlyStoppingOptions) {
    checkOptions('EarlyStopping', options, ['patience', 'minDelta']);
    const { patience, minDelta = 0 } = options;
    checkInteger('EarlyStopping: patience', patience, 1);
    checkWeight('EarlyStopping: minDelta', minDelta);
    this.patience = patience;
    this.minDelta = minDelta;
  }

  /** Adds the loss of an evaluation; a loss that isn't finite is no improvement. Returns `isDue`. */
  add(loss: number): boolean {
    if (loss < this.#best - this.minDelta) {
      this.#best = loss;
      this.#waited = 0;
    } else {
      this.#waited++;
    }
    return this.isDue;
  }

  /** Whether training should end. */
  get isDue(): boolean {
    return this.#waited >= this.patience;
  }

  /** The state as a JSON value, for `setState` of a resumed training. */
  getState(): EarlyStoppingState {
    return { best: Number.isFinite(this.#best) ? this.#best : null, waited: this.#waited };
  }

  /** @throws TypeError or RangeError for a state that `getState` can't have returned. */
  setState({ best, waited }: EarlyStoppingState): void {
    if (best !== null && !Number.isFinite(best)) {
      throw new TypeError(`EarlyStopping: state: best must be a finite number or null, got ${best}`);
    }
    checkInteger('EarlyStopping: state: waited', waited, 0);
    this.#best = best ?? Number.POSITIVE_INFINITY;
    this.#waited = waited;
  }
}
