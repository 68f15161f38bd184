import type { SamplingStrategy, TokenSequence } from './nextToken';
import { PromptLookup } from './promptLookup';

/** A sequence that computes guessed tokens and forgets them again. */
export type SpeculativeSequence = Required<TokenSequence>;

export function canSpeculate(sequence: TokenSequence | undefined): sequence is SpeculativeSequence {
  return sequence?.appendAll !== undefined && sequence.truncate !== undefined;
}

/**
 * Continues `tokens`, of which all but the last are in `sequence`, to `maxLen` tokens or to an end token, and yields each. Steps
 * compute the tokens that a PromptLookup guesses, too; a guess counts where the strategy chooses the same token. Afterwards all
 * tokens but the last are in `sequence` again. Returns whether an end token came.
 */
export function* speculateTokens(
  sequence: SpeculativeSequence,
  tokens: number[],
  maxLen: number,
  strategy: SamplingStrategy,
  { vocabSize, ends, most }: { vocabSize: number; ends: ReadonlySet<number>; most: number },
): Generator<number, boolean, void> {
  const lookup = new PromptLookup(most);
  for (const token of tokens) lookup.add(token);
  const logits = new Float32Array((most + 1) * vocabSize);
  while (tokens.length < maxLen && !strategy.ended) {
    const computed = tokens.length - 1;
    const drafted = lookup.draft(maxLen - tokens.length - 1);
    sequence.appendAll([tokens[computed], ...lookup.guesses.subarray(0, drafted)], 0, logits);
    for (let i = 0; ; i++) {
      const token = strategy.pickToken(logits.subarray(i * vocabSize, (i + 1) * vocabSize));
      if (ends.has(token)) return true;
      tokens.push(token);
      lookup.add(token);
      yield token;
      const isRight = i < drafted && token === lookup.guesses[i];
      if (isRight && tokens.length < maxLen && !strategy.ended) continue;
      sequence.truncate(tokens.length - 1);
      lookup.settle(drafted, isRight ? i + 1 : i);
      break;
    }
  }
  return false;
}
