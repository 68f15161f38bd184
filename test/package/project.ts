/** An empty project that installs the packed tarball, as a user would. */
import { execFile, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { platformName } from '../../src/backend/platform';

export const ROOT = resolve(__dirname, '..', '..');
const WINDOWS = process.platform === 'win32';

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Tarball {
  path: string;
  bytes: number;
  unpackedBytes: number;
  files: string[];
}

/** A folder with a space in its name: the build tools must cope. */
export function temporaryFolder(): string {
  return realpathSync(mkdtempSync(join(tmpdir(), 'sgemoe package-')));
}

/**
 * Runs a command found on PATH, as another user if one is given; npm's own variables, which belong to the run of these
 * tests, aren't passed on.
 */
export function run(
  command: string,
  args: string[],
  cwd: string,
  env: Record<string, string> = {},
  user: { uid?: number; gid?: number } = {},
): Promise<Ended> {
  const kept = /^npm_config_(registry|cache|nodedir|userconfig|cafile|proxy|https_proxy|noproxy)$/i;
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => kept.test(name) || !/^(npm_|SGEMOE_|INIT_CWD$|NODE_OPTIONS$|VITEST)/i.test(name),
    ),
  );
  return new Promise((done) => {
    const child = execFile(
      command,
      args,
      { ...user, cwd, env: { ...inherited, ...env }, timeout: 3_600_000, maxBuffer: 1 << 26, shell: WINDOWS },
      (_error, stdout, stderr) => done({ code: child.exitCode, stdout, stderr }),
    );
  });
}

/** As `run`, and throws with the output when the command fails. */
export async function succeed(...args: Parameters<typeof run>): Promise<Ended> {
  const ended = await run(...args);
  if (ended.code !== 0) {
    throw new Error(
      `${args[0]} ${args[1].join(' ')}: exit code ${ended.code}\n${ended.stdout}\n${ended.stderr}`,
    );
  }
  return ended;
}

/** A copy of what git has in the clone, prebuilt addons and packages apart: a dist/ in use elsewhere stays as it is. */
export function copyClone(folder: string): string {
  const copy = join(folder, 'clone');
  const left = new Set(['.git', 'node_modules', 'build', 'dist', 'prebuilds', 'coverage', 'runs']);
  mkdirSync(copy);
  for (const name of readdirSync(ROOT).filter((entry) => !left.has(entry) && !entry.endsWith('.tgz'))) {
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  }
  return copy;
}

/**
 * Packs a copy of the clone as release.yml does, which builds its dist/, with the prebuilt addons that are there: this platform's
 * is built first, in minutes, or in seconds when nothing has changed.
 */
export async function pack(folder: string): Promise<Tarball> {
  await succeed('node', [join('scripts', 'prebuild.js'), '--target', platformName()], ROOT);
  const copy = copyClone(folder);
  cpSync(join(ROOT, 'prebuilds'), join(copy, 'prebuilds'), { recursive: true });
  // The licences of what it links are in the compiler's folder.
  for (const name of ['node_modules', join('build', 'zig')]) {
    mkdirSync(dirname(join(copy, name)), { recursive: true });
    symlinkSync(realpathSync(join(ROOT, name)), join(copy, name), WINDOWS ? 'junction' : 'dir');
  }
  const { stdout } = await succeed('npm', ['pack', '--json'], copy);
  const packed = packedFile(stdout);
  return {
    path: join(copy, packed.filename),
    bytes: packed.size,
    unpackedBytes: packed.unpackedSize,
    files: packed.files.map((file) => file.path),
  };
}

interface PackedFile {
  filename: string;
  size: number;
  unpackedSize: number;
  files: { path: string }[];
}

/** What `npm pack --json` says: a list up to npm 11, a record by package name from npm 12. */
export function packedFile(stdout: string): PackedFile {
  const parsed = JSON.parse(stdout) as PackedFile[] | Record<string, PackedFile>;
  return Object.values(parsed)[0];
}

/** An empty project with the tarball installed. */
export async function install(
  parent: string,
  name: string,
  tarball: Tarball,
  options: { flags?: string[]; env?: Record<string, string> } = {},
): Promise<string> {
  const project = join(parent, name);
  mkdirSync(project);
  writeFileSync(
    join(project, 'package.json'),
    '{ "name": "consumer", "version": "1.0.0", "private": true }\n',
  );
  const flags = ['--prefer-offline', '--no-audit', '--no-fund', ...(options.flags ?? [])];
  await succeed(
    'npm',
    ['install', ...flags, WINDOWS ? `"${tarball.path}"` : tarball.path],
    project,
    options.env,
  );
  return project;
}

export function hasToolchain(): boolean {
  const works = (command: string) =>
    spawnSync(command, ['--version'], { stdio: 'ignore', shell: WINDOWS }).status === 0;
  return ['c++', 'make', 'python3'].every(works);
}

/** A folder for PATH with Node, npm and a shell, and without compiler, make, CMake and Python. */
export function pathWithoutToolchain(parent: string): string {
  const folder = join(parent, 'bin');
  mkdirSync(folder);
  for (const command of ['node', 'npm', 'npx', 'sh', 'env']) {
    const found = (process.env.PATH ?? '')
      .split(delimiter)
      .map((entry) => join(entry, command))
      .find((file) => existsSync(file));
    if (found !== undefined) {
      symlinkSync(realpathSync(found), join(folder, command));
    }
  }
  return folder;
}

export const isRoot = process.getuid?.() === 0;

/** Gives a tree to somebody, read-only if wanted. */
export function give(path: string, { uid, gid }: { uid?: number; gid?: number }, readOnly = false): void {
  const entry = lstatSync(path);
  if (entry.isSymbolicLink()) return;
  if (uid !== undefined && gid !== undefined) chownSync(path, uid, gid);
  if (entry.isDirectory())
    for (const name of readdirSync(path)) give(join(path, name), { uid, gid }, readOnly);
  if (readOnly) chmodSync(path, entry.mode & 0o555);
}
