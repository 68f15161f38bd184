import { afterEach, describe, expect, test, vi } from 'vitest';
import { requireMemory } from '../../src/base/requireMemory';

const there = () => ({ bytes: 15.5e9, where: 'on this machine' });

afterEach(() => vi.unstubAllEnvs());

describe('requireMemory', () => {
  test('names what takes it, both figures and every part', () => {
    vi.stubEnv('SGEMOE_MEMORY_LIMIT', '');
    const needs = { weights: 27.7e9, packed: 0, cache: 1.1e9, activations: undefined };
    expect(() => requireMemory('The model in runs/big', needs, there)).toThrow(
      expect.objectContaining({
        code: 'SGEMOE_MEMORY',
        message:
          'The model in runs/big takes 28.8 GB of memory (weights 27.7 GB, key-value cache 1.1 GB), but 15.5 GB are ' +
          'available on this machine. If swap makes up for it, set SGEMOE_MEMORY_LIMIT=none.',
      }),
    );
  });

  test('accepts what fits; the sum counts', () => {
    vi.stubEnv('SGEMOE_MEMORY_LIMIT', '');
    requireMemory('A', { weights: 15.5e9 }, there);
    requireMemory('A', { gradients: 5e9, moments: 10.5e9 }, there);
    expect(() => requireMemory('A', { gradients: 5e9, moments: 10.6e9 }, there)).toThrow(/takes 15\.6 GB/);
  });

  test('accepts small amounts without a look at the machine', () => {
    vi.stubEnv('SGEMOE_MEMORY_LIMIT', '');
    const look = vi.fn(there);
    requireMemory('A', { weights: 10e6, activations: 10e6 }, look);
    expect(look).not.toHaveBeenCalled();
    requireMemory('A', { weights: 10e6, activations: 100e6 }, look);
    expect(look).toHaveBeenCalledOnce();
  });

  test.each([
    ['1000', 1000],
    ['2kB', 2000],
    ['1.5 MB', 1.5e6],
    ['3KiB', 3072],
    ['8GiB', 8 * 2 ** 30],
    ['1TB', 1e12],
  ])('SGEMOE_MEMORY_LIMIT=%s is %d bytes, whatever the machine has', (text, bytes) => {
    vi.stubEnv('SGEMOE_MEMORY_LIMIT', text);
    const none = () => ({ bytes: 0, where: 'on this machine' });
    requireMemory('A', { weights: bytes }, none);
    expect(() => requireMemory('A', { weights: bytes + 1 }, there)).toThrow(
      /available by SGEMOE_MEMORY_LIMIT/,
    );
  });

  test('SGEMOE_MEMORY_LIMIT=none lets everything pass', () => {
    vi.stubEnv('SGEMOE_MEMORY_LIMIT', 'none');
    requireMemory('A', { weights: 1e18 }, there);
  });

  test.each(['lots', '-1', '1XB', 'GB', '1e9'])('SGEMOE_MEMORY_LIMIT=%s is refused', (text) => {
    vi.stubEnv('SGEMOE_MEMORY_LIMIT', text);
    expect(() => requireMemory('A', { weights: 1 }, there)).toThrow(
      new RangeError(`SGEMOE_MEMORY_LIMIT must be bytes, such as 12GB or 8GiB, or 'none', got '${text}'`),
    );
  });
});
