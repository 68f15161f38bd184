/** What `quantize` makes of numbers: ggml's bytes where ggml defines them, and errors that its types allow. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createReferenceKernels } from '../../src/backend/reference';
import { type StorageType, storedBytes } from '../../src/base/storageTypes';
import { layoutOf } from '../../src/checkpoint/gguf/blockTypes';
import { tryLoad } from './tryLoad';

const file = join(__dirname, '../fixtures/gguf/quantized.json');
const { float32, ...fixtures } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));
const reference = createReferenceKernels();

function quantized(type: StorageType, x: Float32Array, kernels = reference): Uint8Array {
  const bytes = new Uint8Array(storedBytes(type, x.length));
  kernels.quantize(type, 1, x.length, x, 0, x.length, bytes, 0);
  return bytes;
}

/** sum (x - y)^2 / sum x^2 of what comes back. */
function error(type: StorageType, x: Float32Array, bytes = quantized(type, x)): number {
  const y = new Float32Array(x.length);
  reference.dequantize(type, 1, x.length, bytes, 0, y, 0, x.length);
  let [off, all] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    off += (x[i] - y[i]) ** 2;
    all += x[i] ** 2;
  }
  return off / all;
}

describe("quantize gives the bytes of Python's gguf", () => {
  const x = new Float32Array(bytesOf(float32).buffer);
  it.each(Object.keys(fixtures))('%s', (name) => {
    const { storage } = layoutOf(name as 'F16');
    expect(Buffer.from(quantized(storage, x)).toString('base64')).toBe(fixtures[name]);
    const native = tryLoad({ backend: 'builtin' });
    if (native) expect(Buffer.from(quantized(storage, x, native)).toString('base64')).toBe(fixtures[name]);
  });
});

describe('the types of 256 numbers', () => {
  const normal = new Float32Array(64 * 256);
  reference.randomNormal(normal, 0, normal.length, 1, 2, 3, 0.02);

  it('lose less than types of as many bits whose scales are not searched for', () => {
    expect(error('q4_k', normal)).toBeLessThan(error('q4_1', normal));
    expect(error('q4_k', normal)).toBeLessThan(error('q4_0', normal));
    expect(error('q5_k', normal)).toBeLessThan(error('q5_1', normal));
    expect(error('q6_k', normal)).toBeLessThan(error('q5_k', normal) / 2.5);
    expect(error('q8_0', normal)).toBeLessThan(error('q6_k', normal) / 4);
  });

  it('give back what they can hold exactly', () => {
    // Quotients that use the whole range, so that the best scale is the one they were made with.
    const steps = Float32Array.from({ length: 256 }, (_, i) => ((i % 32) - 16) * 0.25);
    expect(error('q5_k', steps)).toBeLessThan(1e-5);
    const sixteens = Float32Array.from({ length: 256 }, (_, i) => ((i % 16) - 8) * 4);
    expect(error('q4_k', sixteens)).toBeLessThan(1e-3);
  });

  it('keep zeros, and blocks of one value', () => {
    for (const type of ['q4_k', 'q5_k', 'q6_k'] as const) {
      expect(error(type, new Float32Array(256).fill(3))).toBeLessThan(1e-5);
      const zeros = new Float32Array(256);
      const y = zeros.slice().fill(1);
      reference.dequantize(type, 1, 256, quantized(type, zeros), 0, y, 0, 256);
      expect(y.every((value) => value === 0)).toBe(true);
    }
  });
});
