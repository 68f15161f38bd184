import { type ArchitectureDefinition, anyValue, oneOf } from '../architecture';
import { slidingWindowInUse } from '../rules';
import { FUSED, placesBy, projection } from '../tensorPlaces';

/** Qwen2-MoE (Qwen1.5-MoE) has biases of queries, keys and values, and a shared expert scaled by the sigmoid of a gate. */
export const qwen2_moe: ArchitectureDefinition = {
  className: 'Qwen2MoeForCausalLM',
  defaults: { ropeBase: 1e4, rmsNormEps: 1e-6, routerAuxLossCoef: 0.001, nKvHeads: 16 },
  ffnDimKey: 'moe_intermediate_size',
  qkNorm: 'none',
  ownKeys: { qkv_bias: false, norm_topk_prob: true, shared_expert_intermediate_size: 0 },
  rules: { sliding_window: slidingWindowInUse },
  readOwn: (values) => ({
    attentionBias: values.boolean('qkv_bias', true) ? 'qkv' : 'none',
    normTopkProb: values.boolean('norm_topk_prob', false),
    sharedFfnDim: values.number('shared_expert_intermediate_size', 5632),
  }),
  expresses: {
    attentionBias: oneOf('none', 'qkv'),
    normTopkProb: anyValue,
    sharedFfnDim: (width) => (width as number) > 0,
  },
  writeOwn: ({ nExperts, normTopkProb, ffnDim, attentionBias, sharedFfnDim }) => ({
    num_experts: nExperts,
    norm_topk_prob: normTopkProb,
    intermediate_size: ffnDim,
    moe_intermediate_size: ffnDim,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
    use_sliding_window: false,
    qkv_bias: attentionBias !== 'none',
    shared_expert_intermediate_size: sharedFfnDim,
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
