import { describe, expect, it } from 'vitest';
import { loadNativeKernels } from '../../src/backend/native';
import { conformance } from './conformance';
import { storedConformance } from './conformance/stored';
import { INSTRUCTION_SETS, tryLoad } from './tryLoad';

const builtin = tryLoad({ backend: 'builtin' });
const openblas = tryLoad({ backend: 'openblas' });
const best = builtin?.info.instructionSet;

conformance(`built-in, ${best}`, () => builtin!, { skip: builtin === null });

const exact = tryLoad({ backend: 'builtin', exact: true });
describe.skipIf(exact === null)('with exact products', () => {
  it('say so', () => {
    expect(exact!.info.exactProducts).toBe(true);
    expect(builtin!.info.exactProducts).toBe(['baseline', 'neon'].includes(best!));
  });
  // Where they are the default, the suite above has run them.
  if (!builtin?.info.exactProducts) storedConformance(() => exact!);
});

describe.skipIf(builtin === null)('native kernels', () => {
  it('say which instruction set computes: the one asked for, the best of this processor otherwise', () => {
    expect(INSTRUCTION_SETS).toContain(best);
    const [instructionSet] = INSTRUCTION_SETS;
    expect(loadNativeKernels({ backend: 'builtin', instructionSet }).info.instructionSet).toBe(
      instructionSet,
    );
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
