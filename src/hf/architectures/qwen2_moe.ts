import { type ArchitectureDefinition, anyValue, isMixture, oneOf } from '../architecture';
import { expertsInSome, SOME_DENSE_KEYS, writeExpertsInSome } from '../feedForwards';
import { slidingWindowInUse } from '../rules';
import { FUSED, placesBy, projection } from '../tensorPlaces';

/** Qwen2-MoE (Qwen1.5-MoE) has biases of queries, keys and values, and a shared expert scaled by the sigmoid of a gate. */
export const qwen2_moe: ArchitectureDefinition = {
  className: 'Qwen2MoeForCausalLM',
  defaults: { ropeBase: 1e4, rmsNormEps: 1e-6, routerAuxLossCoef: 0.001, nKvHeads: 16 },
  readFeedForwards: expertsInSome,
  qkNorm: 'none',
  ownKeys: { ...SOME_DENSE_KEYS, qkv_bias: false, norm_topk_prob: true, shared_expert_intermediate_size: 0 },
  rules: { sliding_window: slidingWindowInUse },
  readOwn: (values) => ({
    attentionBias: values.boolean('qkv_bias', true) ? 'qkv' : 'none',
    normTopkProb: values.boolean('norm_topk_prob', false),
    sharedFfnDim: values.number('shared_expert_intermediate_size', 5632),
  }),
  expresses: {
    denseLayers: isMixture,
    attentionBias: oneOf('none', 'qkv'),
    normTopkProb: anyValue,
    sharedFfnDim: (width) => (width as number) > 0,
  },
  writeOwn: (config) => ({
    ...writeExpertsInSome(config),
    norm_topk_prob: config.normTopkProb,
    use_sliding_window: false,
    qkv_bias: config.attentionBias !== 'none',
    shared_expert_intermediate_size: config.sharedFfnDim,
  }),
  places: placesBy({
    router: ['mlp.gate.weight'],
    expert: (expert, matrix) => projection(`mlp.experts.${expert}.`, matrix),
    stacked: [FUSED],
    shared: {
      gate: 'mlp.shared_expert_gate.weight',
      matrix: (matrix) => projection('mlp.shared_expert.', matrix),
    },
  }),
};
