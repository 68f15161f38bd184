/**
 * The Accelerate path off macOS: native/blas_accelerate.cc is compiled against a stand-in for Apple's header and
 * framework that forwards to OpenBLAS, and must compute as every other backend, linked and opened at run time.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Kernels } from '../../src/backend/kernels';
import { loadNativeKernels } from '../../src/backend/native';
import { ROOT } from './child';
import { conformance } from './conformance';

/** Kept between runs: only the first one compiles everything. */
const FOLDER = join(ROOT, 'build', 'fake-accelerate');

const here = process.platform === 'linux' && runs('c++') && runs('cmake') && hasOpenBlas();
let linkedPath: string;
let openedPath: string;
let linked: Kernels;

function runs(command: string): boolean {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

function hasOpenBlas(): boolean {
  try {
    return loadNativeKernels({ backend: 'openblas' }).info.backend === 'openblas';
  } catch {
    return false;
  }
}

function build(form: 'linked' | 'opened'): string {
  const script = join(ROOT, 'test', 'native', 'fake-accelerate', 'build.js');
  const output = execFileSync(process.execPath, [script, FOLDER, form], { cwd: ROOT, encoding: 'utf8' });
  return output.trim().split('\n').at(-1) as string;
}

/** Makes the addon open `library`. */
function provide(library: string | null): void {
  const path = join(FOLDER, 'framework', 'Accelerate');
  rmSync(path, { force: true });
  if (library !== null) symlinkSync(library, path);
}

beforeAll(() => {
  if (!here) return;
  linkedPath = build('linked');
  linked = loadNativeKernels({ addonPath: linkedPath, backend: 'accelerate' });
  openedPath = build('opened');
});

describe.skipIf(!here)('an addon linked with Accelerate', () => {
  it('says so, and takes it without being asked', () => {
    expect(existsSync(linkedPath)).toBe(true);
    expect(linked.info).toMatchObject({
      backend: 'accelerate',
      blas: { name: 'Accelerate' },
      addonPath: linkedPath,
    });
    expect(loadNativeKernels({ addonPath: linkedPath }).info.backend).toBe('accelerate');
  });
});

describe.skipIf(!here)('an addon that opens Accelerate at run time', () => {
  it('computes with the plain names where there are no others', () => {
    provide('libaccelerate.so');
    expect(matmulInChild(openedPath)).toEqual(['accelerate', 'libaccelerate.so', '19,22,43,50']);
  });

  it('prefers the names of the newer interface', () => {
    provide('libaccelerate_new.so');
    expect(matmulInChild(openedPath)).toEqual(['accelerate', 'libaccelerate_new.so', '19,22,43,50']);
  });

  it('computes by itself where there is no Accelerate', () => {
    provide(null);
    expect(matmulInChild(openedPath)[0]).not.toBe('accelerate');
    expect(matmulInChild(openedPath)[2]).toBe('19,22,43,50');
  });
});

/** Backend, file of the BLAS and a product, from a separate process, since an opened library stays open. */
function matmulInChild(addonPath: string): string[] {
  const code = `
    const kernels = require(${JSON.stringify(addonPath)}).create('auto', null, null);
    const c = new Float32Array(4);
    const [a, b] = [Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6, 7, 8)];
    kernels.sgemm(false, false, 2, 2, 2, 1, a, 0, 2, b, 0, 2, 0, c, 0, 2);
    const { backend, blas } = kernels.info;
    console.log(JSON.stringify([backend, require('path').basename(require('fs').realpathSync(blas?.path ?? '.')), c.join()]));`;
  return JSON.parse(execFileSync(process.execPath, ['-e', code], { encoding: 'utf8' }));
}

conformance('Accelerate, linked', () => linked, { skip: !here });
conformance('Accelerate, opened at run time', openedKernels, { skip: !here });

function openedKernels(): Kernels {
  provide('libaccelerate_new.so');
  return loadNativeKernels({ addonPath: openedPath, backend: 'accelerate' });
}
