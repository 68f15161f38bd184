import type { Collectives } from '../backend/collectives';
import { soloCollectives } from '../backend/collectives/solo';
import type { Batch, Preferences } from '../base/batch';
import { checkOptions } from '../base/checks';
import { checkPrecision, type Precision } from '../base/precision';
import { IGNORE_INDEX } from '../config/trainConfig';
import type { MoETransformer } from '../model/model';
import type { PreferenceDataset, ReferenceScores } from '../text/chats/preferenceDataset';
import type { Split } from '../text/data';
import { alikeOnAll, sumOverRanks } from './distributed/agreement';
import { inTurns } from './distributed/rounds';
import { addLosses } from './evaluate';
import { type PreferenceResult, PreferenceSums } from './preferenceLoss';

export interface ScoreOptions {
  /** Stops between two batches; the signal's reason is thrown. */
  signal?: AbortSignal | undefined;
  /** Precision of the products by weight matrices. Default 'float32'. */
  precision?: Precision | undefined;
  /** The ranks that share the batches, in turns; each gets the same ones and the same result. Default: this one alone. */
  collectives?: Collectives | undefined;
}

/**
 * -log p of each sample of the batches under a model, and the number of the batches' counted tokens.
 * @throws the signal's reason.
 */
async function sampleLosses(
  model: MoETransformer,
  batches: Iterable<Batch>,
  { signal, precision, collectives: ranks = soloCollectives() }: ScoreOptions,
): Promise<{ losses: Float64Array; tokens: number }> {
  const found: number[] = [];
  let tokens = 0;
  for await (const { batch, counted, isOwn } of inTurns(model, batches, ranks, signal)) {
    tokens += counted;
    if (isOwn) {
      const sums = { ...model.loss.noSums(), samples: found };
      addLosses(model, batch, { ignoreIndex: IGNORE_INDEX, precision }, sums);
    } else for (const place of batch.positions!) if (place === 0) found.push(0);
  }
  return { losses: await sumOverRanks(ranks, found), tokens };
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
  checkOptions('scoreReference', options, ['signal', 'precision', 'collectives', 'seqLen']);
  checkPrecision('scoreReference', options.precision);
  const scores = { train: [] as [number, number][], validation: [] as [number, number][] };
  for (const split of ['train', 'validation'] as const) {
    const { losses } = await sampleLosses(model, rowsOf(dataset, split, options.seqLen), options);
    for (let i = 0; i < losses.length; i += 2) scores[split].push([-losses[i], -losses[i + 1]]);
  }
  alikeOnAll(() => dataset.setReference(scores));
  return scores;
}

function* rowsOf(dataset: PreferenceDataset, split: Split, seqLen: number): Generator<Batch, void, void> {
  for (const { batch } of dataset.rowsInOrder(split, seqLen)) yield batch;
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
  checkOptions('evaluatePreferences', options, ['signal', 'precision', 'collectives']);
  checkPrecision('evaluatePreferences', options.precision);
  const known: Preferences[] = [];
  const { losses, tokens } = await sampleLosses(model, withPreferences(batches, known), options);
  const sums = new PreferenceSums();
  let first = 0;
  for (const preferences of known) {
    const samples = preferences.reference.length;
    const ofBatch = losses.subarray(first, first + samples);
    for (let i = 0; i < samples; i += 2) sums.add(preferences, ofBatch, i);
    first += samples;
  }
  if (first === 0) throw new RangeError('evaluatePreferences: the batches hold no pair');
  return { ...sums.over(first / 2), pairs: first / 2, tokens };
}

/** The batches, whose preferences it adds to `known`. @throws TypeError for a batch without. */
function* withPreferences(batches: Iterable<Batch>, known: Preferences[]): Generator<Batch, void, void> {
  for (const batch of batches) {
    if (batch.preferences === undefined) {
      throw new TypeError(
        'evaluatePreferences: batches must have preferences, as those of a PreferenceDataset',
      );
    }
    known.push(batch.preferences);
    yield batch;
  }
}
