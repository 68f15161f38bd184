/**
 * How many of their ready tokens sequences feed to a step of at most `budget` tokens, at least one each: the rest is shared
 * equally, what one doesn't need goes to the others. So short prompts pass long ones by, and no one waits.
 * @param budget at least one for each sequence. @param shares receives the numbers.
 */
export function shareOut(
  sequences: readonly { readonly ready: number }[],
  budget: number,
  shares: Int32Array,
): void {
  let left = budget - sequences.length;
  let hungry = 0;
  for (let i = 0; i < sequences.length; i++) {
    shares[i] = 1;
    if (sequences[i].ready > 1) hungry++;
  }
  while (left > 0 && hungry > 0) {
    const each = Math.max(1, Math.floor(left / hungry));
    hungry = 0;
    for (let i = 0; i < sequences.length && left > 0; i++) {
      const more = Math.min(each, sequences[i].ready - shares[i], left);
      shares[i] += more;
      left -= more;
      if (sequences[i].ready > shares[i]) hungry++;
    }
  }
}
