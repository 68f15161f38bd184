import { checkInteger } from '../base/checks';
import { integer, number, type OptionTable, resolveOptions } from '../base/options';

export interface EarlyStoppingOptions {
  /** Evaluations in a row without an improvement after which training should end, an integer >= 1. */
  patience: number;
  /** Nats, >= 0, by which a loss must be lower than the best before it to be an improvement. Default 0. */
  minDelta?: number | undefined;
}

/** Flags of `sgemoe train`. */
export const EARLY_STOPPING_OPTIONS: OptionTable<EarlyStoppingOptions> = {
  patience: integer(
    { min: 1 },
    {
      doc: 'evaluations in a row without a lower validation loss, after which the run ends',
      cli: {
        flag: '--early-stopping <n>',
        doc: 'end after so many evaluations in a row without a lower validation loss',
        note: '0 is off',
        default: 0,
        kind: integer({ min: 0 }, { doc: '' }),
      },
    },
  ),
  minDelta: number(
    { min: 0 },
    {
      doc: 'what a validation loss must fall by to count as lower, in nats',
      default: 0,
      cli: { flag: '--early-stopping-min-delta <x>' },
    },
  ),
};

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
    const resolved = resolveOptions<EarlyStoppingOptions>('EarlyStopping', EARLY_STOPPING_OPTIONS, options);
    this.patience = resolved.patience;
    this.minDelta = resolved.minDelta as number;
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
