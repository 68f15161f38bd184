import type { Tokenizer } from './tokenizer';

/** All tokens that end a text: those of the model's checkpoint, and the tokenizer's end of text. */
export function allEndTokens(
  model: { readonly endTokens?: readonly number[] | undefined },
  tokenizer: Pick<Tokenizer, 'endOfText'> | null,
): number[] {
  const { endTokens = [] } = model;
  const endOfText = tokenizer?.endOfText ?? null;
  return endOfText === null || endTokens.includes(endOfText) ? [...endTokens] : [...endTokens, endOfText];
}
