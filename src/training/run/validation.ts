import { PreferenceDataset } from '../../text/chats/preferenceDataset';
import type { OrderedBatchOptions, TokenDataset } from '../../text/data';
import { isStop } from '../distributed/agreement';
import { evaluateBatches, type ScoringOptions } from '../evaluateText';
import type { PreferenceMetrics } from '../preferenceLoss';
import { evaluatePreferences } from '../preferences';
import type { Trainer } from '../trainer';

export interface ValidationResult {
  /** Mean cross-entropy in nats per token; of preference pairs, the mean of their loss. */
  loss: number;
  /** Tokens, of preference pairs those of the evaluated pairs' answers. */
  tokens: number;
  /** Summed cross-entropy in bits per byte of the tokens' text, which compares between tokenizers; null of preference pairs. */
  bitsPerByte: number | null;
  /** Of preference pairs. */
  preferences?: PreferenceMetrics | undefined;
}

/** Evaluates on batches of the validation split in the precision of the training; null if the signal aborts it, on any rank. */
export async function validate(
  { model, config: { precision } }: Trainer,
  dataset: TokenDataset,
  options: OrderedBatchOptions,
  { signal, collectives }: Pick<ScoringOptions, 'signal' | 'collectives'>,
): Promise<ValidationResult | null> {
  const batches = dataset.validationBatches(options);
  try {
    if (dataset instanceof PreferenceDataset) {
      const { pairs, tokens, ...preferences } = await evaluatePreferences(model, batches, {
        signal,
        precision,
        collectives,
      });
      return { loss: preferences.loss, tokens, bitsPerByte: null, preferences };
    }
    const { tokenizer } = dataset;
    const result = await evaluateBatches(model, batches, { tokenizer, signal, collectives, precision });
    return { loss: result.loss, tokens: result.countedTokens, bitsPerByte: result.bitsPerByte };
  } catch (error) {
    if (isStop(error, signal)) return null;
    throw error;
  }
}
