import { addTree, afterTransfer, type Collectives, type Transfer } from '../../backend/collectives';
import type { Kernels } from '../../backend/kernels';
import { roundTo, widenTo } from '../../memory/operations/stored';

/** Of a bfloat16. */
const BYTES = 2;

/**
 * `Collectives.reduceScatter` in place in half of the bytes: what goes to another rank is rounded to the nearest bfloat16. A rank's own part
 * isn't, and the sums are float32, in the tree of `addTree`.
 */
export function reduceScatterRounded(
  kernels: Pick<Kernels, 'quantize' | 'dequantize'>,
  ranks: Collectives,
  x: Float32Array,
  xAt: number,
  counts: readonly number[],
): Transfer {
  const { rank, size } = ranks;
  const ownAt = xAt + sum(counts.slice(0, rank));
  const own = x.subarray(ownAt, ownAt + counts[rank]);
  const sentBytes = counts.map((count, r) => (r === rank ? 0 : BYTES * count));
  const cameBytes = counts.map((_, r) => (r === rank ? 0 : BYTES * own.length));
  const sent = new Uint8Array(sum(sentBytes));
  let [from, to] = [xAt, 0];
  for (const [r, bytes] of sentBytes.entries()) {
    const count = counts[r];
    if (bytes > 0)
      roundTo(kernels, 'bfloat16', x.subarray(from, from + count), sent.subarray(to, to + bytes));
    from += count;
    to += bytes;
  }
  const came = new Uint8Array(sum(cameBytes));
  return afterTransfer(ranks.allToAll(sent, 0, sentBytes, came, 0, cameBytes), () => {
    const each = own.length;
    if (each === 0) return;
    let at = 0;
    const addends = Array.from({ length: size }, (_, r) => {
      if (r === rank) return own;
      const widened = new Float32Array(each);
      widenTo(kernels, 'bfloat16', came.subarray(at, at + BYTES * each), widened);
      at += BYTES * each;
      return widened;
    });
    addTree(addends, each);
    if (rank !== 0) own.set(addends[0]);
  });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
