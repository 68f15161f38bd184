import { GENERATION_FILE, type GenerationConfig } from '../checkpoint/generationConfig';
import { ConfigValues, refused } from './configValues';

const KEY = 'eos_token_id';

interface EndTokens {
  ids: number[];
  /** A sentence for each list with ids that end nothing. */
  notes: string[];
}

/**
 * generation_config.json with the end tokens of both files. Those of config.json, the only list of old checkpoints, come
 * first.
 * @throws SgemoeError SGEMOE_CONFIG_INVALID
 */
export function readGenerationConfig(
  generationConfig: GenerationConfig | null,
  config: Readonly<Record<string, unknown>>,
  vocabSize: number,
): { generationConfig: GenerationConfig | null; notes: string[] } {
  const first = readEndTokens('config.json', config, vocabSize);
  const second = readEndTokens(GENERATION_FILE, generationConfig ?? {}, vocabSize);
  return {
    generationConfig: withEndTokens(generationConfig, joinIds(first.ids, second.ids)),
    notes: [...first.notes, ...second.notes],
  };
}

/** The end tokens that a generation_config.json lists. @throws SgemoeError SGEMOE_CONFIG_INVALID */
export function endTokensOf(generationConfig: GenerationConfig | null, vocabSize: number): readonly number[] {
  return readEndTokens(GENERATION_FILE, generationConfig ?? {}, vocabSize).ids;
}

/**
 * Reads `eos_token_id`: an id, a list of ids, or null. Ids outside the vocabulary end nothing, as in `transformers` (-1
 * often stands for none), and get a note. @throws SgemoeError SGEMOE_CONFIG_INVALID for a value that isn't an id.
 */
function readEndTokens(file: string, json: Readonly<Record<string, unknown>>, vocabSize: number): EndTokens {
  const value = new ConfigValues(json).get(KEY) ?? [];
  const all: unknown[] = Array.isArray(value) ? value : [value];
  if (!all.every((id): id is number => Number.isSafeInteger(id))) {
    throw refused(`${KEY} must be a token id, a list of them or null, got ${JSON.stringify(value)}`, file);
  }
  const isToken = (id: number) => id >= 0 && id < vocabSize;
  const others = all.filter((id) => !isToken(id));
  const note = `${file}: ${KEY} ${others.join(', ')} ends nothing: the model's tokens are 0 to ${vocabSize - 1}.`;
  return { ids: all.filter(isToken), notes: others.length > 0 ? [note] : [] };
}

/** A generation_config.json with these end tokens; without any it stays as it is, or absent. */
export function withEndTokens(
  json: GenerationConfig | null,
  ids: readonly number[],
): GenerationConfig | null {
  return ids.length === 0 ? json : { ...json, [KEY]: endTokenValue(ids) };
}

/** The value of `eos_token_id` for these ids: null, an id, or a list. */
export function endTokenValue(ids: readonly number[]): number | readonly number[] | null {
  return ids.length > 1 ? ids : (ids[0] ?? null);
}

/** The ids of all lists in order, each once. */
export function joinIds(...lists: readonly (readonly number[])[]): number[] {
  return [...new Set(lists.flat())];
}
