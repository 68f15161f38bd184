import { type ArchitectureDefinition, anyValue, oneOf } from '../architecture';
import { expertsEverywhere, writeRouting } from '../feedForwards';
import { placesBy } from '../tensorPlaces';

/** GraniteMoE has four multipliers, and stores the experts of a layer stacked in two tensors. */
export const granitemoe: ArchitectureDefinition = {
  className: 'GraniteMoeForCausalLM',
  defaults: { ropeBase: 1e4, rmsNormEps: 1e-6, routerAuxLossCoef: 0.001, nKvHeads: null },
  readFeedForwards: expertsEverywhere,
  qkNorm: 'none',
  ownKeys: {
    attention_bias: false,
    embedding_multiplier: 1,
    residual_multiplier: 1,
    logits_scaling: 1,
    attention_multiplier: null,
  },
  readOwn: (values) => ({
    attentionBias: values.boolean('attention_bias', false) ? 'qkvo' : 'none',
    embeddingMultiplier: values.number('embedding_multiplier', 1),
    attentionMultiplier: values.number('attention_multiplier', 1),
    residualMultiplier: values.number('residual_multiplier', 1),
    logitsDivisor: values.number('logits_scaling', 1),
  }),
  expresses: {
    attentionBias: oneOf('none', 'qkvo'),
    embeddingMultiplier: anyValue,
    residualMultiplier: anyValue,
    logitsDivisor: anyValue,
    attentionMultiplier: anyValue,
  },
  writeOwn: (config) => ({
    ...writeRouting(config),
    num_local_experts: config.nExperts,
    intermediate_size: config.ffnDim,
    attention_bias: config.attentionBias !== 'none',
    embedding_multiplier: config.embeddingMultiplier,
    attention_multiplier: config.attentionScale,
    residual_multiplier: config.residualMultiplier,
    logits_scaling: config.logitsDivisor,
  }),
  places: placesBy({
    router: ['block_sparse_moe.router.layer.weight', 'block_sparse_moe.router.weight'],
    stacked: [
      {
        gateUp: 'block_sparse_moe.input_linear.weight',
        down: 'block_sparse_moe.output_linear.weight',
      },
      {
        gateUp: 'block_sparse_moe.experts.gate_up_proj',
        down: 'block_sparse_moe.experts.down_proj',
      },
    ],
  }),
};
