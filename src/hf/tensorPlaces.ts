import type { ModelConfig } from '../config/modelConfig';
import type { ArchitectureDefinition, Place } from './architecture';

/** The three matrices of SwiGLU: our names, and the names that most architectures use. */
const PROJECTIONS = { w1: 'gate_proj', w2: 'down_proj', w3: 'up_proj' } as const;
export type Matrix = keyof typeof PROJECTIONS;

/** `prefix` followed by the name of the matrix in most architectures: gate_proj, down_proj or up_proj. */
export const projection = (prefix: string, matrix: Matrix): string =>
  `${prefix}${PROJECTIONS[matrix]}.weight`;

/** Names of a layer's router and experts, below `model.layers.<i>.`; all other tensors have our names. */
export interface MoeNames {
  /** Names of the router's matrix; exports write the first. */
  router: readonly string[];
  /** The name of an expert's matrix, where files store experts separately. */
  expert?: ((expert: number, matrix: Matrix) => string) | undefined;
  /** Tensors that hold all experts of a layer: `gateUp` [E,2F,H] has the gate's rows before those of up, `down` is [E,H,F]. */
  stacked: readonly { readonly gateUp: string; readonly down: string }[];
  /** Names of the shared expert's gate and matrices. */
  shared?: { readonly gate: string; matrix(matrix: Matrix): string } | undefined;
}

/** The names under which `transformers` 5 holds stacked experts; some files use them. */
export const FUSED = { gateUp: 'mlp.experts.gate_up_proj', down: 'mlp.experts.down_proj' } as const;

/** The `places` function of an architecture with these names. */
export function placesBy(names: MoeNames): ArchitectureDefinition['places'] {
  return (config, name, shape) => {
    const whole = (...found: string[]): Place[] => found.map((other) => ({ name: other, shape, start: 0 }));
    const [, layer, rest] = /^(model\.layers\.\d+\.)block_sparse_moe\.(.*)$/.exec(name) ?? [];
    if (layer === undefined) return densePlaces(config, name, shape);
    if (rest === 'gate.weight') return whole(...names.router.map((router) => layer + router));
    if (rest === 'shared_expert_gate.weight' && names.shared) return whole(layer + names.shared.gate);
    const [, owner, matrix] = /^(.*)\.(w[123])\.weight$/.exec(rest) ?? [];
    if (owner === 'shared_expert' && names.shared)
      return whole(layer + names.shared.matrix(matrix as Matrix));
    const [, expert] = /^experts\.(\d+)$/.exec(owner ?? '') ?? [];
    if (expert === undefined) throw new Error(`no tensor of the files is known for ${name}`);
    const stacked = names.stacked.map(({ gateUp, down }) => {
      return stackedPlace(
        config,
        layer + (matrix === 'w2' ? down : gateUp),
        Number(expert),
        matrix as Matrix,
      );
    });
    if (!names.expert) return stacked;
    return [...whole(layer + names.expert(Number(expert), matrix as Matrix)), ...stacked];
  };
}

/** The `places` function of parameters without experts: only the matrices of a dense layer have other names. */
export const densePlaces: ArchitectureDefinition['places'] = (_, name, shape) => {
  const [, layer, matrix] = /^(model\.layers\.\d+\.mlp\.)(w[123])\.weight$/.exec(name) ?? [];
  return [{ name: layer === undefined ? name : projection(layer, matrix as Matrix), shape, start: 0 }];
};

function stackedPlace(config: ModelConfig, name: string, expert: number, matrix: Matrix): Place {
  const { nExperts: E, ffnDim: F, hiddenDim: H } = config;
  if (matrix === 'w2') return { name, shape: [E, H, F], start: expert * H * F };
  return { name, shape: [E, 2 * F, H], start: (2 * expert + (matrix === 'w3' ? 1 : 0)) * F * H };
}
