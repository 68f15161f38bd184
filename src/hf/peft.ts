import { SgemoeError } from '../base/errors';
import type { ModelConfig } from '../config/modelConfig';
import { type Architecture, definitionOf } from './architectures';

const PREFIX = 'base_model.model.';

/** A matrix, or a layer's stacked experts, as `transformers` 5 calls it. */
export interface PeftModule {
  /** The module that holds it: 'model.layers.0.mlp.experts'. */
  readonly module: string;
  /** Its name there if it is a parameter of its own, as stacked experts and routers are; null for a linear layer's weight. */
  readonly parameter: string | null;
}

/** @param part the name of a projection's part: 'model.layers.0.block_sparse_moe.experts.gate_up'. */
export function peftModule(config: ModelConfig, architecture: Architecture, part: string): PeftModule {
  const { nExperts, hiddenDim: H, ffnDim: F } = config;
  const [, layer, stacked] = /^(.*\.)experts\.(gate_up|down)$/.exec(part) ?? [];
  const { places } = definitionOf(architecture);
  // The last place is the one of version 5, whose modules peft wraps.
  if (layer !== undefined) {
    const [matrix, shape] = stacked === 'down' ? ['w2', [H, F]] : ['w1', [F, H]];
    const name = places(config, `${layer}experts.0.${matrix}.weight`, shape as number[]).at(-1)!.name;
    return split(name);
  }
  const shape = part.endsWith('block_sparse_moe.gate') ? [nExperts, H] : [];
  const { name } = places(config, `${part}.weight`, shape).at(-1)!;
  const found = split(name);
  return part.endsWith('block_sparse_moe.gate') ? found : { module: found.module, parameter: null };
}

function split(name: string): PeftModule {
  const at = name.lastIndexOf('.');
  return { module: name.slice(0, at), parameter: name.slice(at + 1) };
}

/**
 * The names of the tensors of each module's adapter, without '.lora_A.weight'. Where both stacks of a layer's experts have one, peft
 * wraps the module once more for `down_proj`, and that of `gate_up_proj` lies in its `base_layer`.
 */
export function peftTensors(modules: readonly PeftModule[]): string[] {
  const count = new Map<string, number>();
  for (const { module } of modules) count.set(module, (count.get(module) ?? 0) + 1);
  return modules.map(({ module, parameter }) => {
    const isInner = count.get(module) === 2 && parameter === 'gate_up_proj';
    return `${PREFIX}${module}${isInner ? '.base_layer' : ''}`;
  });
}

/** What adapter_config.json says of all adapters. */
export interface PeftScale {
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
}

/**
 * The content of adapter_config.json.
 * @param all every module that could have an adapter; names are shortened where a suffix means the same ones.
 */
export function writePeftConfig(
  {
    rank,
    alpha,
    rsLora,
    dropout,
    base,
  }: PeftScale & { readonly dropout: number; readonly base: string | null },
  adapted: readonly PeftModule[],
  all: readonly PeftModule[],
): Record<string, unknown> {
  const linear = targetNames(adapted, all, false);
  const parameters = targetNames(adapted, all, true);
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: dropout,
    use_rslora: rsLora,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    target_modules: linear,
    target_parameters: parameters.length === 0 ? null : parameters,
  };
}

const fullName = ({ module, parameter }: PeftModule) =>
  parameter === null ? module : `${module}.${parameter}`;

function targetNames(
  adapted: readonly PeftModule[],
  all: readonly PeftModule[],
  asParameters: boolean,
): string[] {
  const namesOf = (modules: readonly PeftModule[]) =>
    modules.filter(({ parameter }) => (parameter !== null) === asParameters).map(fullName);
  const [chosen, possible] = [new Set(namesOf(adapted)), namesOf(all)];
  const names = [...chosen].map((name) => {
    const suffix = name.replace(/^model\.(layers\.\d+\.)?/, '');
    const meant = possible.filter((other) => other === suffix || other.endsWith(`.${suffix}`));
    return meant.every((other) => chosen.has(other)) ? suffix : name;
  });
  return [...new Set(names)];
}

/** Settings of peft that change what an adapter computes, with the values that mean nothing. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  peft_type: ['LORA'],
  bias: ['none'],
  fan_in_fan_out: [false],
  use_dora: [false],
  use_qalora: [false],
  use_bdlora: [null],
  lora_bias: [false],
  modules_to_save: [null],
  layer_replication: [null],
  trainable_token_indices: [null],
  alora_invocation_tokens: [null],
  arrow_config: [null],
  kasa_config: [null],
  velora_config: [null],
  monteclora_config: [null],
};

/** Reads adapter_config.json. @throws SgemoeError SGEMOE_CONFIG_INVALID for what adapters here don't do. */
export function readPeftConfig(path: string, json: Readonly<Record<string, unknown>>): PeftScale {
  const refuse = (what: string) => new SgemoeError('SGEMOE_CONFIG_INVALID', `${path}: ${what}`);
  for (const [key, neutral] of Object.entries(NEUTRAL)) {
    const value = json[key];
    if (value === undefined || value === null || neutral.includes(value)) continue;
    throw refuse(`${key} ${JSON.stringify(value)} is not supported`);
  }
  for (const key of ['rank_pattern', 'alpha_pattern']) {
    if (Object.keys((json[key] as object | null | undefined) ?? {}).length > 0)
      throw refuse(`${key} is not supported: adapters have one rank and one alpha`);
  }
  const { r = 8, lora_alpha: alpha = 8, use_rslora: rsLora = false } = json;
  if (!Number.isSafeInteger(r) || (r as number) < 1)
    throw refuse(`r must be an integer >= 1, got ${String(r)}`);
  if (typeof alpha !== 'number' || !(alpha > 0 && alpha < Number.POSITIVE_INFINITY))
    throw refuse(`lora_alpha must be a number > 0, got ${String(alpha)}`);
  if (typeof rsLora !== 'boolean') throw refuse(`use_rslora must be a boolean, got ${String(rsLora)}`);
  return { rank: r as number, alpha, rsLora };
}
