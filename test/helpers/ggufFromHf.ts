import { loadCheckpoint } from '../../src/checkpoint/checkpoint';
import { halvesRow } from '../../src/checkpoint/ropePairs';
import { ggufBytes, type TestTensor, type Value } from './ggufWriter';

/** llama.cpp's names of architectures, and whether its converter pairs neighbours in queries and keys. */
const ARCHITECTURES: Record<string, { name: string; neighbours: boolean }> = {
  mixtral: { name: 'llama', neighbours: true },
  olmoe: { name: 'olmoe', neighbours: false },
  qwen2_moe: { name: 'qwen2moe', neighbours: false },
  qwen3_moe: { name: 'qwen3moe', neighbours: false },
  granitemoe: { name: 'granitemoe', neighbours: true },
  llama: { name: 'llama', neighbours: true },
  qwen2: { name: 'qwen2', neighbours: false },
  qwen3: { name: 'qwen3', neighbours: false },
};

type Config = Record<string, unknown>;
interface Stored {
  shape: readonly number[];
  data: Float32Array;
}

/** What convert_hf_to_gguf.py of llama.cpp makes of a small checkpoint of `transformers`: float32, before `convert`. */
export async function ggufFromHf(
  dir: string,
  config: Config,
  extra: readonly (readonly [string, Value])[] = [],
  moreTensors: readonly TestTensor[] = [],
  convert: (tensor: TestTensor) => TestTensor = (tensor) => tensor,
): Promise<Uint8Array> {
  const { name, neighbours } = ARCHITECTURES[config.model_type as string];
  const tensors: TestTensor[] = [...moreTensors];
  const experts = new Map<string, Stored[]>();
  await using file = (await loadCheckpoint(dir)).tensors;
  for (const [stored, { shape, elements }] of file.tensors) {
    const data = new Float32Array(elements);
    await file.readInto(stored, data);
    const rotated = neighbours && /[qk]_proj\.(weight|bias)$/.test(stored);
    const values = rotated ? inNeighbours(data, shape, headDimOf(config)) : data;
    place(stored, { shape, data: values }, tensors, experts);
  }
  for (const [stacked, parts] of experts) {
    const data = Float32Array.from(parts.flatMap((part) => [...part.data]));
    tensors.push({ name: stacked, shape: [parts.length, ...parts[0].shape], data });
  }
  const metadata = [
    ['general.architecture', { type: 'string', value: name }] as const,
    ...metadataOf(config, name),
  ];
  return ggufBytes({ metadata: [...metadata, ...extra], tensors: tensors.map(convert) });
}

const headDimOf = (config: Config): number =>
  (config.head_dim as number) ?? (config.hidden_size as number) / (config.num_attention_heads as number);

function inNeighbours(
  data: Float32Array,
  [rows, cols = 1]: readonly number[],
  headDim: number,
): Float32Array {
  const out = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    const from = halvesRow(row, headDim) * cols;
    out.set(data.subarray(from, from + cols), row * cols);
  }
  return out;
}

const NAMES: readonly (readonly [RegExp, string])[] = [
  [/^input_layernorm/, 'attn_norm'],
  [/^post_attention_layernorm/, 'ffn_norm'],
  [/^self_attn\.([qk])_norm/, 'attn_$1_norm'],
  [/^self_attn\.([qkv])_proj/, 'attn_$1'],
  [/^self_attn\.o_proj/, 'attn_output'],
  [/^mlp\.(gate|up|down)_proj/, 'ffn_$1'],
  [/^mlp\.shared_expert_gate/, 'ffn_gate_inp_shexp'],
  [/^mlp\.shared_expert\.(gate|up|down)_proj/, 'ffn_$1_shexp'],
  [/^(?:mlp|block_sparse_moe)\.(?:router\.layer|gate|router)(?=\.weight)/, 'ffn_gate_inp'],
];
const W = { w1: 'gate', w2: 'down', w3: 'up' } as const;

function place(name: string, stored: Stored, tensors: TestTensor[], experts: Map<string, Stored[]>): void {
  const [, layer, rest] = /^model\.layers\.(\d+)\.(.*)$/.exec(name) ?? [];
  const whole =
    { 'model.embed_tokens.weight': 'token_embd', 'model.norm.weight': 'output_norm' }[name] ?? 'output';
  if (layer === undefined) {
    tensors.push({ name: `${whole}.weight`, ...stored });
    return;
  }
  const block = `blk.${layer}.`;
  const [, expert, part] = /experts\.(\d+)\.(\w+)\.weight$/.exec(rest) ?? [];
  const { shape, data } = stored;
  if (expert !== undefined) {
    const matrix = W[part as 'w1'] ?? part.replace('_proj', '');
    const stacked = `${block}ffn_${matrix}_exps.weight`;
    experts.set(stacked, Object.assign(experts.get(stacked) ?? [], { [Number(expert)]: stored }));
  } else if (/input_linear|gate_up_proj/.test(rest)) {
    const [count, both, cols] = shape;
    const size = (both / 2) * cols;
    for (const [i, matrix] of ['gate', 'up'].entries()) {
      const pieces = Array.from({ length: count }, (_, e) => [
        ...data.subarray((2 * e + i) * size, (2 * e + i + 1) * size),
      ]);
      const half = Float32Array.from(pieces.flat());
      tensors.push({ name: `${block}ffn_${matrix}_exps.weight`, shape: [count, both / 2, cols], data: half });
    }
  } else if (/output_linear|experts\.down_proj/.test(rest)) {
    tensors.push({ name: `${block}ffn_down_exps.weight`, ...stored });
  } else {
    const [pattern, to] = NAMES.find(([from]) => from.test(rest))!;
    const squeezed = rest.startsWith('mlp.shared_expert_gate') ? shape.slice(1) : shape;
    tensors.push({ name: block + rest.replace(pattern, to), shape: squeezed, data });
  }
}

function metadataOf(config: Config, name: string): (readonly [string, Value])[] {
  const rope = config.rope_parameters as { rope_theta?: number } | undefined;
  const u32: Record<string, unknown> = {
    context_length: config.max_position_embeddings,
    embedding_length: config.hidden_size,
    block_count: config.num_hidden_layers,
    feed_forward_length: config.intermediate_size,
    expert_count: config.num_local_experts ?? config.num_experts,
    expert_used_count: config.num_experts_per_tok,
    'attention.head_count': config.num_attention_heads,
    'attention.head_count_kv': config.num_key_value_heads,
    'attention.key_length': config.head_dim,
    'attention.value_length': config.head_dim,
  };
  const granite = name === 'granitemoe';
  const f32: Record<string, unknown> = {
    'attention.layer_norm_rms_epsilon': config.rms_norm_eps,
    'rope.freq_base': config.rope_theta ?? rope?.rope_theta,
    embedding_scale: granite ? config.embedding_multiplier : undefined,
    residual_scale: granite ? config.residual_multiplier : undefined,
    logit_scale: granite ? config.logits_scaling : undefined,
    'attention.scale': granite ? config.attention_multiplier : undefined,
  };
  const entries = (type: 'u32' | 'f32', values: Record<string, unknown>) =>
    Object.entries(values)
      .filter(([, value]) => typeof value === 'number')
      .map(([key, value]) => [`${name}.${key}`, { type, value: value as number }] as const);
  return [...entries('u32', u32), ...entries('f32', f32)];
}
