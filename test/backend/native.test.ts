import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../src/backend/kernels';
import { loadNativeKernels, type NativeOptions } from '../../src/backend/native';
import { conformance } from './conformance';

/** The kernels, or null where this machine can't provide them. */
function tryLoad(options: NativeOptions): Kernels | null {
  try {
    return loadNativeKernels(options);
  } catch {
    return null;
  }
}

const builtin = tryLoad({ backend: 'builtin' });
const instructionSets = process.arch === 'arm64' ? ['baseline', 'neon'] : ['baseline', 'avx2', 'avx512'];
const best = builtin?.info.instructionSet;

for (const instructionSet of instructionSets) {
  const kernels = tryLoad({ backend: 'builtin', instructionSet });
  conformance(`built-in, ${instructionSet}`, () => kernels!, { skip: kernels === null });
}

const openblas = tryLoad({ backend: 'openblas' });
conformance('OpenBLAS', () => openblas!, { skip: openblas === null });

describe.skipIf(builtin === null)('native kernels', () => {
  it('say which instruction set computes: the one asked for, the best of this processor otherwise', () => {
    expect(instructionSets).toContain(best);
    const baseline = loadNativeKernels({ backend: 'builtin', instructionSet: 'baseline' });
    expect(baseline.info.instructionSet).toBe('baseline');
  });

  it('pack weights, but not where a library does every matmul', () => {
    expect(builtin!.packedSize(64, 64)).toBeGreaterThan(0);
    expect(openblas?.packedSize(64, 64) ?? 0).toBe(0);
  });

  it('give the address of the next 64-byte boundary', () => {
    const buffer = new SharedArrayBuffer(1024);
    const first = builtin!.alignmentPadding(new Float32Array(buffer));
    for (let element = 0; element < 64; element++) {
      const padding = builtin!.alignmentPadding(new Float32Array(buffer, 4 * element));
      expect((element + padding - first) % 16, `from element ${element}`).toBe(0);
      expect(padding).toBeLessThan(16);
    }
  });
});
