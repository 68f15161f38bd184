/** What several ranks save: the folder of one process, from which any number of ranks goes on. */
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { onRanks } from './ranks';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-saving-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Saved {
  weights: string;
  moments: number;
}
const FILES = ['config.json', 'model.safetensors', 'optimizer.safetensors', 'state.json'];
const read = (name: string, file: string) => readFileSync(join(folder, name, file));

/** Trains up to a step and saves in the folder `name`. */
const train = (ranks: number, name: string, options: Record<string, unknown>) =>
  onRanks<Saved>(ranks, {
    scenario: 'saveTraining',
    // 3 ranks have 4 of 12 micro-batches each: the same tree of sums as in one process.
    options: { dir: join(folder, name), rows: 12, train: { microBatches: 12 }, ...options },
  });

function expectSame(a: string, b: string): void {
  for (const file of FILES) expect(read(a, file).equals(read(b, file)), `${a}, ${b}: ${file}`).toBe(true);
}

describe('moments divided among ranks', () => {
  it('are saved as one process saves them, and taken up again: 3 ranks', async () => {
    const [one] = await train(1, 'one', { until: 2 });
    const three = await train(3, 'three', { until: 1 });
    // Each keeps a part of them.
    expect(three.reduce((sum, { moments }) => sum + moments, 0)).toBe(one.moments);
    for (const { moments } of three) expect(moments).toBeLessThan(one.moments / 2);
    const resumed = await train(3, 'three', { resume: true, until: 2 });
    expect(resumed.map(({ weights }) => weights)).toEqual(three.map(() => one.weights));
    expectSame('three', 'one');
  });

  it('are taken up by another number of ranks: 2, then 4 or 1', async () => {
    const options = { train: { microBatches: 4 }, rows: 8 };
    await train(4, 'whole', { ...options, until: 2 });
    await train(2, 'then4', { ...options, until: 1 });
    cpSync(join(folder, 'then4'), join(folder, 'then1'), { recursive: true });
    for (const ranks of [4, 1]) {
      await train(ranks, `then${ranks}`, { ...options, resume: true, until: 2 });
      expectSame(`then${ranks}`, 'whole');
    }
  });

  it('are not saved where the write fails, on all ranks; damage of what was saved is found, in any part', async () => {
    // Bytes before the end: in the last rank's part of the last moment, and in the first's.
    const options = { dir: folder, damages: [8, 4 * 200_000] };
    const refused = {
      code: 'SGEMOE_TRAINING_STATE',
      message: expect.stringMatching(/optimizer.safetensors: it is damaged/),
    };
    for (const each of await onRanks(2, { scenario: 'failingSave', options })) {
      expect(each).toEqual({
        failed: {
          code: 'SGEMOE_CHECKPOINT_WRITE',
          message: expect.stringMatching(/second could not be written, .*: no space left on the device/),
        },
        // As it was saved, then with each damage.
        resumed: [null, refused, refused],
      });
    }
  });
});
