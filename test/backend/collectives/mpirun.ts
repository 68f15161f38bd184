/** Runs programs under the launchers of MPI that this machine has: on Debian, openmpi-bin and mpich side by side. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDON, type Ended } from '../child';

export interface Mpi {
  name: 'openmpi' | 'mpich';
  launcher: string;
  /** Before `-n`. */
  args: readonly string[];
  /** The library's file, by its usual name. */
  library: string;
  env: Readonly<Record<string, string>>;
}

const MPIS: readonly Mpi[] = [
  {
    name: 'openmpi',
    launcher: 'mpirun.openmpi',
    args: ['--oversubscribe', '--bind-to', 'none'],
    library: 'libmpi.so.40',
    // CI and containers are root.
    env: { OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' },
  },
  { name: 'mpich', launcher: 'mpirun.mpich', args: [], library: 'libmpich.so.12', env: {} },
];

const isFound = (program: string) =>
  (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)));

/** In CI all of them, so that a missing one fails there. */
export const FOUND = MPIS.filter(({ launcher }) => process.env.CI || isFound(launcher));

/** Whether the tests can run: what is skipped is said once. */
export function canRun(file: string): boolean {
  if (ADDON === null || process.platform !== 'linux') return false;
  if (FOUND.length > 0) return true;
  console.warn(
    `${file}: skipped, since this machine has neither mpirun.openmpi nor mpirun.mpich (apt-get install openmpi-bin mpich).`,
  );
  return false;
}

/** The environment of a launcher: this process's without what is sgemoe's. */
export function environmentOf(mpi: Mpi): Record<string, string | undefined> {
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('SGEMOE_') && name !== 'NODE_OPTIONS'),
  );
  return { ...inherited, ...mpi.env, SGEMOE_THREADS: '1' };
}

const MOST_MS = 240_000;

/** Runs node with `args` on `ranks` processes. All of them end, at the latest by the time limit. */
export function runRanks(
  mpi: Mpi,
  ranks: number,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Ended> {
  const argv = [...mpi.args, '-n', String(ranks), process.execPath, ...args];
  const child = spawn(mpi.launcher, argv, {
    env: { ...environmentOf(mpi), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // A launcher that is told to end ends its ranks; one that is killed leaves them.
  const soft = setTimeout(() => child.kill('SIGTERM'), MOST_MS);
  const hard = setTimeout(() => child.kill('SIGKILL'), MOST_MS + 10_000);
  return new Promise((done, reject) => {
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (data) => {
      stdout += data;
    });
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(soft);
      clearTimeout(hard);
      done({ code, signal, stdout, stderr });
    });
  });
}

/** The command lines of processes that have this mark. */
export function leftOver(mark: string): string[] {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const commands = processes.map((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return ''; // it has ended
    }
  });
  return commands.filter((command) => command.includes(mark));
}

/** The longest that ranks outlive their launcher: it signals them, and doesn't wait for each to be gone. */
const OUTLIVED_MS = 30_000;

/** The command lines of processes with this mark that stay. */
export async function staying(mark: string): Promise<string[]> {
  const begun = performance.now();
  for (;;) {
    const left = leftOver(mark);
    if (left.length === 0 || performance.now() - begun > OUTLIVED_MS) return left;
    await sleep(50);
  }
}
