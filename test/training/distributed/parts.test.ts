/** How gradients are summed on a rank, and gradients, moments and updates cut among ranks. */
import { describe, expect, it } from 'vitest';
import { Trainer } from '../../../src';
import { addTree } from '../../../src/backend/collectives';
import { SQUARES_BLOCK } from '../../../src/backend/kernels/training';
import { bucketsOf, momentBytes, partOf } from '../../../src/memory/partition';
import { GradientTree } from '../../../src/training/distributed/gradientTree';
import { AdamW } from '../../../src/training/optimizer';
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
    const sizes = [5 * SQUARES_BLOCK + 16, 130 * SQUARES_BLOCK, 0];
    const buckets = bucketsOf({ mirrorSizes: sizes, mirrorDivided: sizes.map(() => false) }, { size: ranks });
    const end = sizes.map(() => 0);
    for (const bucket of buckets) {
      expect(bucket.offset).toBe(end[bucket.shard]);
      for (let rank = 0; rank < ranks; rank++) {
        const { shard, offset, size } = partOf(bucket, rank);
        expect([shard, offset]).toEqual([bucket.shard, end[bucket.shard]]);
        if (size > 0) expect(offset % SQUARES_BLOCK).toBe(0);
        end[shard] += size;
      }
      expect(end[bucket.shard]).toBe(bucket.offset + bucket.size);
      const blocks = bucket.counts.map((count) => Math.ceil(count / SQUARES_BLOCK));
      expect(Math.max(...blocks) - Math.min(...blocks)).toBeLessThanOrEqual(1);
    }
    expect(end).toEqual(sizes);
  });
});

describe('AdamW on the parts of ranks', () => {
  const SIZE = { hiddenDim: 64, headDim: 32, ffnDim: 128, vocabSize: 3000 };
  /** A model with gradients that are the same each time. */
  function prepared(train: string[] | undefined) {
    const model = smallModel(SIZE);
    const { config } = new Trainer(model, { train, weightDecayExclude: ['norms', 'biases'] });
    model.store.ensureGradients();
    for (const shard of model.store.gradShards) {
      for (let i = 0; i < shard.length; i++) shard[i] = Math.sin(i + 1);
    }
    return { store: model.store, config };
  }

  it.each([
    [2, 'all', undefined],
    [3, 'all', undefined],
    [3, 'some', ['experts.*.w2', 'embed_tokens', 'norm']],
  ])('is that of one process, with every moment kept once: %i ranks, %s parameters', (size, _, train) => {
    const whole = prepared(train);
    const one = new AdamW(whole.store, whole.config);
    const parts = prepared(train);
    const ranks = Array.from(
      { length: size },
      (_, rank) => new AdamW(parts.store, parts.config, { rank, size }),
    );
    const bytes = ranks.map(({ missingBytes }) => missingBytes);
    expect(bytes.reduce((sum, each) => sum + each)).toBe(one.missingBytes);
    expect(Math.min(...bytes)).toBeGreaterThan(0);
    expect(Math.max(...bytes)).toBeLessThan((2 / 3) * one.missingBytes);
    for (let step = 1; step <= 2; step++) {
      one.update(step, 0.1, 3);
      for (const each of ranks) each.update(step, 0.1, 3);
    }
    expect(sameBits(parts.store.shards[0], whole.store.shards[0])).toBe(true);
    expect(ranks.map((each) => each.missingBytes)).toEqual(ranks.map(() => 0));

    const found = ranks.flatMap((each) => each.moments());
    // What is allocated, each array with the bytes that align it; WebAssembly's arrays have no buffers of their own.
    if (whole.store.kernels.info.backend !== 'wasm') {
      const held = [...new Set(found.map(({ data }) => data.buffer))];
      const heldBytes = held.reduce((sum, { byteLength }) => sum + byteLength, 0);
      expect(heldBytes).toBe(momentBytes(whole.store, { rank: 0, size: 1 }) + 64 * held.length);
    }
    for (const { name, shape, data } of one.moments()) {
      const pieces = found.filter((piece) => piece.name === name).sort((a, b) => a.start - b.start);
      const joined = new Float32Array(data.length);
      let end = 0;
      for (const piece of pieces) {
        expect([piece.start, piece.shape]).toEqual([end, shape]);
        joined.set(piece.data, piece.start);
        end += piece.data.length;
      }
      expect(end).toBe(data.length);
      expect(sameBits(joined, data), name).toBe(true);
    }
  });
});
