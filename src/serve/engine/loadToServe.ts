import type { ModelConfig } from '../../config/modelConfig';
import { readModelTokenizer } from '../../hf/adapterBase';
import { modelPath } from '../../hf/hub/modelPath';
import { MoETransformer } from '../../model/model';
import { loadTokenizer } from '../../text/loadTokenizer';
import type { Tokenizer } from '../../text/tokenizer';
import { engineBytes } from './engineBytes';
import { promisedBytes } from './openCaches';
import { type EngineOptions, resolveEngineOptions } from './options';
import type { OpenEngineOptions } from './types';

/** What `Engine.create` takes. */
export interface ToServe {
  readonly model: MoETransformer;
  readonly tokenizer: Tokenizer | null;
  readonly engineOptions: EngineOptions;
}

/** Loads what `Engine.open` serves. @throws as MoETransformer.load; TypeError or RangeError for an option out of range. */
export async function loadToServe(dir: string, options: OpenEngineOptions): Promise<ToServe> {
  const { onNote, hub, expertRanks, dtype = 'stored', ...engineOptions } = options;
  const needs = (config: ModelConfig) => {
    const own = engineBytes(config, resolveEngineOptions('Engine', engineOptions, config.maxSeqLen));
    return { ...own, engines: promisedBytes() };
  };
  const path = await modelPath(dir, hub);
  const model = await MoETransformer.load(path, { onNote, needs, dtype, expertRanks });
  const { tokenizer, ...beside } = await readModelTokenizer(path, hub);
  return { model, tokenizer: tokenizer === null ? null : loadTokenizer(tokenizer, beside), engineOptions };
}
