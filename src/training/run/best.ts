import type { Collectives } from '../../backend/collectives';
import { SgemoeError } from '../../base/errors';
import { ADAPTER_WEIGHTS, WEIGHTS_FILE } from '../../checkpoint/checkpoint';
import { locateFile } from '../../checkpoint/replaceFiles';
import { SafetensorsFile } from '../../checkpoint/safetensors';
import { saveLora } from '../../model/loraFiles';
import type { MoETransformer } from '../../model/model';
import type { Tokenizer } from '../../text/tokenizer';
import { fromFirst } from '../distributed/agreement';
import { saveWhole } from '../savingPieces';

/** An evaluation during a run. */
export interface Evaluation {
  /** The step after which it was made. */
  step: number;
  /** Nats per token. */
  loss: number;
}

/**
 * Saves the weights, or the adapters, of the best evaluation, with the evaluation in their header so that the two always match. All
 * ranks call it.
 */
export async function saveBest(
  ranks: Collectives,
  dir: string,
  model: MoETransformer,
  tokenizer: Tokenizer,
  { step, loss }: Evaluation,
): Promise<void> {
  const metadata = { step: String(step), validation_loss: String(loss) };
  const files = { ...tokenizer.files(), metadata };
  if (model.lora) await fromFirst(ranks, () => saveLora(dir, model, { metadata }));
  else if (model.expertExchange) await saveWhole(dir, model, files);
  else await fromFirst(ranks, () => model.save(dir, files));
}

/**
 * The evaluation whose weights are in `dir`; null if there are no readable weights or their header lacks it. It may be later
 * than the checkpoint from which a run resumes: the steps in between were lost, but the weights are still the best seen.
 */
export async function readBest(dir: string): Promise<Evaluation | null> {
  const file = (await openWeights(dir, WEIGHTS_FILE)) ?? (await openWeights(dir, ADAPTER_WEIGHTS));
  if (file === null) return null;
  await file.close();
  const [step, loss] = ['step', 'validation_loss'].map((key) => Number(file.metadata.get(key) ?? Number.NaN));
  return Number.isSafeInteger(step) && Number.isFinite(loss) ? { step, loss } : null;
}

async function openWeights(dir: string, name: string): Promise<SafetensorsFile | null> {
  try {
    return await SafetensorsFile.open(await locateFile(dir, name));
  } catch (error) {
    if (error instanceof SgemoeError) return null;
    throw error;
  }
}
