/** Stretched rotary frequencies are those of `transformers`: test/fixtures/rope/make.py. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ModelConfig, RopeTable } from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { readHuggingFaceConfig } from '../../src/hf/readConfig';
import { ropeAttentionFactor, ropeFrequencies } from '../../src/model/ropeFrequencies';

interface Case {
  head_dim: number;
  rope_theta: number;
  max_position_embeddings: number;
  rope_scaling: Record<string, unknown>;
  frequencies: number[];
  attention_factor: number;
}

const cases: Case[] = JSON.parse(readFileSync(join(__dirname, '../fixtures/rope/frequencies.json'), 'utf8'));

function configOf({ frequencies: _, attention_factor: __, head_dim, ...keys }: Case): ModelConfig {
  const sizes = { hidden_size: head_dim, num_attention_heads: 1, num_hidden_layers: 1, intermediate_size: 8 };
  return readHuggingFaceConfig({ model_type: 'llama', vocab_size: 9, head_dim, ...sizes, ...keys }).config;
}

describe.each(cases.map((each) => [JSON.stringify(each.rope_scaling), each] as const))('%s', (_, each) => {
  const config = configOf(each);
  const { headDim, effectiveRopeBase: base, ropeScaling } = config;

  test('frequencies and the factor of cosines and sines are those of transformers', () => {
    const ours = ropeFrequencies(headDim, base, ropeScaling);
    expect(ours).toHaveLength(each.frequencies.length);
    // Both compute in float64: a few roundings of 1e-16.
    ours.forEach((f, i) => {
      expect(Math.abs(f / each.frequencies[i] - 1), `frequency ${i}`).toBeLessThan(1e-14);
    });
    expect(ropeAttentionFactor(ropeScaling)).toBeCloseTo(each.attention_factor, 14);
    expect(ours).not.toEqual(ropeFrequencies(headDim, base, null));
  });

  test('the table of angles has them', () => {
    const { memory } = createReferenceKernels({ floatType: 'float64' });
    const table = new RopeTable(headDim, base, memory, ropeScaling);
    table.ensure(4);
    const last = each.frequencies.length - 1;
    const at = 3 * each.frequencies.length + last;
    expect(table.cos[at]).toBeCloseTo(each.attention_factor * Math.cos(3 * each.frequencies[last]), 12);
    expect(table.sin[at]).toBeCloseTo(each.attention_factor * Math.sin(3 * each.frequencies[last]), 12);
  });

  test('config.json of sgemoe keeps it', () => {
    expect(ModelConfig.fromJSON(JSON.parse(JSON.stringify(config)))).toEqual(config);
  });
});

test('a scaling that does not fit is refused with a sentence', () => {
  const make =
    (ropeScaling: unknown, more = {}) =>
    () =>
      ModelConfig.tiny({ ropeScaling, ...more } as never);
  expect(make({ type: 'ntk' })).toThrow(/ropeScaling.type must be linear, llama3, yarn, got ntk/);
  expect(make('yarn')).toThrow(/ropeScaling must be an object or null, got string yarn/);
  expect(make({ type: 'linear' })).toThrow(/ropeScaling: factor is missing/);
  expect(make({ type: 'linear', factor: 2, betaFast: 3 })).toThrow(/unknown option 'betaFast'/);
  expect(make({ type: 'linear', factor: 2 }, { ropeAlpha: 2 })).toThrow(/two scalings; give one/);
  const yarn = ModelConfig.tiny({ ropeScaling: { type: 'yarn', factor: 4, originalMaxSeqLen: 64 } });
  expect(yarn.ropeScaling).toEqual({
    type: 'yarn',
    factor: 4,
    originalMaxSeqLen: 64,
    attentionFactor: 0.1 * Math.log(4) + 1,
    betaFast: 32,
    betaSlow: 1,
    truncate: true,
  });
  expect(yarn.with({ nLayers: 1 }).ropeScaling).toEqual(yarn.ropeScaling);
});
