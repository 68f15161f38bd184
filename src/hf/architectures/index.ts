import type { ArchitectureDefinition } from '../architecture';
import { granitemoe } from './granitemoe';
import { llama } from './llama';
import { mistral } from './mistral';
import { mixtral } from './mixtral';
import { olmoe } from './olmoe';
import { qwen2 } from './qwen2';
import { qwen2_moe } from './qwen2_moe';
import { qwen3 } from './qwen3';
import { qwen3_moe } from './qwen3_moe';

/** The architectures by `model_type`. A model is exported as the first that can express it. */
const REGISTRY = {
  mixtral,
  olmoe,
  qwen3_moe,
  qwen2_moe,
  granitemoe,
  llama,
  qwen2,
  qwen3,
  mistral,
} as const satisfies Record<string, ArchitectureDefinition>;

/** The Hugging Face architectures that are read and written, by their `model_type`. */
export type Architecture = keyof typeof REGISTRY;
export const ARCHITECTURES = Object.keys(REGISTRY) as readonly Architecture[];

export function definitionOf(architecture: Architecture): ArchitectureDefinition {
  return REGISTRY[architecture];
}

/** An architecture's name in the key `architectures` of config.json. */
export function classNameOf(architecture: Architecture): string {
  return REGISTRY[architecture].className;
}

/** The `ownKeys` of all architectures: each key with its neutral value. */
export const OWN_KEYS: ReadonlyMap<string, unknown> = new Map(
  ARCHITECTURES.flatMap((architecture) => Object.entries(REGISTRY[architecture].ownKeys)),
);
