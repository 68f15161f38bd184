import type { Completion } from '../engine/types';

/** Of each `of` completions, which belong to one prompt, the best `keep` are returned. */
export interface BestOf {
  keep: number;
  of: number;
  /** Whether the answer has log-probabilities, without which no choice is better. */
  showsLogprobs: boolean;
}

/** The best completions of each prompt, best first: those of the highest mean log-probability of their new tokens. */
export function bestOf(
  completions: readonly Completion[],
  { keep, of, showsLogprobs }: BestOf,
): Completion[] {
  const best: Completion[] = [];
  for (let first = 0; first < completions.length; first += of) {
    const group = completions.slice(first, first + of).toSorted((a, b) => meanLogprob(b) - meanLogprob(a));
    best.push(...group.slice(0, keep));
  }
  return showsLogprobs ? best : best.map((each) => ({ ...each, logprobs: null }));
}

/** The mean over the new tokens and the end token; -Infinity for none. */
function meanLogprob({ logprobs, usage, endToken }: Completion): number {
  const { completionTokens } = usage;
  const made = logprobs!.slice(logprobs!.length - completionTokens);
  const all = endToken === null ? made : [...made, endToken];
  if (all.length === 0) return Number.NEGATIVE_INFINITY;
  return all.reduce((sum, { logprob }) => sum + logprob, 0) / all.length;
}
