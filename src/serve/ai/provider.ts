import type { EmbeddingModelV3, LanguageModelV3, ProviderV3 } from '@ai-sdk/provider';
import { Engine } from '../engine/engine';
import { SgemoeEmbeddingModel } from './embeddingModel';
import { SgemoeLanguageModel } from './languageModel';

/** The engines' models for the AI SDK; called with a name, it returns a language model. */
export interface SgemoeProvider extends ProviderV3 {
  /** @param modelId may be left out where there is one engine. */
  (modelId?: string): LanguageModelV3;
  languageModel(modelId?: string): LanguageModelV3;
  embeddingModel(modelId?: string): EmbeddingModelV3;
  /** @throws RangeError always: there are no models of images. */
  imageModel(modelId: string): never;
}

/** The model's name where one engine is given. */
const ONLY = 'sgemoe';

/**
 * Makes a provider of the AI SDK from one engine, or from several by name. The engines stay the caller's: close them after use.
 * @throws TypeError for anything but engines. The functions of the provider throw RangeError for a name that isn't known.
 */
export function createSgemoe(engines: Engine | Readonly<Record<string, Engine>>): SgemoeProvider {
  const byName = new Map(engines instanceof Engine ? [[ONLY, engines]] : namedEngines(engines));
  const names = [...byName.keys()];
  const find = (modelId = names.length === 1 ? names[0] : undefined): [string, Engine] => {
    const engine = byName.get(modelId ?? '');
    if (modelId !== undefined && engine !== undefined) return [modelId, engine];
    throw new RangeError(`sgemoe: the model must be ${names.join(' or ')}, got ${modelId}`);
  };
  const languageModel = (modelId?: string) => new SgemoeLanguageModel(...find(modelId));
  const embeddingModel = (modelId?: string) => new SgemoeEmbeddingModel(...find(modelId));
  return Object.assign((modelId?: string) => languageModel(modelId), {
    specificationVersion: 'v3' as const,
    languageModel,
    embeddingModel,
    imageModel(modelId: string): never {
      throw new RangeError(
        `sgemoe: a model must be of language or embeddings, got an image model, ${modelId}`,
      );
    },
  });
}

function namedEngines(engines: Readonly<Record<string, Engine>>): [string, Engine][] {
  const entries = Object.entries(engines ?? {});
  if (entries.length > 0 && entries.every(([, engine]) => engine instanceof Engine)) return entries;
  throw new TypeError(
    'createSgemoe: engines must be an Engine, or an object with one engine at least by name',
  );
}
