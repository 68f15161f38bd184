/** Ranks of a training are killed at random moments, and each time as many others go on, or more, as if nothing had happened. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Lcg64 } from '../../../src';
import { ROOT } from '../../backend/child';
import { canRun, FOUND, leftOver, type Mpi, runRanks } from '../../backend/collectives/mpirun';
import { readMetrics, writeText } from '../../cli/run';
import { scaled } from '../../helpers/scale';
import { processOf, savedStep, until } from './processes';

const MAIN = join(ROOT, 'dist', 'cli', 'main.js');

interface Layout {
  name: string;
  kills: number;
  steps: number;
  /** Numbers of ranks, one of which each start has. */
  ranks: readonly number[];
  /** What every start is told beside them. */
  divided: readonly string[];
  /** Ranks of the run that is left alone. */
  alone: number;
}

const LAYOUTS: Layout[] = [
  {
    name: 'one process',
    kills: scaled(2),
    steps: scaled(700),
    ranks: [2, 4, 1],
    divided: [],
    alone: 1,
  },
  // Divided experts have the same sums in the same layout alone. Each start gets as far as some dozens of steps; what is left takes
  // four ranks on two cores a tenth of a second a step.
  {
    name: 'divided experts',
    kills: scaled(1),
    steps: 200 + scaled(100),
    ranks: [4],
    divided: ['--expert-parallel', '2'],
    alone: 4,
  },
];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-killed-ranks-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function metricsBytes(out: string): number {
  return statSync(join(out, 'metrics.jsonl'), { throwIfNoEntry: false })?.size ?? 0;
}

/** Starts ranks, and kills one of them at a random moment: after the next save, or `early`. */
async function killOne(
  out: string,
  { mpi, ranks, argv }: { mpi: Mpi; ranks: number; argv: readonly string[] },
  random: Lcg64,
  early: boolean,
): Promise<void> {
  const [victim, before] = [random.nextInt(ranks), metricsBytes(out)];
  let hasEnded = false;
  const run = runRanks(mpi, ranks, argv).finally(() => {
    hasEnded = true;
  });
  const pid = await until(() => {
    expect(hasEnded).toBe(false);
    return processOf(out, victim);
  });
  if (!early) await until(() => hasEnded || (metricsBytes(out) > before && savedStep(out) > 0) || null);
  await sleep(random.nextInt(early ? 1000 : 300));
  const saved = savedStep(out);
  process.kill(pid, 'SIGKILL');
  const { code, stdout, stderr } = await run;
  expect(code, stdout + stderr).not.toBe(0);
  await until(() => (leftOver(out).length === 0 ? true : null));
  expect(savedStep(out), stderr).toBeGreaterThanOrEqual(saved);
}

describe.skipIf(!canRun(__filename))('a training on several ranks', () => {
  it.each(LAYOUTS)(
    'survives $kills killed ranks, each time resumed, with the files of a run left alone, of $name',
    async ({ kills, ...layout }) => {
      const { steps, divided } = layout;
      const [out, alone] = ['killed', 'alone'].map((name) => join(folder, `${name}-${layout.alone}`));
      const sizes = [
        '--hidden-dim 8 --layers 1 --heads 1 --kv-heads 1 --experts 2 --ffn-dim 8 --seq-len 8 --batch-size 4',
        `--micro-batches 4 --steps ${steps} --eval-interval 20 --eval-batches 1 --sample-tokens 0`,
      ].flatMap((options) => options.split(' '));
      const begin = [MAIN, 'train', '--data', writeText(folder, 40), ...sizes, ...divided];
      const resume = [MAIN, 'train', '--out', out, '--resume', ...divided];
      const random = new Lcg64(17);
      for (let kill = 0; kill < kills; kill++) {
        const argv = kill === 0 ? [...begin, '--out', out] : resume;
        const ranks = layout.ranks[random.nextInt(layout.ranks.length)];
        const start = { mpi: FOUND[kill % FOUND.length], ranks, argv: [...argv, '--save-interval', '2'] };
        // Every third kill may come while the ranks start, load and make their first steps; the first one after a save.
        await killOne(out, start, random, kill % 3 === 1);
      }
      const resumed = await runRanks(FOUND[0], layout.ranks[0], [
        ...resume,
        '--save-interval',
        String(steps),
      ]);
      expect(resumed.code, resumed.stderr).toBe(0);

      const whole = [...begin, '--out', alone, '--save-interval', String(steps)];
      const { code, stderr } = await runRanks(
        FOUND[0],
        layout.alone,
        whole,
        layout.alone === 1 ? { SGEMOE_MPI: 'none' } : {},
      );
      expect(code, stderr).toBe(0);
      for (const name of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
        expect(readFileSync(join(out, name)).equals(readFileSync(join(alone, name))), name).toBe(true);
      }
      const withoutTimes = (dir: string) => readMetrics(dir).map(({ tokensPerSec, ...line }) => line);
      expect(withoutTimes(out)).toEqual(withoutTimes(alone));
    },
  );
});
