/** `mpirun -n 2 sgemoe train` on two hosts: network namespaces with host names of their own, joined by a link that can be cut. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TwoHosts } from '../../../bench/lib/twoHosts';
import { Lcg64 } from '../../../src';
import { type Ended, ROOT } from '../../backend/child';
import { canRun, FOUND, leftOver, type Mpi, runRanks, staying } from '../../backend/collectives/mpirun';
import { readMetrics } from '../../cli/run';
import { expectClose } from '../../helpers/close';
import { savedStep, until } from './processes';

const CLI = join(ROOT, 'dist', 'cli', 'main.js');

function hasTwoHosts(): boolean {
  if (!canRun(__filename)) return false;
  const obstacle = TwoHosts.obstacle();
  if (obstacle !== null)
    console.warn(`${__filename}: skipped, since this machine has no two hosts: ${obstacle}`);
  return obstacle === null;
}

/** A play: speakers with lines of a few words each. */
function play(): string {
  const random = new Lcg64(3);
  const pick = (words: string) => words.split(' ')[random.nextInt(words.split(' ').length)];
  const verse = () =>
    Array.from({ length: 7 }, () =>
      pick('the my thy sweet cruel king crown night sword love dies sings and of'),
    ).join(' ');
  const speech = () => `${pick('KING QUEEN FOOL GHOST')}:\n${verse()},\n${verse()}.\n\n`;
  return Array.from({ length: 120 }, speech).join('');
}

/** How far the losses of divided experts may be from one process's, as in experts.test.ts. */
const RUN_LOSS = 1e-4;

interface Measured {
  step: number;
  loss: number;
  validationLoss?: number;
}

let folder: string;
let hosts: TwoHosts;
const RECIPE = [
  '--hidden-dim 64 --layers 2 --experts 4 --ffn-dim 128 --seq-len 32 --batch-size 8 --micro-batches 4',
  '--eval-interval 10 --sample-tokens 0',
].flatMap((options) => options.split(' '));
const train = (out: string, ...more: string[]) => {
  return [CLI, 'train', '--data', join(folder, 'play.txt'), '--out', join(folder, out), ...RECIPE, ...more];
};
const read = (out: string, file: string) => readFileSync(join(folder, out, file));
const EACH = FOUND.map((mpi): [string, Mpi] => [mpi.name, mpi]);

/** Starts a rank on each host. */
function onHosts(mpi: Mpi, args: readonly string[]): Promise<Ended> {
  const [launcher, ...launch] = hosts.launch(mpi.name);
  return runRanks({ ...mpi, launcher, args: launch }, 2, args);
}

/** MPICH before 4.2 may complain at the very end where it sends by TCP: see docs/distributed.md. */
function expectEnd({ name }: Mpi, { code, stderr }: Ended): void {
  if (name !== 'mpich' || !/^\[mpiexec@\S+\] fn_barrier_in/m.test(stderr)) expect(code, stderr).toBe(0);
}

function expectSameRun(out: string): void {
  for (const file of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
    expect(read(out, file).equals(read('one', file)), `${out}: ${file}`).toBe(true);
  }
}

describe.skipIf(!hasTwoHosts())('two hosts', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'sgemoe-two-hosts-'));
    writeFileSync(join(folder, 'play.txt'), play());
    hosts = await TwoHosts.make();
    const one = await runRanks(FOUND[0], 1, train('one', '--steps', '20'), { SGEMOE_MPI: 'none' });
    expect(one.code, one.stderr).toBe(0);
  });
  afterAll(async () => {
    hosts?.close();
    expect(await staying(folder)).toEqual([]);
    rmSync(folder, { recursive: true, force: true });
  });

  it.each(EACH)('are told by sgemoe info under mpirun of %s', async (_, mpi) => {
    const info = await onHosts(mpi, [CLI, 'info']);
    expect(info.stdout, info.stderr).toMatch(/^ranks +2: 1 on host1, 1 on host2$/m);
    expectEnd(mpi, info);
  });

  it.each(EACH)('train to the weights of one process under mpirun of %s', async (name, mpi) => {
    const before = hosts.carriedBytes();
    expectEnd(mpi, await onHosts(mpi, train(name, '--steps', '20')));
    expectSameRun(name);
    // In each step half of the gradients and half of the weights go in each direction, and by no other way. The file has a header, too.
    const carried = hosts.carriedBytes() - before;
    expect(carried).toBeGreaterThan(19 * 2 * statSync(join(folder, name, 'model.safetensors')).size);
  });

  it.each(EACH)(
    'train divided experts to the losses of one process under mpirun of %s',
    async (name, mpi) => {
      const out = `experts-${name}`;
      const before = hosts.carriedBytes();
      expectEnd(mpi, await onHosts(mpi, train(out, '--steps', '20', '--expert-parallel', '2')));
      const { size } = statSync(join(folder, out, 'model.safetensors'));
      expect(size).toBe(read('one', 'model.safetensors').length);
      const [got, want] = [out, 'one'].map(
        (each) => readMetrics(join(folder, each)) as unknown[] as Measured[],
      );
      expect(got.map(({ step }) => step)).toEqual(want.map(({ step }) => step));
      for (const [i, { loss, validationLoss }] of got.entries()) {
        expectClose(`loss of step ${i + 1}`, loss, want[i].loss, RUN_LOSS);
        if (want[i].validationLoss !== undefined)
          expectClose(`validation at ${i + 1}`, validationLoss!, want[i].validationLoss!, RUN_LOSS);
      }
      // Rows travel in place of most gradients and weights, which are the experts': fewer bytes here.
      const carried = hosts.carriedBytes() - before;
      expect(carried).toBeGreaterThan(0);
      expect(carried).toBeLessThan(19 * 2 * size);
    },
  );

  it.each(EACH)(
    'end when their link is cut, and go on from the last save under mpirun of %s',
    async (name, mpi) => {
      const out = `cut-${name}`;
      const saved = () => savedStep(join(folder, out)) || null;
      const endless = ['--steps', '1000000', '--save-interval', '5', '--comm-timeout', '3'];
      const run = onHosts(mpi, train(out, ...endless));
      await until(saved);
      hosts.cut();
      // Every rank ends by itself; the launcher, once it reaches what it has started on the other host.
      await until(() =>
        leftOver(out).some((command) => command.startsWith(process.execPath)) ? null : true,
      );
      await hosts.mend();
      const { code, stderr } = await run;
      expect(stderr).toMatch(/^sgemoe: rank 0: Rank 0 waited 3000 ms for rank 1 in \w+\.$/m);
      expect(code).not.toBe(0);

      const step = savedStep(join(folder, out));
      expect(step % 5).toBe(0);
      const more = [CLI, 'train', '--out', join(folder, out), '--resume', '--steps', String(step + 5)];
      expectEnd(mpi, await onHosts(mpi, more));
      expect(savedStep(join(folder, out))).toBe(step + 5);
    },
  );
});
