import { describe, expect, it } from 'vitest';
import { loadCheckpoint, loadTensorsInto, type NamedTensor } from '../../src/checkpoint/checkpoint';
import { SafetensorsFile } from '../../src/checkpoint/safetensors';

describe.each(['micro', 'gqa'])('the stored case %s', (name) => {
  const dir = `test/fixtures/${name}`;

  it('loads as it is, without a tokenizer', async () => {
    const { config, tokenizer, tensors } = await loadCheckpoint(dir);
    expect(config).toMatchObject({ hidden_size: name === 'micro' ? 16 : 24 });
    expect(tokenizer).toBeNull();
    const model: NamedTensor[] = [...tensors.tensors.values()].map((info) => ({
      name: info.name,
      shape: info.shape,
      data: new Float32Array(new SharedArrayBuffer(4 * info.elements)),
    }));
    await loadTensorsInto(tensors, model);
    await tensors.close();
    const embedding = model.find((tensor) => tensor.name === 'model.embed_tokens.weight')!;
    expect(embedding.shape).toEqual([config.vocab_size, config.hidden_size]);
    for (const { data } of model)
      expect(data.every((value) => Number.isFinite(value) && value !== 0)).toBe(true);
  });

  it('holds I64 ids and F32 scalars that read as such', async () => {
    const file = await SafetensorsFile.open(`${dir}/tensors.safetensors`);
    const ids = await file.read('input_ids');
    const loss = await file.read('loss.total');
    await file.close();
    expect(ids).toBeInstanceOf(BigInt64Array);
    expect((ids as BigInt64Array).every((id) => id >= 0n && id < 50n)).toBe(true);
    expect(file.info('loss.total').shape).toEqual([]);
    expect(loss).toHaveLength(1);
    expect(loss[0]).toBeGreaterThan(1);
  });
});
