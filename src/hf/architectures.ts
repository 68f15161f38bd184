/** The Hugging Face architectures that are read and written, by their `model_type`. */
export const ARCHITECTURES = ['mixtral', 'olmoe', 'qwen3_moe', 'qwen2_moe', 'granitemoe'] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

/** What config.json calls them in `architectures`. */
export const CLASS_NAMES: Record<Architecture, string> = {
  mixtral: 'MixtralForCausalLM',
  olmoe: 'OlmoeForCausalLM',
  qwen3_moe: 'Qwen3MoeForCausalLM',
  qwen2_moe: 'Qwen2MoeForCausalLM',
  granitemoe: 'GraniteMoeForCausalLM',
};

/** What `transformers` takes for keys that config.json leaves out (the same in versions 4.57 and 5.23). */
export interface KeyDefaults {
  ropeBase: number;
  rmsNormEps: number;
  routerAuxLossCoef: number;
  /** null: as many as query heads. */
  nKvHeads: number | null;
}

export const KEY_DEFAULTS: Record<Architecture, KeyDefaults> = {
  mixtral: { ropeBase: 1e6, rmsNormEps: 1e-5, routerAuxLossCoef: 0.001, nKvHeads: 8 },
  olmoe: { ropeBase: 1e4, rmsNormEps: 1e-5, routerAuxLossCoef: 0.01, nKvHeads: null },
  qwen3_moe: { ropeBase: 1e4, rmsNormEps: 1e-6, routerAuxLossCoef: 0.001, nKvHeads: 4 },
  qwen2_moe: { ropeBase: 1e4, rmsNormEps: 1e-6, routerAuxLossCoef: 0.001, nKvHeads: 16 },
  granitemoe: { ropeBase: 1e4, rmsNormEps: 1e-6, routerAuxLossCoef: 0.001, nKvHeads: null },
};

export function isQwen(architecture: Architecture): boolean {
  return architecture === 'qwen2_moe' || architecture === 'qwen3_moe';
}
