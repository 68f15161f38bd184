import { SgemoeError } from '../../base/errors';
import { jsonFile, readJson } from '../../checkpoint/jsonFile';
import { replaceFiles } from '../../checkpoint/replaceFiles';
import { PreferenceDataset, type ReferenceScores } from '../../text/chats/preferenceDataset';
import { isStop } from '../distributed/agreement';
import { requireOneRank } from '../preferenceLoss';
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
  const { precision } = trainer.config;
  if (!(dataset instanceof PreferenceDataset)) return;
  requireOneRank(trainer.collectives);
  const known = (await readJson(
    folder.path,
    REFERENCE_FILE,
    'SGEMOE_TRAINING_STATE',
  )) as ReferenceScores | null;
  if (known) {
    setKnown(folder.path, dataset, known);
    return;
  }
  if (state.done > 0) {
    throw new SgemoeError(
      'SGEMOE_TRAINING_STATE',
      `${folder.path} has no ${REFERENCE_FILE}, the log-probabilities by which the run goes on; a new run makes its own.`,
    );
  }
  const pairs = dataset.train.length + dataset.validation.length;
  yield { type: 'note', text: `Scoring ${pairs} pairs by the model before its first step, the reference.` };
  try {
    const scores =
      dataset.reference ?? (await scoreReference(dataset, trainer.model, { seqLen, signal, precision }));
    await replaceFiles(folder.path, [jsonFile(REFERENCE_FILE, scores)]);
  } catch (error) {
    // The run ends before its first step, and saves.
    if (!isStop(error, signal)) throw error;
  }
}

function setKnown(dir: string, dataset: PreferenceDataset, known: ReferenceScores): void {
  try {
    dataset.setReference(known);
  } catch (cause) {
    const message = `${dir}/${REFERENCE_FILE} is of other data: ${(cause as Error).message}`;
    throw new SgemoeError('SGEMOE_TRAINING_STATE', message, { cause });
  }
}
