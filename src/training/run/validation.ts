import type { Batch } from '../../base/batch';
import { OtherRankStopped } from '../distributed/agreement';
import { evaluateBatches, type ScoringOptions } from '../evaluateText';
import type { Trainer } from '../trainer';

export interface ValidationResult {
  /** Mean cross-entropy in nats per token. */
  loss: number;
  tokens: number;
  /** Summed cross-entropy in bits per byte of the tokens' text, which compares between tokenizers. */
  bitsPerByte: number;
}

/** Runs `evaluateBatches` in the precision of the training; null if the signal aborts it, on any rank. */
export async function validate(
  { model, config }: Trainer,
  batches: Iterable<Batch>,
  { signal, ...options }: ScoringOptions,
): Promise<ValidationResult | null> {
  try {
    const result = await evaluateBatches(model, batches, { ...options, precision: config.precision, signal });
    return { loss: result.loss, tokens: result.countedTokens, bitsPerByte: result.bitsPerByte };
  } catch (error) {
    if (error instanceof OtherRankStopped || (signal?.aborted && error === signal.reason)) return null;
    throw error;
  }
}
