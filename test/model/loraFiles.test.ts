import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  Decoder,
  exportGgufAdapter,
  exportHuggingFace,
  loadLora,
  MoETransformer,
  quantizeCheckpoint,
  saveLora,
  Tensor,
  Trainer,
} from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { SafetensorsFile, writeSafetensors } from '../../src/checkpoint/safetensors';
import { sgemoe } from '../cli/run';
import { expectRelative, sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { hfDir } from '../helpers/hfFixture';
import { SMALL, smallModel } from '../helpers/smallModel';

const FIXTURES = join(__dirname, '../fixtures/lora');
const CASES = ['mixtral', 'qwen2_moe', 'llama'] as const;

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sgemoe-lora-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const load = (name: (typeof CASES)[number]) => MoETransformer.load(hfDir(name), { onNote: () => {} });

interface Expected {
  ids: Tensor;
  targets: Tensor;
  loss: number;
  logits: Float32Array;
  /** A folder with the gradients in place of the adapters. */
  gradients: string;
}

async function expectedOf(name: string): Promise<Expected> {
  const file = await SafetensorsFile.open(join(FIXTURES, name, 'expected.safetensors'));
  try {
    const read = async (tensor: string) => {
      const data = new Float32Array(file.tensors.get(tensor)!.shape.reduce((a, b) => a * b, 1));
      await file.readPartInto(tensor, 0, data);
      return data;
    };
    const ids = async (tensor: string) => {
      const { shape } = file.tensors.get(tensor)!;
      return new Tensor((await file.read(tensor)) as Int32Array, [...shape], 'int32');
    };
    const gradients = join(dir, `gradients-${name}`);
    await cp(join(FIXTURES, name), gradients, { recursive: true });
    const tensors = [];
    for (const [key, { shape }] of file.tensors) {
      if (!key.startsWith('grad.')) continue;
      tensors.push({ name: key.slice(5), shape, data: await read(key), dtype: 'F32' as const });
    }
    await writeSafetensors(join(gradients, 'adapter_model.safetensors'), tensors);
    const [loss] = await read('loss');
    return {
      ids: await ids('ids'),
      targets: await ids('targets'),
      loss,
      logits: await read('logits'),
      gradients,
    };
  } finally {
    await file.close();
  }
}

describe.each(CASES)("peft's %s", (name) => {
  test('logits, loss and every gradient of the adapters are those of peft', async () => {
    const [model, other] = [await load(name), await load(name)];
    const { ids, targets, loss, logits, gradients } = await expectedOf(name);
    const { store } = await loadLora(join(FIXTURES, name), model);
    const want = (await loadLora(gradients, other)).store;
    expectRelative('logits', model.forward(ids).data, logits, 5e-5);
    const got = new Trainer(model, { auxLossAlpha: 0 }).lossAndGradients(ids, targets);
    expect(Math.abs(got.crossEntropy - loss)).toBeLessThan(5e-5 * loss);
    expect(store.parameters.length).toBeGreaterThan(0);
    store.parameters.forEach(({ name: parameter, grad }, i) => {
      expectRelative(parameter, grad!, want.parameters[i].data, 5e-5);
    });
  });

  test('what is saved is what was read, tensor by tensor and target by target', async () => {
    const model = await load(name);
    await loadLora(join(FIXTURES, name), model);
    const out = join(dir, `saved-${name}`);
    await saveLora(out, model, { base: hfDir(name) });
    const [theirs, ours] = await Promise.all(
      [join(FIXTURES, name), out].map((each) =>
        SafetensorsFile.open(join(each, 'adapter_model.safetensors')),
      ),
    );
    const names = [...theirs.tensors.keys()].filter((each) => !each.includes('base_layer.weight')).sort();
    expect([...ours.tensors.keys()].sort()).toEqual(names);
    for (const each of names) {
      const [a, b] = await Promise.all([theirs.read(each), ours.read(each)]);
      expect(sameBits(a as Float32Array, b as Float32Array), each).toBe(true);
    }
    await Promise.all([theirs.close(), ours.close()]);
    const config = async (folder: string) =>
      JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'));
    const [read, written] = [await config(join(FIXTURES, name)), await config(out)];
    for (const key of ['peft_type', 'task_type', 'r', 'lora_alpha', 'use_rslora', 'lora_dropout', 'bias']) {
      expect(written[key], key).toEqual(read[key]);
    }
    const last = (each: string) =>
      each.replace(/^(self_attn|mlp\.shared_expert)\./, '').replace(/^mlp\.(?=\w+_proj$)/, '');
    expect(written.target_modules.map(last).sort()).toEqual(read.target_modules);
    expect(written.target_parameters?.sort() ?? null).toEqual(read.target_parameters);
  });
});

test('adapters of one stack and of one layer: names are written in full, and read back', async () => {
  const cases = [['layers.1.*.experts.down'], ['experts.gate_up', 'layers.0.*.q_proj'], ['embedding']];
  for (const [i, targets] of cases.entries()) {
    const model = smallModel();
    const lora = model.addLora({ targets, rank: 2, alpha: 3 });
    for (const { data } of lora.store.parameters)
      for (let j = 0; j < data.length; j++) data[j] += Math.sin(j);
    const out = join(dir, `part-${i}`);
    await saveLora(out, model);
    const back = smallModel();
    const read = await loadLora(out, back);
    expect(read.names).toEqual(lora.names);
    const ids = Tensor.fromIds([[3, 1, 4]]);
    expect(sameBits(back.forward(ids).data, model.forward(ids).data)).toBe(true);
  }
});

test('sgemoe merge writes what the adapted model computes', async () => {
  const out = join(dir, 'merged');
  const { code, stdout } = await sgemoe(['merge', hfDir('mixtral'), join(FIXTURES, 'mixtral'), '--out', out]);
  expect([code, stdout]).toEqual([0, `${out}: 15 adapters of rank 4 added to the weights\n`]);
  const adapted = await load('mixtral');
  await loadLora(join(FIXTURES, 'mixtral'), adapted);
  const { ids } = await expectedOf('mixtral');
  const merged = await MoETransformer.load(out);
  // Sums of products in another order, in float32.
  expectRelative('merged', merged.forward(ids).data, adapted.forward(ids).data, 5e-5);
});

test('settings and tensors that the model has no place for are refused by name', async () => {
  const broken = join(dir, 'broken');
  await cp(join(FIXTURES, 'llama'), broken, { recursive: true });
  const file = join(broken, 'adapter_config.json');
  const config = JSON.parse(await readFile(file, 'utf8'));
  const tryWith = async (changes: object, model: MoETransformer) => {
    await writeFile(file, JSON.stringify({ ...config, ...changes }));
    return loadLora(broken, model);
  };
  const model = await load('llama');
  await expectError('SGEMOE_CONFIG_INVALID', /use_dora true is not/, () =>
    tryWith({ use_dora: true }, model),
  );
  await expectError('SGEMOE_CONFIG_INVALID', /rank_pattern/, () =>
    tryWith({ rank_pattern: { q_proj: 3 } }, model),
  );
  await expectError('SGEMOE_CONFIG_INVALID', /r must be an integer >= 1, got 0/, () =>
    tryWith({ r: 0 }, model),
  );
  await expectError('SGEMOE_CHECKPOINT_SHAPE', /lora_A/, () => tryWith({ r: 3 }, model));
  expect(model.lora).toBeNull();
  await expectError('SGEMOE_CHECKPOINT_EXTRA_TENSOR', /for which the model has no place/, () =>
    tryWith({}, smallModel()),
  );
  await expectError('SGEMOE_CHECKPOINT_NOT_FOUND', /adapter_config/, () =>
    loadLora(join(dir, 'none'), model),
  );
});

describe.each(['bfloat16', 'q8_0', 'q4_0', 'q4_k'] as const)('a base in %s', (dtype) => {
  test('has the gradients of the same weights in float32', async () => {
    const [whole, small] = [join(dir, `whole-${dtype}`), join(dir, `small-${dtype}`)];
    // q4_k has blocks of 256; an odd number of rows of experts makes panels end within a matrix.
    const sizes = {
      ...SMALL,
      hiddenDim: 256,
      headDim: 64,
      nHeads: 4,
      ffnDim: 256,
      nLayers: 1,
      sharedFfnDim: 256,
    };
    await MoETransformer.create(sizes, { seed: 3 }).save(whole);
    await quantizeCheckpoint(whole, small, { dtype, onNote: () => {} });
    const kernels = createReferenceKernels();
    const ids = Tensor.fromIds([[3, 1, 4, 1, 5, 9]]);
    const targets = Tensor.fromIds([[1, 4, 1, 5, 9, 2]]);
    const [stored, floats] = await Promise.all(
      (['stored', 'float32'] as const).map(async (type) => {
        const model = await MoETransformer.load(small, { dtype: type, kernels, onNote: () => {} });
        const { store } = model.addLora({ rank: 2, targets: ['all', 'lm_head', 'embedding'] });
        for (const { data } of store.parameters)
          for (let i = 0; i < data.length; i++) data[i] += 0.02 * Math.sin(i);
        const trainer = new Trainer(model, { lr: 0.01, warmupSteps: 0, gradientCheckpointing: true });
        return { model, trainer, store, loss: trainer.lossAndGradients(ids, targets).loss };
      }),
    );
    expect(stored.model.store.isStored).toBe(true);
    expect(Math.abs(stored.loss - floats.loss)).toBeLessThan(1e-5 * floats.loss);
    // Both sum in float64 and round to float32 between products; panels cut some sums.
    stored.store.parameters.forEach(({ name, grad }, i) => {
      expectRelative(name, grad!, floats.store.parameters[i].grad!, 1e-4);
    });
    const before = stored.trainer.trainStep(ids, targets).loss;
    expect(stored.trainer.trainStep(ids, targets).loss).toBeLessThan(before);
    expect(() => stored.model.mergeLora()).toThrow(/stored/);
    stored.model.removeLora();
    expect(() => new Trainer(stored.model).trainStep(ids, targets)).toThrow(/serves only/);
  });
});

describe.each(['qwen2_moe', 'mixtral'] as const)(
  'a base whose queries and keys stay in halves: %s',
  (name) => {
    let base: string;
    beforeAll(async () => {
      base = join(dir, `halves-${name}`);
      await exportHuggingFace(base, await load(name), { architecture: name, dtype: 'bf16' });
    });

    /** The base as it is stored and in float32, with the adapters of peft. */
    async function both() {
      const models = await Promise.all(
        (['stored', 'float32'] as const).map((dtype) => MoETransformer.load(base, { dtype })),
      );
      for (const model of models) await loadLora(join(FIXTURES, name), model);
      expect(models.map(({ store }) => store.pairsHalves)).toEqual([true, false]);
      return models;
    }

    test('computes, trains and saves adapters as the base in float32 does', async () => {
      const [stored, floats] = await both();
      const { ids, targets } = await expectedOf(name);
      expectRelative('logits', stored.forward(ids).data, floats.forward(ids).data, 5e-5);
      const folders = [stored, floats].map((model, i) => {
        // Steps by plain gradients, which unlike Adam's leave a rounding what it is.
        new Trainer(model, { auxLossAlpha: 0 }).lossAndGradients(ids, targets);
        for (const { data, grad } of model.lora!.store.parameters)
          for (let j = 0; j < data.length; j++) data[j] -= grad![j];
        return join(dir, `halves-${name}-${i}`);
      });
      await saveLora(folders[0], stored);
      await saveLora(folders[1], floats);
      const files = await Promise.all(
        folders.map((folder) => SafetensorsFile.open(join(folder, 'adapter_model.safetensors'))),
      );
      for (const tensor of files[0].tensors.keys()) {
        const [got, want] = await Promise.all(files.map((file) => file.read(tensor)));
        expectRelative(tensor, got as Float32Array, want as Float32Array, 5e-5);
      }
      await Promise.all(files.map((file) => file.close()));
    });

    test('exports them for llama.cpp to the bit', async () => {
      const files = await Promise.all(
        (await both()).map(async (model, i) => {
          const file = join(dir, `halves-${name}-${i}.gguf`);
          await exportGgufAdapter(file, model, { name: 'same' });
          return readFile(file);
        }),
      );
      expect(files[0].equals(files[1])).toBe(true);
    });

    test('gives rows of a step adapters of their own', async () => {
      const [stored, floats] = await both();
      const want = floats.forward(Tensor.fromIds([[1, 2, 3]])).data.slice(-floats.vocabSize);
      const lora = stored.lora!;
      stored.removeLora();
      const logits = new Float32Array(stored.vocabSize);
      new Decoder(stored).step([{ slot: 0, tokens: [1, 2, 3], adapter: lora }], { logits });
      expectRelative('logits', logits, want, 5e-5);
    });
  },
);
