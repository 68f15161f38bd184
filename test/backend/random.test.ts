import { describe, expect, it } from 'vitest';
import { createReferenceKernels } from '../../src/backend/reference';
import { philox4x32 } from '../../src/backend/reference/random';
import { Dice } from './conformance/harness';

function hexWords(counter: number[], key: number[]): string {
  const words = new Uint32Array(4);
  philox4x32(counter[0], counter[1], counter[2], counter[3], key[0], key[1], words);
  return [...words].map((word) => word.toString(16).padStart(8, '0')).join(' ');
}

/** The ten rounds in 64-bit integers, where the high half of a product is a shift. */
function bigPhilox(counter: number[], key: number[]): string {
  const mask = 0xffffffffn;
  let [c0, c1, c2, c3] = counter.map(BigInt);
  let [k0, k1] = key.map(BigInt);
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0,
      p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask];
    [k0, k1] = [(k0 + 0x9e3779b9n) & mask, (k1 + 0xbb67ae85n) & mask];
  }
  return [c0, c1, c2, c3].map((word) => word.toString(16).padStart(8, '0')).join(' ');
}

describe('philox4x32-10', () => {
  it('gives the published known answers (Random123, kat_vectors)', () => {
    const ones = 0xffffffff;
    expect(hexWords([0, 0, 0, 0], [0, 0])).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8');
    expect(hexWords([ones, ones, ones, ones], [ones, ones])).toBe('408f276d 41c83b0e a20bc7c6 6d5451fd');
    const pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
    expect(hexWords(pi, [0xa4093822, 0x299f31d0])).toBe('d16cfe09 94fdcceb 5001e420 24126ea1');
  });

  it('agrees with 64-bit integer arithmetic on random counters and keys', () => {
    const dice = new Dice(1);
    for (let trial = 0; trial < 2000; trial++) {
      const word = (): number => dice.int(2 ** 32);
      const counter = [word(), word(), word(), word()],
        key = [word(), word()];
      expect(hexWords(counter, key)).toBe(bigPhilox(counter, key));
    }
  });
});

describe('randomNormal', () => {
  const float64 = createReferenceKernels({ floatType: 'float64' });

  it('is Box-Muller on the words of philox, as close as log, cos and sin allow', () => {
    const n = 40_000;
    const out = new Float64Array(n);
    float64.randomNormal(out as unknown as Float32Array, 0, n, 11, 22, 33, 1);
    const words = new Uint32Array(4);
    let worst = 0;
    for (let j = 0; j < n / 4; j++) {
      philox4x32(j, 0, 33, 0, 11, 22, words);
      for (const pair of [0, 2]) {
        const radius = Math.sqrt(-2 * Math.log((words[pair] + 0.5) / 2 ** 32));
        const angle = (words[pair + 1] / 2 ** 32) * 2 * Math.PI;
        const error = Math.max(
          Math.abs(out[4 * j + pair] - radius * Math.cos(angle)),
          Math.abs(out[4 * j + pair + 1] - radius * Math.sin(angle)),
        );
        worst = Math.max(worst, error / (radius * 5e-14 + 1e-14 / radius));
      }
    }
    // The sine's series leaves out t^19/19! and more, 4.4e-14 at pi/2, which the radius multiplies. ln u is a
    // difference of numbers up to 22.2, off by a few of their ulps, 1e-14, which a radius near 0 divides by
    // itself.
    expect(worst).toBeLessThan(1);
  });

  it('starts at element 0 of the stream wherever it writes, and a shorter draw is a prefix', () => {
    const kernels = createReferenceKernels();
    const long = new Float32Array(103),
      short = new Float32Array(50);
    kernels.randomNormal(long, 3, 100, 5, 6, 7, 2);
    kernels.randomNormal(short, 0, 50, 5, 6, 7, 2);
    expect(long.subarray(3, 53)).toEqual(short);
    expect([...long.subarray(0, 3)]).toEqual([0, 0, 0]);
  });

  it('rounds std * normal once', () => {
    const kernels = createReferenceKernels();
    const single = new Float32Array(1000),
      double = new Float64Array(1000);
    kernels.randomNormal(single, 0, 1000, 5, 6, 7, 0.3);
    float64.randomNormal(double as unknown as Float32Array, 0, 1000, 5, 6, 7, 0.3);
    expect(single).toEqual(Float32Array.from(double));
  });
});
