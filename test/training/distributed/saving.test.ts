/** What several ranks save: the folder of one process, from which any number of ranks goes on. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
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
    // Micro-batches that 1, 2, 3 and 4 ranks can share, and a power of two of them for each of 1 and 3.
    options: { dir: join(folder, name), rows: 12, train: { microBatches: 12 }, ...options },
  });

function expectSame(a: string, b: string): void {
  for (const file of FILES) expect(read(a, file).equals(read(b, file)), `${a}, ${b}: ${file}`).toBe(true);
}

describe('moments divided among ranks', () => {
  it('are saved as one process saves them, and taken up by any number of ranks', async () => {
    const [one] = await train(1, 'one', { until: 2 });
    const three = await train(3, 'three', { until: 2 });
    expectSame('three', 'one');
    expect(three.map(({ weights }) => weights)).toEqual(three.map(() => one.weights));
    // Each keeps a part of them.
    expect(three.reduce((sum, { moments }) => sum + moments, 0)).toBe(one.moments);
    for (const { moments } of three) expect(moments).toBeLessThan(one.moments / 2);

    // Steps 3 and 4 on one, three, and one rank again.
    await train(1, 'one', { resume: true, until: 4 });
    await train(3, 'three', { resume: true, until: 3 });
    await train(1, 'three', { resume: true, until: 4 });
    expectSame('three', 'one');
  });

  it('are those of four micro-batches on 1, 2 and 4 ranks', async () => {
    const options = { train: { microBatches: 4 }, rows: 8 };
    await train(2, 'two', { ...options, until: 2 });
    for (const ranks of [1, 2, 4]) {
      await train(ranks, `${ranks}`, { ...options, until: 1 });
      await train(4 / ranks, `${ranks}`, { ...options, resume: true, until: 2 });
      expectSame(`${ranks}`, 'two');
    }
  });

  it('are not saved where the write fails, on all ranks; the next save is whole', async () => {
    mkdirSync(join(folder, 'full'));
    const options = { dir: join(folder, 'full') };
    const results = await onRanks(2, { scenario: 'failingSave', options });
    for (const each of results) {
      expect(each).toEqual({
        failed: {
          code: 'SGEMOE_CHECKPOINT_WRITE',
          message: expect.stringMatching(/second could not be written, .*: no space left on the device/),
        },
      });
    }
  });

  it.each([
    ['the last', 8],
    ['the first', 4 * 200_000],
  ])('are refused on all ranks where the file is damaged: in the part of %s rank', async (_, damages) => {
    const dir = join(folder, `damaged-${damages}`);
    mkdirSync(dir);
    for (const each of await onRanks(2, { scenario: 'failingSave', options: { dir, damages } })) {
      expect(each).toMatchObject({
        refused: {
          code: 'SGEMOE_TRAINING_STATE',
          message: expect.stringMatching(/optimizer.safetensors: it is damaged/),
        },
      });
    }
  });
});
