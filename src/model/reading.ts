import { getKernels } from '../backend';
import type { Checkpoint } from '../checkpoint/checkpoint';
import type { ModelConfig } from '../config/modelConfig';
import { modelSource } from '../hf/source';
import type { ParameterStore } from '../memory/parameters';
import { undividedStore } from './assemble';
import type { ConstructionOptions, LoadOptions } from './options';
import { planStorage, readWeights, type StoragePlan } from './storedWeights';

/** What a model is constructed with that is read from a checkpoint, and the reading of its weights. */
export interface Reading {
  readonly config: ModelConfig;
  readonly construction: ConstructionOptions;
  /** Reads the weights of the constructed model. */
  fill(store: ParameterStore): Promise<void>;
}

/** Begins to read a model; `name` stands in messages. Tells notes as `LoadOptions.onNote` says. @throws as `MoETransformer.load`. */
export function beginReading(name: string, checkpoint: Checkpoint, options: LoadOptions): Reading {
  const { kernels = getKernels(), dtype = 'float32', needs, expertRanks } = options;
  const source = modelSource(checkpoint);
  const tell = options.onNote ?? ((note: string) => process.emitWarning(note, 'SgemoeWarning'));
  source.notes.forEach(tell);
  const { config, generationConfig } = source;
  let plan: StoragePlan | null = null;
  const construction: ConstructionOptions = {
    what: `The model in ${name}`,
    // Checked before memory is allocated: a config.json may claim any size, but the file's tensors are real.
    onExpose: (name, shape) => source.check(name, shape),
    planOf: (store) => {
      plan = planStorage(store, source, dtype);
      return plan;
    },
    needs,
    generationConfig,
    origin: { path: name, dtype },
    expertRanks,
  };
  return {
    config,
    construction,
    async fill(store) {
      const whole = expertRanks ? undividedStore(config, kernels) : store;
      (await readWeights(store, source, plan!, whole)).forEach(tell);
    },
  };
}
