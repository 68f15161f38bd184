import { setImmediate } from 'node:timers/promises';
import type { MoETransformer } from '../model';
import type { Tokenizer } from '../text/tokenizer';
import { type Batch, evaluate } from '../train';

export interface ValidationResult {
  /** Mean cross-entropy in nats per token. */
  loss: number;
  tokens: number;
  /** The summed cross-entropy in bits, for each byte of text that the tokens stand for; compares between tokenizers. */
  bitsPerByte: number;
}

/**
 * `evaluate`, batch by batch, so that signals get their turn in between.
 * @returns null when `signal` aborts it.
 */
export async function validate(
  model: MoETransformer,
  batches: Iterable<Batch>,
  tokenizer: Pick<Tokenizer, 'countBytes'>,
  signal?: AbortSignal,
): Promise<ValidationResult | null> {
  let sum = 0;
  let tokens = 0;
  let bytes = 0;
  for (const batch of batches) {
    await setImmediate();
    if (signal?.aborted) return null;
    const result = evaluate(model, [batch]);
    sum += result.loss * result.countedTokens;
    tokens += result.countedTokens;
    bytes += tokenizer.countBytes(batch.targets);
  }
  return { loss: sum / tokens, tokens, bitsPerByte: sum / Math.LN2 / bytes };
}
