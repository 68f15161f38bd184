/** Faults in the tensors of a folder of `transformers`. */
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MoETransformer, SafetensorsFile, Tensor, writeSafetensors } from '../../src';
import { halvesRow, halvesToNeighbours, neighboursRow } from '../../src/checkpoint/ropePairs';
import type { Architecture } from '../../src/hf/architectures';
import { expectError } from '../helpers/expectError';
import { hfDir } from '../helpers/hfFixture';

type Tensors = Map<string, { shape: readonly number[]; data: Float32Array }>;

/** A copy of a fixture with float32 weights in one file, after `edit`. */
async function edited(
  architecture: Architecture,
  edit: (tensors: Tensors, config: Record<string, unknown>) => void,
) {
  const dir = mkdtempSync(join(tmpdir(), 'hf-'));
  cpSync(join(hfDir(architecture), 'config.json'), join(dir, 'config.json'));
  const tensors: Tensors = new Map();
  await using file = await SafetensorsFile.open(join(hfDir(architecture), 'model.safetensors'));
  for (const [name, { shape, elements }] of file.tensors) {
    const data = new Float32Array(elements);
    await file.readInto(name, data);
    tensors.set(name, { shape, data });
  }
  const config = JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8'));
  edit(tensors, config);
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
  await writeSafetensors(
    join(dir, 'model.safetensors'),
    Array.from(tensors, ([name, tensor]) => ({ name, dtype: 'F32' as const, ...tensor })),
  );
  return dir;
}

const ids = Tensor.fromIds([[1, 2, 3, 4, 5]]);
const logitsOf = async (dir: string) => (await MoETransformer.load(dir)).forward(ids).data;

describe('rows in pairs', () => {
  test('halves and neighbours are each other’s inverse, not the same', () => {
    const D = 10;
    const rows = Array.from({ length: 3 * D }, (_, i) => i);
    expect(rows.map((row) => neighboursRow(halvesRow(row, D), D))).toEqual(rows);
    expect(rows.slice(0, D).map((row) => halvesRow(row, D))).toEqual([0, 5, 1, 6, 2, 7, 3, 8, 4, 9]);
    const data = Float32Array.from(rows.flatMap((row) => [row, -row]));
    halvesToNeighbours(data, D, 2);
    expect(Array.from(data)).toEqual(rows.flatMap((row) => [halvesRow(row, D), -halvesRow(row, D)]));
  });
});

describe('tensors of a folder of transformers', () => {
  test('angles of old checkpoints are skipped, a second copy of a tied table too', async () => {
    const plain = await logitsOf(hfDir('granitemoe'));
    const dir = await edited('granitemoe', (tensors) => {
      tensors.set('model.layers.0.self_attn.rotary_emb.inv_freq', { shape: [2], data: new Float32Array(2) });
      tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight')!);
    });
    expect(await logitsOf(dir)).toEqual(plain);
  });

  test('experts stacked in one tensor, as transformers 5 holds them in memory', async () => {
    const plain = await logitsOf(hfDir('mixtral'));
    const dir = await edited('mixtral', (tensors) => {
      for (const layer of [0, 1]) {
        const from = `model.layers.${layer}.block_sparse_moe.`;
        const to = `model.layers.${layer}.mlp.`;
        const take = (name: string) => {
          const { data } = tensors.get(name)!;
          tensors.delete(name);
          return Array.from(data);
        };
        const experts = [0, 1, 2, 3].map((e) =>
          [1, 3, 2].map((w) => take(`${from}experts.${e}.w${w}.weight`)),
        );
        const set = (name: string, shape: number[], values: number[]) =>
          tensors.set(to + name, { shape, data: Float32Array.from(values) });
        set(
          'experts.gate_up_proj',
          [4, 80, 32],
          experts.flatMap(([gate, up]) => [...gate, ...up]),
        );
        set(
          'experts.down_proj',
          [4, 32, 40],
          experts.flatMap(([, , down]) => down),
        );
        set('gate.weight', [4, 32], take(`${from}gate.weight`));
      }
    });
    expect(await logitsOf(dir)).toEqual(plain);
  });

  test('a tied model whose lm_head differs is refused', async () => {
    const dir = await edited('granitemoe', (tensors) => {
      const { shape, data } = tensors.get('model.embed_tokens.weight')!;
      tensors.set('lm_head.weight', {
        shape,
        data: data.map((value, i) => (i === data.length - 1 ? value + 1 : value)),
      });
    });
    await expectError('SGEMOE_CHECKPOINT_EXTRA_TENSOR', /lm_head.weight differs from the embedding/, () =>
      logitsOf(dir),
    );
  });

  test('missing, unknown and misshapen tensors are named as the file names them', async () => {
    const router = 'model.layers.1.block_sparse_moe.router.layer.weight';
    const missing = await edited('granitemoe', (tensors) => tensors.delete(router));
    await expectError('SGEMOE_CHECKPOINT_MISSING_TENSOR', /router\.layer\.weight/, () => logitsOf(missing));
    const extra = await edited('mixtral', (tensors) => {
      tensors.set('model.layers.0.self_attn.q_proj.bias', { shape: [1], data: new Float32Array(1) });
    });
    await expectError('SGEMOE_CHECKPOINT_EXTRA_TENSOR', /q_proj.bias", which the model does not/, () =>
      logitsOf(extra),
    );
    const wide = await edited('mixtral', (_, config) => {
      config.intermediate_size = 41;
    });
    await expectError('SGEMOE_CHECKPOINT_SHAPE', /\[40, 32\] in the file, \[41, 32\] in the model/, () =>
      logitsOf(wide),
    );
    const untied = await edited('granitemoe', (_, config) => {
      config.tie_word_embeddings = false;
    });
    await expectError('SGEMOE_CHECKPOINT_MISSING_TENSOR', /lm_head.weight/, () => logitsOf(untied));
  });

  test('a process warning lists the ignored keys', async () => {
    const dir = await edited('mixtral', (_, config) => {
      config.mystery = 1;
    });
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
    await logitsOf(dir);
    expect((await warned).message).toBe('config.json: keys that are not known are ignored: mystery.');
  });
});
