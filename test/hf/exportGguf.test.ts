import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ByteTokenizer,
  exportGguf,
  type GgufExportOptions,
  loadTokenizer,
  type ModelConfigOptions,
  MoETransformer,
  type RopeScaling,
  readTokenizer,
  type Tokenizer,
  trainBpe,
  trainCharacters,
} from '../../src';
import { GgufFile } from '../../src/checkpoint/gguf/ggufFile';
import { yarnAttentionFactor } from '../../src/config/ropeScaling';
import { sgemoe } from '../cli/run';
import { expectError } from '../helpers/expectError';
import { hfDir } from '../helpers/hfFixture';
import { ALL_DENSE, SMALL } from '../helpers/smallModel';

let folder: string;
let path: string;
let bpe: Tokenizer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sgemoe-export-gguf-'));
  path = join(folder, 'model.gguf');
  const trained = await trainBpe(['what a cat sat on a mat that is flat '.repeat(9)], { vocabSize: 270 });
  const { tokenizer, tokenizerConfig } = trained.files();
  bpe = loadTokenizer(tokenizer, { tokenizerConfig, chatTemplate: '{{ messages[0].content }}' });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const small = (options: Partial<ModelConfigOptions> = {}) =>
  MoETransformer.create({ ...SMALL, vocabSize: 270, ...options }, { seed: 5 });

async function openFile(name: string): Promise<GgufFile> {
  const file = await GgufFile.open(name);
  await file.close();
  return file;
}

async function exported(model: MoETransformer, options: GgufExportOptions = {}): Promise<MoETransformer> {
  await exportGguf(path, model, options);
  return MoETransformer.load(path);
}

describe('a model comes back from its GGUF file to the bit', () => {
  const models = {
    mixtral: () => MoETransformer.load(hfDir('mixtral')),
    // That of the fixture has biases, which llama.cpp's doesn't compute.
    olmoe: async () => small({ qkNorm: 'full', normTopkProb: false }),
    qwen3_moe: () => MoETransformer.load(hfDir('qwen3_moe')),
    qwen2_moe: () => MoETransformer.load(hfDir('qwen2_moe')),
    granitemoe: () => MoETransformer.load(hfDir('granitemoe')),
    llama: async () => small(ALL_DENSE),
    qwen2: async () => small({ ...ALL_DENSE, attentionBias: 'qkv' }),
    qwen3: async () => small({ ...ALL_DENSE, qkNorm: 'head', tieEmbeddings: true }),
  };
  for (const [name, load] of Object.entries(models)) {
    it(name, async () => {
      const model = await load();
      const again = await exported(model);
      const { router_aux_loss_coef: _, ...fields } = model.config.toJSON();
      expect(again.config.toJSON()).toMatchObject(fields);
      const want = new Map(model.namedParameters());
      for (const [parameter, { data }] of again.namedParameters()) {
        expect(data, parameter).toEqual(want.get(parameter)!.data);
        want.delete(parameter);
      }
      expect([...want.keys()]).toEqual([]);
    });
  }

  it('with a stretched rotary base and frozen', async () => {
    const model = small({ ropeAlpha: 2 });
    model.freeze();
    const again = await exported(model);
    expect(again.config.effectiveRopeBase).toBeCloseTo(model.config.effectiveRopeBase, 2);
    expect(again.generate([1, 2, 3], 8)).toEqual(model.generate([1, 2, 3], 8));
  });
});

describe('rotary scaling comes back', () => {
  const scalings: RopeScaling[] = [
    { type: 'linear', factor: 4 },
    { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxSeqLen: 8192 },
    { type: 'yarn', factor: 4, originalMaxSeqLen: 64 },
    { type: 'yarn', factor: 4, originalMaxSeqLen: 64, attentionFactor: 0.5 * yarnAttentionFactor(4) },
  ];
  for (const ropeScaling of scalings) {
    it(JSON.stringify(ropeScaling), async () => {
      const model = small({ ropeScaling, ropeBase: 500_000, headDim: 32, maxSeqLen: 256 });
      const again = await exported(model);
      expect(again.config.ropeScaling).toEqual(model.config.ropeScaling);
      const tokens = Array.from({ length: 200 }, (_, i) => (7 * i) % 270);
      expect(again.nextTokenLogits(tokens)).toEqual(model.nextTokenLogits(tokens));
    });
  }

  it('but what llama.cpp has no form for is refused, and divisors that are not those of Llama 3', async () => {
    const yarn = { type: 'yarn', factor: 4, originalMaxSeqLen: 64, betaFast: 16 } as const;
    await expect(exportGguf(path, small({ ropeScaling: yarn }))).rejects.toThrow(
      /ropeScaling .*"betaFast":16/,
    );
    const llama3 = {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxSeqLen: 64,
    } as const;
    await expect(exportGguf(path, small({ ropeScaling: llama3 }))).rejects.toThrow(/ropeScaling/);
    await exportGguf(path, small({ ropeScaling: { ...llama3, originalMaxSeqLen: 8192 }, ropeBase: 500_000 }));
    const bytes = readFileSync(path);
    const { byteOffset } = (await openFile(path)).tensors.get('rope_freqs.weight')!;
    bytes.writeFloatLE(3, byteOffset);
    writeFileSync(path, bytes);
    await expectError('SGEMOE_CONFIG_INVALID', /other factors of rotary angles than those of Llama 3/, () =>
      MoETransformer.load(path),
    );
  });
});

