import type { Evaluation } from './best';
import type { ValidationResult } from './validation';

/** How a run ended. */
export interface TrainingResult {
  /** Number of steps made, skipped ones included. */
  steps: number;
  skippedSteps: number;
  /** Whether its signal ended it, between two steps. */
  interrupted: boolean;
  /** Whether earlyStopping ended it before the last step. */
  stoppedEarly: boolean;
  /** Result of the last weights on the whole validation split; null without a split or if interrupted. */
  validation: ValidationResult | null;
  /** The lowest evaluation during the run, whose weights are in best/; null if there was none. */
  best: Evaluation | null;
  seconds: number;
  /** Training tokens per second of the whole time, evaluations and saves included. */
  tokensPerSec: number;
}
