import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  exportGguf,
  exportGgufAdapter,
  type LoraOptions,
  type ModelConfigOptions,
  MoETransformer,
  saveLora,
} from '../../src';
import { GgufFile } from '../../src/checkpoint/gguf/ggufFile';
import { sgemoe } from '../cli/run';
import { expectRelative } from '../helpers/close';
import { hfDir } from '../helpers/hfFixture';
import { ALL_DENSE, SMALL, smallModel } from '../helpers/smallModel';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sgemoe-gguf-adapter-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const path = (name: string) => join(folder, `${name}.gguf`);

interface Contents {
  metadata: GgufFile['metadata'];
  /** Dimensions as in the file, fastest first, and values. */
  tensors: Map<string, { dims: readonly number[]; data: Float32Array }>;
}

async function contentsOf(name: string): Promise<Contents> {
  const file = await GgufFile.open(path(name));
  const tensors: Contents['tensors'] = new Map();
  for (const [key, tensor] of file.tensors) {
    const data = new Float32Array(tensor.elements);
    await file.readPartInto(tensor, 0, data);
    tensors.set(key, { dims: [...tensor.shape].reverse(), data });
  }
  await file.close();
  return { metadata: file.metadata, tensors };
}

function addAdapters(model: MoETransformer, options: LoraOptions): void {
  const { store } = model.addLora(options);
  for (const [i, { data }] of store.parameters.entries())
    for (let j = 0; j < data.length; j++) data[j] += 0.1 * Math.sin(j * (i + 3));
}

/** W + s B A, for each matrix that is stacked in W [E,out,in], A [E,r,in], B [E,out,r]. */
function merged(
  w: Float32Array,
  a: Float32Array,
  b: Float32Array,
  [cols, r, E = 1]: readonly number[],
  s: number,
) {
  const rows = w.length / cols / E;
  return w.map((value, at) => {
    const [e, row, col] = [Math.floor(at / rows / cols), Math.floor(at / cols) % rows, at % cols];
    let sum = 0;
    for (let i = 0; i < r; i++) sum += b[(e * rows + row) * r + i] * a[(e * r + i) * cols + col];
    return value + s * sum;
  });
}

const small =
  (options: Partial<ModelConfigOptions> = {}) =>
  async () =>
    MoETransformer.create({ ...SMALL, ...options }, { seed: 5 });

describe('what llama.cpp adds to the weights of a GGUF is what mergeLora adds', () => {
  it.each<[string, () => Promise<MoETransformer>, LoraOptions, string]>([
    [
      'mixtral',
      () => MoETransformer.load(hfDir('mixtral')),
      { targets: ['all', 'lm_head', 'embedding'], rank: 3, alpha: 5 },
      'llama',
    ],
    [
      'qwen2_moe',
      () => MoETransformer.load(hfDir('qwen2_moe')),
      { targets: ['all'], rank: 2, rsLora: true },
      'qwen2moe',
    ],
    ['qwen3_moe', () => MoETransformer.load(hfDir('qwen3_moe')), { rank: 2 }, 'qwen3moe'],
    ['dense', small(ALL_DENSE), { rank: 2, targets: ['k_proj', 'w3', 'layers.1.*.w2'] }, 'llama'],
  ])('%s', async (_, load, options, architecture) => {
    const model = await load();
    await exportGguf(path('base'), model);
    addAdapters(model, options);
    expect(await exportGgufAdapter(path('adapter'), model, { name: 'mine' })).toBe(architecture);
    model.mergeLora();
    await exportGguf(path('merged'), model);
    const [base, adapter, whole] = [
      await contentsOf('base'),
      await contentsOf('adapter'),
      await contentsOf('merged'),
    ];
    const { rank = 16, alpha = 2 * rank, rsLora = false } = options;
    const scaled = rsLora ? alpha * Math.sqrt(rank) : alpha;
    const told = Object.fromEntries(adapter.metadata);
    expect(told).toMatchObject({
      'general.architecture': architecture,
      'general.type': 'adapter',
      'general.name': 'mine',
      'adapter.type': 'lora',
    });
    expect(told['adapter.lora.alpha']).toBeCloseTo(scaled, 5);
    let changed = 0;
    for (const [name, w] of base.tensors) {
      const [a, b] = ['lora_a', 'lora_b'].map((each) => adapter.tensors.get(`${name}.${each}`));
      const want = whole.tensors.get(name)!.data;
      if (a === undefined || b === undefined) {
        expect(w.data, name).toEqual(want);
        continue;
      }
      changed++;
      if (name === 'token_embd.weight') {
        // llama.cpp reads rows of A there, and checks [r, vocabulary] and [r, hidden].
        expect([a.dims, b.dims]).toEqual([
          [rank, w.dims[1]],
          [rank, w.dims[0]],
        ]);
        const H = w.dims[0];
        const transposed = b.data.map((_, i) => b.data[(i % H) * rank + Math.floor(i / H)]);
        expectRelative(name, merged(w.data, transposed, a.data, [H, rank], scaled / rank), want, 1e-5);
        continue;
      }
      // The dimensions that llama.cpp checks: [in, r] and [r, out].
      expect([a.dims[0], b.dims[1], a.dims[1]], name).toEqual([w.dims[0], w.dims[1], b.dims[0]]);
      expectRelative(name, merged(w.data, a.data, b.data, a.dims, scaled / rank), want, 1e-5);
      expect(() => expectRelative(name, w.data, want, 1e-3)).toThrow();
    }
    expect(changed).toBeGreaterThan(0);
    expect(adapter.tensors.size).toBe(2 * changed);
  });
});

