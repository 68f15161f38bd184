/**
 * `npm run prebuild` gives the same bytes wherever it runs: in the clone, and in a copy elsewhere, with a compiler and a cache
 * elsewhere. One target of each file format, both of Mach-O, which had the builder's paths in it. The copy's cache is kept
 * in build/reproducible, so that the next run compiles what has changed.
 */
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { copyClone, ROOT, succeed } from './project';

const { signatureFault } = createRequire(__filename)('../../.ci/platforms/machoSignature.js');

const HOURS = 4 * 3_600_000; // a limit against a hang: four targets are compiled from nothing
const TARGETS = ['linux-x64', 'darwin-arm64', 'darwin-x64', 'win32-x64'];
const FILES = [
  ...TARGETS.map((target) => join(target, 'sgemoe.node')),
  ...['kernels.wasm', 'kernels-relaxed.wasm'].map((name) => join('wasm', name)),
];
const ELSEWHERE = join(ROOT, 'build', 'reproducible', 'in another folder');

async function buildIn(home: string, env: Record<string, string>): Promise<void> {
  // One at a time: each has the time limit of a command for itself.
  for (const target of TARGETS)
    await succeed('node', [join('scripts', 'prebuild.js'), '--target', target], home, env);
  await succeed('node', [join('scripts', 'build-wasm.js')], home, env);
}

const checksum = (home: string, file: string) =>
  createHash('sha256')
    .update(readFileSync(join(home, 'prebuilds', file)))
    .digest('hex');

describe.skipIf(process.platform !== 'linux')('npm run prebuild', () => {
  let copy: string;

  beforeAll(async () => {
    await buildIn(ROOT, {});
    const zig = join(ELSEWHERE, 'compiler');
    for (const old of [zig, join(ELSEWHERE, 'clone')]) rmSync(old, { recursive: true, force: true });
    cpSync(realpathSync(join(ROOT, 'build', 'zig')), zig, { recursive: true, preserveTimestamps: true });
    copy = copyClone(ELSEWHERE);
    mkdirSync(join(copy, 'build'));
    symlinkSync(zig, join(copy, 'build', 'zig'));
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    await buildIn(copy, { ZIG_GLOBAL_CACHE_DIR: join(ELSEWHERE, 'cache') });
  }, HOURS);

  it.each(FILES)('gives %s the same bytes in another folder, with another compiler and cache', (file) => {
    expect(checksum(copy, file)).toBe(checksum(ROOT, file));
  });

  it('signs what arm64 runs, and a file changed afterwards is noticed', () => {
    const addon = readFileSync(join(copy, 'prebuilds', 'darwin-arm64', 'sgemoe.node'));
    expect(signatureFault(addon)).toBeNull();
    addon[100_000] ^= 1;
    expect(signatureFault(addon)).toBe(`page ${Math.floor(100_000 / 16_384)} was changed`);
  });
});
