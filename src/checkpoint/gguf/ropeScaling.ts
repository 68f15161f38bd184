import { quoteName } from '../safetensorsHeader';
import type { GgufMetadata } from './metadata';

/** The tensor in which llama.cpp's converter keeps Llama 3's scaling: what each frequency is divided by. */
export const ROPE_FACTORS = 'rope_freqs.weight';

/** The keys that this module reads. */
export const ROPE_SCALING_KEYS = [
  'rope.scaling.type',
  'rope.scaling.factor',
  'rope.scaling.original_context_length',
  'rope.scaling.attn_factor',
  'rope.scaling.finetuned',
];

/**
 * The scaling of rotary angles as `rope_scaling` of config.json; undefined for none. llama.cpp takes a factor without a type
 * for a linear one, and multiplies YaRN's factor of cosines and sines by `attn_factor`.
 * @param factors the numbers of ROPE_FACTORS, or null if the file has none.
 * @throws SgemoeError SGEMOE_CONFIG_INVALID for another scaling, or two.
 */
export function ggufRopeScaling(
  metadata: GgufMetadata,
  factors: Float32Array | null,
): Record<string, unknown> | undefined {
  const { architecture: name } = metadata;
  const factor = metadata.number('rope.scaling.factor', 1);
  const type = metadata.get('rope.scaling.type') ?? 'linear';
  if (type !== 'none' && type !== 'linear' && type !== 'yarn') {
    const what = `${name}.rope.scaling.type ${quoteName(String(type))}`;
    throw metadata.refused(`${what} is a scaling of rotary angles that sgemoe does not compute`);
  }
  const isScaled = type !== 'none' && factor !== 1;
  if (factors !== null) {
    if (isScaled)
      throw metadata.refused(`${name}.rope.scaling and ${ROPE_FACTORS} are two scalings of rotary angles`);
    return llama3Scaling(metadata, factors);
  }
  if (!isScaled) return undefined;
  if (type === 'linear') return { rope_type: 'linear', factor };
  const attention = metadata.number('rope.scaling.attn_factor', 1) * (0.1 * Math.log(factor) + 1);
  const context = metadata.number('context_length');
  return {
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: metadata.number('rope.scaling.original_context_length', context),
    attention_factor: attention,
  };
}

/** The settings of every Llama 3. The files hold only the factors that result from them. */
const LLAMA3 = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 } as const;
/** The factors are stored as float32. */
const TOLERANCE = 1e-5;

function llama3Scaling(metadata: GgufMetadata, factors: Float32Array): Record<string, unknown> | undefined {
  const { headDim } = metadata;
  const base = metadata.number('rope.freq_base', 1e4);
  const factor = factors.reduce((most, each) => Math.max(most, each), 1);
  const wanted = llama3Factors(headDim, base, factor);
  const isLlama3 =
    factors.length === wanted.length &&
    wanted.every((want, i) => Math.abs(factors[i] - want) <= TOLERANCE * want);
  if (!isLlama3)
    throw metadata.refused(`${ROPE_FACTORS} holds other factors of rotary angles than those of Llama 3`);
  return factor === 1 ? undefined : { rope_type: 'llama3', factor, ...LLAMA3 };
}

/** The numbers of ROPE_FACTORS: what Llama 3 divides each frequency by. */
export function llama3Factors(headDim: number, base: number, factor: number): number[] {
  return Array.from({ length: headDim / 2 }, (_, i) => llama3Factor(base ** ((-2 * i) / headDim), factor));
}

/** Whether a scaling of config.json has what every Llama 3 has, so that its factors alone tell it. */
export function isLlama3Default(scaling: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(LLAMA3).every(([key, value]) => scaling[key] === value);
}

/** What Llama 3 divides a frequency by: 1 for high ones, `factor` for low ones, between these between. */
function llama3Factor(frequency: number, factor: number): number {
  const turns = (LLAMA3.original_max_position_embeddings * frequency) / (2 * Math.PI);
  const share = (turns - LLAMA3.low_freq_factor) / (LLAMA3.high_freq_factor - LLAMA3.low_freq_factor);
  const kept = Math.min(1, Math.max(0, share));
  return 1 / ((1 - kept) / factor + kept);
}
