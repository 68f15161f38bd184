/** Products on a matrix unit: on the scalar model of it everywhere, on the processor's where it has one. */
import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../src/backend/kernels';
import { loadNativeKernels } from '../../src/backend/native';
import { mixedConformance } from './conformance/mixed';
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

const pairs = tryLoad({ backend: 'builtin', tiles: 'pairsModel' });
describe.skipIf(pairs === null)('the model of vectors of pairs', () => {
  mixedConformance(() => pairs!, false);

  it('multiplies mixed precision alone', () => {
    expect(pairs!.info).toMatchObject({ matrixUnit: 'pairsModel', matmul: 'fma' });
    expect(product(pairs!)).toEqual(product(builtin!));
    expect(() => loadNativeKernels({ backend: 'builtin', tiles: 'pairsModel', matmul: 'split' })).toThrow(
      /matrix unit/,
    );
  });
});

// What the processor has beside AMX: conformance.test.ts runs it with the best kernels.
const own = tryLoad({ backend: 'builtin' });
const hasPairs = own?.info.matrixUnit === 'vdpbf16ps' || own?.info.matrixUnit === 'bfmmla';
describe.skipIf(!hasPairs)("the processor's products of bfloat16", () => {
  it('are those of float32 multiply-adds, up to the order of sums and what they round', () => {
    for (const [m, n, k] of [
      [33, 70, 129],
      [8, 16, 1000],
    ]) {
      const [a, b] = [waves(m * k, 1), waves(n * k, 2)];
      const [got, want] = [new Float32Array(m * n), new Float32Array(m * n)];
      own!.gemmBfloat16(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, got, 0, n);
      builtin!.gemmBfloat16(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, want, 0, n);
      // Each of k sums is rounded once, to 24 bits, of terms of at most 1.
      got.forEach((x, i) => {
        expect(Math.abs(x - want[i])).toBeLessThanOrEqual(2 * k * k * 2 ** -24);
      });
    }
  });
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

const waves = (count: number, rate: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(rate * i));

function product(kernels: Kernels): Float32Array {
  const [m, n, k] = [64, 64, 128];
  const [a, b] = [waves(m * k, 1), waves(n * k, 2)];
  const c = new Float32Array(m * n);
  kernels.sgemm(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, c, 0, n);
  return c;
}
