import type { Batch } from '../../base/batch';
import type { MoETransformer } from '../../model/model';
import { OtherRankStopped } from '../distributed/agreement';
import { evaluateBatches, type ScoringOptions } from '../evaluateText';

export interface ValidationResult {
  /** Mean cross-entropy in nats per token. */
  loss: number;
  tokens: number;
  /** Summed cross-entropy in bits per byte of the tokens' text, which compares between tokenizers. */
  bitsPerByte: number;
}

/** Runs `evaluateBatches`; null if the signal aborts it, on any rank. */
export async function validate(
  model: MoETransformer,
  batches: Iterable<Batch>,
  { signal, ...options }: ScoringOptions,
): Promise<ValidationResult | null> {
  try {
    const result = await evaluateBatches(model, batches, { ...options, signal });
    return { loss: result.loss, tokens: result.countedTokens, bitsPerByte: result.bitsPerByte };
  } catch (error) {
    if (error instanceof OtherRankStopped || (signal?.aborted && error === signal.reason)) return null;
    throw error;
  }
}
