import { setImmediate } from 'node:timers/promises';
import type { Batch } from '../base/batch';
import { checkOptions } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { IGNORE_INDEX } from '../config/trainConfig';
import type { MoETransformer } from '../model/model';
import type { BatchOptions } from '../text/data';
import { TextDataset } from '../text/dataset';
import type { Tokenizer } from '../text/tokenizer';
import { type EvalResult, evaluate } from './trainer';

export interface TextEvalResult extends EvalResult {
  /** Bytes of text that the counted targets stand for, the denominator of bitsPerByte. */
  countedBytes: number;
}

export interface ScoringOptions {
  /** Counts the bytes. */
  tokenizer: Pick<Tokenizer, 'countBytes'>;
  /** Stops between two batches; its reason is thrown. */
  signal?: AbortSignal | undefined;
  /** Told after each batch how many targets have counted so far. */
  onProgress?: ((countedTokens: number) => void) | undefined;
}

/**
 * `evaluate` in turns with the event loop, a batch at a time, and with bits per byte of the text itself: summed
 * cross-entropy / ln 2 / countedBytes, which compares between tokenizers.
 * @throws RangeError when no target counts.
 */
export async function evaluateBatches(
  model: MoETransformer,
  batches: Iterable<Batch>,
  options: ScoringOptions,
): Promise<TextEvalResult> {
  checkOptions('evaluateBatches', options, ['tokenizer', 'signal', 'onProgress']);
  const { tokenizer, signal, onProgress } = options;
  let sum = 0;
  let tokens = 0;
  let bytes = 0;
  for (const batch of batches) {
    await setImmediate();
    signal?.throwIfAborted();
    const { loss, countedTokens } = evaluate(model, [batch]);
    sum += loss * countedTokens;
    tokens += countedTokens;
    bytes += tokenizer.countBytes(batch.targets.filter((target) => target !== IGNORE_INDEX));
    onProgress?.(tokens);
  }
  if (tokens === 0) throw new RangeError('evaluateBatches: the batches hold no target that counts');
  const loss = sum / tokens;
  return {
    loss,
    perplexity: Math.exp(loss),
    bitsPerByte: sum / Math.LN2 / bytes,
    countedTokens: tokens,
    countedBytes: bytes,
  };
}

export interface EvaluateTextOptions extends Omit<ScoringOptions, 'tokenizer'> {
  /** The one that the model was trained with. */
  tokenizer: Tokenizer;
  /** Tokens of a window, in 1..maxSeqLen. Default: maxSeqLen, at most 2048. */
  seqLen?: number | undefined;
  /** From one window to the next, in 1..seqLen. Default: half of seqLen, rounded up. */
  stride?: number | undefined;
  /** Windows computed at once. Default: as many as make 2,048 tokens, fewer where logits would take more than 256 MB. */
  batchSize?: number | undefined;
}

/**
 * How well a model predicts a text: every token but the first is scored once, by a window that slides over the text, with
 * at least seqLen - stride tokens before it where the text has them. Packed weights are faster (`model.freeze({ pack: true })`).
 * @throws SgemoeError SGEMOE_DATA_TOO_SHORT for a text of fewer than 2 tokens; RangeError for windows that can't be.
 */
export async function evaluateText(
  model: MoETransformer,
  text: string | Uint8Array,
  options: EvaluateTextOptions,
): Promise<TextEvalResult> {
  const known = ['tokenizer', 'batchSize', 'seqLen', 'stride', 'signal', 'onProgress'];
  checkOptions('evaluateText', options, known);
  const { tokenizer, signal, onProgress } = options;
  const windows = scoringWindows(model, options);
  const dataset = TextDataset.fromText(text, { tokenizer, validationFraction: 0 });
  requireScorable(dataset.trainTokens);
  const batches = dataset.batchesInOrder('train', windows);
  return evaluateBatches(model, batches, { tokenizer, signal, onProgress });
}

const MOST_SEQ_LEN = 2048;
/** A batch of so many tokens keeps the matmuls busy. */
const BATCH_TOKENS = 2048;
/** 256 MB of logits. */
const MOST_LOGITS = 2 ** 26;

/**
 * The windows with the defaults of `EvaluateTextOptions` filled in.
 * @throws RangeError for a seqLen above maxSeqLen.
 */
export function scoringWindows(
  model: Pick<MoETransformer, 'config'>,
  options: Partial<BatchOptions> & { stride?: number | undefined },
): BatchOptions & { stride: number } {
  const { maxSeqLen, vocabSize } = model.config;
  const { seqLen = Math.min(maxSeqLen, MOST_SEQ_LEN) } = options;
  if (seqLen > maxSeqLen) {
    throw new RangeError(`seqLen must be at most maxSeqLen (${maxSeqLen}), got ${seqLen}`);
  }
  const tokens = Math.min(BATCH_TOKENS, MOST_LOGITS / vocabSize);
  const { stride = Math.ceil(seqLen / 2), batchSize = Math.max(1, Math.floor(tokens / seqLen)) } = options;
  return { batchSize, seqLen, stride };
}

/** @throws SgemoeError SGEMOE_DATA_TOO_SHORT. */
export function requireScorable(tokens: number): void {
  if (tokens >= 2) return;
  throw new SgemoeError(
    'SGEMOE_DATA_TOO_SHORT',
    `The text has ${tokens} tokens, but 2 are needed: one to begin with and one to predict.`,
  );
}
