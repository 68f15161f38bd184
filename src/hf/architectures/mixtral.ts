import { type ArchitectureDefinition, anyValue } from '../architecture';
import { expertsEverywhere, writeRouting } from '../feedForwards';
import { FUSED, placesBy } from '../tensorPlaces';

/** Mixtral is the plain model. */
export const mixtral: ArchitectureDefinition = {
  className: 'MixtralForCausalLM',
  defaults: { ropeBase: 1e6, rmsNormEps: 1e-5, routerAuxLossCoef: 0.001, nKvHeads: 8 },
  readFeedForwards: expertsEverywhere,
  qkNorm: 'none',
  ownKeys: {},
  readOwn: () => ({}),
  expresses: { headDim: anyValue },
  writeOwn: (config) => ({
    ...writeRouting(config),
    num_local_experts: config.nExperts,
    intermediate_size: config.ffnDim,
    head_dim: config.headDim,
    sliding_window: null,
  }),
  places: placesBy({
    router: ['block_sparse_moe.gate.weight', 'mlp.gate.weight'],
    expert: (expert, matrix) => `block_sparse_moe.experts.${expert}.${matrix}.weight`,
    stacked: [FUSED],
  }),
};
