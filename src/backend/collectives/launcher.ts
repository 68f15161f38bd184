import { join } from 'node:path';

/** What has started this process as one of several. */
export interface Launcher {
  /** 'Slurm' works with any make of MPI. */
  readonly name: 'Open MPI' | 'MPICH' | 'Slurm';
  /** Number of processes that it started. */
  readonly size: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The variables in which launchers tell a process how many there are. Those of Open MPI's and MPICH's come first: under Slurm they
 * are started by it. Intel MPI, MVAPICH and Cray's are of MPICH's family.
 */
const SIZE_VARIABLES: readonly [variable: string, launcher: Launcher['name']][] = [
  ['OMPI_COMM_WORLD_SIZE', 'Open MPI'],
  ['PMI_SIZE', 'MPICH'],
  ['SLURM_STEP_NUM_TASKS', 'Slurm'],
];

/** The launcher of this process by its environment; null if there is none, or SGEMOE_MPI=none says to do without. */
export function launcherOf(env: Environment): Launcher | null {
  if (env.SGEMOE_MPI === 'none') return null;
  for (const [variable, name] of SIZE_VARIABLES) {
    const size = Number.parseInt(env[variable] ?? '', 10);
    if (size >= 1 && (name !== 'Slurm' || size > 1)) return { name, size };
  }
  return null;
}

const OPEN_MPI = ['libmpi.so.40', 'libmpi.so'];
const MPICH = ['libmpi.so.12', 'libmpich.so.12', 'libmpi_abi.so.1', 'libmpi_abi.so.0', 'libmpi.so'];
const MACOS: Record<Launcher['name'], readonly string[]> = {
  'Open MPI': ['libmpi.40.dylib', 'libmpi.dylib'],
  MPICH: ['libmpi.12.dylib', 'libmpi_abi.1.dylib', 'libmpi.dylib'],
  Slurm: ['libmpi.dylib'],
};
const MACOS_FOLDERS = ['/opt/homebrew/lib', '/usr/local/lib'];

/** Where a library of MPI that fits the launcher may be, the likeliest first. */
export function mpiLibraries(launcher: Launcher, env: Environment, platform: NodeJS.Platform): string[] {
  if (env.SGEMOE_MPI) return [env.SGEMOE_MPI];
  if (platform === 'darwin') {
    const names = MACOS[launcher.name];
    return [...MACOS_FOLDERS.flatMap((folder) => names.map((name) => join(folder, name))), ...names];
  }
  const names = { 'Open MPI': OPEN_MPI, MPICH, Slurm: [...OPEN_MPI, ...MPICH] }[launcher.name];
  // Roots that the makes set for what they start.
  const roots = [env.OPAL_PREFIX, env.I_MPI_ROOT, env.MPI_HOME].filter((root) => root !== undefined);
  const inRoots = roots.flatMap((root) => names.map((name) => join(root, 'lib', name)));
  return [...new Set([...inRoots, ...names])];
}