describe('weights are rounded to the dtype, norms and routers are not', () => {
  /** The largest |rounding| of a number of a block whose largest number is `max`. */
  const bounds = {
    f16: 2 ** -11,
    bf16: 2 ** -8,
    q8_0: 0.5 / 127 + 2 ** -10,
    q4_k_m: 0.5 / 7.5 + 0.02,
  } as const;
  for (const [dtype, bound] of Object.entries(bounds)) {
    it(dtype, async () => {
      const model = small({ hiddenDim: 64, ffnDim: 256, nLayers: 3 });
      const again = await exported(model, { dtype: dtype as keyof typeof bounds });
      const want = new Map(model.namedParameters());
      let rounded = 0;
      for (const [name, { data, shape }] of again.namedParameters()) {
        const original = want.get(name)!.data;
        if (shape.length === 1 || name.endsWith('block_sparse_moe.gate.weight')) {
          expect(data, name).toEqual(original);
          continue;
        }
        const largest = original.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
        const errors = data.map((value, i) => Math.abs(value - original[i]));
        expect(Math.max(...errors), name).toBeLessThanOrEqual(bound * largest);
        rounded += errors.filter((error) => error > 0).length;
      }
      expect(rounded).toBeGreaterThan(1000);
    });
  }

  it("q4_k_m is llama.cpp's mixture, and smaller blocks where rows don't fit", async () => {
    await exportGguf(path, small({ hiddenDim: 64, ffnDim: 256, nLayers: 8 }), { dtype: 'q4_k_m' });
    const file = await openFile(path);
    const types = (name: string) =>
      Array.from({ length: 8 }, (_, layer) => file.tensors.get(`blk.${layer}.${name}`)!.type);
    const more = [0, 3, 6, 7];
    const by = (high: string, low: string) =>
      Array.from({ length: 8 }, (_, i) => (more.includes(i) ? high : low));
    expect(types('ffn_down_exps.weight')).toEqual(by('Q6_K', 'Q4_K'));
    expect(types('attn_v.weight')).toEqual(by('Q8_0', 'Q5_0'));
    expect(file.tensors.get('output.weight')!.type).toBe('Q8_0');
    expect(file.tensors.get('token_embd.weight')!.type).toBe('Q5_0');
    expect(types('ffn_gate_inp.weight')).toEqual(new Array(8).fill('F32'));
    expect(file.metadata.get('general.file_type')).toBe(15);
  });
});

it('the tokenizer comes back: ids, special tokens, template, ends; ids that only the model has stay unused', async () => {
  const model = small({ vocabSize: 300 });
  await exportGguf(path, model, bpe.files());
  const again = await readTokenizer(path);
  const text = "what a cat's mat\n\t 12 naïve 漢 <|endoftext|> x";
  expect(again.encode(text)).toEqual(bpe.encode(text));
  expect(again.decode(again.encode(text))).toBe(text);
  expect(again.vocabSize).toBe(bpe.vocabSize);
  expect(again.endOfText).toBe(bpe.endOfText);
  expect(again.applyChatTemplate([{ role: 'user', content: 'Hi' }])).toBe('Hi');
  expect((await MoETransformer.load(path)).endTokens).toEqual([bpe.endOfText]);
  const bos = { ...bpe.toJSON() };
  bos.post_processor = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<|endoftext|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { '<|endoftext|>': { id: '<|endoftext|>', ids: [0], tokens: ['<|endoftext|>'] } },
  };
  await exportGguf(path, model, { tokenizer: bos });
  expect([...(await readTokenizer(path)).encode('a', { addSpecialTokens: true })][0]).toBe(0);
});

