import type { ModelConfig } from '../config/modelConfig';
import { anyValue, type Expresses } from './architecture';
import { refused, show } from './configValues';
import { denseEverywhere, type FeedForwardReader } from './feedForwards';
import { densePlaces } from './tensorPlaces';

const denseAlone: FeedForwardReader = (values, nLayers) => {
  for (const key of ['num_local_experts', 'num_experts']) {
    const value = values.get(key) ?? 0;
    if (value !== 0)
      throw refused(`${key} ${show(value)} has no meaning for an architecture without experts`);
  }
  return denseEverywhere(values, nLayers);
};

/** What architectures without experts have in common. They have no router, so its coefficient is that of ModelConfig. */
export const DENSE = {
  readFeedForwards: denseAlone,
  places: densePlaces,
  defaults: { ropeBase: 1e4, rmsNormEps: 1e-6, routerAuxLossCoef: 0.01 },
} as const;

/** The values that they can all write. `transformers` wants hidden_size to be a multiple of the heads, whatever their width. */
export const DENSE_EXPRESSES: Partial<Expresses> = {
  denseLayers: (_, { nMoeLayers }) => nMoeLayers === 0,
  normTopkProb: anyValue,
  headDim: (_, { hiddenDim, nHeads }) => hiddenDim % nHeads === 0,
};

/** The keys that they all write. */
export function writeDense({ denseFfnDim, headDim }: ModelConfig): Record<string, unknown> {
  return { intermediate_size: denseFfnDim, head_dim: headDim };
}
