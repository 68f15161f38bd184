/** A sequence with tokens ready for a step. */
interface Hungry {
  readonly ready: number;
}

/**
 * Shares a step of at most `budget` tokens out among sequences. Each feeds at least one of its ready tokens, so that none
 * waits. Half of the remaining budget is shared equally; the rest goes to the sequences that need least, so that a short
 * prompt overtakes a long one, and of several that arrive together some begin to write early.
 * @param budget at least one token for each sequence. @param shares receives the number of tokens of each.
 */
export function shareOut(sequences: readonly Hungry[], budget: number, shares: Int32Array): void {
  let hungry = 0;
  for (let i = 0; i < sequences.length; i++) {
    shares[i] = 1;
    if (sequences[i].ready > 1) hungry++;
  }
  let left = budget - sequences.length;
  const each = Math.floor(left / (2 * Math.max(1, hungry)));
  for (let i = 0; i < sequences.length; i++) left -= add(sequences, shares, i, each);
  for (let i = leastNeedy(sequences, shares); i >= 0 && left > 0; i = leastNeedy(sequences, shares)) {
    left -= add(sequences, shares, i, left);
  }
}

/** Adds at most `most` to the share of sequence i; returns how many. */
function add(sequences: readonly Hungry[], shares: Int32Array, i: number, most: number): number {
  const more = Math.min(most, sequences[i].ready - shares[i]);
  shares[i] += more;
  return more;
}

/** The index of the sequence with the fewest (but some) unshared ready tokens; -1 for none. */
function leastNeedy(sequences: readonly Hungry[], shares: Int32Array): number {
  let least = -1;
  let need = Number.POSITIVE_INFINITY;
  for (let i = 0; i < sequences.length; i++) {
    const more = sequences[i].ready - shares[i];
    if (more === 0 || more >= need) continue;
    least = i;
    need = more;
  }
  return least;
}
