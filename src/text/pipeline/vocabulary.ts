import { invalid, type Settings, show } from './settings';

/** A model, which turns words into ids. */
export interface Model {
  readonly vocab: ReadonlyMap<string, number>;
  /** Tokens by id, with holes for unused ids. */
  readonly tokens: readonly (string | undefined)[];
  /** The ids of a word that isn't empty. @throws SgemoeError SGEMOE_TOKENIZER_INVALID for one without a token. */
  encodeWord(word: string): number[];
}

/** A file with ids from this on is damaged; tables by id would fill the memory. */
export const MOST_TOKENS = 2 ** 24;

/** @throws SgemoeError SGEMOE_TOKENIZER_INVALID unless `model.vocab` is an object from texts to ids. */
export function readVocabulary(model: Settings): Map<string, number> {
  const vocab = new Map<string, number>();
  for (const [token, id] of model.object('vocab').entries()) vocab.set(checkToken(token), checkId(token, id));
  return vocab;
}

/** @throws SgemoeError SGEMOE_TOKENIZER_INVALID for a text that UTF-8 can't write. */
export function checkToken(token: unknown): string {
  if (typeof token === 'string' && !/\p{Surrogate}/u.test(token)) return token;
  throw invalid(`a token must be a well-formed text, got ${show(token)}`);
}

/**
 * Reads `unk_token`, the token for unknown text. One outside the vocabulary is only refused when it is needed, since
 * byte-level files have one that never is.
 */
export function readUnknown(model: Settings, vocab: ReadonlyMap<string, number>): (text: string) => number {
  const id = vocab.get(model.string('unk_token'));
  return (text) => id ?? noToken(text);
}

/** The length of the longest token in UTF-16 units. */
export function longestOf(vocab: ReadonlyMap<string, number>): number {
  let longest = 0;
  for (const { length } of vocab.keys()) longest = Math.max(longest, length);
  return longest;
}

/** The tokens by id. */
export function tokensById(vocab: ReadonlyMap<string, number>): (string | undefined)[] {
  const tokens: (string | undefined)[] = [];
  for (const [token, id] of vocab) tokens[id] = token;
  return tokens;
}

/** The id of each byte's token, which `byte_fallback` spells '<0x41>'. */
export function byteTokens(vocab: ReadonlyMap<string, number>): (number | undefined)[] {
  return Array.from({ length: 256 }, (_, byte) => {
    const digits = byte.toString(16).toUpperCase().padStart(2, '0');
    return vocab.get(`<0x${digits}>`);
  });
}

/** The ids of a text's bytes; null if a byte has no token. */
export function idsOfBytes(text: string, tokens: readonly (number | undefined)[]): number[] | null {
  const ids: number[] = [];
  for (const byte of Buffer.from(text, 'utf8')) {
    const id = tokens[byte];
    if (id === undefined) return null;
    ids.push(id);
  }
  return ids;
}

/** @throws SgemoeError SGEMOE_TOKENIZER_INVALID for a text that the tokenizer can't encode. */
export function noToken(word: string): never {
  throw invalid(`it has no token for ${show(word)}, and none for what is unknown`);
}

function checkId(token: string, id: unknown): number {
  if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < MOST_TOKENS) return id as number;
  throw invalid(`the id of ${show(token)} must be an integer in [0, ${MOST_TOKENS}), got ${show(id)}`);
}
