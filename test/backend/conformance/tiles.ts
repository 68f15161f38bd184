import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { loadNativeKernels } from '../../../src/backend/native';
import { storedBytes } from '../../../src/base/storageTypes';
import { groupedMatmulConformance } from './groupedMatmul';
import { Dice, expectClose, hashBits } from './harness';
import { matmulConformance, product } from './matmul';
import { mixedConformance } from './mixed';
import { storedConformance } from './stored';

/** bfloat16 numbers of [-2, 2), and their bytes. */
function bfloat16(dice: Dice, count: number): { values: Float32Array; bytes: Uint8Array } {
  const values = new Float32Array(count);
  const bits = new Uint32Array(values.buffer);
  const bytes = new Uint8Array(2 * count);
  for (let i = 0; i < count; i++) {
    values[i] = 4 * dice.next() - 2;
    bits[i] &= 0xffff0000;
    new DataView(bytes.buffer).setUint16(2 * i, bits[i] >>> 16, true);
  }
  return { values, bytes };
}

/** Kernels that multiply float32 in split parts, against the definitions and against `plain`, which multiply and add float32. */
export function tilesConformance(
  name: string,
  kernels: () => Kernels,
  { skip, plain }: { skip: boolean; plain: () => Kernels },
): void {
  describe.skipIf(skip)(`tiles: ${name}`, () => {
    matmulConformance(kernels);
    groupedMatmulConformance(kernels);
    mixedConformance(kernels, false);
    storedConformance(kernels, ['float32', 'bfloat16', 'float16', 'q8_0', 'q4_k']);

    for (const type of ['q4_0', 'q8_0', 'q4_k', 'q6_k'] as const) {
      it(`${type}: many rows are off by less than those of activations in 8 bits`, () => {
        const [m, n, k] = [100, 40, 512];
        const dice = new Dice(71);
        const x = Float32Array.from(dice.values(m * k));
        const [w, bytes] = [Float32Array.from(dice.values(n * k)), new Uint8Array(storedBytes(type, n * k))];
        plain().quantize(type, n, k, w, 0, k, bytes, 0);
        plain().dequantize(type, n, k, bytes, 0, w, 0, k);
        const { want } = product(false, true, m, n, k, 1, x, w, 0, x);
        const [ours, theirs] = [kernels(), plain()].map((which) => {
          const y = new Float32Array(m * n);
          which.multiplyStored(which.storedMatrices(type, n, k, [bytes]), 0, m, 1, x, 0, k, 0, y, 0, n);
          return Math.hypot(...y.map((value, i) => value - want[i]));
        });
        if (plain().info.exactProducts) expect(ours).toBe(theirs);
        else expect(ours / theirs).toBeLessThan(0.6);
        // Multiply-adds would be off by a thousandth of it.
        if (!plain().info.exactProducts) expect(ours / theirs).toBeGreaterThan(0.2);
      });
    }

    it('blocks take activations as they are where that is demanded', () => {
      const exact = loadNativeKernels({
        backend: 'builtin',
        instructionSet: kernels().info.instructionSet,
        tiles: 'model',
        exact: true,
      });
      const [m, n, k] = [100, 40, 256];
      const dice = new Dice(72);
      const x = Float32Array.from(dice.values(m * k));
      const bytes = new Uint8Array(storedBytes('q8_0', n * k));
      exact.quantize('q8_0', n, k, Float32Array.from(dice.values(n * k)), 0, k, bytes, 0);
      const w = new Float32Array(n * k);
      exact.dequantize('q8_0', n, k, bytes, 0, w, 0, k);
      const { want, bounds } = product(false, true, m, n, k, 1, x, w, 0, x);
      const y = new Float32Array(m * n);
      exact.multiplyStored(exact.storedMatrices('q8_0', n, k, [bytes]), 0, m, 1, x, 0, k, 0, y, 0, n);
      expectClose('exact', y, want, bounds);
    });

    it('bfloat16 matrices are multiplied by every bit of the activations', () => {
      const [m, n, k] = [48, 40, 256];
      let ours = 0;
      let theirs = 0;
      for (let draw = 0; draw < 20; draw++) {
        const dice = new Dice(700 + draw);
        const w = bfloat16(dice, n * k);
        const x = Float32Array.from(dice.values(m * k));
        const { want, bounds } = product(false, true, m, n, k, 1, x, w.values, 0, x);
        const squares = [kernels(), plain()].map((which) => {
          const y = new Float32Array(m * n);
          const matrices = which.storedMatrices('bfloat16', n, k, [w.bytes]);
          which.multiplyStored(matrices, 0, m, 1, x, 0, k, 0, y, 0, n);
          expectClose('bfloat16', y, want, bounds);
          return y.reduce((sum, value, i) => sum + (value - want[i]) ** 2, 0);
        });
        ours += squares[0];
        theirs += squares[1];
      }
      expect(Math.sqrt(ours)).toBeLessThanOrEqual(1.05 * Math.sqrt(theirs));
    });

    it('results do not depend on the number of threads, and differ from those of multiply-adds', () => {
      const [m, n, k] = [200, 300, 130];
      const dice = new Dice(9);
      const w = bfloat16(dice, n * k);
      const [a, b] = [Float32Array.from(dice.values(m * k)), Float32Array.from(dice.values(n * k))];
      const [depth, blocks] = [1024, new Uint8Array(storedBytes('q8_0', n * 1024))];
      const x = Float32Array.from(dice.values(m * depth));
      plain().quantize('q8_0', n, depth, Float32Array.from(dice.values(n * depth)), 0, depth, blocks, 0);
      const hashes = (which: Kernels): string[] => {
        const [c, y, z] = [0, 1, 2].map(() => new Float32Array(m * n));
        which.sgemm(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, c, 0, n);
        const matrices = which.storedMatrices('bfloat16', n, k, [w.bytes]);
        which.multiplyStored(matrices, 0, m, 1, a, 0, k, 0, y, 0, n);
        which.multiplyStored(
          which.storedMatrices('q8_0', n, depth, [blocks]),
          0,
          m,
          1,
          x,
          0,
          depth,
          0,
          z,
          0,
          n,
        );
        return [c, y, z].map((array) => String(hashBits(array)));
      };
      const before = kernels().info.threads;
      const all = [1, 2, 33].map((threads) => {
        kernels().setThreads(threads);
        return hashes(kernels());
      });
      kernels().setThreads(before);
      expect(all[1]).toEqual(all[0]);
      expect(all[2]).toEqual(all[0]);
      const others = hashes(plain());
      expect(others[0]).not.toBe(all[0][0]);
      expect(others[1]).not.toBe(all[0][1]);
      if (!plain().info.exactProducts) expect(others[2]).not.toBe(all[0][2]);
    });
  });
}
