import { expect } from 'vitest';

/** max |got - want| / max |want| must stay below `limit`; a failure names the worst element. */
export function expectRelative(
  what: string,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  limit: number,
): number {
  expect(got.length, `${what}: length`).toBe(want.length);
  let scale = 0;
  let worst = 0;
  let at = 0;
  for (let i = 0; i < want.length; i++) {
    scale = Math.max(scale, Math.abs(want[i]));
    const difference = Math.abs(got[i] - want[i]);
    if (difference > worst || Number.isNaN(difference)) {
      worst = difference;
      at = i;
      if (Number.isNaN(difference)) break;
    }
  }
  const relative = worst === 0 ? 0 : worst / scale;
  const where = `${what}: worst element ${at}: got ${got[at]}, want ${want[at]}, scale ${scale}`;
  expect(relative <= limit, `${where}, relative ${relative.toExponential(2)} > ${limit}`).toBe(true);
  return relative;
}

/** |got - want| <= limit * |want|. */
export function expectClose(what: string, got: number, want: number, limit: number): void {
  expectRelative(what, [got], [want], limit);
}

/** Bit equality, NaN included; a boolean, because a diff of thousands of numbers helps nobody. */
export function sameBits(a: Float32Array, b: Float32Array): boolean {
  const bytes = (x: Float32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  return bytes(a).equals(bytes(b));
}
