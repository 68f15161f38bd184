/** Ranks of a training are killed at random moments, and each time as many others go on, or more, as if nothing had happened. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Lcg64 } from '../../../src';
import { ROOT } from '../../backend/child';
import { canRun, FOUND, leftOver, runRanks } from '../../backend/collectives/mpirun';
import { readMetrics, writeText } from '../../cli/run';
import { scaled } from '../../helpers/scale';
import { processOf, savedStep, until } from './processes';

const MAIN = join(ROOT, 'dist', 'cli', 'main.js');
const KILLS = scaled(3);
const STEPS = scaled(1000);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-killed-ranks-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function metricsBytes(out: string): number {
  return statSync(join(out, 'metrics.jsonl'), { throwIfNoEntry: false })?.size ?? 0;
}

describe.skipIf(!canRun(__filename))('a training on several ranks', () => {
  it(`survives ${KILLS} killed ranks, each time resumed, with the files of one process that was left alone`, async () => {
    const [out, alone] = [join(folder, 'killed'), join(folder, 'alone')];
    const sizes = [
      '--hidden-dim 8 --layers 1 --heads 1 --kv-heads 1 --experts 2 --ffn-dim 8 --seq-len 8 --batch-size 4',
      `--micro-batches 4 --steps ${STEPS} --eval-interval 20 --eval-batches 1 --sample-tokens 0`,
    ].flatMap((options) => options.split(' '));
    const begin = [MAIN, 'train', '--data', writeText(folder, 40), ...sizes];
    const random = new Lcg64(17);
    for (let kills = 0; kills < KILLS; kills++) {
      const argv = kills === 0 ? [...begin, '--out', out] : [MAIN, 'train', '--out', out, '--resume'];
      const mpi = FOUND[kills % FOUND.length];
      const ranks = [2, 4, 1][random.nextInt(3)];
      const [victim, before] = [random.nextInt(ranks), metricsBytes(out)];
      let hasEnded = false;
      const run = runRanks(mpi, ranks, [...argv, '--save-interval', '2']).finally(() => {
        hasEnded = true;
      });
      const pid = await until(() => {
        expect(hasEnded).toBe(false);
        return processOf(out, victim);
      });
      // Every third kill may come while the ranks start, load and make their first steps; the first one after a save.
      if (kills % 3 !== 2)
        await until(() => hasEnded || (metricsBytes(out) > before && savedStep(out) > 0) || null);
      await sleep(random.nextInt(kills % 3 === 2 ? 1000 : 300));
      const saved = savedStep(out);
      process.kill(pid, 'SIGKILL');
      const { code, stdout, stderr } = await run;
      expect(code, stdout + stderr).not.toBe(0);
      await until(() => (leftOver(out).length === 0 ? true : null));
      expect(savedStep(out), stderr).toBeGreaterThanOrEqual(saved);
    }
    const last = [MAIN, 'train', '--out', out, '--resume', '--save-interval', String(STEPS)];
    const resumed = await runRanks(FOUND[0], 2, last);
    expect(resumed.code, resumed.stderr).toBe(0);

    const whole = [...begin, '--out', alone, '--save-interval', String(STEPS)];
    const { code, stderr } = await runRanks(FOUND[0], 1, whole, { SGEMOE_MPI: 'none' });
    expect(code, stderr).toBe(0);
    for (const name of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
      expect(readFileSync(join(out, name)).equals(readFileSync(join(alone, name))), name).toBe(true);
    }
    const withoutTimes = (dir: string) => readMetrics(dir).map(({ tokensPerSec, ...line }) => line);
    expect(withoutTimes(out)).toEqual(withoutTimes(alone));
  });
});
