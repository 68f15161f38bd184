import { GGUF_LAYER_NAMES, GGUF_MODEL_NAMES } from '../checkpoint/gguf/ggufTensors';

/** The tensor of a GGUF that holds a parameter. */
export interface GgufPlace {
  readonly name: string;
  /** Which of a layer's experts it belongs to, where a tensor holds all of them; else null. */
  readonly expert: number | null;
  /** Whether the file has it as a vector, not as a matrix of one row. */
  readonly vector: boolean;
}

const MATRICES = { w1: 'gate', w2: 'down', w3: 'up' } as const;
const FEED_FORWARD =
  /^(block_sparse_moe\.experts\.(\d+)|block_sparse_moe\.shared_expert|mlp)\.(w[123])\.weight$/;

const LAYER_NAMES = inverse(GGUF_LAYER_NAMES);
const MODEL_NAMES = inverse(GGUF_MODEL_NAMES);

/** Where a GGUF holds the parameter that sgemoe calls `name`. */
export function ggufTensorPlace(name: string): GgufPlace {
  const [, layer, rest = ''] = /^model\.layers\.(\d+)\.(.*)$/.exec(name) ?? [];
  const whole = (stored: string | undefined, vector = false): GgufPlace => {
    if (stored === undefined) throw new Error(`no tensor of a GGUF is known for ${name}`);
    return { name: layer === undefined ? stored : `blk.${layer}.${stored}`, expert: null, vector };
  };
  if (layer === undefined) return whole(MODEL_NAMES.get(name));
  if (rest === 'block_sparse_moe.gate.weight') return whole('ffn_gate_inp.weight');
  if (rest === 'block_sparse_moe.shared_expert_gate.weight') return whole('ffn_gate_inp_shexp.weight', true);
  const [, owner, expert, matrix] = FEED_FORWARD.exec(rest) ?? [];
  if (owner === undefined) return whole(LAYER_NAMES.get(rest));
  const stem = `ffn_${MATRICES[matrix as keyof typeof MATRICES]}`;
  if (expert !== undefined) return { ...whole(`${stem}_exps.weight`), expert: Number(expert) };
  return whole(owner === 'mlp' ? `${stem}.weight` : `${stem}_shexp.weight`);
}

function inverse(names: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  return new Map(Array.from(names, ([stored, name]) => [name, stored]));
}
