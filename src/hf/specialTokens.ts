import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';

/** Ids of special tokens; null for a missing one. */
export interface SpecialTokenIds {
  bos: number | null;
  eos: number | null;
  pad: number | null;
}

/** The ids that tokenizer.json gives to the special tokens that tokenizer_config.json names. */
export function specialTokenIds({ tokenizer, tokenizerConfig }: Partial<TokenizerFiles>): SpecialTokenIds {
  const named = (tokenizerConfig ?? {}) as Record<string, unknown>;
  const ids = addedTokens((tokenizer ?? {}) as Record<string, unknown>);
  const idOf = (key: string) => {
    const token = named[key];
    // The token is a string, or an object in files of older versions.
    const content =
      typeof token === 'object' && token !== null ? (token as { content?: unknown }).content : token;
    return ids.get(content) ?? null;
  };
  return { bos: idOf('bos_token'), eos: idOf('eos_token'), pad: idOf('pad_token') };
}

function addedTokens({ added_tokens: added }: Record<string, unknown>): Map<unknown, number> {
  const ids = new Map<unknown, number>();
  for (const { content, id } of Array.isArray(added) ? added : []) {
    if (Number.isSafeInteger(id)) ids.set(content, id);
  }
  return ids;
}
