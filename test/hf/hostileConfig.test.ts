/** A config.json may hold anything: the model loads, or a sentence says why not. */
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadCheckpoint, ModelConfig, MoETransformer, SgemoeError } from '../../src';
import { getKernels } from '../../src/backend';
import { ARCHITECTURES } from '../../src/hf/architectures';
import { modelSource } from '../../src/hf/source';
import { ParameterStore } from '../../src/memory/parameters';
import { assemble } from '../../src/model/assemble';
import { expectError } from '../helpers/expectError';
import { hfDir } from '../helpers/hfFixture';
import { smallModel } from '../helpers/smallModel';

/** Values as JSON, which has numbers that no double holds. */
const VALUES = [
  '1e999',
  '-1e999',
  '1e308',
  '-1e308',
  '1e-320',
  '5e-324',
  '1e20',
  '0',
  '-1',
  '0.5',
  '2147483647',
  '4294967296',
  'null',
  'true',
  '""',
  '"x"',
  '[]',
  '[1]',
  '[[]]',
  '{}',
  '{"a":1}',
  '{"rope_theta":1e-320}',
  '{"toString":1}',
];

async function ours(): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'hostile-'));
  await smallModel().save(dir);
  return dir;
}

function theirs(architecture: (typeof ARCHITECTURES)[number]): string {
  const dir = mkdtempSync(join(tmpdir(), 'hostile-'));
  cpSync(hfDir(architecture), dir, { recursive: true });
  return dir;
}

/** Makes the model's layers with every value for every key, as loading does; returns what failed without a code. */
async function withEveryValue(dir: string): Promise<string[]> {
  const checkpoint = await loadCheckpoint(dir);
  const keys = [
    ...Object.keys(checkpoint.config),
    'rope_theta',
    'rope_scaling',
    'num_experts',
    'eos_token_id',
  ];
  const raw: string[] = [];
  for (const key of new Set(keys)) {
    for (const value of VALUES) {
      const json = JSON.stringify({ ...checkpoint.config, [key]: '@' }).replace('"@"', value);
      try {
        const source = modelSource({ ...checkpoint, config: JSON.parse(json) });
        const onExpose = (name: string, shape: readonly number[]) => source.check(name, shape);
        assemble(source.config, new ParameterStore(getKernels(), { onExpose }));
      } catch (error) {
        if (!(error instanceof SgemoeError)) raw.push(`${key} ${value}: ${String(error)}`);
      }
    }
  }
  await checkpoint.tensors.close();
  return raw;
}

describe('any value of any key loads or is refused with a code', () => {
  test.each(ARCHITECTURES)('%s', async (architecture) => {
    expect(await withEveryValue(theirs(architecture))).toEqual([]);
  });
  test('sgemoe', async () => {
    expect(await withEveryValue(await ours())).toEqual([]);
  });
});

describe('a scale that float32 does not hold', () => {
  test.each([
    ['logits_scaling', '1e-320', /logitsDivisor must be in \[2\^-126, 2\^126\].*got 1e-320/],
    ['embedding_multiplier', '1e39', /embeddingMultiplier must be in/],
    ['attention_multiplier', '1e-300', /attentionMultiplier must be in/],
    ['residual_multiplier', '1e308', /residualMultiplier must be in/],
  ])('%s %s is refused', async (key, value, message) => {
    for (const dir of [await ours(), theirs('granitemoe')]) {
      const path = join(dir, 'config.json');
      const json = JSON.parse(readFileSync(path, 'utf8'));
      writeFileSync(path, JSON.stringify({ ...json, [key]: Number(value) }));
      await expectError('SGEMOE_CONFIG_INVALID', message, () => MoETransformer.load(dir));
    }
  });

  test('a rotary base that its scaling makes infinite', () => {
    expect(() => ModelConfig.tiny({ ropeBase: 1e308, ropeAlpha: 1e10 })).toThrow(
      /ropeAlpha.* must be finite/,
    );
  });

  test('the largest and the smallest are computed with', async () => {
    const config = { logitsDivisor: 2 ** 126, attentionMultiplier: 2 ** -126 };
    expect(smallModel(config).nextTokenLogits([1, 2]).every(Number.isFinite)).toBe(true);
  });
});
