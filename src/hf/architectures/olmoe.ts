import { type ArchitectureDefinition, anyValue, oneOf } from '../architecture';
import { expertsEverywhere, writeRouting } from '../feedForwards';
import { FUSED, placesBy, projection } from '../tensorPlaces';

/** OLMoE normalises all queries, and all keys, of a token at once. It doesn't renormalise gate weights; some models have biases. */
export const olmoe: ArchitectureDefinition = {
  className: 'OlmoeForCausalLM',
  defaults: { ropeBase: 1e4, rmsNormEps: 1e-5, routerAuxLossCoef: 0.01, nKvHeads: null },
  readFeedForwards: expertsEverywhere,
  qkNorm: 'full',
  ownKeys: { attention_bias: false, norm_topk_prob: true },
  readOwn: (values) => ({
    attentionBias: values.boolean('attention_bias', false) ? 'qkvo' : 'none',
    normTopkProb: values.boolean('norm_topk_prob', false),
  }),
  expresses: { attentionBias: oneOf('none', 'qkvo'), normTopkProb: anyValue },
  writeOwn: (config) => ({
    ...writeRouting(config),
    num_experts: config.nExperts,
    norm_topk_prob: config.normTopkProb,
    intermediate_size: config.ffnDim,
    attention_bias: config.attentionBias !== 'none',
  }),
  places: placesBy({
    router: ['mlp.gate.weight'],
    expert: (expert, matrix) => projection(`mlp.experts.${expert}.`, matrix),
    stacked: [FUSED],
  }),
};
