/** Plain Node processes for tests of loading and ending, which must hold outside a test runner. */
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import ts from 'typescript';

export const ROOT = resolve(__dirname, '..', '..');

/** The kernels as WebAssembly: `npm run build:wasm` makes them; CI always has them. */
export const WASM = join(ROOT, 'prebuilds', 'wasm', 'kernels.wasm');

/** Whether tests are skipped for lack of the kernels; in CI they run and fail. */
export const WITHOUT_WASM = !existsSync(WASM) && !process.env.CI;

/** The addon of this clone, null where none was built. */
export const ADDON =
  [process.env.SGEMOE_ADDON, join(ROOT, 'build', 'Release', 'sgemoe.node')].find(
    (path) => path !== undefined && existsSync(path),
  ) ?? null;

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs `node -e script` with no SGEMOE_ variables except those in `env`. */
export function runNode(
  script: string,
  env: Record<string, string> = {},
  args: string[] = [],
): Promise<Ended> {
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('SGEMOE_') && name !== 'NODE_OPTIONS'),
  );
  return new Promise((done) => {
    const child = execFile(
      process.execPath,
      ['-e', script, ...args],
      { env: { ...inherited, ...env }, timeout: 600_000, killSignal: 'SIGKILL', maxBuffer: 1 << 24 },
      (_error, stdout, stderr) => done({ code: child.exitCode, signal: child.signalCode, stdout, stderr }),
    );
  });
}

/**
 * A folder that looks like an installed package, holding the boundary alone (src/backend and src/base, compiled
 * as they are in dist/), without an addon unless one is named, which then lies in `place`.
 */
export function installedBoundary(addon: string | null = null, place = join('build', 'Release')): string {
  const root = join(mkdtempSync(join(tmpdir(), 'sgemoe loader-')), 'node_modules', 'sgemoe');
  const sources = ['base', 'backend'].flatMap((room) => filesUnder(join(ROOT, 'src', room)));
  for (const source of sources) {
    const target = join(root, 'dist', source.slice(join(ROOT, 'src').length).replace(/\.ts$/, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    const { outputText } = ts.transpileModule(readFileSync(source, 'utf8'), {
      compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
    });
    writeFileSync(target, outputText);
  }
  writeFileSync(join(root, 'package.json'), '{ "name": "sgemoe" }\n');
  if (addon !== null) {
    mkdirSync(join(root, place), { recursive: true });
    copyFileSync(addon, join(root, place, 'sgemoe.node'));
  }
  return root;
}

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => basename(name).endsWith('.ts'))
    .map((name) => join(folder, name));
}
