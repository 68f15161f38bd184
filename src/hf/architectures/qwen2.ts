import { type ArchitectureDefinition, oneOf } from '../architecture';
import { DENSE, DENSE_EXPRESSES, writeDense } from '../dense';
import { slidingWindowInUse } from '../rules';

/** Qwen2 (and 2.5) always has biases of queries, keys and values. */
export const qwen2: ArchitectureDefinition = {
  ...DENSE,
  className: 'Qwen2ForCausalLM',
  defaults: { ...DENSE.defaults, nKvHeads: 32 },
  qkNorm: 'none',
  ownKeys: {},
  rules: { sliding_window: slidingWindowInUse },
  readOwn: () => ({ attentionBias: 'qkv' }),
  expresses: { ...DENSE_EXPRESSES, attentionBias: oneOf('qkv') },
  writeOwn: (config) => ({ ...writeDense(config), use_sliding_window: false }),
};
