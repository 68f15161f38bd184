import { join, resolve } from 'node:path';
import type { Kernels } from '../backend/kernels';
import { readJson } from '../checkpoint/jsonFile';
import { replaceFiles } from '../checkpoint/replaceFiles';
import { tokenizerFiles } from '../checkpoint/tokenizerFiles';
import { invalidState, type TrainingContent, trainingFiles } from '../checkpoint/trainingFiles';
import { loadLora, loraFiles } from '../model/loraFiles';
import { MoETransformer } from '../model/model';
import type { Origin } from '../model/options';
import type { Tokenizer } from '../text/tokenizer';

/** What a training of adapters adds to state.json. */
interface AdaptersState {
  base: Origin;
  dropout: number;
  seed: number;
}

/** @throws TypeError for a model that wasn't loaded from a checkpoint, which a resume could not find. */
export function adaptersState({ lora, origin }: MoETransformer): AdaptersState {
  if (origin === null)
    throw new TypeError('saveTraining: adapters need a base that was loaded from a checkpoint');
  const { dropout, seed } = lora!.options;
  return { base: { ...origin, path: resolve(origin.path) }, dropout, seed };
}

/** Writes adapters with the state of their training and the tokenizer's files, all of them or none. */
export async function saveAdapters(
  dir: string,
  model: MoETransformer,
  tokenizer: Tokenizer | undefined,
  training: TrainingContent,
): Promise<void> {
  const files = [...loraFiles(model), ...tokenizerFiles(tokenizer?.files() ?? {})];
  await replaceFiles(dir, [...files, ...trainingFiles(training, files)]);
}

/** The model of a training of adapters: their base with them; null for a training of weights. @throws as `load` and `loadLora`. */
export async function loadAdapted(dir: string, kernels: Kernels | undefined): Promise<MoETransformer | null> {
  const state = await readJson(dir, 'state.json', 'SGEMOE_TRAINING_STATE');
  const adapters = state?.adapters as AdaptersState | undefined;
  if (adapters === undefined) return null;
  const { base, dropout, seed } = adapters;
  if (typeof base?.path !== 'string')
    throw invalidState(join(dir, 'state.json'), 'it does not say which model the adapters belong to');
  const model = await MoETransformer.load(base.path, { kernels, dtype: base.dtype, onNote: () => {} });
  await loadLora(dir, model, { dropout, seed });
  return model;
}
