/** A dense model becomes a mixture that computes the same, until its experts are made to differ. */
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ByteTokenizer,
  exportGguf,
  exportHuggingFace,
  MoETransformer,
  readTokenizer,
  Tensor,
  Trainer,
  trainBpe,
  type UpcycleOptions,
  upcycle,
  upcycleCheckpoint,
} from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { sgemoe } from '../cli/run';
import { expectRelative, sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { hfDir } from '../helpers/hfFixture';
import { ALL_DENSE, EVERYTHING, SMALL, smallModel } from '../helpers/smallModel';

const folder = mkdtempSync(join(tmpdir(), 'sgemoe-upcycle-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const IDS = [1, 2, 3, 4, 5, 6, 7, 3];
const logitsOf = (model: MoETransformer) => model.forwardIds(IDS, 1, IDS.length).data;
const dataOf = (model: MoETransformer, name: string) => model.parameter(name).data;
const expertOf = (model: MoETransformer, expert: number, matrix: string) =>
  dataOf(model, `model.layers.0.block_sparse_moe.experts.${expert}.${matrix}.weight`);

/**
 * Two gate weights sum to 1 within an eps of 2^-24 each, and their weighted outputs are added once more: a relative error of
 * some eps in each of the two layers, which the norms and lm_head carry on. Ten times that is 5e-6.
 */
const ROUNDING = 5e-6;

describe('the logits of a dense model and of its mixture are equal', () => {
  test.each(['llama', 'qwen2', 'qwen3', 'mistral'] as const)('%s of transformers', async (name) => {
    const dense = await MoETransformer.load(hfDir(name));
    const mixture = upcycle(dense);
    expect(mixture.config).toMatchObject({
      nExperts: 8,
      topKExperts: 2,
      denseLayers: [],
      normTopkProb: true,
    });
    expect(mixture.config.ffnDim).toBe(dense.config.denseFfnDim);
    expect(mixture.endTokens).toEqual(dense.endTokens);
    expectRelative('logits', logitsOf(mixture), logitsOf(dense), ROUNDING);
  });

  const kernels = createReferenceKernels({ floatType: 'float64' });
  test.each<[string, UpcycleOptions]>([
    ['two of eight experts', {}],
    ['one of four', { nExperts: 4, topKExperts: 1 }],
    ['all of three', { nExperts: 3, topKExperts: 3 }],
    ['with a shared expert', { sharedFfnDim: 12 }],
    ['with a layer that stays dense', { denseLayers: [1] }],
  ])('%s, with every other part that a model can have, in float64', (_, options) => {
    const { sharedFfnDim: _none, ...parts } = EVERYTHING;
    const dense = MoETransformer.create({ ...SMALL, ...ALL_DENSE, ...parts }, { seed: 3, kernels });
    // New biases are 0 and new gains 1, which would hide that they weren't copied.
    for (const [name, { data, shape }] of dense.namedParameters()) {
      if (shape.length === 1) data.set(data.map((value, i) => value + 0.1 * Math.sin(i + name.length)));
    }
    const mixture = upcycle(dense, options);
    expectRelative('logits', logitsOf(mixture), logitsOf(dense), ROUNDING * 2 ** (24 - 53));
  });

  test('experts are copies, gates are fresh: of the std asked for, and other ones in each layer', () => {
    const dense = smallModel({ ...ALL_DENSE, hiddenDim: 256 });
    const mixture = upcycle(dense, { nExperts: 32, routerStd: 0.1 });
    for (const matrix of ['w1', 'w2', 'w3'])
      for (const expert of [0, 31])
        expect(
          sameBits(expertOf(mixture, expert, matrix), dataOf(dense, `model.layers.0.mlp.${matrix}.weight`)),
        ).toBe(true);
    const [first, second] = [0, 1].map((layer) =>
      dataOf(mixture, `model.layers.${layer}.block_sparse_moe.gate.weight`),
    );
    const std = Math.sqrt(first.reduce((sum, value) => sum + value * value, 0) / first.length);
    // 8,192 numbers: the std of their std is 0.1 / sqrt(2 * 8192) = 8e-4.
    expect(Math.abs(std - 0.1)).toBeLessThan(4e-3);
    expect(sameBits(first, second)).toBe(false);
  });
});

describe('experts are made to differ', () => {
  const dense = smallModel({ ...ALL_DENSE, hiddenDim: 64, denseFfnDim: 128 });
  const original = (matrix: string) => dataOf(dense, `model.layers.0.mlp.${matrix}.weight`);
  const rms = (values: ArrayLike<number>) =>
    Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0) / values.length);

  test('by noise, whose std is a share of the matrix, and whose draws differ', () => {
    const mixture = upcycle(dense, { noise: 0.1 });
    expect(() => expectRelative('logits', logitsOf(mixture), logitsOf(dense), 1e-3)).toThrow();
    for (const matrix of ['w1', 'w2', 'w3']) {
      const [want, ...noises] = [
        original(matrix),
        expertOf(mixture, 0, matrix),
        expertOf(mixture, 1, matrix),
      ];
      const [first, second] = noises.map((noisy) => noisy.map((value, i) => value - want[i]));
      // 8,192 numbers: a relative error of 1 / sqrt(2 * 8192) = 0.008.
      expect(Math.abs(rms(first) / rms(want) - 0.1)).toBeLessThan(0.004);
      const product = first.reduce((sum, value, i) => sum + value * second[i], 0) / first.length;
      expect(Math.abs(product / (rms(first) * rms(second)))).toBeLessThan(0.06);
    }
  });

  test('by units that start anew: whole ones, a share of each expert, and others in each', () => {
    const mixture = upcycle(dense, { reinit: 0.25 });
    const freshOf = (expert: number) => {
      const [gate, up, down] = ['w1', 'w3', 'w2'].map((matrix) => {
        const data = expertOf(mixture, expert, matrix);
        const want = original(matrix);
        const changed = Array.from({ length: 128 }, () => 0);
        data.forEach((value, i) => {
          const unit = matrix === 'w2' ? i % 128 : Math.floor(i / 64);
          if (value !== want[i]) changed[unit]++;
        });
        const all = changed.flatMap((count, unit) => (count > 0 ? [unit] : []));
        expect(all.every((unit) => changed[unit] === 64)).toBe(true);
        expect(Math.abs(rms(data) / rms(want) - 1)).toBeLessThan(0.1);
        return all;
      });
      expect(gate).toHaveLength(32);
      expect([up, down]).toEqual([gate, gate]);
      return gate;
    };
    expect(freshOf(0)).not.toEqual(freshOf(1));
    expect(() => expectRelative('logits', logitsOf(mixture), logitsOf(dense), 1e-2)).toThrow();
  });

  test('all units can start anew, and noise goes to those that stay', () => {
    const anew = expertOf(upcycle(dense, { reinit: 1 }), 0, 'w1');
    expect(anew.some((value, i) => value === original('w1')[i])).toBe(false);
    const both = expertOf(upcycle(dense, { reinit: 0.5, noise: 1e-3 }), 0, 'w1');
    const close = 6e-3 * rms(original('w1'));
    const near = both.filter((value, i) => Math.abs(value - original('w1')[i]) < close);
    expect(near.length).toBeGreaterThanOrEqual(64 * 64);
    expect(near.length).toBeLessThan(64 * 72);
  });

  test('a seed decides all of it', () => {
    const made = (seed?: number) => upcycle(dense, { reinit: 0.5, noise: 0.1, ...(seed && { seed }) });
    const [first, again, other] = [made(), made(42), made(43)];
    expect(sameBits(first.store.shards[0], again.store.shards[0])).toBe(true);
    const gate = 'model.layers.0.block_sparse_moe.gate.weight';
    expect(sameBits(dataOf(first, gate), dataOf(other, gate))).toBe(false);
    expect(sameBits(expertOf(first, 0, 'w1'), expertOf(other, 0, 'w1'))).toBe(false);
  });

  test('by training: copies get other gradients, since other tokens come to them', () => {
    const mixture = upcycle(dense);
    const before = dense.store.shards[0].slice();
    const trainer = new Trainer(mixture, { lr: 1e-3, warmupSteps: 0, totalSteps: 5 });
    for (let i = 0; i < 5; i++)
      trainer.trainStep(Tensor.fromIds([IDS]), Tensor.fromIds([IDS.map((id) => id + 1)]));
    expect(sameBits(expertOf(mixture, 0, 'w1'), expertOf(mixture, 1, 'w1'))).toBe(false);
    expect(sameBits(dense.store.shards[0], before)).toBe(true);
  });
});

describe('what can not become a mixture is refused', () => {
  const dense = smallModel(ALL_DENSE);
  test.each<[UpcycleOptions, RegExp]>([
    [{ nExperts: 2, topKExperts: 3 }, /topKExperts must be at most nExperts \(2\), got 3/],
    [{ nExperts: 0 }, /nExperts must be an integer >= 1/],
    [{ noise: -1 }, /noise must be a finite number >= 0/],
    [{ reinit: 1.5 }, /reinit must be a number >= 0 and <= 1/],
    [{ denseLayers: [0, 1] }, /denseLayers must leave a layer of 2/],
    [{ denseLayers: [2] }, /denseLayers must be ascending and below nLayers/],
  ])('%j', (options, message) => {
    expect(() => upcycle(dense, options)).toThrow(RangeError);
    expect(() => upcycle(dense, options)).toThrow(message);
  });

  test('models with experts, and options that are none', () => {
    expect(() => upcycle(smallModel())).toThrow(/must be dense, its layers have experts already/);
    const some = smallModel({ denseLayers: [0], denseFfnDim: 28 });
    expect(() => upcycle(some)).toThrow(/some of its layers have experts already/);
    expect(() => upcycle(dense, { experts: 4 } as UpcycleOptions)).toThrow(TypeError);
  });

  test('matrices that are kept as they are stored', async () => {
    const dir = join(folder, 'stored');
    await smallModel({ ...ALL_DENSE, hiddenDim: 64, denseFfnDim: 64 }).save(dir);
    const stored = await MoETransformer.load(dir, { dtype: 'q8_0' });
    await expectError('SGEMOE_MODEL_STORED', /./, async () => upcycle(stored));
  });
});

describe('a checkpoint becomes one of a mixture', () => {
  const out = join(folder, 'out');

  test.each([
    ['llama', {}, 'granitemoe'], // this one has biases, which Mixtral has not
    ['mistral', {}, 'mixtral'],
    ['qwen2', { sharedFfnDim: 8 }, 'qwen2_moe'],
    ['qwen3', {}, 'qwen3_moe'],
  ] as const)(
    '%s, which transformers reads as its own kind of mixture',
    async (name, options, architecture) => {
      const dense = await MoETransformer.load(hfDir(name));
      const made = await upcycleCheckpoint(hfDir(name), out, { ...options, noise: 0.1, seed: 5 });
      expect(made).toMatchObject({ architecture, obstacle: null });
      const mixture = await MoETransformer.load(out);
      expect(made.config).toEqual(mixture.config);
      expect(sameBits(logitsOf(mixture), logitsOf(upcycle(dense, { ...options, noise: 0.1, seed: 5 })))).toBe(
        true,
      );
      const exported = join(folder, `${name}-exported`);
      expect(await exportHuggingFace(exported, mixture)).toBe(architecture);
      expect(JSON.parse(readFileSync(join(exported, 'config.json'), 'utf8'))).toMatchObject({
        model_type: architecture,
        ...(architecture.startsWith('qwen') && { norm_topk_prob: true }),
      });
      expect(sameBits(logitsOf(await MoETransformer.load(exported)), logitsOf(mixture))).toBe(true);
    },
  );

  test('a Qwen2 without a shared expert is told to have no form there', async () => {
    const made = await upcycleCheckpoint(hfDir('qwen2'), out);
    expect(made).toMatchObject({
      architecture: null,
      obstacle: expect.stringMatching(/Qwen2MoeForCausalLM \(sharedFfnDim 0\)/),
    });
    await expect(exportHuggingFace(join(folder, 'none'), await MoETransformer.load(out))).rejects.toThrow(
      /can't be written as MixtralForCausalLM \(attentionBias qkv\)/,
    );
  });

  test('from a GGUF file with its tokenizer, and to one', async () => {
    const [dense, written] = [join(folder, 'dense.gguf'), join(folder, 'mixture.gguf')];
    const text = 'what a cat sat on a mat that is flat ';
    const bpe = await trainBpe([text.repeat(9)], { vocabSize: 270 });
    const sizes = { hiddenDim: 64, denseFfnDim: 64, vocabSize: 270, tieEmbeddings: true };
    await exportGguf(dense, smallModel({ ...ALL_DENSE, ...sizes }), { dtype: 'q8_0', ...bpe.files() });
    expect(await upcycleCheckpoint(dense, out)).toMatchObject({ architecture: 'mixtral' });
    const mixture = await MoETransformer.load(out);
    expectRelative('logits', logitsOf(mixture), logitsOf(await MoETransformer.load(dense)), ROUNDING);
    const tokenizer = await readTokenizer(out);
    expect(tokenizer?.encode(text)).toEqual(bpe.encode(text));
    expect(await exportGguf(written, mixture, tokenizer?.files())).toBe('llama');
    expect(sameBits(logitsOf(await MoETransformer.load(written)), logitsOf(mixture))).toBe(true);
    expect((await readTokenizer(written))?.encode(text)).toEqual(bpe.encode(text));
  });
});

describe('sgemoe upcycle', () => {
  const [from, out] = [join(folder, 'cli-dense'), join(folder, 'cli')];
  beforeAll(() =>
    smallModel({ ...ALL_DENSE, vocabSize: 256 }).save(from, {
      generationConfig: { eos_token_id: 3 },
      ...new ByteTokenizer().files(),
    }),
  );

  test('writes a model that generates and trains', async () => {
    const made = await sgemoe(['upcycle', from, '--experts', '4', '--top-k', '2', '--out', out]);
    expect(made).toMatchObject({ code: 0, stderr: '' });
    expect(made.stdout).toMatch(
      /cli: 4 experts, 2 for each token; [\d,]+ parameters, [\d,]+ used by a token\nexports as MixtralForCausalLM\n$/,
    );
    const text = async (dir: string) =>
      (await sgemoe(['generate', dir, '--prompt', 'a', '--max-tokens', '8', '--temperature', '0'])).stdout;
    expect(await text(out)).toBe(await text(from));
    expect((await MoETransformer.load(out)).generationConfig).toEqual({ eos_token_id: 3 });
  });

  test('passes every option on', async () => {
    const flags =
      '--experts 3 --top-k 1 --noise 0.2 --reinit 0.5 --router-std 0.5 --shared-ffn-dim 6 --dense-layers 1';
    const made = await sgemoe(['upcycle', from, '--out', out, '--seed', '9', ...flags.split(' ')]);
    expect(made.code, made.stderr).toBe(0);
    const want = upcycle(await MoETransformer.load(from), {
      nExperts: 3,
      topKExperts: 1,
      noise: 0.2,
      reinit: 0.5,
      routerStd: 0.5,
      sharedFfnDim: 6,
      denseLayers: [1],
      seed: 9,
    });
    expect(sameBits((await MoETransformer.load(out)).store.shards[0], want.store.shards[0])).toBe(true);
  });

  test('can replace the dense model by its mixture', async () => {
    const place = join(folder, 'in-place');
    cpSync(from, place, { recursive: true });
    expect((await sgemoe(['upcycle', place, '--out', place])).code).toBe(0);
    expect((await MoETransformer.load(place)).config.nExperts).toBe(8);
  });

  test('refuses in its own words', async () => {
    const refused = async (...argv: string[]) => {
      const { code, stderr } = await sgemoe(['upcycle', from, '--out', join(folder, 'refused'), ...argv]);
      expect(code).toBe(2);
      return stderr;
    };
    expect(await refused('--experts', '2', '--top-k', '3')).toBe(
      'sgemoe: --top-k must be at most --experts (2), got 3\n',
    );
    expect(await refused('--reinit', '2')).toMatch(/must be a number >= 0 and <= 1/);
    expect(await refused('--dense-layers', '0,x')).toMatch(/--dense-layers must be a list of integers/);
    expect((await sgemoe(['upcycle', out, '--out', join(folder, 'refused')])).stderr).toMatch(
      /must be dense/,
    );
    expect((await sgemoe(['upcycle', '/no/such', '--out', out])).code).toBe(2);
  });
});
