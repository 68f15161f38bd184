import { crc32 } from 'node:zlib';
import { expect, it } from 'vitest';
import { joinedCrc32 } from '../../src/checkpoint/crc32';

const bytes = Uint8Array.from({ length: 5000 }, (_, i) => (i * i + 7 * i) >> 3);

it.each([0, 1, 2, 3, 255, 256, 4999, 5000])('the checksum of bytes cut at %i is that of both parts', (at) => {
  const [a, b] = [bytes.subarray(0, at), bytes.subarray(at)];
  expect(joinedCrc32(crc32(a), crc32(b), b.length)).toBe(crc32(bytes));
});

it('holds for lengths that take more than 32 bits: zeros behind zeros', () => {
  // 2^33 zeros, joined by halves.
  let crc = crc32(new Uint8Array(1));
  for (let length = 1; length < 2 ** 33; length *= 2) crc = joinedCrc32(crc, crc, length);
  const twice = joinedCrc32(crc, crc, 2 ** 33);
  const thrice = joinedCrc32(twice, crc, 2 ** 33);
  expect(joinedCrc32(crc, twice, 2 ** 34)).toBe(thrice);
  expect(thrice).not.toBe(joinedCrc32(twice, crc, 0));
});
