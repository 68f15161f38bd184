import { checkOptions } from '../base/checks';
import { type SaveOptions, saveCheckpoint } from '../checkpoint/checkpoint';
import type { GenerationConfig } from '../checkpoint/generationConfig';
import type { ModelConfig } from '../config/modelConfig';
import { endTokensOf } from '../hf/endTokens';
import type { ParameterStore } from '../memory/parameters';

const SAVE_OPTIONS: readonly (keyof SaveOptions)[] = [
  'tokenizer',
  'tokenizerConfig',
  'chatTemplate',
  'generationConfig',
  'metadata',
];

interface Saved {
  readonly config: ModelConfig;
  readonly generationConfig: GenerationConfig | null;
  readonly store: ParameterStore;
}

/** What `model.save` does. */
export async function saveModel(model: Saved, dir: string, options: SaveOptions): Promise<void> {
  checkOptions('save', options, SAVE_OPTIONS);
  if (typeof dir !== 'string' || dir === '') throw new TypeError(`save: dir must be a path, got ${dir}`);
  const { generationConfig = model.generationConfig } = options;
  endTokensOf(generationConfig, model.config.vocabSize);
  const tensors = model.store.checkpointTensors().map(({ name, shape, data }) => ({
    name,
    shape,
    data: data.slice(),
  }));
  await saveCheckpoint(dir, { ...options, config: model.config.toJSON(), generationConfig, tensors });
}
