import { expect, it } from 'vitest';
import { type Inspection, inspectCheckpoint } from '../../src';
import { byteModel, sgemoe } from './run';

const saved = byteModel();

const generate = (...flags: string[]) =>
  sgemoe(['generate', saved.model, '--prompt', 'a', '--max-tokens', '20', ...flags]);

it('generate keeps keys and values as --kv-cache-dtype says', async () => {
  const { code, stdout } = await generate('--kv-cache-dtype', 'float16');
  expect(code).toBe(0);
  expect(stdout.length).toBeGreaterThan(1);
  // The heads of this model are narrower than a block of q8_0, which only a cache of that type refuses.
  const refused = await generate('--kv-cache-dtype', 'q8_0');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain("kvCacheDtype 'q8_0' needs a headDim that is a multiple of 32");
});

it('inspect tells the memory of keys and values of --kv-cache-dtype', async () => {
  const bytesOf = async (dtype: string) => {
    const { stdout } = await sgemoe(['inspect', saved.model, '--json', '--kv-cache-dtype', dtype]);
    return (JSON.parse(stdout) as Inspection).memory.keyValueCache;
  };
  const { nLayers, nKvHeads, headDim, maxSeqLen } = (await inspectCheckpoint(saved.model)).config;
  const numbers = 2 * nLayers * nKvHeads * headDim * maxSeqLen;
  const ids = 4 * maxSeqLen;
  expect([await bytesOf('float32'), await bytesOf('float16')]).toEqual([
    4 * numbers + ids,
    2 * numbers + ids,
  ]);
  await expect(inspectCheckpoint(saved.model, { kvCacheDtype: 'q8_0' })).rejects.toThrow(/multiple of 32/);
});

it('generate refuses a type that no cache has', async () => {
  const { code, stderr } = await generate('--kv-cache-dtype', 'q4_0');
  expect(code).toBe(2);
  expect(stderr).toContain('kv-cache-dtype');
});
