import type { ModelConfigOptions } from '../config/modelConfig';
import {
  isRopeScalingType,
  ROPE_SCALINGS,
  type RopeScaling,
  ropeScalingFromJson,
  yarnAttentionFactor,
} from '../config/ropeScaling';
import { ConfigValues, refused, show } from './configValues';

/**
 * Version 4 writes rope_theta and rope_scaling, version 5 rope_parameters, which holds both; where several are given, they
 * must agree. @throws SgemoeError SGEMOE_CONFIG_INVALID
 */
export function readRope(
  values: ConfigValues,
  missing: number,
): Pick<ModelConfigOptions, 'ropeBase' | 'ropeScaling'> {
  const bases = new Set<number>();
  const scalings = new Map<string, RopeScaling | null>();
  for (const key of ['rope_parameters', 'rope_scaling']) {
    const value = values.get(key);
    if (value === undefined) continue;
    if (typeof value !== 'object' || Array.isArray(value)) throw refused(`${key} must be an object`);
    const rope = new ConfigValues(value as Record<string, unknown>);
    if (rope.get('rope_theta') !== undefined) bases.add(rope.number('rope_theta'));
    const scaling = readScaling(key, rope, values);
    scalings.set(show(scaling), scaling);
  }
  if (values.get('rope_theta') !== undefined) bases.add(values.number('rope_theta'));
  if (bases.size > 1) throw refused(`rope_theta has different values: ${[...bases].join(', ')}`);
  if (scalings.size > 1) throw refused('rope_parameters and rope_scaling disagree');
  return { ropeBase: [...bases][0] ?? missing, ropeScaling: [...scalings.values()][0] ?? null };
}

/** Keys beside those of a scaling; each has been read elsewhere. */
const OTHER_KEYS = ['type', 'rope_type', 'rope_theta', 'partial_rotary_factor', 'mscale', 'mscale_all_dim'];

function readScaling(key: string, rope: ConfigValues, values: ConfigValues): RopeScaling | null {
  const nested = rope.keys().find((name) => typeof (rope.get(name) ?? 0) === 'object');
  if (nested !== undefined)
    throw refused(`${key} differs by layer (${nested}), which sgemoe does not compute`);
  const part = rope.number('partial_rotary_factor', 1);
  if (part !== 1)
    throw refused(`partial_rotary_factor ${part} rotates a part of each head, which sgemoe does not compute`);
  const type = rope.get('rope_type') ?? rope.get('type') ?? 'default';
  if (type === 'default') return null;
  if (!isRopeScalingType(type)) {
    throw refused(`${key} of type ${show(type)} is not supported, only default, ${ROPE_SCALINGS.join(', ')}`);
  }
  const own = rope.keys().filter((name) => !OTHER_KEYS.includes(name) && rope.get(name) !== undefined);
  const json: Record<string, unknown> = Object.fromEntries(own.map((name) => [name, rope.get(name)]));
  if (type !== 'linear') json.original_max_position_embeddings = originalLength(rope, values);
  if (type === 'yarn') {
    json.factor ??= values.number('max_position_embeddings') / originalLength(rope, values);
    json.attention_factor ??= attentionFactor(Number(json.factor), rope);
  }
  return ropeScalingFromJson({ ...json, rope_type: type });
}

/** The length of the first training. Version 5 takes the key of the configuration itself before that of the scaling. */
function originalLength(rope: ConfigValues, values: ConfigValues): number {
  const key = 'original_max_position_embeddings';
  const inner = rope.number(key, values.number('max_position_embeddings'));
  const outer = values.number(key, inner);
  if (outer === inner) return inner;
  throw refused(`${key} has different values: ${outer} and, for the scaling, ${inner}`);
}

/** YaRN's factor of cosines and sines; DeepSeek's mscale and mscale_all_dim divide two of them. */
function attentionFactor(factor: number, rope: ConfigValues): number {
  const [scale, all] = [rope.number('mscale', 0), rope.number('mscale_all_dim', 0)];
  if (scale === 0 || all === 0) return yarnAttentionFactor(factor);
  return yarnAttentionFactor(factor, scale) / yarnAttentionFactor(factor, all);
}
