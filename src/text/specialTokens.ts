/** A part of a text: either plain text, or a token that stands in it word for word. */
export type TextPart = { text: string; token: null } | { text: null; token: string };

/** Cuts a text at the tokens in it, from the left, of several that begin at one place the longest. */
export function* splitAtTokens(text: string, tokens: readonly string[]): Generator<TextPart, void> {
  const pattern = tokens.length === 0 ? null : patternOf(tokens);
  let start = 0;
  for (const { 0: token, index } of pattern === null ? [] : text.matchAll(pattern)) {
    if (index > start) yield { text: text.slice(start, index), token: null };
    yield { text: null, token };
    start = index + token.length;
  }
  if (start < text.length) yield { text: text.slice(start), token: null };
}

const patterns = new WeakMap<readonly string[], RegExp>();

function patternOf(tokens: readonly string[]): RegExp {
  let pattern = patterns.get(tokens);
  if (pattern === undefined) {
    const longestFirst = [...tokens].sort((a, b) => b.length - a.length);
    const alternatives = longestFirst.map((token) => token.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
    pattern = new RegExp(alternatives.join('|'), 'g');
    patterns.set(tokens, pattern);
  }
  return pattern;
}
