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

  it('are found damaged in any part', async () => {
    await train(2, 'damaged', { until: 1 });
    // Bytes before the end: in the last rank's part of the last moment, and in the first's.
    const options = { dir: join(folder, 'damaged'), damages: [8, 4 * 200_000] };
    const refused = {
      code: 'SGEMOE_TRAINING_STATE',
      message: expect.stringMatching(/optimizer.safetensors: it is damaged/),
    };
    for (const each of await onRanks(2, { scenario: 'damages', options })) {
      // As it was saved, then with each damage.
      expect(each).toEqual({ resumed: [null, refused, refused] });
    }
  });
});

interface Saves {
  /** Of each save its error, the bytes that the rank wrote, and whether there is a folder then where the rank looks. */
  results: { error: { code: string; message: string } | null; bytes: number; exists: boolean }[];
  moments: number;
}
const save = (ranks: number, saves: Record<string, unknown>[], options: Record<string, unknown> = {}) =>
  onRanks<Saves>(ranks, {
    scenario: 'saves',
    options: { dir: folder, saves, train: { microBatches: 4 }, rows: 8, ...options },
  });
const MARK = 16;

describe('ranks write into the files of rank 0', () => {
  beforeAll(async () => {
    await save(1, [{ name: 'alone' }]);
  });

  it('what they have, where they see them; they send it where they do not, or where they write into a copy: 2 ranks', async () => {
    const [first, second] = await save(2, [
      { name: 'seen' },
      { name: 'sent', unseen: [1] },
      { name: 'copied', copies: [1] },
    ]);
    for (const name of ['seen', 'sent', 'copied']) expectSame(name, 'alone');
    expect(second.results.map(({ bytes }) => bytes)).toEqual([MARK + second.moments, 0, MARK]);
    const [seen, sent, copied] = first.results.map(({ bytes }) => bytes);
    expect([sent, copied]).toEqual([seen + second.moments, seen + second.moments]);
  });

  it('each in its way: 4 ranks', async () => {
    const [, ...others] = await save(4, [{ name: 'mixed', unseen: [2], copies: [3] }]);
    expectSame('mixed', 'alone');
    const written = [MARK + others[0].moments, 0, MARK];
    expect(others.map(({ results }) => results[0].bytes)).toEqual(written);
    for (const { moments } of others) expect(moments).toBeGreaterThan(0);
  });

  it('experts and their moments, too', async () => {
    const saves = [{ name: 'experts' }, { name: 'expertsSent', unseen: [1, 2, 3] }];
    const [, ...others] = await save(4, saves, { groupSize: 2 });
    expectSame('experts', 'expertsSent');
    for (const { results } of others) expect(results[1].bytes).toBe(0);
    // Of the second group the experts are not written, of the first those that rank 0 has not.
    const [first, ...second] = others.map(({ results, moments }) => results[0].bytes - moments);
    expect(second).toEqual([MARK, MARK]);
    expect(first).toBeGreaterThan(2 * MARK);
  });

  it('and where one can not, none has saved, nothing is left, and the next save is whole', async () => {
    const unseen = [1];
    const ranks = await save(2, [
      { name: 'full' },
      { name: 'full0', fails: 0 },
      { name: 'full' },
      { name: 'full1', fails: 1 },
      { name: 'full1' },
      { name: 'fullSent', unseen },
      { name: 'fullSent0', unseen, fails: 0 },
      { name: 'fullSent0', unseen },
    ]);
    const refused = (name: string, rank = '') => ({
      code: 'SGEMOE_CHECKPOINT_WRITE',
      message: expect.stringMatching(
        new RegExp(
          `/${name} could not be written, what was there is untouched: ${rank}no space left on the device`,
        ),
      ),
    });
    for (const { results } of ranks) {
      expect(results.map(({ error }) => error)).toEqual([
        null,
        refused('full0'),
        null,
        refused('full1', 'rank 1: '),
        null,
        null,
        refused('fullSent0'),
        null,
      ]);
    }
    expect(ranks[0].results.map(({ exists }) => exists)).toEqual([
      true,
      false,
      true,
      false,
      true,
      true,
      false,
      true,
    ]);
    for (const name of ['full', 'full1', 'fullSent', 'fullSent0']) expectSame(name, 'alone');
  });
});
