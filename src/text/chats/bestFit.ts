/**
 * Packs items into bins of `capacity`: the longest first, each into the fullest bin that has room for it (best-fit decreasing;
 * Johnson 1973), so that little room is left. Items of one length keep their order.
 * @param lengths of the items, integers in [0, capacity].
 * @returns the bins in the order in which they were opened: indices of their items.
 */
export function bestFit(lengths: readonly number[], capacity: number): number[][] {
  const order = lengths.map((_, i) => i).sort((a, b) => lengths[b] - lengths[a] || a - b);
  const bins: number[][] = [];
  /** For each room, the bins that have just that much left. */
  const withRoom: number[][] = Array.from({ length: capacity + 1 }, () => []);
  for (const item of order) {
    const length = lengths[item];
    let room = length;
    while (room < capacity && withRoom[room].length === 0) room++;
    const bin = room < capacity || withRoom[capacity].length > 0 ? withRoom[room].pop()! : bins.push([]) - 1;
    bins[bin].push(item);
    withRoom[room - length].push(bin);
  }
  return bins;
}
