import { type ArchitectureDefinition, oneOf } from '../architecture';
import { DENSE, DENSE_EXPRESSES, writeDense } from '../dense';
import { slidingWindowInUse } from '../rules';

/** Qwen3 normalises each head's query and key; heads have 128 numbers unless the configuration says otherwise. */
export const qwen3: ArchitectureDefinition = {
  ...DENSE,
  className: 'Qwen3ForCausalLM',
  defaults: { ...DENSE.defaults, nKvHeads: 32, headDim: 128 },
  qkNorm: 'head',
  ownKeys: { attention_bias: false },
  rules: { sliding_window: slidingWindowInUse },
  readOwn: (values) => ({ attentionBias: values.boolean('attention_bias', false) ? 'qkvo' : 'none' }),
  expresses: { ...DENSE_EXPRESSES, attentionBias: oneOf('none', 'qkvo') },
  writeOwn: (config) => ({
    ...writeDense(config),
    attention_bias: config.attentionBias !== 'none',
    use_sliding_window: false,
  }),
};
