import { readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';

/** Access to the machine's figures; tests pass their own. */
export interface MachineReadings {
  platform: NodeJS.Platform;
  /** The text of a file; null if it can't be read. */
  readFile(path: string): string | null;
  /** Bytes that the system calls free. */
  freeBytes(): number;
  totalBytes(): number;
}

export interface AvailableMemory {
  bytes: number;
  /** Names what sets the limit; it completes the sentence "of memory are available ...". */
  where: string;
}

const MACHINE: MachineReadings = {
  platform: process.platform,
  readFile: (path) => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return null;
    }
  },
  freeBytes: freemem,
  totalBytes: totalmem,
};

/**
 * The memory that this process can still take: the minimum of what the machine has and what each of its control groups,
 * parents included, leaves. Page cache of files counts as available where the system reports its size, since the kernel
 * can drop it. Swap doesn't count. On macOS the result is the machine's total memory, since the free memory reported there
 * leaves out most of what the system gives on request.
 */
export function availableMemory(readings: MachineReadings = MACHINE): AvailableMemory {
  if (readings.platform === 'darwin') return { bytes: readings.totalBytes(), where: 'on this machine' };
  const here = { bytes: machineBytes(readings), where: 'on this machine' };
  const found = readings.platform === 'linux' ? [here, ...controlGroups(readings)] : [here];
  return found.reduce((least, each) => (each.bytes < least.bytes ? each : least));
}

/** MemAvailable: free pages and pages that the kernel can reclaim without swapping. */
function machineBytes({ readFile, freeBytes }: MachineReadings): number {
  const kilobytes = numberAfter('MemAvailable:', readFile('/proc/meminfo') ?? '');
  return kilobytes === null ? freeBytes() : kilobytes * 1024;
}

/** The names of a control group's files, which differ between versions 1 and 2 of the interface. */
interface GroupFiles {
  limit: string;
  usage: string;
  /** Lines of memory.stat: pages of files, which the kernel can drop. */
  cache: readonly string[];
}

const VERSION_1: GroupFiles = {
  limit: 'memory.limit_in_bytes',
  usage: 'memory.usage_in_bytes',
  cache: ['total_inactive_file', 'total_active_file'],
};

const VERSION_2: GroupFiles = {
  limit: 'memory.max',
  usage: 'memory.current',
  cache: ['inactive_file', 'active_file'],
};

/** The memory that each control group with a limit leaves, from the process's own group to the topmost. */
function controlGroups(readings: MachineReadings): AvailableMemory[] {
  const found: AvailableMemory[] = [];
  for (const line of lines(readings.readFile('/proc/self/mountinfo'))) {
    const mount = memoryMount(line);
    if (mount === null) continue;
    const own = groupPath(readings.readFile('/proc/self/cgroup'), mount.files === VERSION_2);
    if (own === null) continue;
    for (const folder of upwards(mount.point, below(mount.root, own))) {
      const bytes = remaining(readings, folder, mount.files);
      if (bytes !== null) found.push({ bytes, where: `in the control group ${folder}` });
    }
  }
  return found;
}

/**
 * A line of mountinfo (proc_pid_mountinfo(5)): id, parent, device, root, mount point, options, .., '-', type, source,
 * options of the file system.
 */
function memoryMount(line: string): { root: string; point: string; files: GroupFiles } | null {
  const [, , , root, point, ...rest] = line.split(' ').map(unescapeBlanks);
  const [type, , options = ''] = rest.slice(rest.indexOf('-') + 1);
  if (type === 'cgroup2') return { root, point, files: VERSION_2 };
  if (type === 'cgroup' && options.split(',').includes('memory')) return { root, point, files: VERSION_1 };
  return null;
}

/** mountinfo writes blanks in paths as octal escapes. */
function unescapeBlanks(field: string): string {
  return field.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The process's group in /proc/self/cgroup, whose lines are number:controllers:path; version 2 has no controllers. */
function groupPath(text: string | null, isVersion2: boolean): string | null {
  for (const line of lines(text)) {
    const [, controllers, ...path] = line.split(':');
    const matches = isVersion2 ? controllers === '' : controllers?.split(',').includes('memory');
    if (matches) return path.join(':');
  }
  return null;
}

/** A group's path within a mount that shows the groups below `root`; '' for a group outside of it, as in some containers. */
function below(root: string, path: string): string {
  const prefix = root === '/' ? '' : root;
  const isInside = path.startsWith(`${prefix}/`) && !path.split('/').includes('..');
  return isInside ? path.slice(prefix.length).replace(/\/+$/, '') : '';
}

/** The folder `path` of a mount and its parents, up to the mount point. */
function upwards(point: string, path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  return [...names.keys(), names.length]
    .map((count) => [point, ...names.slice(0, count)].join('/'))
    .reverse();
}

/** Bytes that a group can still take; null without a limit. */
function remaining({ readFile }: MachineReadings, folder: string, files: GroupFiles): number | null {
  const read = (name: string) => readFile(`${folder}/${name}`)?.trim() ?? '';
  const [limit, usage] = [read(files.limit), read(files.usage)];
  if (!/^\d+$/.test(limit) || !/^\d+$/.test(usage)) return null;
  const stat = readFile(`${folder}/memory.stat`) ?? '';
  const cache = files.cache.reduce((sum, name) => sum + (numberAfter(`${name} `, stat) ?? 0), 0);
  const used = Math.max(0, Number(usage) - cache);
  return Math.max(0, Number(limit) - used);
}

/** The number that follows `name` at the beginning of a line. */
function numberAfter(name: string, text: string): number | null {
  const line = lines(text).find((each) => each.startsWith(name));
  const number = Number.parseInt(line?.slice(name.length) ?? '', 10);
  return Number.isNaN(number) ? null : number;
}

function lines(text: string | null): string[] {
  return (text ?? '').split('\n').filter((line) => line !== '');
}
