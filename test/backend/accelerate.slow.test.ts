/**
 * The Accelerate path off macOS: native/blas_accelerate.cc is compiled against a stand-in for Apple's header and
 * framework that forwards to OpenBLAS, and must compute as every other backend.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Kernels } from '../../src/backend/kernels';
import { loadNativeKernels } from '../../src/backend/native';
import { ROOT } from './child';
import { conformance } from './conformance';

/** Kept between runs: only the first one compiles everything. */
const FOLDER = join(ROOT, 'build', 'fake-accelerate');

const here = process.platform === 'linux' && runs('c++') && runs('cmake') && hasOpenBlas();
let addonPath: string;
let kernels: Kernels;

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

beforeAll(() => {
  if (here) {
    const build = join(ROOT, 'test', 'native', 'fake-accelerate', 'build.js');
    const output = execFileSync(process.execPath, [build, FOLDER], { cwd: ROOT, encoding: 'utf8' });
    addonPath = output.trim().split('\n').at(-1) as string;
    kernels = loadNativeKernels({ addonPath, backend: 'accelerate' });
  }
});

describe.skipIf(!here)('an addon linked with Accelerate', () => {
  it('says so, and takes it without being asked', () => {
    expect(existsSync(addonPath)).toBe(true);
    expect(kernels.info).toMatchObject({ backend: 'accelerate', blas: { name: 'Accelerate' }, addonPath });
    expect(loadNativeKernels({ addonPath }).info.backend).toBe('accelerate');
  });
});

conformance('Accelerate', () => kernels, { skip: !here });
