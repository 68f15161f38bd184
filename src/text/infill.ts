import type { Tokenizer } from './tokenizer';

/** Special tokens that stand before the text ahead of a gap, before the text behind it, and before the gap's own text. */
type InfillTokens = readonly [prefix: string, suffix: string, middle: string];

/** Those of Qwen and Granite, of StarCoder, of SantaCoder and of DeepSeek. */
const FORMS: readonly InfillTokens[] = [
  ['<|fim_prefix|>', '<|fim_suffix|>', '<|fim_middle|>'],
  ['<fim_prefix>', '<fim_suffix>', '<fim_middle>'],
  ['<fim-prefix>', '<fim-suffix>', '<fim-middle>'],
  ['<｜fim▁begin｜>', '<｜fim▁hole｜>', '<｜fim▁end｜>'],
];

/** The tokenizer's tokens for filling gaps; null if it has none. */
export function infillTokens(tokenizer: Tokenizer): InfillTokens | null {
  const isToken = (text: string) => tokenizer.encode(text).length === 1;
  return FORMS.find((form) => form.every(isToken)) ?? null;
}

/** A prompt for the text between a prefix and a suffix (Bavarian et al. 2022, prefix-suffix-middle). */
export function infillPrompt(tokens: InfillTokens, prefix: string, suffix: string): string {
  return tokens[0] + prefix + tokens[1] + suffix + tokens[2];
}
