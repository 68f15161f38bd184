/** Scratch environments of other people's clients, in the user's cache folder: they are large, and none of the package. */
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const { cacheFolder } = require(resolve(__dirname, '../../.ci/smollm.js')) as { cacheFolder(): string };
const MINUTES = 60_000;

function folderFor(kind: string, packages: readonly string[]): string {
  const hash = createHash('sha256').update(packages.join(' ')).digest('hex').slice(0, 12);
  return join(cacheFolder(), `${kind}-${hash}`);
}

/** Makes a folder whole or not at all: an interrupted installation isn't taken for a finished one. */
function once(folder: string, make: (folder: string) => void): string {
  if (existsSync(join(folder, 'finished'))) return folder;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  make(folder);
  writeFileSync(join(folder, 'finished.new'), '');
  renameSync(join(folder, 'finished.new'), join(folder, 'finished'));
  return folder;
}

const quiet = { stdio: ['ignore', 'ignore', 'pipe'] as ['ignore', 'ignore', 'pipe'] };

/** A Python with `packages`, from the registry; runs programs of this folder. */
export function pythonWith(packages: readonly string[]) {
  const folder = once(folderFor('python', packages), (made) => {
    execFileSync('python3', ['-m', 'venv', '--without-pip', made], quiet);
    const target = execFileSync(join(made, 'bin/python'), [
      '-c',
      'import sysconfig; print(sysconfig.get_path("purelib"))',
    ]);
    const install = ['-m', 'pip', 'install', '--quiet', '--target', target.toString().trim()];
    execFileSync('python3', [...install, ...packages], { ...quiet, timeout: 30 * MINUTES });
  });
  return (program: string, args: readonly string[], env: Record<string, string> = {}) =>
    run(join(folder, 'bin/python'), [join(__dirname, program), ...args], folder, env);
}

/** Node with `packages`, from the registry; runs programs of this folder, which find them by `CLIENTS`. */
export function nodeWith(packages: readonly string[]) {
  const folder = once(folderFor('node', packages), (made) => {
    writeFileSync(join(made, 'package.json'), '{"private":true}');
    const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefix', made];
    execFileSync('npm', ['install', ...flags, ...packages], { ...quiet, timeout: 30 * MINUTES });
  });
  return (program: string, args: readonly string[], env: Record<string, string> = {}) =>
    run(process.execPath, [join(__dirname, program), ...args], folder, { CLIENTS: folder, ...env });
}

/** The lines that a program prints; it runs beside this process, which serves. */
async function run(file: string, args: readonly string[], cwd: string, env: Record<string, string>) {
  // No settings, keys or proxies of the user's.
  const all = { PATH: process.env.PATH!, HOME: cwd, PYTHONDONTWRITEBYTECODE: '1', ...env };
  const { stdout } = await promisify(execFile)(file, args, {
    cwd,
    env: all,
    timeout: 20 * MINUTES,
    maxBuffer: 2 ** 26,
  });
  return stdout.trimEnd().split('\n');
}
