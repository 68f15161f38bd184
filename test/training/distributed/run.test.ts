/** A run of several ranks: the files of one process, and one way that all ranks go. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { onRanks } from './ranks';

interface Ran {
  events: { type: string; step?: number; part?: string; loss?: number; text?: string; error?: string }[];
  result?: { steps: number; interrupted: boolean; validation: unknown; best: unknown };
  failure?: { code?: string; message: string };
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-ranks-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (ranks: number, name: string, options: Record<string, unknown> = {}) =>
  onRanks<Ran>(ranks, { scenario: 'run', options: { dir: join(folder, name), ...options } });
const read = (name: string, file: string) => readFileSync(join(folder, name, file));
const metrics = (name: string) =>
  read(name, 'metrics.jsonl')
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => ({ ...JSON.parse(line), tokensPerSec: 0 }));

function expectSameRun(a: string, b: string): void {
  for (const file of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
    expect(read(a, file).equals(read(b, file)), `${a}, ${b}: ${file}`).toBe(true);
  }
  expect(metrics(a)).toEqual(metrics(b));
}

const config = { microBatches: 4 };

describe('a run of several ranks', () => {
  it('writes what one process writes, and goes on with any number of ranks', async () => {
    const [one] = await run(1, 'one', { config });
    const ranks = await run(4, 'ranks', { config });
    for (const each of ranks) expect(each).toEqual(one);
    expectSameRun('ranks', 'one');

    // Four ranks begin, the last is told to stop after step 4; two go on, stop, and one ends it.
    const stopped = await run(4, 'changing', { config, stopAt: 4 });
    for (const { result } of stopped) expect(result).toMatchObject({ steps: 4, interrupted: true });
    const resumed = await run(2, 'changing', { resume: true, stopAt: 6 });
    for (const { result } of resumed) expect(result).toMatchObject({ steps: 6, interrupted: true });
    const [last] = await run(1, 'changing', { resume: true });
    expect(last.result).toEqual(one.result);
    expectSameRun('changing', 'one');
  });

  it('trains pairs of answers as one process does, and goes on where the scoring of the reference was stopped', async () => {
    const pairs = join(folder, 'pairs.jsonl');
    const rows = Array.from({ length: 40 }, (_, i) => ({ prompt: `${i}? `, chosen: 'yes', rejected: 'no' }));
    writeFileSync(pairs, rows.map((row) => JSON.stringify(row)).join('\n'));
    const [one] = await run(1, 'pairs', { config, pairs });
    expect(one.result).toMatchObject({ steps: 8, validation: { preferences: { accuracy: 1 } } });
    for (const each of await run(4, 'pairs4', { config, pairs })) expect(each).toEqual(one);
    for (const { result } of await run(2, 'stopped', { config, pairs, stopOn: 'note' })) {
      expect(result).toMatchObject({ steps: 0, interrupted: true });
    }
    for (const { result } of await run(2, 'stopped', { pairs, resume: true, stopAt: 4 })) {
      expect(result).toMatchObject({ steps: 4, interrupted: true });
    }
    const [last] = await run(4, 'stopped', { pairs, resume: true });
    expect(last.result).toEqual(one.result);
    for (const name of ['pairs4', 'stopped']) {
      expectSameRun(name, 'pairs');
      expect(read(name, 'reference.json').equals(read('pairs', 'reference.json'))).toBe(true);
    }

    rmSync(join(folder, 'pairs4', 'reference.json'));
    for (const { failure } of await run(2, 'pairs4', { pairs, resume: true })) {
      expect(failure).toMatchObject({
        code: 'SGEMOE_TRAINING_STATE',
        message: expect.stringMatching(/has no reference\.json/),
      });
    }
  });

  it('saves after a step in which one rank is asked to', async () => {
    const [first, second] = await run(2, 'asked', { saveAt: 4 });
    const saved = first.events.filter(({ type, part }) => type === 'saved' && part === 'checkpoint');
    expect(saved.map(({ step }) => step)).toEqual([3, 4, 6, 8]);
    expect(second).toEqual(first);
  });

  it('gets more micro-batches where the ranks can not share those of the run', async () => {
    await run(1, 'grows', { stopAt: 2 });
    const ranks = await run(2, 'grows', { resume: true });
    const notes = ranks.map(({ events }) => events.flatMap(({ text }) => text ?? []));
    const note =
      "A step has 2 micro-batches now, since 2 ranks can't share 1: the steps are not those of the run so far.";
    expect(notes).toEqual([[note], [note]]);
    expect(ranks[1].result!.steps).toBe(8);
  });

  it('goes on together after a save that failed, and saves when rank 0 finds it is time', async () => {
    const save = { saveInterval: { minutes: 1e-9 } };
    const [first, second] = await run(2, 'fails', { save, spoils: 'best' });
    const failed = first.events.filter(({ type }) => type === 'saveFailed');
    expect(failed[0]).toMatchObject({ part: 'best', step: 3 });
    expect(second).toEqual(first);
    const saved = first.events.filter(({ type, part }) => type === 'saved' && part === 'checkpoint');
    expect(saved.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('is refused on all ranks when rank 0 finds the folder taken', async () => {
    mkdirSync(join(folder, 'taken'));
    writeFileSync(join(folder, 'taken', 'notes.txt'), '');
    for (const { failure } of await run(2, 'taken')) {
      expect(failure).toMatchObject({
        code: 'SGEMOE_RUN_FOLDER',
        message: expect.stringMatching(/holds no earlier run/),
      });
    }
  });
});
