/** What every implementation of `Collectives` must do; ranks are threads, or take turns in this one. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { addTree, type Collectives, type Transfer } from '../../../src/backend/collectives';
import { soloCollectives } from '../../../src/backend/collectives/solo';
import { createThreadGroup, joinThreadGroup } from '../../../src/backend/collectives/threads';
import { ROOT } from '../child';
import { expectedOf, treeOf } from './expected';
import { numberOf, program } from './program.cjs';

const SIZES = [1, 2, 3, 4];
const settled = (transfer: Transfer) => transfer.settled();

/** The ranks of a group, all in this thread. */
function ranksOf(size: number, bytesPerRank?: number): Collectives[] {
  const group = createThreadGroup(size, { bytesPerRank });
  return Array.from({ length: size }, (_, rank) => joinThreadGroup(group, rank, { timeoutMs: 60_000 }));
}

function runInThreads(size: number, blocks: boolean, bytesPerRank: number): Promise<unknown[]> {
  const group = createThreadGroup(size, { bytesPerRank });
  const runRank = (rank: number) =>
    new Promise((resolve, reject) => {
      const workerData = { group, rank, blocks, collectivesOf: join(ROOT, 'dist') };
      const worker = new Worker(join(__dirname, 'program.cjs'), { workerData });
      worker.once('message', resolve).once('error', reject);
    });
  return Promise.all(Array.from({ length: size }, (_, rank) => runRank(rank)));
}

describe('collectives', () => {
  it('of one process leave its numbers as they are', async () => {
    expect(await program(soloCollectives(), (transfer: Transfer) => transfer.wait())).toEqual(
      expectedOf(0, 1),
    );
    expect(await program(soloCollectives(), settled)).toEqual(expectedOf(0, 1));
  });

  it.each(SIZES)('of %i ranks in one thread move and sum what each rank gives', async (size) => {
    const results = await Promise.all(ranksOf(size).map((rank) => program(rank, settled)));
    expect(results).toEqual(results.map((_, rank) => expectedOf(rank, size)));
  });

  it.each(SIZES)(
    'of %i threads that block do the same, in as many rounds as their memory needs',
    async (size) => {
      // Cells of 4 KiB.
      const results = await runInThreads(size, true, size * 4096);
      expect(results).toEqual(results.map((_, rank) => expectedOf(rank, size)));
    },
  );

  it.each(SIZES)('of %i threads that await do the same', async (size) => {
    const results = await runInThreads(size, false, 2 ** 20);
    expect(results).toEqual(results.map((_, rank) => expectedOf(rank, size)));
  });

  it('cut parts at cells of 8 bytes without losing an element', async () => {
    const size = 3;
    const results = await Promise.all(
      ranksOf(size, 8 * size).map(async (rank) => {
        const x = Float32Array.from({ length: 21 }, (_, i) => numberOf(rank.rank, i));
        const counts = [7, 1, 13];
        const out = new Float32Array(counts[rank.rank]);
        await rank.reduceScatter(x, 0, counts, out, 0).settled();
        const doubles = Float64Array.from(x);
        await rank.sumDoubles(doubles, 0, 21).settled();
        await rank.close().settled();
        return { out, doubles };
      }),
    );
    const summed = Array.from({ length: 21 }, (_, i) => treeOf(size, (r) => numberOf(r, i)));
    expect(results.flatMap(({ out }) => [...out])).toEqual(summed);
    const exact = summed.map((_, i) =>
      treeOf(
        size,
        (r) => numberOf(r, i),
        (value) => value,
      ),
    );
    for (const { doubles } of results) expect([...doubles]).toEqual(exact);
  });
});

describe('a subset of ranks', () => {
  it('has this rank, ascending members, and no end of its own', () => {
    const whole = soloCollectives();
    for (const members of [[1], [0, 0], [-1, 0]]) expect(() => whole.subset(members)).toThrow(RangeError);
    expect(() => whole.subset([])).toThrow('subset: members must have rank 0 among them');
    expect(() => whole.subset(0 as never)).toThrow(TypeError);
    const own = whole.subset([0]);
    expect(() => own.close()).toThrow('close: a subset of the ranks ends with the whole');
    expect(() => own.share()).toThrow(TypeError);
    own.abort('for a reason');
    expect(() => whole.barrier().wait()).toThrow('for a reason');
  });
});

describe('sums in a fixed tree', () => {
  it('pair neighbours, whatever their number', () => {
    for (let count = 1; count <= 9; count++) {
      const arrays = Array.from({ length: count }, (_, k) => Float32Array.from([numberOf(k, 6), 1]));
      addTree(arrays, 1);
      expect([...arrays[0]], `${count} arrays`).toEqual([treeOf(count, (k) => numberOf(k, 6)), 1]);
    }
  });

  it('have the same bits when 1, 2 or 4 ranks share 8 micro-batches', async () => {
    const microBatches = 8;
    const length = 101;
    const gradientOf = (batch: number) => Float32Array.from({ length }, (_, i) => numberOf(batch, i));
    const expected = Float32Array.from({ length }, (_, i) => treeOf(microBatches, (k) => numberOf(k, i)));
    for (const size of [1, 2, 4]) {
      const each = microBatches / size;
      const sums = await Promise.all(
        ranksOf(size).map(async (collectives) => {
          const own = Array.from({ length: each }, (_, k) => gradientOf(collectives.rank * each + k));
          addTree(own, length);
          const counts = Array.from({ length: size }, (_, r) => (r < size - 1 ? 13 : length - 13 * r));
          const at = 13 * collectives.rank;
          await collectives.reduceScatter(own[0], 0, counts, own[0], at).settled();
          await collectives.allGather(own[0], 0, counts).settled();
          await collectives.close().settled();
          return own[0];
        }),
      );
      for (const sum of sums) expect(sum, `${size} ranks`).toEqual(expected);
    }
    // The order matters for these numbers: one after the other gives other bits.
    const inTurn = Array.from({ length: microBatches }, (_, k) => gradientOf(k)).reduce((a, b) =>
      a.map((v, i) => v + b[i]),
    );
    expect(inTurn).not.toEqual(expected);
  });
});
