/** Disks that are full, files that may not grow, folders that can't be written: a run goes on in memory, and is saved later. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, chmodSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoETransformer, resumeTraining, saveTraining, Trainer } from '../../src';
import { expectError } from '../helpers/expectError';
import { smallModel } from '../helpers/smallModel';
import { readMetrics, TINY, temporaryFolder, writeText } from './run';

const MAIN = resolve(__dirname, '..', '..', 'dist', 'cli', 'main.js');
const STEPS = '400';

let folder: string;
let text: string;
let whole: string;
beforeAll(async () => {
  folder = temporaryFolder();
  text = writeText(folder);
  whole = join(folder, 'whole');
  const { child, output } = start(whole);
  expect(await once(child, 'close'), output()).toEqual([0, null]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function argvOf(out: string): string[] {
  const steps = ['--steps', STEPS, '--eval-interval', '5', '--eval-batches', '1', '--threads', '1'];
  return [MAIN, 'train', '--data', text, '--out', out, ...TINY, ...steps, '--sample-tokens', '0'];
}

/** Trains in a separate process; `limit` is the longest that a file may get, in KiB. */
function start(out: string, limit?: number) {
  const [command, ...argv] =
    limit === undefined
      ? [process.execPath, ...argvOf(out)]
      : ['bash', '-c', `ulimit -S -f ${limit} && exec "$@"`, 'bash', process.execPath, ...argvOf(out)];
  const child = spawn(command, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  return { child, output: () => output };
}

async function until(seen: string, { child, output }: ReturnType<typeof start>): Promise<void> {
  while (!output().includes(seen)) {
    expect(child.exitCode, output()).toBe(null);
    await sleep(2);
  }
}

/** The run must end with the same files as a run that had room all the time. */
async function expectSameAsWhole(out: string, { child, output }: ReturnType<typeof start>): Promise<void> {
  if (child.exitCode === null) await once(child, 'close');
  expect(child.exitCode, output()).toBe(0);
  for (const name of ['model.safetensors', 'optimizer.safetensors']) {
    expect(readFileSync(join(out, name)).equals(readFileSync(join(whole, name))), name).toBe(true);
  }
  const lines = (dir: string) => readMetrics(dir).map(({ tokensPerSec, ...line }) => line);
  expect(lines(out)).toEqual(lines(whole));
}

/** Mounts a file system of this many bytes. */
function mount(path: string, options: string): void {
  mkdirSync(path, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path], { stdio: 'pipe' });
}

const unmount = (path: string) => execFileSync('umount', ['-l', path], { stdio: 'pipe' });

function canMount(): boolean {
  const probe = temporaryFolder();
  try {
    mount(probe, 'size=64k');
    unmount(probe);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(probe, { recursive: true, force: true });
  }
}

const isRoot = process.getuid?.() === 0;
const mounts = process.platform === 'linux' && isRoot && canMount();
const limits = process.platform === 'linux';

/** Fills the rest of a small file system; removing the file gives the room back. */
function fill(file: string): void {
  for (const bytes of [65_536, 4096]) {
    try {
      for (;;) appendFileSync(file, Buffer.alloc(bytes));
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
    }
  }
}

describe.skipIf(!mounts)(
  `a file system of its own${mounts ? '' : ' (skipped: mounting it is not permitted)'}`,
  () => {
    it('that is full for a while does not end a run, which is saved when there is room', async () => {
      const disk = join(folder, 'disk');
      mount(disk, 'size=8m');
      try {
        const out = join(disk, 'run');
        const run = start(out);
        await until('\nstep ', run);
        // A save that fails frees its room, so the file system is filled again.
        while (run.output().split('NOT SAVED').length <= 2) {
          fill(join(disk, 'filler'));
          expect(run.child.exitCode, run.output()).toBe(null);
          await sleep(2);
        }
        rmSync(join(disk, 'filler'));
        await expectSameAsWhole(out, run);
        expect(run.output()).toMatch(
          /NOT SAVED: .*no space left on the device \(ENOSPC\)\. .*next save tries again/,
        );
      } finally {
        unmount(disk);
      }
    });

    it('that is full refuses a save with its code; the one before loads, and the training in memory goes on', async () => {
      const disk = join(folder, 'small disk');
      mount(disk, 'size=2m');
      try {
        const trainer = new Trainer(smallModel());
        await saveTraining(join(disk, 'run'), trainer);
        trainer.setState({ step: 7, skippedSteps: 0 });
        fill(join(disk, 'filler'));
        await expectError('SGEMOE_CHECKPOINT_WRITE', /no space left on the device \(ENOSPC\)/, () =>
          saveTraining(join(disk, 'run'), trainer),
        );
        expect((await resumeTraining(join(disk, 'run'))).trainer.step).toBe(0);
        rmSync(join(disk, 'filler'));
        await saveTraining(join(disk, 'run'), trainer);
        expect((await resumeTraining(join(disk, 'run'))).trainer.step).toBe(7);
      } finally {
        unmount(disk);
      }
    });

    it('that becomes read-only for a while does not end a run either', async () => {
      const out = join(folder, 'read-only for a while');
      const run = start(out);
      await until('\nstep ', run);
      // The read-only mount covers the run's folder, since a file system with open files can't become read-only.
      mount(out, 'ro');
      try {
        await until('NOT SAVED', run);
      } finally {
        unmount(out);
      }
      await expectSameAsWhole(out, run);
      expect(run.output()).toMatch(/NOT SAVED: .*the file system is read-only \(EROFS\)/);
    });

    it('that is read-only is still read from', async () => {
      const disk = join(folder, 'read-only');
      mount(disk, 'size=2m');
      try {
        await saveTraining(join(disk, 'run'), new Trainer(smallModel()));
        execFileSync('mount', ['-o', 'remount,ro', disk]);
        await expectError('SGEMOE_CHECKPOINT_WRITE', /read-only \(EROFS\)/, () =>
          saveTraining(join(disk, 'run'), new Trainer(smallModel())),
        );
        await resumeTraining(join(disk, 'run'));
        await MoETransformer.load(join(disk, 'run'));
      } finally {
        unmount(disk);
      }
    });
  },
);

describe.skipIf(!limits)('a limit to the length of files (Linux)', () => {
  it('does not end a run, which is saved when it is lifted', async () => {
    const out = join(folder, 'limited');
    // There is room for run.json, but not for the weights or all metrics.
    const run = start(out, 32);
    await until('NOT SAVED', run);
    execFileSync('prlimit', ['--pid', String(run.child.pid), '--fsize=unlimited:']);
    await expectSameAsWhole(out, run);
    expect(run.output()).toMatch(/NOT SAVED: .*longer than is permitted \(EFBIG\)/);
  });
});

describe.skipIf(isRoot || process.platform === 'win32')(
  'a folder without permission (root has every)',
  () => {
    it('does not end a run, which is saved when there is one', async () => {
      const out = join(folder, 'forbidden');
      const run = start(out);
      await until('\nstep ', run);
      chmodSync(out, 0o555);
      await until('NOT SAVED', run);
      chmodSync(out, 0o755);
      await expectSameAsWhole(out, run);
      expect(run.output()).toMatch(/NOT SAVED: .*permission denied \(EACCES\)/);
    });
  },
);
