import type { Collectives } from '../backend/collectives';
import { soloCollectives } from '../backend/collectives/solo';
import type { Batch } from '../base/batch';
import { checkOptions } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { choice, integer, namesOf, type OptionTable, ownOptions, resolveOptions } from '../base/options';
import { PRECISIONS, type Precision } from '../base/precision';
import { IGNORE_INDEX } from '../config/trainConfig';
import type { MoETransformer } from '../model/model';
import type { BatchOptions } from '../text/data';
import { TextDataset } from '../text/dataset';
import type { Tokenizer } from '../text/tokenizer';
import { sumOverRanks } from './distributed/agreement';
import { inTurns } from './distributed/rounds';
import { addLosses, type EvalResult } from './evaluate';

export interface TextEvalResult extends EvalResult {
  /** Bytes of text of the counted targets: the denominator of bitsPerByte. */
  countedBytes: number;
}

export interface ScoringOptions {
  /** Counts the bytes. */
  tokenizer: Pick<Tokenizer, 'countBytes'>;
  /** Precision of the products by weight matrices. Default 'float32'. */
  precision?: Precision | undefined;
  /** Stops between two batches; the signal's reason is thrown. */
  signal?: AbortSignal | undefined;
  /** The ranks that share the batches, in turns; each gets the same ones and the same result. Default: this one alone. */
  collectives?: Collectives | undefined;
  /** Called after each batch with the number of targets counted so far. */
  onProgress?: ((countedTokens: number) => void) | undefined;
}

/**
 * Evaluates as `evaluate` does, and lets the event loop run between batches. Its bits per byte are those of the text
 * itself, summed cross-entropy / ln 2 / countedBytes, which compares between tokenizers.
 * @throws RangeError when no target counts.
 */
export async function evaluateBatches(
  model: MoETransformer,
  batches: Iterable<Batch>,
  options: ScoringOptions,
): Promise<TextEvalResult> {
  checkOptions('evaluateBatches', options, ['tokenizer', 'precision', 'signal', 'onProgress', 'collectives']);
  const { tokenizer, precision, signal, onProgress, collectives: ranks = soloCollectives() } = options;
  /** The summed cross-entropy of each batch; 0 for those of other ranks. */
  const sums: number[] = [];
  let tokens = 0;
  let bytes = 0;
  for await (const { batch, counted, isOwn } of inTurns(model, batches, ranks, signal)) {
    const found = model.loss.noSums();
    if (isOwn) addLosses(model, batch, { ignoreIndex: IGNORE_INDEX, precision }, found);
    sums.push(found.crossEntropy);
    tokens += counted;
    bytes += tokenizer.countBytes(batch.targets.filter((target) => target !== IGNORE_INDEX));
    onProgress?.(tokens);
  }
  if (tokens === 0) throw new RangeError('evaluateBatches: the batches hold no target that counts');
  // In the order of the batches, so that it has the same bits for any number of ranks.
  const sum = (await sumOverRanks(ranks, sums)).reduce((total, each) => total + each, 0);
  const loss = sum / tokens;
  return {
    loss,
    perplexity: Math.exp(loss),
    bitsPerByte: sum / Math.LN2 / bytes,
    countedTokens: tokens,
    countedBytes: bytes,
  };
}

/** The windows through which a text is scored, and the precision of that. */
export interface WindowOptions {
  /** Tokens of a window, in 1..maxSeqLen. Default: maxSeqLen, at most 2048. */
  seqLen?: number | undefined;
  /** Tokens from one window's start to the next, in 1..seqLen. Default: half of seqLen, rounded up. */
  stride?: number | undefined;
  /** Windows computed at once. Default: as many as hold 2,048 tokens, fewer if logits would take more than 256 MB. */
  batchSize?: number | undefined;
  /** Precision of the products by weight matrices. Default 'float32'. */
  precision?: Precision | undefined;
}

/** Flags of `sgemoe eval`. */
export const WINDOW_OPTIONS: OptionTable<WindowOptions> = {
  seqLen: integer(
    { min: 1 },
    {
      doc: 'tokens of a window, at most maxSeqLen',
      absent: 'maxSeqLen, at most 2048',
      cli: { flag: '--seq-len <n>', doc: 'tokens of a window', absent: "the model's context, at most 2048" },
    },
  ),
  stride: integer(
    { min: 1 },
    {
      doc: 'tokens from one window to the next, at most seqLen',
      absent: 'half of seqLen',
      cli: {
        flag: '--stride <n>',
        doc: 'tokens from one window to the next, at most --seq-len',
        absent: 'half of --seq-len',
      },
    },
  ),
  batchSize: integer(
    { min: 1 },
    {
      doc: 'windows computed at once',
      absent: 'as many as hold 2,048 tokens',
      cli: { flag: '--batch-size <n>' },
    },
  ),
  precision: choice(PRECISIONS, {
    doc: 'what products by weight matrices multiply, as in training',
    default: 'float32',
    cli: { flag: '--precision <name>' },
  }),
};

export interface EvaluateTextOptions extends WindowOptions, Omit<ScoringOptions, 'tokenizer'> {
  /** The tokenizer that the model was trained with. */
  tokenizer: Tokenizer;
}

/**
 * Measures how well a model predicts a text. A window slides over the text and scores every token except the first once,
 * each with at least seqLen - stride tokens of context where the text has them. `model.freeze({ pack: true })` makes it
 * faster.
 * @throws SgemoeError SGEMOE_DATA_TOO_SHORT for a text of fewer than 2 tokens; RangeError for impossible windows.
 */
export async function evaluateText(
  model: MoETransformer,
  text: string | Uint8Array,
  options: EvaluateTextOptions,
): Promise<TextEvalResult> {
  checkOptions('evaluateText', options, [
    ...namesOf<WindowOptions>(WINDOW_OPTIONS),
    'tokenizer',
    'signal',
    'onProgress',
    'collectives',
  ]);
  const { tokenizer, precision, signal, onProgress, collectives } = options;
  const windows = scoringWindows(model, options);
  const dataset = TextDataset.fromText(text, { tokenizer, validationFraction: 0 });
  requireScorable(dataset.trainTokens);
  const batches = dataset.batchesInOrder('train', windows);
  return evaluateBatches(model, batches, { tokenizer, precision, signal, onProgress, collectives });
}

const MOST_SEQ_LEN = 2048;
/** Tokens of a batch, enough to keep the matmuls busy. */
const BATCH_TOKENS = 2048;
/** Largest number of logits of a batch: 256 MB. */
const MOST_LOGITS = 2 ** 26;

/**
 * The windows with the defaults of `EvaluateTextOptions` filled in.
 * @throws RangeError for a seqLen above maxSeqLen.
 */
export function scoringWindows(
  model: Pick<MoETransformer, 'config'>,
  options: WindowOptions,
): BatchOptions & { stride: number } {
  const given = resolveOptions<WindowOptions>(
    'evaluateText',
    WINDOW_OPTIONS,
    ownOptions(WINDOW_OPTIONS, options),
  );
  const { maxSeqLen, vocabSize } = model.config;
  const { seqLen = Math.min(maxSeqLen, MOST_SEQ_LEN) } = given;
  if (seqLen > maxSeqLen) {
    throw new RangeError(`seqLen must be at most maxSeqLen (${maxSeqLen}), got ${seqLen}`);
  }
  const tokens = Math.min(BATCH_TOKENS, MOST_LOGITS / vocabSize);
  const { stride = Math.ceil(seqLen / 2), batchSize = Math.max(1, Math.floor(tokens / seqLen)) } = given;
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
