/** A sequence with tokens ready for a step. */
interface Hungry {
  readonly ready: number;
  readonly client: string;
}

/**
 * Shares a step of at most `budget` tokens out among sequences. Each feeds at least one of its ready tokens, so that none
 * waits. Half of the remaining budget is shared equally among the clients, whose sequences share it equally in turn; the rest
 * goes to the sequences that need least, so that a short prompt overtakes a long one, and of several that arrive together some
 * begin to write early.
 * @param budget at least one token for each sequence. @param shares receives the number of tokens of each.
 */
export function shareOut(sequences: readonly Hungry[], budget: number, shares: Int32Array): void {
  const hungry = new Map<string, number>();
  for (let i = 0; i < sequences.length; i++) {
    shares[i] = 1;
    const { ready, client } = sequences[i];
    if (ready > 1) hungry.set(client, (hungry.get(client) ?? 0) + 1);
  }
  if (hungry.size === 0) return;
  let left = budget - sequences.length;
  const each = left / (2 * hungry.size);
  for (let i = 0; i < sequences.length; i++) {
    const ofClient = hungry.get(sequences[i].client);
    if (ofClient !== undefined) left -= add(sequences, shares, i, Math.floor(each / ofClient));
  }
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
