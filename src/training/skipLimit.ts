import { checkInteger } from '../base/checks';
import { SgemoeError } from '../base/errors';

/** Skipped steps in a row after which a training has diverged, unless an option says otherwise. */
export const DEFAULT_MAX_SKIPPED_STEPS = 10;

/**
 * Counts skipped steps in a row. The weights stay as they are in a skipped step, so that after many only other data
 * could make the next one finite.
 */
export class SkipLimit {
  /** Skipped steps since the last one that wasn't. */
  inARow: number;

  /** @param limit an integer >= 0; 0 is none. */
  constructor(
    private readonly limit: number = DEFAULT_MAX_SKIPPED_STEPS,
    inARow = 0,
  ) {
    checkInteger('maxSkippedSteps', limit, 0);
    this.inARow = inARow;
  }

  count(skipped: boolean): void {
    this.inARow = skipped ? this.inARow + 1 : 0;
  }

  /** @throws SgemoeError SGEMOE_TRAINING_DIVERGED when as many steps in a row were skipped as the limit says. */
  check(): void {
    if (this.limit === 0 || this.inARow < this.limit) return;
    throw new SgemoeError(
      'SGEMOE_TRAINING_DIVERGED',
      `The loss or its gradient was not finite in ${this.inARow} steps in a row: training has diverged. ` +
        'Try a lower learning rate or a longer warmup.',
    );
  }
}
