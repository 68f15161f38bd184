import { setImmediate } from 'node:timers/promises';
import type { MoETransformer } from '../model';
import { type Batch, evaluate } from '../train';

export interface ValidationResult {
  /** Mean cross-entropy in nats per token. */
  loss: number;
  tokens: number;
}

/**
 * `evaluate`, batch by batch, so that signals get their turn in between.
 * @returns null when `signal` aborts it.
 */
export async function validate(
  model: MoETransformer,
  batches: Iterable<Batch>,
  signal?: AbortSignal,
): Promise<ValidationResult | null> {
  let sum = 0;
  let tokens = 0;
  for (const batch of batches) {
    await setImmediate();
    if (signal?.aborted) return null;
    const result = evaluate(model, [batch]);
    sum += result.loss * result.countedTokens;
    tokens += result.countedTokens;
  }
  return { loss: sum / tokens, tokens };
}
