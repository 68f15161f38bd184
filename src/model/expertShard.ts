import { getKernels } from '../backend';
import { checkOptions } from '../base/checks';
import { requireMemory } from '../base/requireMemory';
import { loadCheckpoint } from '../checkpoint/checkpoint';
import type { ModelConfig } from '../config/modelConfig';
import { adapterBase } from '../hf/adapterBase';
import { modelPath } from '../hf/hub/modelPath';
import { type ModelSource, modelSource } from '../hf/source';
import { ParameterStore } from '../memory/parameters';
import { layerPrefix, undividedStore } from './assemble';
import { ExpertExchange } from './expertExchange';
import type { ExpertRanks } from './expertLayout';
import { MIXTURE_PREFIX } from './moe';
import type { LoadOptions } from './options';
import { checkModelDtype, planStorage, readWeights } from './storedWeights';

export interface ExpertShardOptions
  extends Pick<LoadOptions, 'kernels' | 'onNote' | 'dtype' | 'hub'>,
    Required<Pick<LoadOptions, 'expertRanks'>> {}

/**
 * One rank's part of the experts of a model, without the rest of it: for a rank that has no tokens of its own and computes what another,
 * whose model was loaded with the same `expertRanks`, sends it.
 */
export class ExpertShard {
  readonly #exchange: ExpertExchange;
  readonly #store: ParameterStore;

  private constructor(exchange: ExpertExchange, store: ParameterStore) {
    this.#exchange = exchange;
    this.#store = store;
  }

  /**
   * Reads this rank's experts of a model; `dtype` is that of the model. @throws as `MoETransformer.load`; RangeError for
   * `expertRanks` that don't fit the model.
   */
  static async load(dir: string, options: ExpertShardOptions): Promise<ExpertShard> {
    checkOptions('ExpertShard.load', options, ['kernels', 'onNote', 'dtype', 'expertRanks', 'hub']);
    if (options.dtype !== undefined) checkModelDtype('ExpertShard.load: dtype', options.dtype);
    const path = await modelPath(dir, options.hub);
    const from = (await adapterBase(path, options.hub)) ?? path;
    const checkpoint = await loadCheckpoint(from);
    try {
      return await ExpertShard.#read(from, modelSource(checkpoint), options);
    } finally {
      await checkpoint.tensors.close();
    }
  }

  static async #read(name: string, source: ModelSource, options: ExpertShardOptions): Promise<ExpertShard> {
    const { kernels = getKernels(), dtype = 'float32', expertRanks } = options;
    const onExpose = (name: string, shape: readonly number[]) => source.check(name, shape);
    const store = new ParameterStore(kernels, { onExpose });
    const exchange = exchangeOf(source.config, store, expertRanks);
    const plan = planStorage(store, source, dtype);
    store.keepStored(store.tables.filter((_, i) => plan.tables[i]));
    const weights = store.weightBytes + plan.residentBytes;
    requireMemory(`The experts of ${name}`, { weights }, kernels.memory.available);
    store.allocate();
    const notes = await readWeights(store, source, plan, undividedStore(source.config, kernels));
    notes.forEach(options.onNote ?? ((note: string) => process.emitWarning(note, 'SgemoeWarning')));
    store.freeze();
    return new ExpertShard(exchange, store);
  }

  /** Bytes of this rank's experts in memory, and of those that are mapped from files. */
  get weightBytes(): { resident: number; mapped: number } {
    return this.#store.allBytes;
  }

  /**
   * Computes what the other ranks ask for until they end (`ExpertExchange.end`, or the end of an engine). It blocks the thread all
   * the while. @throws SgemoeError as `Collectives`, SGEMOE_CHECKPOINT_CHANGED.
   */
  answerAll(): void {
    this.#exchange.answerAll();
  }
}

/** Reserves a rank's experts of all mixtures. */
function exchangeOf(config: ModelConfig, store: ParameterStore, ranks: ExpertRanks): ExpertExchange {
  const exchange = new ExpertExchange(store.kernels, config.nExperts, ranks);
  for (let layer = 0; layer < config.nLayers; layer++) {
    if (config.isDense(layer)) continue;
    exchange.addExperts(store, layerPrefix(layer) + MIXTURE_PREFIX, config, config.residualMultiplier);
  }
  return exchange;
}
