/** The commands that run this package's scripts, in the form of the user's package manager. */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

type PackageManager = 'npm' | 'pnpm' | 'yarn' | 'bun';

const RUNS: Readonly<Record<PackageManager, string>> = {
  npm: 'npx',
  pnpm: 'pnpm exec',
  yarn: 'yarn run',
  bun: 'bunx',
};

/** Files that managers leave in a project, the surest sign first, since a project may keep several lockfiles. */
const TRACES: readonly (readonly [string, PackageManager])[] = [
  ['.pnp.cjs', 'yarn'],
  ['node_modules/.pnpm', 'pnpm'],
  ['node_modules/.package-lock.json', 'npm'],
  ['node_modules/.yarn-integrity', 'yarn'],
  ['node_modules/.yarn-state.yml', 'yarn'],
  ['pnpm-lock.yaml', 'pnpm'],
  ['yarn.lock', 'yarn'],
  ['bun.lock', 'bun'],
  ['bun.lockb', 'bun'],
];

/** Whether a package manager installed the package (otherwise it is a clone). */
export function isInstalled(packageRoot: string): boolean {
  return basename(dirname(packageRoot)) === 'node_modules';
}

/** The command that builds the addon: `sgemoe build` in an installed package, a script in a clone. */
export function buildCommand(packageRoot: string | null): string {
  if (packageRoot !== null && !isInstalled(packageRoot)) return 'npm run build:native';
  return `${RUNS[packageManager(packageRoot)]} sgemoe build`;
}

/** The manager that runs this process, else the one whose files are around the package, else npm. */
function packageManager(packageRoot: string | null): PackageManager {
  const running = /^(npm|pnpm|yarn|bun)\//.exec(process.env.npm_config_user_agent ?? '');
  if (running !== null) return running[1] as PackageManager;
  for (let folder = packageRoot ?? process.cwd(); ; folder = dirname(folder)) {
    const trace = TRACES.find(([file]) => existsSync(join(folder, file)));
    if (trace !== undefined) return trace[1];
    if (dirname(folder) === folder) return 'npm';
  }
}
