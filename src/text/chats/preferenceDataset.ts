import type { Batch } from '../../base/batch';
import { resolveOptions } from '../../base/options';
import type { Split } from '../data';
import type { ItemForm } from './itemForm';
import { PREFERENCE_DATA_OPTIONS, type PreferenceDatasetOptions } from './options';
import { PackedDataset } from './packedDataset';
import { inputs, packRows } from './packRows';
import { type PreferencePair, pairInputs, pairOf } from './pairs';
import { readSplits } from './readItems';
import { RowError } from './rowChecks';
import { cutSample, type Sample } from './samples';

/** Log-probabilities of the pairs' answers under the reference: [chosen, rejected] of each pair, in nats. */
export interface ReferenceScores {
  readonly train: readonly (readonly [number, number])[];
  readonly validation: readonly (readonly [number, number])[];
}

/**
 * Pairs of answers to prompts, of which the chosen is to become more probable than the rejected (DPO). A file has a JSON object
 * a line, or is one JSON array of them: `{ prompt, chosen, rejected }` (docs/fine-tuning.md). Both answers of a pair stand in
 * one row, and rows hold several pairs. `scoreReference` gives it the reference's log-probabilities, without which it has no
 * batches to train on.
 */
export class PreferenceDataset extends PackedDataset<PreferencePair> {
  readonly beta: number;
  readonly #scores = new Map<PreferencePair, readonly [number, number]>();
  readonly #form: ItemForm<PreferencePair> = {
    inputs: pairInputs,
    tokens: ({ chosen, rejected }) => chosen.ids.length + rejected.ids.length,
    pack: (rows, seqLen) => this.#pack(rows, seqLen),
  };

  /** Reads files of pairs. Notes and errors are those of `ChatDataset.fromPaths`. */
  static async fromPaths(
    paths: string | readonly string[],
    options: PreferenceDatasetOptions,
  ): Promise<PreferenceDataset> {
    const table = PREFERENCE_DATA_OPTIONS;
    const complete = resolveOptions<PreferenceDatasetOptions>('PreferenceDataset', table, options);
    const files = typeof paths === 'string' ? [paths] : paths;
    const splits = await readSplits(files, complete, (row) => [
      fitted(pairOf(row, complete.tokenizer), complete),
    ]);
    const { tokenizer, seqLen, validation = [], beta = 0.1 } = complete;
    return new PreferenceDataset([...files, ...validation], splits, tokenizer, seqLen, beta);
  }

  private constructor(
    files: readonly string[],
    splits: Pick<PreferenceDataset, 'train' | 'validation'>,
    tokenizer: PreferenceDatasetOptions['tokenizer'],
    seqLen: number,
    beta: number,
  ) {
    super(files, splits, tokenizer, seqLen);
    this.beta = beta;
  }

  protected override get form(): ItemForm<PreferencePair> {
    return this.#form;
  }

  /** The reference's scores; null before they are set. */
  get reference(): ReferenceScores | null {
    const { train, validation } = this;
    if (this.#scores.size < train.length + validation.length) return null;
    const scoresOf = (pairs: readonly PreferencePair[]) => pairs.map((pair) => this.#scores.get(pair)!);
    return { train: scoresOf(train), validation: scoresOf(validation) };
  }

  /** @throws RangeError unless there is a finite score for each answer. */
  setReference(scores: ReferenceScores): void {
    for (const split of ['train', 'validation'] as const) {
      const [pairs, given] = [this[split], scores[split]];
      if (
        given?.length !== pairs.length ||
        !given.every((pair) => pair.length === 2 && pair.every(Number.isFinite))
      ) {
        throw new RangeError(
          `reference: ${split} must hold two finite numbers for each of ${pairs.length} pairs`,
        );
      }
      for (let i = 0; i < pairs.length; i++) this.#scores.set(pairs[i], given[i]);
    }
  }

  /** The pairs of a split in order, some at a time, with a batch of one row of them. */
  *rowsInOrder(split: Split, seqLen: number): Generator<{ pairs: PreferencePair[]; batch: Batch }, void> {
    const left = [...this[split]];
    while (left.length > 0) {
      let room = seqLen;
      const end = left.findIndex((pair) => {
        room -= pairInputs(pair);
        return room < 0;
      });
      const pairs = left.splice(0, end < 0 ? left.length : end);
      yield { pairs, batch: packRows([samplesOf(pairs)], seqLen) };
    }
  }

  #pack(rows: readonly (readonly PreferencePair[])[], seqLen: number): Batch {
    const reference = rows.flat().flatMap((pair) => {
      const scores = this.#scores.get(pair);
      if (scores === undefined)
        throw new TypeError('pairs have no batches before scoreReference has scored them');
      return scores;
    });
    return { ...packRows(rows.map(samplesOf), seqLen), preferences: { reference, beta: this.beta } };
  }
}

function samplesOf(pairs: readonly PreferencePair[]): Sample[] {
  return pairs.flatMap(({ chosen, rejected }) => [chosen, rejected]);
}

/** The pair, or what is left of one that is too long. @throws RowError where nothing is. */
function fitted(
  pair: PreferencePair,
  { seqLen, tooLong = 'skip', onNote }: PreferenceDatasetOptions,
): PreferencePair {
  if (pairInputs(pair) <= seqLen) return pair;
  const { place, chosen, rejected } = pair;
  const tokens = `its answers have ${chosen.ids.length} and ${rejected.ids.length} tokens, together more than ${seqLen}`;
  if (tooLong === 'skip') throw new RowError(tokens);
  const most = Math.max(Math.floor(seqLen / 2), seqLen - Math.min(inputs(chosen), inputs(rejected)));
  const [cutChosen, cutRejected] = [cutSample(chosen, most), cutSample(rejected, most)];
  if (cutChosen === null || cutRejected === null) {
    throw new RowError(`${tokens}, and the first of them hold nothing to learn`);
  }
  onNote?.(`${place}: ${tokens}; cut.`);
  return { place, chosen: cutChosen, rejected: cutRejected };
}
