import type { ModelConfig } from '../config/modelConfig';
import type { Architecture } from './architectures';

/** Where a parameter lies in a file: elements `start ..` of tensor `name`, which has this shape. */
export interface Place {
  readonly name: string;
  readonly shape: readonly number[];
  readonly start: number;
}

/** Our names of an expert's three matrices, and those of OLMoE and Qwen. */
const PROJECTIONS: Readonly<Record<string, string>> = { w1: 'gate_proj', w2: 'down_proj', w3: 'up_proj' };

/** The folder-like part of names that holds router and experts: of the files, and of `transformers` 5 in memory. */
const MLP: Record<Architecture, string> = {
  mixtral: 'block_sparse_moe.',
  olmoe: 'mlp.',
  qwen3_moe: 'mlp.',
  qwen2_moe: 'mlp.',
  granitemoe: 'block_sparse_moe.',
};

/**
 * Where the parameter that sgemoe calls `name` may lie in a checkpoint of the architecture: first as its files are written,
 * then as some are found, with the experts of a layer stacked in one tensor.
 */
export function placesOf(
  architecture: Architecture,
  config: ModelConfig,
  name: string,
  shape: readonly number[],
): Place[] {
  const whole = (...names: string[]): Place[] => names.map((other) => ({ name: other, shape, start: 0 }));
  const [, layer, rest] = /^(model\.layers\.\d+\.)block_sparse_moe\.(.*)$/.exec(name) ?? [];
  if (layer === undefined) return whole(name);
  const mlp = layer + MLP[architecture];
  const granite = architecture === 'granitemoe';
  if (rest === 'gate.weight') {
    if (granite) return whole(`${mlp}router.layer.weight`, `${mlp}router.weight`);
    return whole(`${mlp}gate.weight`, `${layer}mlp.gate.weight`);
  }
  const [, shared, matrix] = /^(shared_expert\.)(w[123])\.weight$/.exec(rest) ?? [];
  if (shared) return whole(`${mlp}${shared}${PROJECTIONS[matrix]}.weight`);
  const [, expert, which] = /^experts\.(\d+)\.(w[123])\.weight$/.exec(rest) ?? [];
  if (expert === undefined) return whole(mlp + rest);
  const stacked = stackedPlace(config, Number(expert), which);
  const both = (gateUp: string, down: string): Place => ({
    ...stacked,
    name: which === 'w2' ? down : gateUp,
  });
  if (granite) {
    const experts = `${mlp}experts.`;
    return [
      both(`${mlp}input_linear.weight`, `${mlp}output_linear.weight`),
      both(`${experts}gate_up_proj`, `${experts}down_proj`),
    ];
  }
  const own = architecture === 'mixtral' ? which : PROJECTIONS[which];
  const fused = `${layer}mlp.experts.`;
  return [
    ...whole(`${mlp}experts.${expert}.${own}.weight`),
    both(`${fused}gate_up_proj`, `${fused}down_proj`),
  ];
}

/** In [E,2F,H], gate above up, or in [E,H,F]. */
function stackedPlace({ nExperts: E, ffnDim: F, hiddenDim: H }: ModelConfig, expert: number, which: string) {
  if (which === 'w2') return { shape: [E, H, F], start: expert * H * F };
  return { shape: [E, 2 * F, H], start: (2 * expert + (which === 'w3' ? 1 : 0)) * F * H };
}
