import { type ArchitectureDefinition, anyValue } from '../architecture';
import { FUSED, placesBy } from '../tensorPlaces';

/** Mixtral is the plain model. */
export const mixtral: ArchitectureDefinition = {
  className: 'MixtralForCausalLM',
  defaults: { ropeBase: 1e6, rmsNormEps: 1e-5, routerAuxLossCoef: 0.001, nKvHeads: 8 },
  ffnDimKey: 'intermediate_size',
  qkNorm: 'none',
  ownKeys: {},
  readOwn: () => ({}),
  expresses: { headDim: anyValue },
  writeOwn: ({ nExperts, ffnDim, headDim }) => ({
    num_local_experts: nExperts,
    intermediate_size: ffnDim,
    head_dim: headDim,
    sliding_window: null,
  }),
  places: placesBy({
    router: ['block_sparse_moe.gate.weight', 'mlp.gate.weight'],
    expert: (expert, matrix) => `block_sparse_moe.experts.${expert}.${matrix}.weight`,
    stacked: [FUSED],
  }),
};
