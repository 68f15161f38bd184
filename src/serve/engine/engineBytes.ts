import type { Kernels } from '../../backend/kernels';
import type { MemoryNeeds } from '../../base/requireMemory';
import type { ModelConfig } from '../../config/modelConfig';
import { memoryBytes } from '../../model/memoryBytes';
import type { ResolvedEngineOptions } from './options';

/** The memory of an engine in bytes: the weights once, a cache and activations for each worker. */
export function engineBytes(
  config: ModelConfig,
  { workers, maxBatch, contextLength, maxStepTokens, kvCacheDtype }: ResolvedEngineOptions,
  kernels?: Kernels,
): MemoryNeeds {
  const sizes = { slots: maxBatch, contextLength, maxStepTokens, kvCacheDtype };
  const options = { mode: 'decode', ...sizes, kernels } as const;
  const { weights, cache, activations } = memoryBytes(config, options);
  return { weights, cache: workers * cache, activations: workers * activations };
}
