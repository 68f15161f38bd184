import type { ArchitectureDefinition } from '../architecture';
import { DENSE, DENSE_EXPRESSES, writeDense } from '../dense';
import { requireWholeContext } from '../rules';

/** The window of a configuration that has no key for it; null means none. */
const DEFAULT_WINDOW = 4096;

/** Mistral is the plain dense model, of old checkpoints with a window of attention. */
export const mistral: ArchitectureDefinition = {
  ...DENSE,
  className: 'MistralForCausalLM',
  defaults: { ...DENSE.defaults, nKvHeads: 8 },
  qkNorm: 'none',
  ownKeys: {},
  readOwn(values) {
    if (!values.has('sliding_window')) requireWholeContext(DEFAULT_WINDOW, values);
    return {};
  },
  expresses: DENSE_EXPRESSES,
  writeOwn: (config) => ({ ...writeDense(config), sliding_window: null }),
};
