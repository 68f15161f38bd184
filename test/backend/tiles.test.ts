/** Products on a matrix unit: on the scalar model of it everywhere, on the processor's where it has one. */
import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../src/backend/kernels';
import { loadNativeKernels } from '../../src/backend/native';
import { tilesConformance } from './conformance/tiles';
import { tryLoad } from './tryLoad';

const builtin = tryLoad({ backend: 'builtin', matmul: 'fma' });
const model = tryLoad({ backend: 'builtin', matmul: 'split', tiles: 'model' });
const processor = tryLoad({ backend: 'builtin', matmul: 'split' });

tilesConformance('the model', () => model!, { skip: model === null, plain: () => builtin! });

// Skipped where the processor, or its system, has no AMX.
tilesConformance("the processor's AMX", () => processor!, {
  skip: processor === null,
  plain: () => builtin!,
});

describe.skipIf(builtin === null)('a matrix unit', () => {
  it('is told, with what it multiplies', () => {
    expect(builtin!.info).toMatchObject({ matrixUnit: 'none', matmul: 'fma' });
    expect(model!.info).toMatchObject({ matrixUnit: 'model', matmul: 'split' });
    const stored = loadNativeKernels({ backend: 'builtin', tiles: 'model' });
    expect(stored.info).toMatchObject({ matrixUnit: 'model', matmul: 'fma' });
  });

  it('multiplies no float32 unless asked', () => {
    const chosen = loadNativeKernels({ backend: 'builtin', tiles: 'model' });
    expect(product(chosen)).toEqual(product(builtin!));
    expect(product(chosen)).not.toEqual(product(model!));
  });

  it.skipIf(processor !== null)(
    'that is demanded and missing is an error that says how to do without',
    () => {
      expect(() => loadNativeKernels({ backend: 'builtin', matmul: 'split' })).toThrow(
        /matrix unit \(AMX on Linux\), which this process lacks[\s\S]*unset SGEMOE_MATMUL/,
      );
    },
  );
});

function product(kernels: Kernels): Float32Array {
  const [m, n, k] = [64, 64, 128];
  const a = Float32Array.from({ length: m * k }, (_, i) => Math.sin(i));
  const b = Float32Array.from({ length: n * k }, (_, i) => Math.cos(i));
  const c = new Float32Array(m * n);
  kernels.sgemm(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, c, 0, n);
  return c;
}
