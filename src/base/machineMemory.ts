import { readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';

/** What is read of the machine; tests give texts of their own. */
export interface MachineReadings {
  platform: NodeJS.Platform;
  /** Text of a file, null where it can't be read. */
  readFile(path: string): string | null;
  /** Bytes that the system calls free. */
  freeBytes(): number;
  totalBytes(): number;
}

export interface AvailableMemory {
  bytes: number;
  /** What sets the limit: the end of "of memory are available ...". */
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
 * The memory that this process can still take: the least of what the machine has and what its control groups leave, those
 * above them included. The files' cache counts as available where the system says how large it is, since it gives way.
 * Swap doesn't count. On macOS it is all of the machine's memory: what the system calls free there leaves out most of
 * what it gives on request.
 */
export function availableMemory(readings: MachineReadings = MACHINE): AvailableMemory {
  if (readings.platform === 'darwin') return { bytes: readings.totalBytes(), where: 'on this machine' };
  const here = { bytes: machineBytes(readings), where: 'on this machine' };
  const found = readings.platform === 'linux' ? [here, ...controlGroups(readings)] : [here];
  return found.reduce((least, each) => (each.bytes < least.bytes ? each : least));
}

/** MemAvailable: free pages, and those that the kernel can have back without swapping. */
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

/** What each control group with a limit leaves, from the process's own to the one at the top. */
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
 * A line of mountinfo (proc_pid_mountinfo(5)): id, parent, device, root, mount point, options, .., '-', type, source, options of
 * the file system.
 */
function memoryMount(line: string): { root: string; point: string; files: GroupFiles } | null {
  const [, , , root, point, ...rest] = line.split(' ').map(unescapeBlanks);
  const [type, , options = ''] = rest.slice(rest.indexOf('-') + 1);
  if (type === 'cgroup2') return { root, point, files: VERSION_2 };
  if (type === 'cgroup' && options.split(',').includes('memory')) return { root, point, files: VERSION_1 };
  return null;
}

/** Blanks in paths are octal escapes. */
function unescapeBlanks(field: string): string {
  return field.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The process's group in /proc/self/cgroup: lines of number:controllers:path; of version 2 without controllers. */
function groupPath(text: string | null, isVersion2: boolean): string | null {
  for (const line of lines(text)) {
    const [, controllers, ...path] = line.split(':');
    const matches = isVersion2 ? controllers === '' : controllers?.split(',').includes('memory');
    if (matches) return path.join(':');
  }
  return null;
}

/** A group's path within a mount that shows the groups from `root` on; '' for one outside of it, as some containers have. */
function below(root: string, path: string): string {
  const prefix = root === '/' ? '' : root;
  const isInside = path.startsWith(`${prefix}/`) && !path.split('/').includes('..');
  return isInside ? path.slice(prefix.length).replace(/\/+$/, '') : '';
}

/** The folder `path` of a mount and all above it, up to the mount point. */
function upwards(point: string, path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  return [...names.keys(), names.length]
    .map((count) => [point, ...names.slice(0, count)].join('/'))
    .reverse();
}

/** Bytes that a group leaves; null without a limit. */
function remaining({ readFile }: MachineReadings, folder: string, files: GroupFiles): number | null {
  const read = (name: string) => readFile(`${folder}/${name}`)?.trim() ?? '';
  const [limit, usage] = [read(files.limit), read(files.usage)];
  if (!/^\d+$/.test(limit) || !/^\d+$/.test(usage)) return null;
  const stat = readFile(`${folder}/memory.stat`) ?? '';
  const cache = files.cache.reduce((sum, name) => sum + (numberAfter(`${name} `, stat) ?? 0), 0);
  const used = Math.max(0, Number(usage) - cache);
  return Math.max(0, Number(limit) - used);
}

/** The number behind a name at the beginning of a line. */
function numberAfter(name: string, text: string): number | null {
  const line = lines(text).find((each) => each.startsWith(name));
  const number = Number.parseInt(line?.slice(name.length) ?? '', 10);
  return Number.isNaN(number) ? null : number;
}

function lines(text: string | null): string[] {
  return (text ?? '').split('\n').filter((line) => line !== '');
}
