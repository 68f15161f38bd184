import type { Evaluation } from './best';
import type { ValidationResult } from './validation';

/** How a run ended. */
export interface TrainingResult {
  /** Steps made, skipped ones included. */
  steps: number;
  skippedSteps: number;
  /** Ended by its signal, between two steps. */
  interrupted: boolean;
  /** Ended by earlyStopping, before the last step. */
  stoppedEarly: boolean;
  /** Over the whole validation split, with the last weights; null without one or when interrupted. */
  validation: ValidationResult | null;
  /** The lowest of the evaluations on the way, whose weights are in best/; null when there was none. */
  best: Evaluation | null;
  seconds: number;
  /** Training tokens in all of these seconds, evaluations and saves included. */
  tokensPerSec: number;
}
