import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backendInfo, MoETransformer } from '../../src';
import { sgemoe, TINY, temporaryFolder, writeText } from './run';

let folder: string;
let text: string;
beforeAll(() => {
  folder = temporaryFolder();
  text = writeText(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const train = (out: string, ...more: string[]) =>
  sgemoe(['train', '--data', text, '--out', out, ...TINY, '--sample-tokens', '0', '--steps', '6', ...more]);
const configOf = (out: string) => JSON.parse(readFileSync(join(out, 'state.json'), 'utf8')).config;
const biasesOf = async (out: string) =>
  [...(await MoETransformer.load(out)).namedBuffers()].flatMap(([, { data }]) => Array.from(data));

describe('--gradient-checkpointing', () => {
  it('makes the same run, from the command line or a file of options', async () => {
    const [kept, recomputed, fromFile] = ['kept', 'recomputed', 'from file'].map((name) =>
      join(folder, name),
    );
    const file = join(folder, 'options.json');
    writeFileSync(file, '{ "gradientCheckpointing": true }');
    await train(kept);
    await train(recomputed, '--gradient-checkpointing');
    await train(fromFile, '--config', file);
    expect([kept, recomputed, fromFile].map((out) => configOf(out).gradientCheckpointing)).toEqual([
      false,
      true,
      true,
    ]);
    for (const out of [recomputed, fromFile]) {
      for (const name of ['model.safetensors', 'optimizer.safetensors']) {
        expect(readFileSync(join(out, name)).equals(readFileSync(join(kept, name))), name).toBe(true);
      }
    }
    const run = JSON.parse(readFileSync(join(recomputed, 'run.json'), 'utf8'));
    expect(run.options.gradientCheckpointing).toBe(true);
  });
});

describe('--precision', () => {
  it('trains and evaluates in bfloat16, says at the head what that brings here, and is resumed', async () => {
    const [single, mixed] = ['single', 'mixed'].map((name) => join(folder, name));
    expect((await train(single)).stdout).not.toContain('Mixed:');
    const first = await train(mixed, '--precision', 'bfloat16');
    expect(first).toMatchObject({ code: 0, stderr: '' });
    const none = backendInfo().matrixUnit === 'none';
    expect(first.stdout).toMatch(none ? /Mixed: .*bfloat16, which is no faster here/ : /Mixed: .*bfloat16$/m);
    expect([single, mixed].map((out) => configOf(out).precision)).toEqual(['float32', 'bfloat16']);
    const weights = [single, mixed].map((out) => readFileSync(join(out, 'model.safetensors')));
    expect(weights[1].equals(weights[0])).toBe(false);

    const again = ['train', '--out', mixed, '--resume', '--steps', '8', '--sample-tokens', '0'];
    expect((await sgemoe(again)).stdout).toContain('Mixed:');
    expect(configOf(mixed)).toMatchObject({ precision: 'bfloat16', totalSteps: 8 });

    const evaluated = async (...more: string[]) =>
      JSON.parse((await sgemoe(['eval', single, '--data', text, '--json', ...more])).stdout).loss;
    const [exact, rounded] = [await evaluated(), await evaluated('--precision', 'bfloat16')];
    expect(rounded).not.toBe(exact);
    expect(rounded).toBeCloseTo(exact, 1);
    expect(await train(mixed, '--precision', 'float16', '--overwrite')).toMatchObject({ code: 2 });
  });
});

describe('--router-bias-update-rate', () => {
  it('trains the biases by which experts are chosen; export has no place for them', async () => {
    const out = join(folder, 'biased');
    const options = ['--router-bias-update-rate', '0.25', '--aux-loss', '0'];
    expect(await train(out, ...options)).toMatchObject({ code: 0, stderr: '' });
    expect(configOf(out)).toMatchObject({ routerBiasUpdateRate: 0.25, auxLossAlpha: 0 });
    const biases = await biasesOf(out);
    expect(biases.some((value) => value !== 0)).toBe(true);
    for (const value of biases) expect(Number.isInteger(value / 0.25)).toBe(true);
    const exported = await sgemoe(['export', out, '--out', join(folder, 'exported')]);
    expect(exported).toMatchObject({ code: 2, stdout: '' });
    expect(exported.stderr).toMatch(/e_score_correction_bias is not 0/);
  });

  it('is a number >= 0, and off by default', async () => {
    const out = join(folder, 'plain');
    expect((await train(out, '--router-bias-update-rate', '-1')).code).toBe(2);
    expect((await train(out)).code).toBe(0);
    expect(configOf(out).routerBiasUpdateRate).toBe(0);
    expect(new Set(await biasesOf(out))).toEqual(new Set([0]));
  });
});
