import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importCheckpoint, inspectCheckpoint, MoETransformer } from '../../src';
import { ARCHITECTURES } from '../../src/hf/architectures';
import { ropeFrequencies } from '../../src/model/ropeFrequencies';
import { expectError } from '../helpers/expectError';
import { ggufFromHf } from '../helpers/ggufFromHf';
import { ggufBytes, type Value } from '../helpers/ggufWriter';
import { hfDir, loadHfFixture } from '../helpers/hfFixture';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sgemoe-gguf-model-'));
  path = join(folder, 'model.GGUF');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Mistral is converted as a Llama; the others have names of their own. */
const CONVERTED = ARCHITECTURES.filter((name) => name !== 'mistral');

async function mixtralWith(...extra: (readonly [string, Value])[]): Promise<string> {
  const { config } = await loadHfFixture('mixtral');
  await writeFile(path, await ggufFromHf(hfDir('mixtral'), config, extra));
  return path;
}

describe('a GGUF file is the model that it was converted from', () => {
  for (const architecture of CONVERTED) {
    it(architecture, async () => {
      const dir = hfDir(architecture);
      const { config } = await loadHfFixture(architecture);
      await writeFile(path, await ggufFromHf(dir, config));
      const [ours, theirs] = [await MoETransformer.load(path), await MoETransformer.load(dir)];
      // The files of these tests hold no scaling of rotary angles.
      const { router_aux_loss_coef: _, rope_scaling: __, ...fields } = theirs.config.toJSON();
      expect(ours.config.toJSON()).toMatchObject(fields);
      const want = new Map(theirs.namedParameters());
      for (const [name, { data }] of ours.namedParameters()) {
        expect(data, name).toEqual(want.get(name)!.data);
        want.delete(name);
      }
      expect([...want.keys()]).toEqual([]);
    });
  }
});

it('inspect tells the types of a GGUF file and what it says about itself, and import makes a folder of it', async () => {
  const found = await inspectCheckpoint(await mixtralWith());
  expect(found.architecture).toBe('mixtral');
  expect(found.gguf).toEqual({ version: 3, architecture: 'llama', general: {}, tokenizer: null });
  expect(new Set(found.tensors.map(({ dtype }) => dtype))).toEqual(new Set(['F32']));
  await importCheckpoint(path, join(folder, 'imported'));
  const [ours, theirs] = [
    await MoETransformer.load(join(folder, 'imported')),
    await MoETransformer.load(path),
  ];
  expect(ours.config).toEqual(theirs.config);
});

it('a tensor with the name of a property of every object is refused as unknown', async () => {
  const { config } = await loadHfFixture('mixtral');
  const more = { name: 'constructor', shape: [1], data: Float32Array.of(1) };
  await writeFile(path, await ggufFromHf(hfDir('mixtral'), config, [], [more]));
  await expectError('SGEMOE_CHECKPOINT_EXTRA_TENSOR', /"constructor"/, () => MoETransformer.load(path));
});

describe('what is not computed is refused by name', () => {
  const CONFIG = 'SGEMOE_CONFIG_INVALID';
  const string = (value: string): Value => ({ type: 'string', value });
  const number = (value: number): Value => ({ type: 'u32', value });

  it('another architecture', async () => {
    await writeFile(path, ggufBytes({ metadata: [['general.architecture', string('mamba')]] }));
    await expectError(CONFIG, /architecture "mamba" is not supported; supported are llama/, () =>
      MoETransformer.load(path),
    );
  });

  for (const [what, entry, message] of [
    [
      'another rope scaling',
      ['llama.rope.scaling.type', string('longrope')],
      /rope\.scaling\.type "longrope"/,
    ],
    ['a part of heads that is rotated', ['llama.rope.dimension_count', number(2)], /rotates a part of heads/],
    ['a sliding window', ['llama.attention.sliding_window', number(3)], /sliding_window 3 is smaller/],
    ['an unknown key', ['llama.attention.clamp_kqv', number(3)], /"llama\.attention\.clamp_kqv"/],
  ] as const) {
    it(what, async () => {
      await mixtralWith(entry);
      await expectError(CONFIG, message, () => MoETransformer.load(path));
    });
  }
});

describe('a scaling of rotary angles', () => {
  const float = (key: string, value: number) => [`llama.rope.${key}`, { type: 'f32', value }] as const;
  const type = (value: string) => ['llama.rope.scaling.type', { type: 'string', value }] as const;
  const original = ['llama.rope.scaling.original_context_length', { type: 'u32', value: 16 }] as const;
  const scalingOf = async () => (await inspectCheckpoint(path)).config.ropeScaling;

  it.each([
    [[type('none'), float('scaling.factor', 4)], null],
    [[type('linear')], null],
    [[type('linear'), float('scaling.factor', 4)], { type: 'linear', factor: 4 }],
    [[float('scaling.factor', 2)], { type: 'linear', factor: 2 }],
    [
      [type('yarn'), float('scaling.factor', 4), original],
      {
        type: 'yarn',
        factor: 4,
        originalMaxSeqLen: 16,
        attentionFactor: 0.1 * Math.log(4) + 1,
        betaFast: 32,
      },
    ],
    [
      [type('yarn'), float('scaling.factor', 4), float('scaling.attn_factor', 0.5)],
      { type: 'yarn', originalMaxSeqLen: 64, attentionFactor: 0.5 * (0.1 * Math.log(4) + 1) },
    ],
  ])('%j is %j', async (entries, want) => {
    await mixtralWith(...entries);
    if (want === null) expect(await scalingOf()).toBeNull();
    else expect(await scalingOf()).toMatchObject(want);
  });

  /** A file whose frequencies are divided by these numbers; its base is Llama 3's. */
  async function withFactors(factors: number[], ...extra: (readonly [string, Value])[]): Promise<void> {
    const { config } = await loadHfFixture('mixtral');
    const tensor = { name: 'rope_freqs.weight', shape: [factors.length], data: Float32Array.from(factors) };
    await writeFile(
      path,
      await ggufFromHf(hfDir('mixtral'), { ...config, rope_theta: 5e5 }, extra, [tensor]),
    );
  }

  it('of Llama 3 comes from the factors of a tensor, as its converter writes them', async () => {
    const scaling = {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxSeqLen: 8192,
    } as const;
    const scaled = ropeFrequencies(8, 5e5, scaling);
    const factors = ropeFrequencies(8, 5e5, null).map((f, i) => f / scaled[i]);
    expect(new Set(factors).size).toBe(3);
    await withFactors(factors);
    expect(await scalingOf()).toEqual(scaling);
    expect((await MoETransformer.load(path)).config.ropeBase).toBe(5e5);
    await withFactors([1, 1, 1, 1]);
    expect(await scalingOf()).toBeNull();
  });

  it.each([
    ['another', [1, 2, 3, 8], []],
    ['one for heads of another width', [1, 1, 8], []],
    ['two', [1, 1, 1, 1], [float('scaling.factor', 2)]],
    ['not a number', [1, 1, Number.NaN, 8], []],
  ])('that is %s is refused', async (_, factors, extra) => {
    await withFactors(factors, ...extra);
    await expectError('SGEMOE_CONFIG_INVALID', /rope_freqs\.weight/, () => inspectCheckpoint(path));
  });
});
