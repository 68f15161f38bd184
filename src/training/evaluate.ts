import type { Batch } from '../base/batch';
import { checkOptions } from '../base/checks';
import { checkPrecision, type Precision } from '../base/precision';
import { IGNORE_INDEX } from '../config/trainConfig';
import type { LossSums } from '../model/loss';
import type { MoETransformer } from '../model/model';
import { checkBatch } from './checkBatch';

export interface EvalResult {
  /** Mean cross-entropy in nats per token. */
  loss: number;
  /** e^loss */
  perplexity: number;
  /** loss / ln 2 * tokens / bytes */
  bitsPerByte: number;
  /** Targets that were not ignored. */
  countedTokens: number;
}

export interface EvalOptions {
  /** Mean bytes of a token, for bitsPerByte. Default 1, which is right for byte tokens. */
  bytesPerToken?: number | undefined;
  /** Targets with this value don't count. Default -100. */
  ignoreIndex?: number | undefined;
  /** Precision of the products by weight matrices. Default 'float32'. */
  precision?: Precision | undefined;
}

/**
 * Mean cross-entropy of a model over batches, without gradients.
 * @throws RangeError when no target counts.
 */
export function evaluate(
  model: MoETransformer,
  batches: Iterable<Batch>,
  options: EvalOptions = {},
): EvalResult {
  const { bytesPerToken = 1, ignoreIndex = IGNORE_INDEX, precision } = options;
  checkOptions('evaluate', options, ['bytesPerToken', 'ignoreIndex', 'precision']);
  checkPrecision('evaluate', precision);
  if (!batches?.[Symbol.iterator]) {
    throw new TypeError('evaluate: batches must be an iterable of { ids, targets, batch, seqLen }');
  }
  if (!(bytesPerToken > 0)) throw new RangeError(`evaluate: bytesPerToken must be > 0, got ${bytesPerToken}`);
  const sums = model.loss.noSums();
  let counted = 0;
  for (const data of batches) {
    counted += checkBatch(data, model.config, ignoreIndex).counted;
    addLosses(model, data, { ignoreIndex, precision }, sums);
  }
  if (counted === 0) throw new RangeError('evaluate: the batches hold no target that counts');
  const loss = sums.crossEntropy / counted;
  const bitsPerByte = loss / Math.LN2 / bytesPerToken;
  return { loss, perplexity: Math.exp(loss), bitsPerByte, countedTokens: counted };
}

/** Adds the cross-entropy of a checked batch to `sums`, without gradients. */
export function addLosses(
  model: MoETransformer,
  data: Batch,
  { ignoreIndex, precision }: { ignoreIndex: number; precision: Precision | undefined },
  sums: LossSums,
): void {
  const { ids, targets, positions, batch, seqLen: seq } = data;
  const terms = { auxLossAlpha: 0, zLossCoef: 0, weight: 1, ignoreIndex, gradScale: 1, precision };
  model.loss.forward({ ids, targets, positions, from: 0, batch, seq }, terms, 'loss', sums);
}
