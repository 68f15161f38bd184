import type { ModelConfig, ModelConfigOptions } from '../config/modelConfig';
import { type ConfigValues, refused, show } from './configValues';

/** The fields that say what stands after each layer's attention. */
export type FeedForwards = Required<
  Pick<ModelConfigOptions, 'nExperts' | 'topKExperts' | 'ffnDim' | 'denseLayers' | 'denseFfnDim'>
> & { readonly sharedFfnDim?: 0 | undefined };

/** Reads them. @throws SgemoeError SGEMOE_CONFIG_INVALID */
export type FeedForwardReader = (values: ConfigValues, nLayers: number) => FeedForwards;

/** Experts of width `intermediate_size` in every layer. */
export const expertsEverywhere: FeedForwardReader = (values) => {
  const nExperts = readExperts(values);
  if (nExperts === 0)
    throw refused('num_experts 0 describes a model without experts, which this one must have');
  return {
    nExperts,
    topKExperts: values.number('num_experts_per_tok'),
    ffnDim: values.number('intermediate_size'),
    denseLayers: [],
    denseFfnDim: 0,
  };
};

/** One SwiGLU of width `intermediate_size` in every layer. */
export const denseEverywhere: FeedForwardReader = (values, nLayers) => ({
  nExperts: 0,
  topKExperts: 0,
  ffnDim: 0,
  denseLayers: Array.from({ length: nLayers }, (_, layer) => layer),
  denseFfnDim: values.number('intermediate_size'),
  // A model without experts has no shared one either, whatever its key says.
  sharedFfnDim: 0,
});

/** Keys of `expertsInSome`, with their neutral values. */
export const SOME_DENSE_KEYS = { mlp_only_layers: [] as readonly number[], decoder_sparse_step: 1 } as const;

/**
 * Experts of width `moe_intermediate_size` in the layers l (from 0) with decoder_sparse_step dividing l + 1 that
 * `mlp_only_layers` doesn't list; one SwiGLU of width `intermediate_size` in the others, or in all without experts.
 */
export const expertsInSome: FeedForwardReader = (values, nLayers) => {
  const nExperts = readExperts(values);
  const step = values.number('decoder_sparse_step', 1);
  if (!Number.isSafeInteger(step) || step < 1)
    throw refused(`decoder_sparse_step must be an integer >= 1, got ${step}`);
  const listed = values.get('mlp_only_layers') ?? [];
  const isLayer = (layer: unknown) => Number.isSafeInteger(layer) && (layer as number) >= 0;
  if (!Array.isArray(listed) || !listed.every(isLayer))
    throw refused(`mlp_only_layers must be a list of layers, got ${show(listed)}`);
  const all = Array.from({ length: nLayers }, (_, layer) => layer);
  const denseLayers = all.filter(
    (layer) => nExperts === 0 || listed.includes(layer) || (layer + 1) % step !== 0,
  );
  if (denseLayers.length === nLayers) return denseEverywhere(values, nLayers);
  return {
    nExperts,
    topKExperts: values.number('num_experts_per_tok'),
    ffnDim: values.number('moe_intermediate_size'),
    denseLayers,
    denseFfnDim: denseLayers.length === 0 ? 0 : values.number('intermediate_size'),
  };
};

/** The number of experts, whose key differs between versions 4 and 5 for some architectures. */
function readExperts(values: ConfigValues): number {
  const [local, all] = [values.get('num_local_experts'), values.get('num_experts')];
  if (local !== undefined && all !== undefined && local !== all) {
    throw refused(`num_local_experts ${show(local)} and num_experts ${show(all)} disagree`);
  }
  return values.number(local === undefined ? 'num_experts' : 'num_local_experts');
}

/** The keys that every architecture with experts writes. */
export function writeRouting({ topKExperts, routerAuxLossCoef }: ModelConfig): Record<string, unknown> {
  return { num_experts_per_tok: topKExperts, router_aux_loss_coef: routerAuxLossCoef };
}

/** The keys that `expertsInSome` reads. */
export function writeExpertsInSome(config: ModelConfig): Record<string, unknown> {
  const { nExperts, ffnDim, denseLayers, denseFfnDim } = config;
  return {
    ...writeRouting(config),
    num_experts: nExperts,
    intermediate_size: denseFfnDim || ffnDim,
    moe_intermediate_size: ffnDim,
    decoder_sparse_step: 1,
    mlp_only_layers: denseLayers,
  };
}