it('refuses what a GGUF has no matrix for, and models without adapters', async () => {
  const tied = smallModel({ tieEmbeddings: true });
  expect(() => exportGgufAdapter(path('x'), tied)).toThrow(TypeError);
  tied.addLora({ targets: ['lm_head'] });
  await expect(exportGgufAdapter(path('x'), tied)).rejects.toThrow(/a tied lm_head has no matrix/);
  tied.removeLora();
  tied.addLora({ targets: ['embedding'] });
  await expect(exportGgufAdapter(path('x'), tied)).rejects.toThrow(
    /a tied model\.embed_tokens has no matrix/,
  );
  const gated = await MoETransformer.load(hfDir('qwen2_moe'));
  gated.addLora({ targets: ['shared_expert_gate'] });
  await expect(exportGgufAdapter(path('x'), gated)).rejects.toThrow(
    /shared_expert_gate is a vector in a GGUF/,
  );
  await expect(exportGgufAdapter(join(folder, 'x'), gated)).rejects.toThrow(/must end in \.gguf/);
});

it('sgemoe export writes the adapters of a folder alone, or added to the weights', async () => {
  const base = join(folder, 'base');
  await smallModel().save(base);
  const model = await MoETransformer.load(base);
  addAdapters(model, { rank: 2 });
  const adapter = join(folder, 'adapter');
  await saveLora(adapter, model);
  await exportGgufAdapter(path('want'), model, { name: 'cli' });
  const run = await sgemoe(['export', adapter, '--out', path('cli'), '--gguf', '--adapter-only']);
  expect(run).toMatchObject({ code: 0, stdout: `${path('cli')}: GGUF, adapters for llama, f32\n` });
  expect(await contentsOf('cli')).toEqual(await contentsOf('want'));
  expect(await sgemoe(['export', adapter, '--out', path('whole'), '--gguf'])).toMatchObject({ code: 0 });
  model.mergeLora();
  await exportGguf(path('merged'), model);
  expect((await contentsOf('whole')).tensors).toEqual((await contentsOf('merged')).tensors);
  for (const args of [
    [base, '--gguf', '--adapter-only'],
    [adapter, '--adapter-only'],
    [adapter, '--gguf', '--adapter-only', '--dtype', 'q8_0'],
  ]) {
    expect(await sgemoe(['export', ...args, '--out', path('no')])).toMatchObject({ code: 2 });
  }
});
