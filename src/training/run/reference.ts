import { SgemoeError } from '../../base/errors';
import { jsonFile, readJson } from '../../checkpoint/jsonFile';
import { replaceFiles } from '../../checkpoint/replaceFiles';
import { PreferenceDataset, type ReferenceScores } from '../../text/chats/preferenceDataset';
import { alikeOnAll, fromFirst, isStop } from '../distributed/agreement';
import { scoreReference } from '../preferences';
import type { NoteEvent } from './events';
import { REFERENCE_FILE } from './runFolder';
import type { RunSetup } from './runLoop';

/**
 * Gives the pairs of a run their reference: what the run's folder has, or else the scores of the model before its first step,
 * which the folder then keeps for a resume.
 * @throws SgemoeError SGEMOE_TRAINING_STATE if a run that has made steps has none.
 */
export async function* prepareReference(setup: RunSetup): AsyncGenerator<NoteEvent, void, void> {
  const { folder, state, trainer, options } = setup;
  const { dataset, seqLen, signal } = options;
  const { model, collectives } = trainer;
  if (!(dataset instanceof PreferenceDataset)) return;
  const known = await fromFirst(collectives, () => readReference(folder.path, state.done > 0));
  if (known) {
    alikeOnAll(() => setKnown(folder.path, dataset, known));
    return;
  }
  const pairs = dataset.train.length + dataset.validation.length;
  yield { type: 'note', text: `Scoring ${pairs} pairs by the model before its first step, the reference.` };
  try {
    const how = { seqLen, signal, collectives, precision: trainer.config.precision };
    const scores = dataset.reference ?? (await scoreReference(dataset, model, how));
    await fromFirst(collectives, () => replaceFiles(folder.path, [jsonFile(REFERENCE_FILE, scores)]));
  } catch (error) {
    // The run ends before its first step, and saves.
    if (!isStop(error, signal)) throw error;
  }
}

/** What a run's folder has; null for none. @throws SgemoeError SGEMOE_TRAINING_STATE for none where it is needed. */
async function readReference(dir: string, isNeeded: boolean): Promise<ReferenceScores | null> {
  const known = await readJson(dir, REFERENCE_FILE, 'SGEMOE_TRAINING_STATE');
  if (known !== null || !isNeeded) return known as ReferenceScores | null;
  throw new SgemoeError(
    'SGEMOE_TRAINING_STATE',
    `${dir} has no ${REFERENCE_FILE}, the log-probabilities by which the run goes on; a new run makes its own.`,
  );
}

function setKnown(dir: string, dataset: PreferenceDataset, known: ReferenceScores): void {
  try {
    dataset.setReference(known);
  } catch (cause) {
    const message = `${dir}/${REFERENCE_FILE} is of other data: ${(cause as Error).message}`;
    throw new SgemoeError('SGEMOE_TRAINING_STATE', message, { cause });
  }
}
