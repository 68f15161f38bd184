import type { ModelConfig } from './modelConfig';

/** The layers of a model as titles tell them: '4 layers, 8 experts, top 2', '4 layers (1 dense), ..', '4 dense layers'. */
export function layersInWords({ nLayers, nMoeLayers, nExperts, topKExperts }: ModelConfig): string {
  if (nMoeLayers === 0) return `${nLayers} dense layers`;
  const dense = nMoeLayers === nLayers ? '' : ` (${nLayers - nMoeLayers} dense)`;
  return `${nLayers} layers${dense}, ${nExperts} experts, top ${topKExperts}`;
}
