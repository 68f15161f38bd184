import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadCheckpoint, saveCheckpoint } from '../../src/checkpoint/checkpoint';
import { expectError } from '../helpers/expectError';

/*
 * Every call that changes the file system is counted; one of them fails. After a crash all later ones fail as
 * well, clean-up included, which is what the disk sees of a killed process; after an error they work.
 */
const disk = vi.hoisted(() => {
  const state = { calls: 0, failAt: 0, crash: false, code: 'ENOSPC', log: [] as string[] };
  function change<T>(name: string, action: () => T): T {
    state.calls++;
    state.log.push(name);
    const fails = state.crash
      ? state.failAt > 0 && state.calls >= state.failAt
      : state.calls === state.failAt;
    if (fails) throw Object.assign(new Error(`${state.code}: injected into ${name}`), { code: state.code });
    return action();
  }
  return { state, change };
});

vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<typeof import('node:fs/promises')>();
  const wrap =
    (name: 'mkdir' | 'rename' | 'rm' | 'rmdir') =>
    async (...args: unknown[]) =>
      disk.change(name, () => (real[name] as (...args: unknown[]) => Promise<unknown>)(...args));
  const open: typeof real.open = async (path, flags, mode) => {
    const handle = await (flags === 'r'
      ? real.open(path, flags, mode)
      : disk.change('create', () => real.open(path, flags, mode)));
    for (const name of ['write', 'sync'] as const) {
      const method = (handle[name] as (...args: unknown[]) => Promise<unknown>).bind(handle);
      Object.assign(handle, {
        [name]: async (...args: unknown[]) => disk.change(name, () => method(...args)),
      });
    }
    return handle;
  };
  return {
    ...real,
    open,
    mkdir: wrap('mkdir'),
    rename: wrap('rename'),
    rm: wrap('rm'),
    rmdir: wrap('rmdir'),
  };
});

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sgemoe-crash-'));
});
afterEach(async () => {
  disk.state.failAt = 0;
  await rm(dir, { recursive: true, force: true });
});

async function save(version: number, failAt: number, crash: boolean, code = 'ENOSPC'): Promise<void> {
  Object.assign(disk.state, { calls: 0, failAt, crash, code, log: [] });
  try {
    const tensors = [{ name: 'w', shape: [3], data: new Float32Array(3).fill(version) }];
    await saveCheckpoint(dir, { config: { version }, tokenizer: { version }, tensors });
  } finally {
    disk.state.failAt = 0;
  }
}

async function loadVersion(): Promise<number> {
  const { config, tokenizer, tensors } = await loadCheckpoint(dir);
  const [weight] = await tensors.read('w');
  await tensors.close();
  expect([config.version, tokenizer?.version]).toEqual([weight, weight]);
  return weight as number;
}

async function countCalls(): Promise<number> {
  await save(1, 0, false);
  await save(1, 0, false);
  expect(disk.state.log).toEqual(
    expect.arrayContaining(['mkdir', 'create', 'write', 'sync', 'rename', 'rmdir']),
  );
  return disk.state.calls;
}

describe('a crash at any change of the disk', () => {
  it('leaves the old or the new checkpoint whole, and the next save tidies up', async () => {
    const calls = await countCalls();
    let sawOld = 0;
    let sawNew = 0;
    for (let failAt = 1; failAt <= calls; failAt++) {
      await rm(dir, { recursive: true, force: true });
      await save(1, 0, false);
      await writeFile(join(dir, 'metrics.jsonl'), 'kept');
      await expect(save(2, failAt, true)).rejects.toThrow(/injected|no space/);
      const version = await loadVersion();
      expect([1, 2]).toContain(version);
      if (version === 1) sawOld++;
      else sawNew++;
      expect(sawNew > 0 && version === 1, 'old again after new').toBe(false);
      await save(3, 0, false);
      expect(await loadVersion()).toBe(3);
      expect(await readFile(join(dir, 'metrics.jsonl'), 'utf8')).toBe('kept');
      expect(await readdir(dir)).toHaveLength(4);
    }
    expect(Math.min(sawOld, sawNew)).toBeGreaterThan(3);
  });

  it('survives a second crash while the next save tidies up', async () => {
    const calls = await countCalls();
    for (let first = 1; first <= calls; first += 2) {
      for (let second = 1; second <= 10; second += 3) {
        await rm(dir, { recursive: true, force: true });
        await save(1, 0, false);
        await expect(save(2, first, true)).rejects.toThrow();
        const between = await loadVersion();
        await expect(save(3, second, true)).rejects.toThrow();
        expect([between, 3]).toContain(await loadVersion());
      }
    }
  });

  it('leaves no checkpoint or a whole one when there was none', async () => {
    const calls = await countCalls();
    for (let failAt = 1; failAt <= calls; failAt++) {
      await rm(dir, { recursive: true, force: true });
      await expect(save(2, failAt, true)).rejects.toThrow();
      const version = await loadVersion().catch((error) => error.code);
      expect([2, 'SGEMOE_CHECKPOINT_NOT_FOUND']).toContain(version);
    }
  });
});

describe('an error at any change of the disk', () => {
  it('is reported with its reason, and no temporary file stays', async () => {
    const calls = await countCalls();
    const messages = new Set<string>();
    for (let failAt = 1; failAt <= calls; failAt++) {
      await rm(dir, { recursive: true, force: true });
      await save(1, 0, false);
      const error = await expectError(
        'SGEMOE_CHECKPOINT_WRITE',
        /no space left on the device \(ENOSPC\)/,
        () => save(2, failAt, false),
      );
      expect((error.cause as NodeJS.ErrnoException).code).toBe('ENOSPC');
      const untouched = error.message.includes('what was there is untouched');
      expect(untouched || error.message.includes('is saved and will load')).toBe(true);
      expect(await loadVersion()).toBe(untouched ? 1 : 2);
      if (untouched) expect(await readdir(dir)).toHaveLength(3);
      messages.add(untouched ? 'untouched' : 'saved');
    }
    expect(messages.size).toBe(2);
  });

  it.each([
    ['EACCES', /permission denied \(EACCES\)/],
    ['EROFS', /the file system is read-only \(EROFS\)/],
    ['EIO', /EIO: injected into mkdir/],
  ])('names %s', async (code, message) => {
    await expectError('SGEMOE_CHECKPOINT_WRITE', message, () => save(1, 1, false, code));
  });

  it('removes the folder that was made for a save that failed', async () => {
    const parent = dir;
    dir = join(parent, 'new');
    await expectError('SGEMOE_CHECKPOINT_WRITE', /ENOSPC/, () => save(1, 4, false));
    expect(await readdir(parent)).toEqual([]);
    dir = parent;
  });
});
