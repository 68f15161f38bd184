import type { Batch } from '../../base/batch';
import type { MoETransformer } from '../../model/model';
import { evaluateBatches, type ScoringOptions } from '../evaluateText';

export interface ValidationResult {
  /** Mean cross-entropy in nats per token. */
  loss: number;
  tokens: number;
  /** Summed cross-entropy in bits per byte of the tokens' text, which compares between tokenizers. */
  bitsPerByte: number;
}

/** Runs `evaluateBatches`; null if `signal` aborts it. */
export async function validate(
  model: MoETransformer,
  batches: Iterable<Batch>,
  tokenizer: ScoringOptions['tokenizer'],
  signal?: AbortSignal,
): Promise<ValidationResult | null> {
  try {
    const result = await evaluateBatches(model, batches, { tokenizer, signal });
    return { loss: result.loss, tokens: result.countedTokens, bitsPerByte: result.bitsPerByte };
  } catch (error) {
    if (signal?.aborted && error === signal.reason) return null;
    throw error;
  }
}
