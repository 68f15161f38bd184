import type { Kernels } from '../backend/kernels';
import type { ResolvedLoraOptions } from '../config/loraOptions';
import type { ModelConfig } from '../config/modelConfig';
import type { ParameterStore } from './parameters';
import type { StoredTables } from './storedTables';

/** Adapters in a form for other threads of the process. */
export interface SharedLora {
  readonly options: ResolvedLoraOptions;
  /** The buffers of A and B. */
  readonly shards: Float32Array[];
  readonly bufferData: Float32Array;
}

/**
 * A model in a form for other threads of the process: plain data and views of SharedArrayBuffers, which postMessage and
 * workerData pass on without copying the weights.
 */
export interface SharedModel {
  /** The configuration, as in config.json. */
  config: Record<string, unknown>;
  /** The content of generation_config.json; null for none. */
  generationConfig: Readonly<Record<string, unknown>> | null;
  /** The buffers of the weights. */
  shards: Float32Array[];
  /** The memory of the tensors that `namedBuffers` lists. */
  bufferData: Float32Array;
  /** The matrices that are kept as they are stored; null without any. */
  stored: StoredTables | null;
  /** The packed copies of a frozen model, an empty array for matrices without one; null if the model isn't frozen. */
  packed: Float32Array[] | null;
  /** Name of the kernels that can read the packed copies. */
  packedFor: string;
  /** The adapters that the model computes with; null without. */
  lora: SharedLora | null;
}

export function shareModel(
  config: ModelConfig,
  generationConfig: SharedModel['generationConfig'],
  store: ParameterStore,
): Omit<SharedModel, 'lora'> {
  const { shards, bufferData, packed } = store;
  for (const array of [...shards, bufferData, ...(packed ?? [])]) store.kernels.memory.keep(array);
  return {
    config: config.toJSON(),
    generationConfig,
    shards,
    bufferData,
    stored: store.stored?.shared ?? null,
    packed,
    packedFor: packingOf(store.kernels),
  };
}

/**
 * Freezes a model made from `shared` if that is frozen. It uses the packed copies of `shared`, if any, or makes its own if
 * its kernels can't read them.
 */
export function freezeAsShared(
  store: ParameterStore,
  { packed, packedFor }: Pick<SharedModel, 'packed' | 'packedFor'>,
): void {
  if (packed === null) return;
  if (packed.every(({ length }) => length === 0)) store.freeze();
  else store.freeze(packedFor === packingOf(store.kernels) ? packed : 'own');
}

/** The name of the kernels' layout of packed weights: kernels with equal names can read each other's copies. */
function packingOf({ info, floatType }: Kernels): string {
  return [info.backend, info.blas?.path, info.instructionSet, floatType].join(' ');
}
