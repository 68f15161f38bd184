import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as Engine } from '@huggingface/tokenizers';
import { describe, expect, test } from 'vitest';
import {
  ByteTokenizer,
  exportCheckpoint,
  exportHuggingFace,
  importCheckpoint,
  inspectCheckpoint,
  loadCheckpoint,
  ModelConfig,
  MoETransformer,
  memoryBytes,
  readTokenizer,
  Tensor,
} from '../../src';
import { ARCHITECTURES, type Architecture } from '../../src/hf/architectures';
import { readHuggingFaceConfig } from '../../src/hf/readConfig';
import { chooseForExport } from '../../src/hf/writeConfig';
import { HF_NAMES, type HfName, hfDir, loadHfFixture } from '../helpers/hfFixture';
import { SMALL, SOME_DENSE, smallModel } from '../helpers/smallModel';

const folder = () => join(mkdtempSync(join(tmpdir(), 'hf-export-')), 'out');
const ids = Tensor.fromIds([[1, 2, 3, 4, 5]]);
const json = (dir: string) => JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8'));

/** All tensors of a folder as float32, by name. */
async function tensorsOf(
  dir: string,
): Promise<Map<string, { shape: readonly number[]; data: Float32Array }>> {
  const { tensors: file } = await loadCheckpoint(dir);
  const result = new Map();
  for (const [name, { shape, elements }] of [...file.tensors].sort()) {
    const data = new Float32Array(elements);
    await file.readInto(name, data);
    result.set(name, { shape, data });
  }
  await file.close();
  return result;
}

const STORED: Partial<Record<HfName, 'f16' | 'bf16'>> = {
  qwen3_moe: 'bf16',
  qwen3_moe_dense: 'bf16',
  granitemoe: 'f16',
  mistral: 'bf16',
  qwen2: 'f16',
  qwen3: 'bf16',
};

describe.each(HF_NAMES)('%s', (name) => {
  const architecture = (name === 'qwen3_moe_dense' ? 'qwen3_moe' : name) as Architecture;
  // Llama can express everything that Mistral can.
  const chosen = architecture === 'mistral' ? 'llama' : architecture;

  test('import, then export, gives back every tensor bit for bit, under its name', async () => {
    const [imported, exported, stored] = [folder(), folder(), folder()];
    await importCheckpoint(hfDir(name), imported);
    expect(json(imported).model_type).toBe('sgemoe');
    expect(await exportCheckpoint(imported, exported)).toBe(chosen);
    const original = await tensorsOf(hfDir(name));
    expect(await tensorsOf(exported)).toEqual(original);
    // Exporting in the dtype of the source doesn't round either.
    await exportCheckpoint(imported, stored, { dtype: STORED[name] ?? 'f32' });
    expect(await tensorsOf(stored)).toEqual(original);
    const logits = (await MoETransformer.load(hfDir(name))).forward(ids).data;
    for (const dir of [imported, exported]) {
      expect((await MoETransformer.load(dir)).forward(ids).data).toEqual(logits);
    }
  });

  test('the config.json that is written describes the same model', async () => {
    const { config: theirs } = await loadHfFixture(name);
    const { config } = readHuggingFaceConfig(theirs);
    const dir = folder();
    const model = MoETransformer.create(config);
    model.freeze();
    await exportHuggingFace(dir, model, { architecture });
    const written = readHuggingFaceConfig(json(dir));
    expect(written.config).toEqual(config);
    expect(written.notes).toEqual([]);
    expect(json(dir)).toMatchObject({ torch_dtype: 'float32', eos_token_id: null });
  });
});

