import { checkInteger } from '../base/checks';
import { SgemoeError } from '../base/errors';

/** Default number of consecutive skipped steps after which a training has diverged. */
export const DEFAULT_MAX_SKIPPED_STEPS = 10;

/**
 * Counts consecutive skipped steps. A skipped step leaves the weights unchanged, so after many of them only different data
 * could make the next step finite.
 */
export class SkipLimit {
  /** Skipped steps since the last step that wasn't skipped. */
  inARow: number;

  /** @param limit an integer >= 0; 0 means no limit. */
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

  /** @throws SgemoeError SGEMOE_TRAINING_DIVERGED once `limit` consecutive steps were skipped. */
  check(): void {
    if (this.limit === 0 || this.inARow < this.limit) return;
    throw new SgemoeError(
      'SGEMOE_TRAINING_DIVERGED',
      `The loss or its gradient was not finite in ${this.inARow} steps in a row: training has diverged. ` +
        'Try a lower learning rate or a longer warmup.',
    );
  }
}
