/** How the commands of this package are run where it is installed. */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

type PackageManager = 'npm' | 'pnpm' | 'yarn' | 'bun';

const RUNS: Readonly<Record<PackageManager, string>> = {
  npm: 'npx',
  pnpm: 'pnpm exec',
  yarn: 'yarn run',
  bun: 'bunx',
};

/** Files that a manager leaves in a project, the surest first: a project may keep several lockfiles. */
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

/** Whether the package lies where a manager has put it, and not in a clone. */
export function isInstalled(packageRoot: string): boolean {
  return basename(dirname(packageRoot)) === 'node_modules';
}

/** Builds the addon: in an installed package by its own command, in a clone by its script. */
export function buildCommand(packageRoot: string | null): string {
  if (packageRoot !== null && !isInstalled(packageRoot)) return 'npm run build:native';
  return `${RUNS[packageManager(packageRoot)]} sgemoe build`;
}

/** The manager that runs this process, else the one that has left its traces around the package; npm by default. */
function packageManager(packageRoot: string | null): PackageManager {
  const running = /^(npm|pnpm|yarn|bun)\//.exec(process.env.npm_config_user_agent ?? '');
  if (running !== null) return running[1] as PackageManager;
  for (let folder = packageRoot ?? process.cwd(); ; folder = dirname(folder)) {
    const trace = TRACES.find(([file]) => existsSync(join(folder, file)));
    if (trace !== undefined) return trace[1];
    if (dirname(folder) === folder) return 'npm';
  }
}
