import type { Kernels } from '../backend/kernels';
import type { ModelConfig } from '../config/modelConfig';
import type { ParameterStore } from './parameters';

/**
 * A model for other threads of the process: plain data and views of SharedArrayBuffers, which postMessage and workerData
 * hand over without copying the weights.
 */
export interface SharedModel {
  /** As config.json. */
  config: Record<string, unknown>;
  /** As generation_config.json; null for none. */
  generationConfig: Readonly<Record<string, unknown>> | null;
  /** The weights. */
  shards: Float32Array[];
  /** What `namedBuffers` names. */
  bufferData: Float32Array;
  /** The packed copies of a frozen model, empty where it has none; null of another. */
  packed: Float32Array[] | null;
  /** What can read the packed copies. */
  packedFor: string;
}

export function shareModel(
  config: ModelConfig,
  generationConfig: SharedModel['generationConfig'],
  store: ParameterStore,
): SharedModel {
  const { shards, bufferData, packed } = store;
  return {
    config: config.toJSON(),
    generationConfig,
    shards,
    bufferData,
    packed,
    packedFor: packingOf(store.kernels),
  };
}

/**
 * Freezes a model made from `shared` when that is frozen: with its packed copies if it has any, or own ones where it can't
 * read those.
 */
export function freezeAsShared(store: ParameterStore, { packed, packedFor }: SharedModel): void {
  if (packed === null) return;
  if (packed.every(({ length }) => length === 0)) store.freeze();
  else store.freeze(packedFor === packingOf(store.kernels) ? packed : 'own');
}

/** Names the layout of packed weights: two kernels of the same name read each other's. */
function packingOf({ info, floatType }: Kernels): string {
  return [info.backend, info.blas?.path, info.instructionSet, floatType].join(' ');
}
