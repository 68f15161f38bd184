import { type ArchitectureDefinition, oneOf } from '../architecture';
import { DENSE, DENSE_EXPRESSES, writeDense } from '../dense';

/** Llama is the plain dense model; some have biases of q, k, v and o. */
export const llama: ArchitectureDefinition = {
  ...DENSE,
  className: 'LlamaForCausalLM',
  defaults: { ...DENSE.defaults, nKvHeads: null },
  qkNorm: 'none',
  ownKeys: { attention_bias: false },
  readOwn: (values) => ({ attentionBias: values.boolean('attention_bias', false) ? 'qkvo' : 'none' }),
  expresses: { ...DENSE_EXPRESSES, attentionBias: oneOf('none', 'qkvo') },
  writeOwn: (config) => ({
    ...writeDense(config),
    attention_bias: config.attentionBias !== 'none',
    mlp_bias: false,
  }),
};
