/** `mpirun -n 2 sgemoe train`: the weights of one process, and failures that are told with their rank. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Ended, ROOT } from '../../backend/child';
import { canRun, FOUND, type Mpi, runRanks, staying } from '../../backend/collectives/mpirun';
import { processOf, until } from './processes';

const CLI = join(ROOT, 'dist', 'cli', 'main.js');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-mpi-'));
  const text = Array.from({ length: 300 }, (_, i) => `${i} and ${(i * i) % 97}. `).join('');
  writeFileSync(join(folder, 'book.txt'), text);
});
afterAll(async () => {
  expect(await staying(folder)).toEqual([]);
  rmSync(folder, { recursive: true, force: true });
});

const SIZES = '--hidden-dim 64 --layers 2 --experts 4 --ffn-dim 128 --seq-len 16 --batch-size 4';
const RECIPE = `${SIZES} --micro-batches 4 --eval-interval 4 --sample-tokens 0`.split(' ');
const train = (out: string, ...more: string[]) => {
  return [CLI, 'train', '--data', join(folder, 'book.txt'), '--out', join(folder, out), ...RECIPE, ...more];
};
const read = (out: string, file: string) => readFileSync(join(folder, out, file));

/** A stopped process gets its launcher's SIGTERM only now. */
function goOn(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch {
    // it has been killed
  }
}

describe.skipIf(!canRun(__filename))('sgemoe train', () => {
  let one: Ended;
  beforeAll(async () => {
    one = await runRanks(FOUND[0], 1, train('one', '--steps', '20'), { SGEMOE_MPI: 'none' });
    expect(one.code, one.stderr).toBe(0);
  });

  const eachSize = FOUND.flatMap((mpi) =>
    [2, 4].map((ranks): [number, string, Mpi] => [ranks, mpi.name, mpi]),
  );
  it.each(eachSize)(
    'on %i ranks under mpirun of %s trains 20 steps to the weights of one process',
    async (ranks, name, mpi) => {
      const out = `${name}-${ranks}`;
      const whole = await runRanks(mpi, ranks, train(out, '--steps', '20'));
      expect(whole.code, whole.stderr).toBe(0);
      for (const file of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
        expect(read(out, file).equals(read('one', file)), file).toBe(true);
      }
      // Rank 0 alone speaks.
      expect(whole.stdout.match(/Next|Let it write/g)).toEqual(one.stdout.match(/Next|Let it write/g));
    },
  );

  it.each(eachSize)(
    'on %i ranks under mpirun of %s whose experts are divided over two trains to the losses of one process',
    async (ranks, name, mpi) => {
      const out = `experts-${name}-${ranks}`;
      const divided = ['--expert-parallel', '2'];
      const whole = await runRanks(mpi, ranks, train(out, '--steps', '20', ...divided));
      expect(whole.code, whole.stderr).toBe(0);
      expect(read(out, 'model.safetensors').length).toBe(read('one', 'model.safetensors').length);
      const lossesOf = (folder: string) =>
        read(folder, 'metrics.jsonl')
          .toString()
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line).loss as number);
      // 20 steps of rounding that differs in the last bits.
      for (const [i, loss] of lossesOf(out).entries()) expect(loss).toBeCloseTo(lossesOf('one')[i], 3);
      const argv = [CLI, 'eval', join(folder, out), '--data', join(folder, 'book.txt'), ...divided];
      const evaluated = await runRanks(mpi, ranks, argv);
      expect(evaluated.stdout.match(/^loss +\d/gm), evaluated.stderr).toHaveLength(1);
    },
  );

  it.each(FOUND.map((mpi): [string, Mpi] => [mpi.name, mpi]))(
    'under mpirun of %s evaluates together, and says it once',
    async (_, mpi) => {
      const argv = [CLI, 'eval', join(folder, 'one'), '--data', join(folder, 'book.txt')];
      const evaluated = await runRanks(mpi, 2, argv);
      expect(evaluated.stdout.match(/^loss +\d/gm), evaluated.stderr).toHaveLength(1);
    },
  );

  it.each(FOUND.map((mpi): [string, Mpi] => [mpi.name, mpi]))(
    'under mpirun of %s tells what is wrong once, and ends',
    async (name, mpi) => {
      const out = `wrong-${name}`;
      const { code, stderr } = await runRanks(mpi, 2, train(out, '--steps', '6', '--batch-size', '1'));
      expect(stderr.match(/^sgemoe: .*$/gm)).toEqual([
        'sgemoe: --micro-batches times --grad-accumulation (4) must be at most --batch-size (1).',
      ]);
      expect(code).toBe(2);
      expect(existsSync(join(folder, out, 'model.safetensors'))).toBe(false);
    },
  );

  it('without a library of MPI tells what it has tried, and trains nothing', async () => {
    const library = join(folder, 'none.so');
    const { code, stderr } = await runRanks(FOUND[0], 2, train('without', '--steps', '6'), {
      SGEMOE_MPI: library,
    });
    expect(stderr).toMatch(
      /started this process as one of 2, and no library of MPI can be used\. Tried:\n {2}\S*none\.so: /,
    );
    expect(code).not.toBe(0);
    expect(existsSync(join(folder, 'without'))).toBe(false);
  });

  it.each(FOUND.map((mpi): [string, Mpi] => [mpi.name, mpi]))(
    'under mpirun of %s saves when a rank gets SIGUSR1, and ends when one no longer answers',
    async (name, mpi) => {
      const out = `halted-${name}`;
      const has = (file: string) => (existsSync(join(folder, out, file)) ? true : null);
      const endless = ['--steps', '1000000', '--save-interval', '1000000', '--eval-interval', '1000000'];
      const run = runRanks(mpi, 2, train(out, ...endless, '--comm-timeout', '3'));
      await until(() => has('metrics.jsonl'));
      const second = await until(() => processOf(join(folder, out), 1));
      process.kill(second, 'SIGUSR1');
      await until(() => has('state.json'));
      process.kill(second, 'SIGSTOP');
      const { code, stderr } = await run;
      goOn(second);
      expect(stderr).toMatch(/^sgemoe: rank 0: Rank 0 waited 3000 ms for rank 1 in \w+\.$/m);
      expect(code).not.toBe(0);
    },
  );
});
