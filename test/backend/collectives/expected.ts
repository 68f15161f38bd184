import { countsOf, numberOf, sentBy, sum } from './program.cjs';

/** The sum of terms [from, from + count), rounded after each addition: the left half is the largest power of two. */
export function treeOf(count: number, term: (k: number) => number, round = Math.fround, from = 0): number {
  if (count === 1) return term(from);
  let left = 1;
  while (left * 2 < count) left *= 2;
  return round(treeOf(left, term, round, from) + treeOf(count - left, term, round, from + left));
}

/** What `program` must return on a rank. */
export function expectedOf(rank: number, size: number) {
  const counts = countsOf(size);
  const total = sum(counts);
  const ownAt = 2 + sum(counts.slice(0, rank));
  const ranks = Array.from({ length: size }, (_, r) => r);
  const x = Float32Array.from({ length: total + 3 }, (_, i) => numberOf(rank, i));
  const summed = x.map((_, i) => treeOf(size, (r) => numberOf(r, i))).slice(ownAt, ownAt + counts[rank]);
  const inPlace = x.slice();
  inPlace.set(summed, ownAt);
  const parts = [
    0,
    0,
    0,
    ...ranks.flatMap((r) => Array.from({ length: counts[r] }, (_, i) => 40 * r + i + 1)),
    0,
  ];
  const received = ranks.flatMap((r) =>
    Array.from({ length: sentBy(r, rank) }, (_, i) => 100 * r + 10 * rank + i),
  );
  const doubles = Float64Array.from({ length: 5 }, (_, i) =>
    i >= 1 && i < 4
      ? treeOf(
          size,
          (r) => numberOf(r, i),
          (value) => value,
        )
      : numberOf(rank, i),
  );
  const members = ranks.filter((r) => r % 2 === rank % 2);
  const ofFew = (length: number, round?: (value: number) => number) =>
    Array.from({ length }, (_, i) => treeOf(members.length, (k) => numberOf(members[k], i), round));
  const subset = {
    rank: members.indexOf(rank),
    size: members.length,
    summed: Float32Array.from(ofFew(sum(members.map((r) => 2 * r + 1)))),
    doubles: Float64Array.from(ofFew(3, (value) => value)),
    named: Uint8Array.of(members[members.length - 1]),
  };
  const text = Array.from('from the last', (c) => c.charCodeAt(0));
  const isLast = rank === size - 1;
  return {
    x,
    out: Float32Array.from([-1, ...summed, -1]),
    inPlace,
    gathered: [Float32Array, Float64Array, Int32Array, Uint16Array, Uint8Array].map((Type) =>
      Type.from(parts),
    ),
    receive: Int32Array.from([-1, ...received, -1]),
    doubles,
    text: Uint16Array.from(isLast ? text : [7, ...text.slice(1, 12), 7]),
    subset,
    largeIsRight: true,
  };
}
