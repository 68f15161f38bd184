/** How gradients are summed on a rank, and cut among ranks. */
import { describe, expect, it } from 'vitest';
import { addTree } from '../../../src/backend/collectives';
import { GradientTree } from '../../../src/training/distributed/gradientTree';
import { BLOCK_ELEMENTS, bucketsOf, partOf } from '../../../src/training/distributed/partition';
import { sameBits } from '../../helpers/close';
import { smallModel } from '../../helpers/smallModel';

describe('the tree over the micro-batches of a rank', () => {
  const model = smallModel();
  const { store } = model;
  store.ensureGradients();
  const [gradients] = store.gradShards;
  /** Sums of these depend on their order. */
  const gradientsOf = (k: number) =>
    Float32Array.from(gradients, (_, i) => Math.sin((k + 1) * (i + 1)) * 10 ** (i % 7));

  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9])('is that of addTree: %i micro-batches', (n) => {
    const tree = new GradientTree(store, n);
    const before = tree.missingBytes;
    expect(before).toBe(Math.ceil(Math.log2(n)) * store.mirrorBytes);
    for (const step of [0, 1]) {
      const all = Array.from({ length: n }, (_, k) => gradientsOf(k + 10 * step));
      for (let k = 0; k < n; k++) {
        gradients.set(all[k]);
        if (k < n - 1) tree.keep(k);
      }
      // The last one's become final in pieces.
      const cut = 160;
      tree.complete({ shard: 0, offset: cut, size: gradients.length - cut });
      tree.complete({ shard: 0, offset: 0, size: cut });
      addTree(all, gradients.length);
      expect(sameBits(gradients, all[0])).toBe(true);
    }
    expect(tree.missingBytes).toBe(0);
  });
});

describe('the parts of ranks', () => {
  it.each([1, 2, 3, 4, 7, 100])('are whole blocks that cover everything once: %i ranks', (ranks) => {
    const sizes = [5 * BLOCK_ELEMENTS + 16, 130 * BLOCK_ELEMENTS, 0];
    const buckets = bucketsOf(sizes, ranks);
    const end = sizes.map(() => 0);
    for (const bucket of buckets) {
      expect(bucket.offset).toBe(end[bucket.shard]);
      for (let rank = 0; rank < ranks; rank++) {
        const { shard, offset, size } = partOf(bucket, rank);
        expect([shard, offset]).toEqual([bucket.shard, end[bucket.shard]]);
        if (size > 0) expect(offset % BLOCK_ELEMENTS).toBe(0);
        end[shard] += size;
      }
      expect(end[bucket.shard]).toBe(bucket.offset + bucket.size);
      const blocks = bucket.counts.map((count) => Math.ceil(count / BLOCK_ELEMENTS));
      expect(Math.max(...blocks) - Math.min(...blocks)).toBeLessThanOrEqual(1);
    }
    expect(end).toEqual(sizes);
  });
});
