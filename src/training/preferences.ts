import { setImmediate } from 'node:timers/promises';
import type { Batch } from '../base/batch';
import { checkOptions } from '../base/checks';
import { checkPrecision, type Precision } from '../base/precision';
import { IGNORE_INDEX } from '../config/trainConfig';
import type { MoETransformer } from '../model/model';
import type { PreferenceDataset, ReferenceScores } from '../text/chats/preferenceDataset';
import { addLosses } from './evaluate';
import { type PreferenceResult, PreferenceSums } from './preferenceLoss';

/** -log p of each sample of a batch under a model, and the number of their tokens. */
function sampleLosses(
  model: MoETransformer,
  data: Batch,
  precision: Precision | undefined,
): { losses: number[]; tokens: number } {
  const losses: number[] = [];
  const sums = { ...model.loss.noSums(), samples: losses };
  return { losses, tokens: addLosses(model, data, { ignoreIndex: IGNORE_INDEX, precision }, sums) };
}

export interface ScoreOptions {
  /** Stops between two batches; the signal's reason is thrown. */
  signal?: AbortSignal | undefined;
  /** Precision of the products by weight matrices. Default 'float32'. */
  precision?: Precision | undefined;
}

/**
 * Gives a data set the log-probabilities of its answers under a model, its reference from then on, by one forward of all of
 * them. Let it score before the first step: the reference is the model that the training starts from, which so needs no copy.
 * @throws the signal's reason.
 */
export async function scoreReference(
  dataset: PreferenceDataset,
  model: MoETransformer,
  options: ScoreOptions & {
    /** Tokens computed at once. Default: the data set's seqLen. */ seqLen: number;
  },
): Promise<ReferenceScores> {
  checkOptions('scoreReference', options, ['signal', 'precision', 'seqLen']);
  checkPrecision('scoreReference', options.precision);
  const scores = { train: [] as [number, number][], validation: [] as [number, number][] };
  for (const split of ['train', 'validation'] as const) {
    for (const { batch } of dataset.rowsInOrder(split, options.seqLen)) {
      await setImmediate();
      options.signal?.throwIfAborted();
      const { losses } = sampleLosses(model, batch, options.precision);
      for (let i = 0; i < losses.length; i += 2) scores[split].push([-losses[i], -losses[i + 1]]);
    }
  }
  dataset.setReference(scores);
  return scores;
}

/**
 * The metrics of a model over batches of pairs and the tokens of their answers, without gradients; lets the event loop run between them.
 * @throws RangeError without a pair; the signal's reason.
 */
export async function evaluatePreferences(
  model: MoETransformer,
  batches: Iterable<Batch>,
  options: ScoreOptions = {},
): Promise<PreferenceResult & { tokens: number }> {
  checkOptions('evaluatePreferences', options, ['signal', 'precision']);
  checkPrecision('evaluatePreferences', options.precision);
  const sums = new PreferenceSums();
  let tokens = 0;
  for (const batch of batches) {
    await setImmediate();
    options.signal?.throwIfAborted();
    if (batch.preferences === undefined) {
      throw new TypeError(
        'evaluatePreferences: batches must have preferences, as those of a PreferenceDataset',
      );
    }
    const scored = sampleLosses(model, batch, options.precision);
    tokens += scored.tokens;
    for (let i = 0; i < scored.losses.length; i += 2) sums.add(batch.preferences, scored.losses, i);
  }
  const { result } = sums;
  if (result.pairs === 0) throw new RangeError('evaluatePreferences: the batches hold no pair');
  return { ...result, tokens };
}
