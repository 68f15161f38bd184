/** Models whose matrices stay as the files have them, or are rounded while they are loaded. */
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  Decoder,
  exportCheckpoint,
  exportHuggingFace,
  importCheckpoint,
  inspectCheckpoint,
  type ModelDtype,
  MoETransformer,
  SafetensorsFile,
  Tensor,
  Trainer,
  writeSafetensors,
} from '../../src';
import { getKernels } from '../../src/backend';
import { createReferenceKernels } from '../../src/backend/reference';
import { type StorageType, storageTypeFor, storedBytes } from '../../src/base/storageTypes';
import type { Architecture } from '../../src/hf/architectures';
import { built } from '../helpers/built';
import { expectRelative, sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { ggufFromHf } from '../helpers/ggufFromHf';
import type { TestTensor } from '../helpers/ggufWriter';
import { hfDir, loadHfFixture } from '../helpers/hfFixture';

const folder = mkdtempSync(join(tmpdir(), 'sgemoe-stored-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const IDS = [1, 2, 3, 4, 5, 6, 7];
const TOKENS = Tensor.fromIds([IDS]);
const logitsOf = (model: MoETransformer) => model.forwardIds(IDS, 1, IDS.length).data;
const ARCHITECTURES: readonly Architecture[] = [
  'mixtral',
  'olmoe',
  'qwen3_moe',
  'qwen2_moe',
  'granitemoe',
  'llama',
  'qwen2',
  'qwen3',
];
const MAPS = getKernels().memory.mapFile !== undefined;
/**
 * Both sides multiply the same numbers and add them up in another order: an error of k roundings of float32 in each
 * product, k < 100, through two layers.
 */
const ORDER = 2e-5;

/** Every matrix lies in its file, queries and keys too, which pair as `halves` says. */
function expectAllMapped({ store, weightBytes }: MoETransformer, halves: boolean): void {
  expect(store.pairsHalves).toBe(halves);
  const bytes = store.stored!.shared.files.flatMap(({ ranges }) => ranges.map((range) => range.bytes));
  const mapped = bytes.reduce((sum, each) => sum + each, 0);
  const isMapped = MAPS && store.kernels.memory.mapFile !== undefined;
  expect(weightBytes.resident - store.weightBytes).toBe(isMapped ? 0 : mapped);
  expect(
    store
      .stored!.shared.tables.flatMap((parts) => parts ?? [])
      .every(({ matrices }) => matrices.every((place) => !(place instanceof Uint8Array))),
  ).toBe(true);
}

/** A fixture's model as a folder of `transformers` with 16-bit weights. */
async function halfFolder(architecture: Architecture, dtype: 'bf16' | 'f16'): Promise<string> {
  const dir = join(folder, `${architecture}-${dtype}`);
  await exportHuggingFace(dir, await MoETransformer.load(hfDir(architecture)), { architecture, dtype });
  return dir;
}

describe('a folder with 16-bit weights', () => {
  for (const [architecture, dtype] of [
    ...ARCHITECTURES.map((name) => [name, 'bf16'] as const),
    ['qwen2_moe', 'f16'] as const,
  ]) {
    test(`${architecture}, ${dtype}: the model computes what its float32 form computes`, async () => {
      const dir = await halfFolder(architecture, dtype);
      const want = await MoETransformer.load(dir);
      for (const kernels of [getKernels(), createReferenceKernels()]) {
        const model = await MoETransformer.load(dir, { dtype: 'stored', kernels });
        expectAllMapped(model, true);
        expectRelative('logits', logitsOf(model), logitsOf(want), ORDER);
        expect(model.generateGreedy([1, 2, 3], 14)).toEqual(want.generateGreedy([1, 2, 3], 14));
        const decoder = new Decoder(model);
        const last = new Float32Array(model.vocabSize);
        decoder.prefill(0, IDS.slice(0, 3));
        for (const id of IDS.slice(3)) decoder.step([{ slot: 0, tokens: [id] }], { logits: last });
        expectRelative('decoded', last, logitsOf(want).slice(-model.vocabSize), ORDER);
      }
    });
  }

  test('only float32 weights take memory', async () => {
    const dir = await halfFolder('olmoe', 'bf16');
    const model = await MoETransformer.load(dir, { dtype: 'stored' });
    let mapped = 0;
    for (const [, { size, isStored }] of model.namedParameters()) if (isStored) mapped += 2 * size;
    const floats = model.store.weightBytes;
    const resident = floats + (MAPS ? 0 : mapped);
    expect(model.weightBytes).toEqual({ resident, mapped: MAPS ? mapped : 0 });
    const { memory } = await inspectCheckpoint(dir);
    expect([memory.inference.weights, memory.mapped]).toEqual([floats, mapped]);
    const float = await inspectCheckpoint(dir, { dtype: 'float32' });
    expect([float.memory.inference.weights, float.memory.mapped]).toEqual([
      (await MoETransformer.load(dir)).store.weightBytes,
      0,
    ]);
    const names = [...model.namedParameters()].filter(([, each]) => !each.isStored).map(([name]) => name);
    expect(names.every((name) => /norm\.weight|gate\.weight|bias/.test(name))).toBe(true);
  });

  /** A folder some of whose tensors are float32. */
  async function mixedFolder(architecture: Architecture, isFloat: RegExp): Promise<string> {
    const dir = await halfFolder(architecture, 'bf16');
    const file = join(dir, 'model.safetensors');
    await using tensors = await SafetensorsFile.open(file);
    const all = [];
    for (const [name, { dtype, shape }] of tensors.tensors) {
      const data = await tensors.read(name);
      if (isFloat.test(name)) {
        const floats = new Float32Array(data.length);
        await tensors.readInto(name, floats);
        all.push({ name, shape, dtype: 'F32' as const, data: floats });
      } else all.push({ name, shape, dtype, data });
    }
    await writeSafetensors(`${file}.new`, all);
    writeFileSync(file, readFileSync(`${file}.new`));
    return dir;
  }

  test('experts of several types in one layer are exact, too', async () => {
    const dir = await mixedFolder('mixtral', /experts\.1\.w1\.weight$/);
    const model = await MoETransformer.load(dir, { dtype: 'stored' });
    expectRelative('logits', logitsOf(model), logitsOf(await MoETransformer.load(dir)), ORDER);
  });

  test.each([
    ['a whole layer in float32', /layers\.0\.self_attn\.[qkv]_proj/],
    ['keys alone in float32', /layers\.1\.self_attn\.k_proj/],
  ])('queries and keys pair alike in all layers, %s', async (_, isFloat) => {
    const dir = await mixedFolder('qwen3_moe', isFloat);
    const want = logitsOf(await MoETransformer.load(dir));
    // What has another type than the others is in memory, or is rounded: to what it was before it became float32.
    for (const dtype of ['stored', 'bfloat16'] as const) {
      const model = await MoETransformer.load(dir, { dtype });
      expect(model.store.pairsHalves).toBe(true);
      expectRelative(dtype, logitsOf(model), want, ORDER);
    }
  });

  test('a model whose queries and keys are rounded pairs neighbours, as one of our own does', async () => {
    const dir = await halfFolder('qwen2', 'bf16');
    const [f16, q8] = await Promise.all(
      (['float16', 'q8_0'] as const).map((dtype) => MoETransformer.load(dir, { dtype })),
    );
    expect([f16.store.pairsHalves, q8.store.pairsHalves]).toEqual([false, false]);
    expectRelative('logits', logitsOf(f16), logitsOf(await MoETransformer.load(dir)), 1e-2);
  });
});

/** GGML's numbers of types. */
const TYPE_IDS = { q8_0: 8, float16: 1 } as const;

describe('a GGUF file with blocks', () => {
  for (const architecture of ARCHITECTURES) {
    test(`${architecture}: the model computes what its float32 form computes`, async () => {
      const { config } = await loadHfFixture(architecture);
      const kernels = createReferenceKernels();
      const toBlocks = (tensor: TestTensor): TestTensor => {
        const { name, shape, data } = tensor;
        const cols = shape[shape.length - 1];
        if (shape.length < 2 || name.includes('gate_inp')) return tensor;
        const type = cols % 32 === 0 ? 'q8_0' : 'float16';
        const bytes = new Uint8Array(storedBytes(type, data.length));
        kernels.quantize(type, data.length / cols, cols, data as Float32Array, 0, cols, bytes, 0);
        return { name, shape, type: TYPE_IDS[type], data: bytes };
      };
      const path = join(folder, `${architecture}.gguf`);
      writeFileSync(path, await ggufFromHf(hfDir(architecture), config, [], [], toBlocks));
      const want = await MoETransformer.load(path, { kernels });
      for (const its of [kernels, getKernels()]) {
        const model = await MoETransformer.load(path, { dtype: 'stored', kernels: its });
        expectAllMapped(model, !['mixtral', 'granitemoe', 'llama'].includes(architecture));
        // The reference multiplies by blocks exactly; others may round the activations to 8 bits.
        const exact = its === kernels || its.info.exactProducts;
        expectRelative('logits', logitsOf(model), logitsOf(want), exact ? ORDER : 0.05);
        if (exact) expect(model.generateGreedy([1, 2, 3], 14)).toEqual(want.generateGreedy([1, 2, 3], 14));
      }
    });
  }
});

describe('rounding while loading', () => {
  const dir = join(folder, 'wide');
  const wide = () =>
    MoETransformer.create({
      hiddenDim: 64,
      nLayers: 2,
      nHeads: 4,
      nKvHeads: 2,
      headDim: 16,
      nExperts: 4,
      topKExperts: 2,
      ffnDim: 96,
      vocabSize: 50,
      maxSeqLen: 16,
      sharedFfnDim: 32,
    });
  beforeAll(() => wide().save(dir));

  /** The model with every matrix but routers rounded to `type`, in float32. */
  function rounded(type: StorageType): MoETransformer {
    const model = wide();
    const kernels = createReferenceKernels();
    for (const [name, { data, shape }] of model.namedParameters()) {
      if (shape.length < 2 || name.includes('gate.weight')) continue;
      const [rows, cols] = shape;
      const fitting = storageTypeFor(type, cols);
      const bytes = new Uint8Array(storedBytes(fitting, data.length));
      kernels.quantize(fitting, rows, cols, data, 0, cols, bytes, 0);
      kernels.dequantize(fitting, rows, cols, bytes, 0, data, 0, cols);
    }
    return model;
  }

  test.each<StorageType>(['bfloat16', 'float16', 'q8_0', 'q4_0', 'q4_k'])('to %s', async (dtype) => {
    const model = await MoETransformer.load(dir, { dtype, kernels: createReferenceKernels() });
    expectRelative('logits', logitsOf(model), logitsOf(rounded(dtype)), ORDER);
    expect(model.weightBytes.mapped).toBe(0);
    // Rows of 64 numbers: q4_k takes q5_0 there.
    const matrices = [...model.namedParameters()].filter(([, each]) => each.isStored);
    const bytes = matrices.reduce((sum, [, { size, shape }]) => {
      return sum + storedBytes(storageTypeFor(dtype, shape[1]), size);
    }, 0);
    expect(model.weightBytes.resident).toBe(model.store.weightBytes + bytes);
  });

  test('a float32 checkpoint of sgemoe stays float32 as stored, and trains', async () => {
    const model = await MoETransformer.load(dir, { dtype: 'stored' });
    expect(model.store.isStored).toBe(false);
    expect(sameBits(logitsOf(model), logitsOf(wide()))).toBe(true);
    new Trainer(model).trainStep(TOKENS, TOKENS);
  });

  test('an unknown type is refused', async () => {
    const load = (dtype: unknown) => MoETransformer.load(dir, { dtype: dtype as ModelDtype });
    await expect(load('q3_k')).rejects.toThrow(
      /MoETransformer.load: dtype must be stored, float32, bfloat16/,
    );
    await expect(load(8)).rejects.toThrow(TypeError);
  });
});

describe('a model with stored matrices', () => {
  let dir: string;
  let model: MoETransformer;
  beforeAll(async () => {
    dir = await halfFolder('qwen3_moe', 'bf16');
    model = await MoETransformer.load(dir, { dtype: 'stored' });
  });

  test('is not trained, written or read by parameter', async () => {
    const refused = (action: () => unknown) =>
      expectError('SGEMOE_MODEL_STORED', /load it with \{ dtype: "float32" \}/, action);
    await refused(() => model.parameter('lm_head.weight').data);
    await refused(() => model.save(join(folder, 'never')));
    await refused(() => exportHuggingFace(join(folder, 'never'), model));
    await refused(() => model.store.initialise(1));
    await refused(() => new Trainer(model).trainStep(TOKENS, TOKENS));
    await refused(() => model.backward(model.forward(TOKENS, { training: true })));
  });

  test('is shared with workers, which map the files themselves', async () => {
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { MoETransformer } = require(${JSON.stringify(resolve(__dirname, '../..'))});
      const model = MoETransformer.fromShared(workerData);
      parentPort.postMessage({ logits: model.forwardIds(${JSON.stringify(IDS)}, 1, ${IDS.length}).data, bytes: model.weightBytes });`;
    for (const dtype of ['stored', 'q8_0'] as const) {
      const shared = await MoETransformer.load(dir, { dtype });
      const worker = new Worker(code, { eval: true, workerData: shared.share() });
      const got = await new Promise<{ logits: Float32Array; bytes: unknown }>((done, fail) =>
        worker.on('message', done).on('error', fail),
      );
      expect(sameBits(got.logits, logitsOf(shared))).toBe(true);
      expect(got.bytes).toEqual(shared.weightBytes);
    }
  });

  test('is what Engine.open serves, unless dtype says otherwise', async () => {
    const prompt = Int32Array.of(1, 2, 3);
    const bytes = { stored: model.weightBytes, float32: (await MoETransformer.load(dir)).weightBytes };
    for (const dtype of [undefined, 'float32'] as const) {
      const engine = await built.Engine.open(dir, { dtype });
      const { tokens } = await engine.generate({ prompt, maxTokens: 6, temperature: 0 });
      const { weightBytes } = engine;
      await engine.close();
      expect(weightBytes).toEqual(bytes[dtype ?? 'stored']);
      const alone = await MoETransformer.load(dir, { dtype: dtype ?? 'stored' });
      expect(tokens).toEqual(alone.generateGreedy(prompt, 9).slice(3));
    }
  });

  test('needs no memory for what is mapped', async () => {
    const { resident } = model.weightBytes;
    process.env.SGEMOE_MEMORY_LIMIT = String(resident);
    try {
      const needs = () => ({ weights: 1e12 }); // what its float32 form would take, which doesn't count
      await MoETransformer.load(dir, { dtype: 'stored', needs });
      await expectError('SGEMOE_MEMORY', /weights/, () => MoETransformer.load(dir));
    } finally {
      delete process.env.SGEMOE_MEMORY_LIMIT;
    }
  });

  test.runIf(MAPS && process.platform !== 'win32')(
    'ends in a coded error when its file is shortened',
    async () => {
      const own = await halfFolder('mixtral', 'f16');
      const cut = await MoETransformer.load(own, { dtype: 'stored' });
      const file = join(own, 'model.safetensors');
      const decoder = new Decoder(cut);
      decoder.prefill(0, [1, 2]);
      truncateSync(file, Math.floor(statSync(file).size / 2));
      const refused = (action: () => unknown) =>
        expectError('SGEMOE_CHECKPOINT_CHANGED', /the file (was|has)/, action);
      await refused(() => logitsOf(cut));
      await refused(() => cut.nextTokenLogits(IDS));
      await refused(() => decoder.step([{ slot: 0, tokens: [3] }], {}));
      expect(decoder.length(0)).toBe(2);
      await refused(() => MoETransformer.fromShared(cut.share()));
    },
  );

  test('imports and exports read float32 whatever the files have', async () => {
    const [imported, exported] = [join(folder, 'imported'), join(folder, 'exported')];
    await importCheckpoint(dir, imported);
    await exportCheckpoint(dir, exported);
    const want = logitsOf(await MoETransformer.load(dir));
    for (const other of [imported, exported])
      expect(sameBits(logitsOf(await MoETransformer.load(other)), want)).toBe(true);
  });
});
