import type { Rule } from './architecture';
import { type Architecture, definitionOf, OWN_KEYS } from './architectures';
import { type ConfigValues, refused, show } from './configValues';
import { COMMON_RULES, KNOWN_KEYS, TRAINING_ONLY_KEYS } from './rules';

/**
 * Refuses a config.json that asks for something sgemoe doesn't compute.
 * @throws SgemoeError SGEMOE_CONFIG_INVALID with a sentence that names it.
 */
export function refuseUnsupported(values: ConfigValues, architecture: Architecture): void {
  for (const [key, rule] of Object.entries(rulesOf(architecture))) {
    const value = values.get(key);
    const sentence = value === undefined ? null : rule(value, values);
    if (sentence !== null) throw refused(sentence);
  }
}

function rulesOf(architecture: Architecture): Readonly<Record<string, Rule>> {
  const { ownKeys, rules, qkNorm } = definitionOf(architecture);
  const foreign = [...OWN_KEYS]
    .filter(([key]) => !Object.hasOwn(ownKeys, key))
    .map(([key, harmless]): [string, Rule] => [key, foreignKey(key, harmless, architecture)]);
  const hasNorm = qkNorm !== 'none';
  const useQkNorm: Rule = (value) =>
    value === hasNorm
      ? null
      : `use_qk_norm ${show(value)} contradicts ${architecture}, where it is ${hasNorm}`;
  return { ...COMMON_RULES, ...rules, ...Object.fromEntries(foreign), use_qk_norm: useQkNorm };
}

/** `transformers` would ignore a key that only other architectures obey, so only its harmless value passes. */
function foreignKey(key: string, harmless: unknown, architecture: Architecture): Rule {
  return (value) =>
    show(value) === show(harmless)
      ? null
      : `${key} ${show(value)} has no meaning for ${architecture}, which computes as with ${show(harmless)}`;
}

/** A sentence for each kind of keys that are ignored; empty if none are. */
export function ignoredKeys(values: ConfigValues): string[] {
  const notes: string[] = [];
  const unknown = values.keys().filter((key) => !isKnown(key));
  if (unknown.length > 0)
    notes.push(`config.json: keys that are not known are ignored: ${unknown.join(', ')}.`);
  for (const [key, off] of Object.entries(TRAINING_ONLY_KEYS)) {
    const value = values.get(key) ?? off;
    if (value !== off)
      notes.push(`config.json: ${key} ${show(value)} changes training alone and is ignored.`);
  }
  return notes;
}

function isKnown(key: string): boolean {
  const tables = [COMMON_RULES, TRAINING_ONLY_KEYS];
  return KNOWN_KEYS.has(key) || OWN_KEYS.has(key) || tables.some((table) => Object.hasOwn(table, key));
}