describe('what has no form in a GGUF is refused by name, and nothing is written', () => {
  const other = join(tmpdir(), 'sgemoe-never.gguf');
  const refuse = (model: MoETransformer, options: GgufExportOptions, message: RegExp) =>
    expect(exportGguf(other, model, options)).rejects.toThrow(message);

  it('the byte and the character tokenizer', async () => {
    await refuse(small(), new ByteTokenizer().files(), /no form in a GGUF: a tokenizer of type "byte"/);
    const characters = await trainCharacters(['abc']);
    await refuse(small(), characters.files(), /no form in a GGUF: a .* isn't byte-level BPE/);
  });

  it('a pre-tokenizer without a name, and an added token that takes spaces along', async () => {
    const json = bpe.toJSON();
    const spaced = {
      ...json,
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true },
    };
    await refuse(small(), { tokenizer: spaced }, /none that GGUF has a name for/);
    const added = (json.added_tokens as object[]).map((token) => ({ ...token, lstrip: true }));
    await refuse(small(), { tokenizer: { ...json, added_tokens: added } }, /"<\|endoftext\|>" depends on/);
  });

  it('a vocabulary that the model does not have', async () => {
    await refuse(small({ vocabSize: 100 }), bpe.files(), /outside the model's vocabulary of 100/);
  });

  it('a model that no architecture is', async () => {
    const both = small({ qkNorm: 'head', embeddingMultiplier: 2 });
    await refuse(both, {}, /no architecture of GGUF is this model.*qkNorm head.*embeddingMultiplier 2/s);
    await refuse(small({ denseLayers: [0], denseFfnDim: 64 }), {}, /denseLayers 0/);
    await refuse(await MoETransformer.load(hfDir('olmoe')), {}, /olmoe \(attentionBias qkvo\)/);
  });

  it('a model that keeps its matrices as they are stored', async () => {
    await small({ hiddenDim: 32, ffnDim: 32, headDim: 16 }).save(join(folder, 'stored'));
    const model = await MoETransformer.load(join(folder, 'stored'), { dtype: 'q8_0' });
    await expectError('SGEMOE_MODEL_STORED', /load it with \{ dtype: "float32" \}/, () =>
      exportGguf(other, model),
    );
  });

  it('numbers that the dtype can not hold, other dtypes and other names of files', async () => {
    const model = small();
    const [, weight] = [...model.namedParameters()].find(([name]) => name.endsWith('q_proj.weight'))!;
    weight.data[0] = 70000;
    await refuse(model, { dtype: 'f16' }, /holds 70000, which f16 can't/);
    weight.data[0] = Number.NaN;
    await refuse(model, { dtype: 'q8_0' }, /holds NaN, which q8_0 can't/);
    await refuse(model, { dtype: 'q2_k' as never }, /dtype must be one of f32, f16, bf16, q8_0, q4_k_m/);
    await expect(exportGguf(join(folder, 'x.bin'), model)).rejects.toThrow(/must end in .gguf/);
  });
});

describe('on the command line, a GGUF file stands wherever a checkpoint does', () => {
  const dir = () => join(folder, 'run');
  const file = () => join(folder, 'run.gguf');
  const same = async (argv: (checkpoint: string) => string[]) => {
    const [ours, theirs] = [await sgemoe(argv(dir())), await sgemoe(argv(file()))];
    expect(theirs.code, theirs.stderr).toBe(0);
    expect(theirs.stdout).toBe(ours.stdout);
    return theirs;
  };
  beforeAll(async () => {
    await small().save(dir(), bpe.files());
    const { code, stdout } = await sgemoe(['export', dir(), '--out', file(), '--gguf']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${file()}: GGUF, llama, f32\n` });
  });

  it('generate', () =>
    same((model) => ['generate', model, '--prompt', 'what a', '--max-tokens', '9', '--seed', '2']));

  it('generate --chat', () =>
    same((model) => ['generate', model, '--prompt', 'a cat', '--chat', '--max-tokens', '9']));

  it('eval', async () => {
    const text = join(folder, 'text.txt');
    await (await import('node:fs/promises')).writeFile(text, 'what a cat sat on a mat '.repeat(9));
    const of = async (model: string) => {
      const { code, stdout } = await sgemoe(['eval', model, '--data', text, '--json']);
      return { code, loss: code === 0 && JSON.parse(stdout).loss };
    };
    expect(await of(file())).toEqual(await of(dir()));
  });

  it('inspect', async () => {
    const { stdout } = await sgemoe(['inspect', file()]);
    expect(stdout).toMatch(/^format +GGUF 3, llama, MixtralForCausalLM$/m);
    expect(stdout).toMatch(/^name +run$/m);
    expect(stdout).toMatch(/^tokenizer +gpt2, gpt-2, 270 tokens, a chat template$/m);
  });

  it('import, and export of another dtype', async () => {
    expect((await sgemoe(['import', file(), '--out', join(folder, 'again')])).code).toBe(0);
    const again = await MoETransformer.load(join(folder, 'again'));
    expect(again.generate([3, 1, 2], 12)).toEqual((await MoETransformer.load(dir())).generate([3, 1, 2], 12));
    const half = join(folder, 'half.gguf');
    expect((await sgemoe(['export', file(), '--out', half, '--gguf', '--dtype', 'q8_0'])).code).toBe(0);
    expect((await sgemoe(['generate', half, '--max-tokens', '3'])).code).toBe(0);
  });

  it('dtypes of GGUF alone and an architecture are wrong usage where they do not belong', async () => {
    const out = join(folder, 'never');
    expect((await sgemoe(['export', dir(), '--out', out, '--dtype', 'q8_0'])).code).toBe(2);
    const both = ['export', dir(), '--out', `${out}.gguf`, '--gguf', '--architecture', 'mixtral'];
    expect((await sgemoe(both)).code).toBe(2);
  });
});
