import { SgemoeError } from '../../base/errors';
import { locateFile } from '../../checkpoint/replaceFiles';
import { SafetensorsFile } from '../../checkpoint/safetensors';
import type { MoETransformer } from '../../model/model';
import type { Tokenizer } from '../../text/tokenizer';

/** An evaluation on the way of a run. */
export interface Evaluation {
  /** After which step. */
  step: number;
  /** Nats per token. */
  loss: number;
}

/** Saves the weights of the best evaluation, which their header tells: the two are never of different ones. */
export async function saveBest(
  dir: string,
  model: MoETransformer,
  tokenizer: Tokenizer,
  { step, loss }: Evaluation,
): Promise<void> {
  const metadata = { step: String(step), validation_loss: String(loss) };
  await model.save(dir, { ...tokenizer.files(), metadata });
}

/**
 * The evaluation whose weights are in `dir`; null when there are none to be read, or they don't say. It may be later than the
 * checkpoint that a run goes on from: then its steps were made and lost, and their weights are still the best seen.
 */
export async function readBest(dir: string): Promise<Evaluation | null> {
  let file: SafetensorsFile;
  try {
    file = await SafetensorsFile.open(await locateFile(dir, 'model.safetensors'));
  } catch (error) {
    if (error instanceof SgemoeError) return null;
    throw error;
  }
  await file.close();
  const [step, loss] = ['step', 'validation_loss'].map((key) => Number(file.metadata.get(key) ?? Number.NaN));
  return Number.isSafeInteger(step) && Number.isFinite(loss) ? { step, loss } : null;
}
