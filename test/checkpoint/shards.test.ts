import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadCheckpoint, SafetensorsShards, writeSafetensors } from '../../src';
import { INDEX_FILE } from '../../src/checkpoint/shards';
import { expectError } from '../helpers/expectError';

const tensor = (name: string, values: number[]) => ({
  name,
  dtype: 'F32' as const,
  shape: [values.length],
  data: Float32Array.from(values),
});
const FILES = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];

/** a, b in the first shard, c in the second. */
async function folder(index: unknown, second = [tensor('c', [4, 5, 6, 7])]): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'shards-'));
  await writeSafetensors(join(dir, FILES[0]), [tensor('a', [1]), tensor('b', [2, 3])], { format: 'pt' });
  await writeSafetensors(join(dir, FILES[1]), second);
  writeFileSync(join(dir, INDEX_FILE), typeof index === 'string' ? index : JSON.stringify(index));
  return dir;
}

const MAP = { a: FILES[0], b: FILES[0], c: FILES[1] };
const open = async (index: unknown, second?: ReturnType<typeof tensor>[]) =>
  SafetensorsShards.open(join(await folder(index, second), INDEX_FILE));

describe('a checkpoint in shards', () => {
  test('reads each tensor, and parts of it, from the file that holds it', async () => {
    await using shards = await open({ metadata: { total_size: 28 }, weight_map: MAP });
    expect([...shards.tensors.keys()]).toEqual(['a', 'b', 'c']);
    expect(shards.metadata.get('format')).toBe('pt');
    expect(Array.from((await shards.read('b')) as Float32Array)).toEqual([2, 3]);
    const part = new Float32Array(2);
    await shards.readPartInto('c', 1, part);
    expect(Array.from(part)).toEqual([5, 6]);
    await expect(shards.readPartInto('c', 3, part)).rejects.toThrow(RangeError);
    await expect(shards.readPartInto('c', -1, part)).rejects.toThrow(RangeError);
    await expectError('SGEMOE_CHECKPOINT_MISSING_TENSOR', /no tensor "d"/, async () => shards.info('d'));
  });

  test('a folder with an index and no model.safetensors is a checkpoint; the single file comes first', async () => {
    const dir = await folder({ weight_map: MAP });
    writeFileSync(join(dir, 'config.json'), '{}');
    const sharded = await loadCheckpoint(dir);
    expect(sharded.tensors.tensors.size).toBe(3);
    await sharded.tensors.close();
    await writeSafetensors(join(dir, 'model.safetensors'), [tensor('only', [1])]);
    const single = await loadCheckpoint(dir);
    expect([...single.tensors.tensors.keys()]).toEqual(['only']);
    await single.tensors.close();
  });

  test.each([
    ['no JSON', '{', /not JSON/],
    ['a list', [], /no object "weight_map"/],
    ['no weight_map', {}, /no object "weight_map"/],
    ['an empty weight_map', { weight_map: {} }, /names no tensors/],
    ['a file outside', { weight_map: { ...MAP, c: '../c.safetensors' } }, /of this folder, got "\.\.\/c/],
    ['a Windows path', { weight_map: { ...MAP, c: 'C:\\c.safetensors' } }, /of this folder/],
    ['a pickle', { weight_map: { ...MAP, c: 'pytorch_model.bin' } }, /of this folder/],
    ['a number', { weight_map: { ...MAP, c: 2 } }, /of this folder, got "2"/],
    [
      'an unlisted tensor',
      { weight_map: { a: FILES[0], c: FILES[1] } },
      /holds tensor "b", which the index does not list/,
    ],
    [
      'a tensor in the wrong shard',
      { weight_map: { ...MAP, b: FILES[1] } },
      /"b", which the index says is in/,
    ],
    ['a name twice', `{"weight_map":{"a":"${FILES[0]}","a":"${FILES[1]}"}}`, /the key "a" twice/],
  ])('%s is refused', async (_, index, message) => {
    await expectError('SGEMOE_CHECKPOINT_INDEX', message, () => open(index));
  });

  test('a tensor in two shards, a tensor in none and a missing shard are refused', async () => {
    const twice = [tensor('b', [2, 3]), tensor('c', [4])];
    await expectError('SGEMOE_CHECKPOINT_INDEX', /holds tensor "b", which the index says is in/, () =>
      open({ weight_map: MAP }, twice),
    );
    await expectError('SGEMOE_CHECKPOINT_MISSING_TENSOR', /holds no tensor "d"/, () =>
      open({ weight_map: { ...MAP, d: FILES[1] } }),
    );
    await expectError('SGEMOE_CHECKPOINT_NOT_FOUND', /model-3.safetensors: there is no such file/, () =>
      open({ weight_map: { ...MAP, d: 'model-3.safetensors' } }),
    );
  });
});