describe('export', () => {
  test('an NTK-scaled rotary base is written as the base it amounts to', async () => {
    const dir = folder();
    const model = smallModel({ ropeAlpha: 4 });
    await exportHuggingFace(dir, model);
    const again = await MoETransformer.load(dir);
    expect(again.config).toEqual(
      model.config.with({ ropeAlpha: 1, ropeBase: model.config.effectiveRopeBase }),
    );
    expect(again.forward(ids).data).toEqual(model.forward(ids).data);
  });

  test('bf16 rounds; f16 refuses what it can not hold, and nothing is written', async () => {
    const model = smallModel();
    const dir = folder();
    await exportHuggingFace(dir, model, { dtype: 'bf16' });
    const { data } = (await tensorsOf(dir)).get('lm_head.weight')!;
    const exact = model.parameter('lm_head.weight').data;
    expect(data).not.toEqual(exact);
    for (let i = 0; i < data.length; i++) {
      expect(Math.abs(data[i] - exact[i])).toBeLessThanOrEqual(2 ** -8 * Math.abs(exact[i]));
    }
    exact[7] = 70000;
    const refused = folder();
    await expect(exportHuggingFace(refused, model, { dtype: 'f16' })).rejects.toThrow(
      /lm_head.weight holds 70000/,
    );
    expect(existsSync(refused)).toBe(false);
  });

  test('the ids of special tokens come from the tokenizer', async () => {
    const dir = folder();
    const added = [
      { id: 0, content: '<s>' },
      { id: 3, content: '</s>' },
    ];
    const tokenizer = { added_tokens: added };
    const tokenizerConfig = { eos_token: '</s>', bos_token: { content: '<s>' }, pad_token: null };
    await exportHuggingFace(dir, smallModel(), { tokenizer, tokenizerConfig });
    expect(json(dir)).toMatchObject({ bos_token_id: 0, eos_token_id: 3, pad_token_id: null });
    const { tokenizer: stored, tensors } = await loadCheckpoint(dir);
    expect(stored).toEqual(tokenizer);
    await tensors.close();
  });

  test.each([
    [{}, 'mixtral'],
    [{ qkNorm: 'full', headDim: 8 }, 'olmoe'],
    [{ qkNorm: 'head', attentionBias: 'qkvo', normTopkProb: false }, 'qwen3_moe'],
    [{ sharedFfnDim: 4, attentionBias: 'qkv' }, 'qwen2_moe'],
    [{ logitsDivisor: 2 }, 'granitemoe'],
    [{ attentionBias: 'qkvo' }, 'granitemoe'],
  ] as const)('a model with %j is written as %s', (extra, architecture) => {
    expect(chooseForExport(new ModelConfig({ ...SMALL, ...extra }))).toBe(architecture);
  });

  test('what no architecture can be is refused with the fields in the way', async () => {
    const config = new ModelConfig({ ...SMALL, qkNorm: 'full', sharedFfnDim: 4 });
    expect(() => chooseForExport(config)).toThrow(
      /can't be written as Mixtral.*OlmoeForCausalLM \(sharedFfnDim 4\)/,
    );
    expect(() => chooseForExport(new ModelConfig(SMALL), 'olmoe')).toThrow(
      /OlmoeForCausalLM \(qkNorm none\)$/,
    );
    expect(() => chooseForExport(new ModelConfig({ ...SMALL, headDim: 4 }), 'granitemoe')).toThrow(
      /headDim 4/,
    );
    expect(() => chooseForExport(new ModelConfig(SMALL), 'llama')).toThrow(/\(denseLayers none\)/);
    expect(() => chooseForExport(new ModelConfig({ ...SMALL, ...SOME_DENSE }), 'olmoe')).toThrow(
      /denseLayers 0/,
    );
    expect(() => chooseForExport(new ModelConfig(SMALL), 'gemma' as never)).toThrow(
      /architecture must be one of/,
    );
    const export8 = exportHuggingFace(folder(), smallModel(), { dtype: 'int8' as never });
    await expect(export8).rejects.toThrow(/dtype must be f32, bf16 or f16, got int8/);
  });
});

describe('inspect', () => {
  test.each(ARCHITECTURES)(
    '%s: config, parameters and tensors, without reading weights',
    async (architecture) => {
      const found = await inspectCheckpoint(hfDir(architecture), { batch: 2, seqLen: 20 });
      const model = await MoETransformer.load(hfDir(architecture));
      expect(found).toMatchObject({ architecture, notes: [], batch: 2, seqLen: 20 });
      expect(found.config).toEqual(model.config);
      const elements = found.tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
      expect(found.parameters.total).toBe(elements);
    },
  );

  test('memory is that of memoryBytes', async () => {
    const model = smallModel();
    const dir = folder();
    await model.save(dir);
    const { memory, architecture } = await inspectCheckpoint(dir, { batch: 3, seqLen: 9 });
    const bytes = (mode: 'train' | 'forward') => memoryBytes(model.config, { batch: 3, seq: 9, mode });
    expect(architecture).toBeNull();
    // Each token takes keys and values of one head of 8 in two layers, in float32, and its id.
    const keyValueCache = (2 * 2 * 8 * 4 + 4) * 3 * 9;
    expect(memory).toEqual({
      training: bytes('train'),
      inference: bytes('forward'),
      mapped: 0,
      keyValueCache,
    });
    expect((await inspectCheckpoint(dir)).seqLen).toBe(32);
    await expect(inspectCheckpoint(dir, { seqLen: 33 })).rejects.toThrow(/at most maxSeqLen \(32\), got 33/);
    await expect(inspectCheckpoint(dir, { batch: 0 })).rejects.toThrow(RangeError);
  });
});

test("the byte tokenizer is exported as one that Hugging Face's libraries read, with the bytes as ids", async () => {
  const [saved, exported] = [folder(), folder()];
  const model = smallModel({ vocabSize: 256 });
  await model.save(saved, new ByteTokenizer().files());
  await exportCheckpoint(saved, exported);
  const files = ['tokenizer.json', 'tokenizer_config.json'].map((file) =>
    readFileSync(join(exported, file), 'utf8'),
  );
  const [theirs, config] = files.map((file) => JSON.parse(file));
  const engine = new Engine(theirs, config);
  const again = await readTokenizer(exported);
  expect(again.vocabSize).toBe(256);
  for (const text of ["it's  é 漢字\r\n\t😀\0\u0085\ufeff x", '', '<|endoftext|>']) {
    const bytes = Buffer.from(text);
    expect(again.encode(text)).toEqual(Int32Array.from(bytes));
    expect(again.decode(bytes)).toBe(text);
    expect(engine.encode(text).ids).toEqual([...bytes]);
  }
  const all = Uint8Array.from({ length: 256 }, (_, i) => 255 - i);
  expect(again.encode(all)).toEqual(Int32Array.from(all));
  expect(again.decodeBytes(all)).toEqual(all);
  // A tokenizer that is given is written as it is.
  const other = folder();
  await exportHuggingFace(other, model, again.files());
  expect(readFileSync(join(other, 'tokenizer.json'), 'utf8')).toBe(files[0]);
});
