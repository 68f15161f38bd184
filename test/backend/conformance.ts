import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../src/backend/kernels';
import { createReferenceKernels } from '../../src/backend/reference';
import { attentionConformance } from './conformance/attention';
import { attentionStoredConformance } from './conformance/attentionStored';
import { elementwiseConformance } from './conformance/elementwise';
import { groupedMatmulConformance } from './conformance/groupedMatmul';
import { lossConformance } from './conformance/loss';
import { matmulConformance } from './conformance/matmul';
import { misuseConformance } from './conformance/misuse';
import { mixedConformance } from './conformance/mixed';
import { overlapConformance } from './conformance/overlap';
import { packedConformance } from './conformance/packed';
import { randomConformance } from './conformance/random';
import { ropeConformance } from './conformance/rope';
import { routingConformance } from './conformance/routing';
import { rowConformance } from './conformance/rows';
import { rowsByIndexConformance } from './conformance/rowsByIndex';
import { samplingConformance } from './conformance/sampling';
import { quantizeConformance, storedConformance } from './conformance/stored';
import { threadConformance } from './conformance/threads';

export interface ConformanceOptions {
  /** Don't register the tests (they show as skipped): the backend isn't available here. */
  readonly skip?: boolean;
}

/**
 * Registers the tests that make an implementation of `Kernels` one: every kernel against its formula computed
 * naively in float64, at awkward sizes and placements, with guards around everything; misuse of every
 * argument; results that don't depend on the number of threads. `getKernels` is called when tests run.
 */
export function conformance(name: string, getKernels: () => Kernels, options: ConformanceOptions = {}): void {
  let made: Kernels | undefined;
  const kernels = (): Kernels => {
    made ??= getKernels();
    return made;
  };
  describe.skipIf(options.skip)(`kernels: ${name}`, () => {
    it('describe themselves', () => {
      const { info, floatType } = kernels();
      expect(floatType).toBe('float32');
      expect(info.platform).toContain(`${process.platform}-${process.arch}`);
      expect(info.threads).toBeGreaterThanOrEqual(1);
      expect([
        'none',
        'baseline',
        'avx2',
        'avxvnni',
        'avx512',
        'avx512vnni',
        'neon',
        'neondot',
        'neoni8mm',
        'simd128',
        'relaxed-simd',
      ]).toContain(info.instructionSet);
      expect(Array.isArray(info.notes)).toBe(true);
    });

    it('pad to the next multiple of 64 bytes, by whole elements below 16', () => {
      const buffer = new ArrayBuffer(256);
      for (let byteOffset = 0; byteOffset < 64; byteOffset += 4) {
        const padding = kernels().alignmentPadding(new Float32Array(buffer, byteOffset));
        expect(Number.isInteger(padding) && padding >= 0 && padding < 16).toBe(true);
      }
    });

    it('leave the contents of a buffer for which large pages are asked', () => {
      const x = new Float32Array((8 << 20) / 4 + 7).map((_, i) => i % 1000);
      for (const part of [x, x.subarray(3), x.subarray(0, 0)]) kernels().adviseHugePages(part);
      expect(x.every((value, i) => value === i % 1000)).toBe(true);
    });

    matmulConformance(kernels);
    groupedMatmulConformance(kernels);
    mixedConformance(kernels);
    packedConformance(kernels);
    elementwiseConformance(kernels);
    rowConformance(kernels);
    rowsByIndexConformance(kernels);
    attentionConformance(kernels);
    attentionStoredConformance(kernels);
    ropeConformance(kernels);
    routingConformance(kernels);
    lossConformance(kernels);
    samplingConformance(kernels);
    randomConformance(kernels);
    storedConformance(kernels);
    quantizeConformance(kernels, () => createReferenceKernels());
    misuseConformance(kernels);
    overlapConformance(kernels);
    threadConformance(kernels);
  });
}
