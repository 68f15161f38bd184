import { type ArchitectureDefinition, anyValue, oneOf } from '../architecture';
import { slidingWindowInUse } from '../rules';
import { FUSED, placesBy, projection } from '../tensorPlaces';

/** Qwen3-MoE normalises each head's query and key; heads may have any width. */
export const qwen3_moe: ArchitectureDefinition = {
  className: 'Qwen3MoeForCausalLM',
  defaults: { ropeBase: 1e4, rmsNormEps: 1e-6, routerAuxLossCoef: 0.001, nKvHeads: 4 },
  ffnDimKey: 'moe_intermediate_size',
  qkNorm: 'head',
  ownKeys: { attention_bias: false, norm_topk_prob: true },
  rules: { sliding_window: slidingWindowInUse },
  readOwn: (values) => ({
    attentionBias: values.boolean('attention_bias', false) ? 'qkvo' : 'none',
    normTopkProb: values.boolean('norm_topk_prob', false),
  }),
  expresses: { attentionBias: oneOf('none', 'qkvo'), normTopkProb: anyValue, headDim: anyValue },
  writeOwn: ({ nExperts, normTopkProb, ffnDim, attentionBias, headDim }) => ({
    num_experts: nExperts,
    norm_topk_prob: normTopkProb,
    intermediate_size: ffnDim,
    moe_intermediate_size: ffnDim,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
    use_sliding_window: false,
    attention_bias: attentionBias !== 'none',
    head_dim: headDim,
  }),
  places: placesBy({
    router: ['mlp.gate.weight'],
    expert: (expert, matrix) => projection(`mlp.experts.${expert}.`, matrix),
    stacked: [FUSED],
  }),
};
