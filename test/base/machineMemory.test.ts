import { freemem, totalmem } from 'node:os';
import { describe, expect, test } from 'vitest';
import { availableMemory, type MachineReadings } from '../../src/base/machineMemory';

const GB = 1e9;
const MEMINFO = 'MemTotal:       32000000 kB\nMemFree:         1000000 kB\nMemAvailable:   20000000 kB\n';
const AVAILABLE = 20_000_000 * 1024;
/** The value by which version 1 says that there is no limit. */
const NO_LIMIT_1 = '9223372036854771712\n';

/** A Linux machine that has only these files. */
function linux(files: Record<string, string>): MachineReadings {
  return {
    platform: 'linux',
    readFile: (path) => files[path] ?? null,
    freeBytes: () => 3 * GB,
    totalBytes: () => 32 * GB,
  };
}

const V2_MOUNT = '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n';
const V1_MOUNTS =
  '31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n' +
  '32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n' +
  '35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n';

/** Files of control groups of version 2, by the group's path. */
function version2(groups: Record<string, { max: string; current: number; stat?: string }>) {
  const files: Record<string, string> = { '/proc/meminfo': MEMINFO, '/proc/self/mountinfo': V2_MOUNT };
  for (const [path, { max, current, stat = '' }] of Object.entries(groups)) {
    files[`/sys/fs/cgroup${path}/memory.max`] = `${max}\n`;
    files[`/sys/fs/cgroup${path}/memory.current`] = `${current}\n`;
    files[`/sys/fs/cgroup${path}/memory.stat`] = stat;
  }
  return files;
}

function version1(folder: string, limit: string, usage: number, stat = '') {
  return {
    [`${folder}/memory.limit_in_bytes`]: limit,
    [`${folder}/memory.usage_in_bytes`]: `${usage}\n`,
    [`${folder}/memory.stat`]: stat,
  };
}

describe('availableMemory on Linux', () => {
  test('without control groups it is MemAvailable, not the free memory', () => {
    const here = { bytes: AVAILABLE, where: 'on this machine' };
    expect(availableMemory(linux({ '/proc/meminfo': MEMINFO }))).toEqual(here);
  });

  test('without /proc it is the free memory that the system reports', () => {
    expect(availableMemory(linux({})).bytes).toBe(3 * GB);
  });

  test("version 2: it is a group's limit less its use, where its cache of files counts as free", () => {
    const group = {
      max: `${8 * GB}`,
      current: 6 * GB,
      stat: 'anon 1\ninactive_file 2000000000\nactive_file 500000000\n',
    };
    const files = {
      ...version2({ '/user.slice/app': group, '/user.slice': { max: 'max', current: 7 * GB } }),
      '/proc/self/cgroup': '0::/user.slice/app\n',
    };
    expect(availableMemory(linux(files))).toEqual({
      bytes: 4.5 * GB,
      where: 'in the control group /sys/fs/cgroup/user.slice/app',
    });
  });

  test('version 2: a parent group may leave less than the own group', () => {
    const files = {
      ...version2({
        '/a/b/c': { max: `${8 * GB}`, current: 1 * GB },
        '/a': { max: `${9 * GB}`, current: 7 * GB },
      }),
      '/proc/self/cgroup': '0::/a/b/c\n',
    };
    expect(availableMemory(linux(files))).toEqual({
      bytes: 2 * GB,
      where: 'in the control group /sys/fs/cgroup/a',
    });
  });

  test('version 2: in a container the mount itself is the group', () => {
    const files = { ...version2({ '': { max: `${2 * GB}`, current: 5e8 } }), '/proc/self/cgroup': '0::/\n' };
    expect(availableMemory(linux(files)).bytes).toBe(1.5 * GB);
    // A container without its own namespace sees itself so.
    const outside = { ...files, '/proc/self/cgroup': '0::/../../system.slice/docker.scope\n' };
    expect(availableMemory(linux(outside)).bytes).toBe(1.5 * GB);
  });

  test("limits above the machine's memory change nothing, and groups above their limit leave nothing", () => {
    const wide = { ...version2({ '/a': { max: `${90 * GB}`, current: 1 } }), '/proc/self/cgroup': '0::/a\n' };
    expect(availableMemory(linux(wide)).bytes).toBe(AVAILABLE);
    const full = { ...version2({ '/a': { max: '1000', current: 5000 } }), '/proc/self/cgroup': '0::/a\n' };
    expect(availableMemory(linux(full)).bytes).toBe(0);
  });

  test('version 1: beside others, and with version 2 mounted without memory', () => {
    const files = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/mountinfo': `${V1_MOUNTS}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n`,
      '/proc/self/cgroup': '9:name=systemd:/\n4:cpu,memory:/jobs/one\n1:cpu:/other\n0::/\n',
      ...version1('/sys/fs/cgroup/memory/jobs/one', NO_LIMIT_1, 3 * GB),
      ...version1(
        '/sys/fs/cgroup/memory/jobs',
        `${5 * GB}\n`,
        4 * GB,
        'inactive_file 1\ntotal_inactive_file 1000000000\ntotal_active_file 1000000000\n',
      ),
      ...version1('/sys/fs/cgroup/memory', NO_LIMIT_1, 9 * GB),
    };
    expect(availableMemory(linux(files))).toEqual({
      bytes: 3 * GB,
      where: 'in the control group /sys/fs/cgroup/memory/jobs',
    });
  });

  test('version 1: a container sees its own group under the mount, whatever path the host gives it', () => {
    const mount = '35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n';
    const files = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/mountinfo': mount,
      '/proc/self/cgroup': '4:memory:/docker/abc\n',
      ...version1('/sys/fs/cgroup/memory', `${3 * GB}\n`, 1 * GB),
    };
    expect(availableMemory(linux(files)).bytes).toBe(2 * GB);
    const below = { ...files, '/proc/self/cgroup': '4:memory:/docker/abc/child\n' };
    Object.assign(below, version1('/sys/fs/cgroup/memory/child', `${2 * GB}\n`, 1 * GB));
    expect(availableMemory(linux(below)).bytes).toBe(1 * GB);
  });

  test('a mount point may have blanks, and a path colons', () => {
    const files = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/mountinfo': '30 23 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n',
      '/proc/self/cgroup': '0::/a:b\n',
      '/my groups/a:b/memory.max': '7000\n',
      '/my groups/a:b/memory.current': '2000\n',
    };
    expect(availableMemory(linux(files)).bytes).toBe(5000);
  });

  test('malformed files are ignored', () => {
    const files = {
      '/proc/meminfo': 'MemAvailable: lots\n',
      '/proc/self/mountinfo': 'garbage\n\n - \n30 23 0:26 / /g rw - cgroup2\n',
      '/proc/self/cgroup': 'garbage\n0::/\n',
      '/g/memory.max': '-5\n',
      '/g/memory.current': 'x',
    };
    expect(availableMemory(linux(files)).bytes).toBe(3 * GB);
  });
});

test('elsewhere it is the free memory on Windows, and all memory on macOS, where free memory says little', () => {
  const files = { '/proc/meminfo': MEMINFO };
  expect(availableMemory({ ...linux(files), platform: 'darwin' }).bytes).toBe(32 * GB);
  expect(availableMemory({ ...linux({}), platform: 'win32' }).bytes).toBe(3 * GB);
});

test('on this machine it is more than 0 and at most all memory', () => {
  const { bytes } = availableMemory();
  expect(freemem()).toBeGreaterThan(0);
  expect(bytes).toBeGreaterThan(0);
  expect(bytes).toBeLessThanOrEqual(totalmem());
});
