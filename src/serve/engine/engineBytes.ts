import type { Kernels } from '../../backend/kernels';
import type { MemoryNeeds } from '../../base/requireMemory';
import type { ModelConfig } from '../../config/modelConfig';
import { memoryBytes } from '../../model/memoryBytes';
import type { ResolvedEngineOptions } from './requests';

/** What an engine takes: the weights and their copies once, a cache and activations for each worker. */
export function engineBytes(
  config: ModelConfig,
  { workers, maxBatch, contextLength, maxStepTokens, freeze }: ResolvedEngineOptions,
  kernels?: Kernels,
): MemoryNeeds {
  const { weights, packed, cache, activations } = memoryBytes(config, {
    ...{ mode: 'decode', slots: maxBatch, contextLength, maxStepTokens, frozen: freeze, kernels },
  });
  return { weights, packed, cache: workers * cache, activations: workers * activations };
}
