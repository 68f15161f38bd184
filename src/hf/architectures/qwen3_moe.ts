import { type ArchitectureDefinition, anyValue, isMixture, oneOf } from '../architecture';
import { expertsInSome, SOME_DENSE_KEYS, writeExpertsInSome } from '../feedForwards';
import { slidingWindowInUse } from '../rules';
import { FUSED, placesBy, projection } from '../tensorPlaces';

/** Qwen3-MoE normalises each head's query and key; heads may have any width. */
export const qwen3_moe: ArchitectureDefinition = {
  className: 'Qwen3MoeForCausalLM',
  defaults: { ropeBase: 1e4, rmsNormEps: 1e-6, routerAuxLossCoef: 0.001, nKvHeads: 4 },
  readFeedForwards: expertsInSome,
  qkNorm: 'head',
  ownKeys: { ...SOME_DENSE_KEYS, attention_bias: false, norm_topk_prob: true },
  rules: { sliding_window: slidingWindowInUse },
  readOwn: (values) => ({
    attentionBias: values.boolean('attention_bias', false) ? 'qkvo' : 'none',
    normTopkProb: values.boolean('norm_topk_prob', false),
  }),
  expresses: {
    denseLayers: isMixture,
    attentionBias: oneOf('none', 'qkvo'),
    normTopkProb: anyValue,
    headDim: anyValue,
  },
  writeOwn: (config) => ({
    ...writeExpertsInSome(config),
    norm_topk_prob: config.normTopkProb,
    use_sliding_window: false,
    attention_bias: config.attentionBias !== 'none',
    head_dim: config.headDim,
  }),
  places: placesBy({
    router: ['mlp.gate.weight'],
    expert: (expert, matrix) => projection(`mlp.experts.${expert}.`, matrix),
    stacked: [FUSED],
  }),
};
