/** `mpirun -n 2 sgemoe train`: the weights of one process, and failures that are told with their rank. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Ended, ROOT } from '../../backend/child';
import { canRun, FOUND, leftOver, type Mpi, runRanks } from '../../backend/collectives/mpirun';

const CLI = join(ROOT, 'dist', 'cli', 'main.js');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-mpi-'));
  const text = Array.from({ length: 300 }, (_, i) => `${i} and ${(i * i) % 97}. `).join('');
  writeFileSync(join(folder, 'book.txt'), text);
});
afterAll(() => {
  expect(leftOver(folder)).toEqual([]);
  rmSync(folder, { recursive: true, force: true });
});

const SIZES = '--hidden-dim 64 --layers 2 --experts 4 --ffn-dim 128 --seq-len 16 --batch-size 4';
const RECIPE = `${SIZES} --micro-batches 2 --eval-interval 4 --sample-tokens 0`.split(' ');
const train = (out: string, ...more: string[]) => {
  return [CLI, 'train', '--data', join(folder, 'book.txt'), '--out', join(folder, out), ...RECIPE, ...more];
};
/** The process of a rank that writes to `out`; null until it runs. */
function processOf(out: string, rank: number): number | null {
  const isRank = (pid: string) => {
    try {
      const [command, env] = ['cmdline', 'environ'].map((name) =>
        readFileSync(`/proc/${pid}/${name}`, 'utf8').split('\0'),
      );
      const isNamed = [`OMPI_COMM_WORLD_RANK=${rank}`, `PMI_RANK=${rank}`].some((each) => env.includes(each));
      return command[0] === process.execPath && command.includes(join(folder, out)) && isNamed;
    } catch {
      return false; // it has ended
    }
  };
  return Number(readdirSync('/proc').find((pid) => /^\d+$/.test(pid) && isRank(pid)) ?? 0) || null;
}

async function until<T>(found: () => T | null): Promise<T> {
  for (;;) {
    const value = found();
    if (value !== null) return value;
    await sleep(20);
  }
}

const read = (out: string, file: string) => readFileSync(join(folder, out, file));

describe.skipIf(!canRun(__filename))('sgemoe train', () => {
  let one: Ended;
  beforeAll(async () => {
    one = await runRanks(FOUND[0], 1, train('one', '--steps', '6'), { SGEMOE_MPI: 'none' });
    expect(one.code, one.stderr).toBe(0);
  });

  it.each(FOUND.map((mpi): [string, Mpi] => [mpi.name, mpi]))(
    'under mpirun of %s trains the weights of one process, and evaluates them',
    async (name, mpi) => {
      const whole = await runRanks(mpi, 2, train(name, '--steps', '6'));
      expect(whole.code, whole.stderr).toBe(0);
      for (const file of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
        expect(read(name, file).equals(read('one', file)), file).toBe(true);
      }
      // Rank 0 alone speaks.
      expect(whole.stdout.match(/Next|Let it write/g)).toEqual(one.stdout.match(/Next|Let it write/g));
      const evaluated = await runRanks(mpi, 2, [
        CLI,
        'eval',
        join(folder, name),
        '--data',
        join(folder, 'book.txt'),
      ]);
      expect(evaluated.stdout.match(/^loss +\d/gm), evaluated.stderr).toHaveLength(1);
    },
  );

  it.each(FOUND.map((mpi): [string, Mpi] => [mpi.name, mpi]))(
    'under mpirun of %s tells what is wrong once, and ends',
    async (name, mpi) => {
      const out = `wrong-${name}`;
      const { code, stderr } = await runRanks(mpi, 2, train(out, '--steps', '6', '--batch-size', '1'));
      expect(stderr.match(/^sgemoe: .*$/gm)).toEqual([
        'sgemoe: --micro-batches times --grad-accumulation (2) must be at most --batch-size (1).',
      ]);
      expect(code).toBe(2);
      expect(existsSync(join(folder, out, 'model.safetensors'))).toBe(false);
    },
  );

  it.each(FOUND.map((mpi): [string, Mpi] => [mpi.name, mpi]))(
    'under mpirun of %s saves when a rank gets SIGUSR1, and ends when one no longer answers',
    async (name, mpi) => {
      const out = `halted-${name}`;
      const has = (file: string) => (existsSync(join(folder, out, file)) ? true : null);
      const endless = ['--steps', '1000000', '--save-interval', '1000000', '--eval-interval', '1000000'];
      const run = runRanks(mpi, 2, train(out, ...endless, '--comm-timeout', '3'));
      await until(() => has('metrics.jsonl'));
      const second = await until(() => processOf(out, 1));
      process.kill(second, 'SIGUSR1');
      await until(() => has('state.json'));
      process.kill(second, 'SIGSTOP');
      const { code, stderr } = await run;
      expect(stderr).toMatch(/^sgemoe: rank 0: Rank 0 waited 3000 ms for rank 1 in \w+\.$/m);
      expect(code).not.toBe(0);
    },
  );
});
