import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importCheckpoint, inspectCheckpoint, MoETransformer } from '../../src';
import { ARCHITECTURES } from '../../src/hf/architectures';
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

const MIXTURES = ['mixtral', 'olmoe', 'qwen3_moe', 'qwen2_moe', 'granitemoe'] as const;

async function mixtralWith(...extra: (readonly [string, Value])[]): Promise<string> {
  const { config } = await loadHfFixture('mixtral');
  await writeFile(path, await ggufFromHf(hfDir('mixtral'), config, extra));
  return path;
}

describe('a GGUF file is the model that it was converted from', () => {
  for (const architecture of MIXTURES) {
    it(architecture, async () => {
      const dir = hfDir(architecture);
      const { config } = await loadHfFixture(architecture);
      await writeFile(path, await ggufFromHf(dir, config));
      const [ours, theirs] = [await MoETransformer.load(path), await MoETransformer.load(dir)];
      const { router_aux_loss_coef: _, ...fields } = theirs.config.toJSON();
      expect(ours.config.toJSON()).toMatchObject(fields);
      const want = new Map(theirs.namedParameters());
      for (const [name, { data }] of ours.namedParameters()) {
        expect(data, name).toEqual(want.get(name)!.data);
        want.delete(name);
      }
      expect([...want.keys()]).toEqual([]);
    });
  }

  it('for every mixture that is read from Hugging Face', () => {
    expect(MIXTURES.filter((name) => !(ARCHITECTURES as readonly string[]).includes(name))).toEqual([]);
  });
});

it('inspect tells the types of a GGUF file, and import makes a folder of it', async () => {
  const found = await inspectCheckpoint(await mixtralWith());
  expect(found.architecture).toBe('mixtral');
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
    ['a rope scaling', ['llama.rope.scaling.type', string('yarn')], /rope\.scaling\.type "yarn"/],
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
