import type { GenerationConfig } from '../generationConfig';
import type { GgufHeader } from './header';
import type { GgufEntry } from './writer';

/** How to sample, below `general.sampling.`: keys of generation_config.json, llama.cpp's names for them, their types. */
const KEYS = [
  ['temperature', 'temp', 'float32'],
  ['top_k', 'top_k', 'uint32'],
  ['top_p', 'top_p', 'float32'],
  ['min_p', 'min_p', 'float32'],
  ['repetition_penalty', 'penalty_repeat', 'float32'],
] as const;

/** The digits that a float32 keeps. */
const FLOAT32_DIGITS = 7;

const keyOf = (name: string) => `general.sampling.${name}`;

/** How a GGUF says that its model is to be sampled, in the keys of generation_config.json. */
export function ggufSampling({ metadata }: Pick<GgufHeader, 'metadata'>): GenerationConfig {
  const found = KEYS.flatMap(([key, name]) => {
    const value = metadata.get(keyOf(name));
    return typeof value === 'number' ? [[key, Number(value.toPrecision(FLOAT32_DIGITS))]] : [];
  });
  return Object.fromEntries(found);
}

/** The same as metadata. Values that these types don't have are left out. */
export function samplingEntries(config: GenerationConfig | null): [string, GgufEntry][] {
  return KEYS.flatMap(([key, name, type]): [string, GgufEntry][] => {
    const value = config?.[key];
    const isWritable =
      typeof value === 'number' &&
      (type === 'uint32' ? value >>> 0 === value : Number.isFinite(Math.fround(value)));
    return isWritable ? [[keyOf(name), { type, value }]] : [];
  });
}
