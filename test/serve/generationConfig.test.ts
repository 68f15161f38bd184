/** Sampling where a request is silent: what the checkpoint's generation_config.json says. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { checkpointSampling } from '../../src';
import { ggufGenerationConfig } from '../../src/checkpoint/gguf/ggufTokenizer';
import { samplingEntries } from '../../src/checkpoint/gguf/sampling';
import { sgemoe } from '../cli/run';
import { ByteTokenizer, byteModel, Engine } from './engines';
import { openServer, post } from './servers';

const folder = mkdtempSync(join(tmpdir(), 'generation-config-'));
const dir = join(folder, 'model');
await byteModel().save(dir, {
  ...new ByteTokenizer().files(),
  generationConfig: { top_k: 1, temperature: 1.5 },
});
const engine = await Engine.open(dir);
const server = await openServer({ engine });
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

/** The texts of two seeds, which are equal if only the most probable token may be drawn. */
const two = <T>(ask: (seed: number) => Promise<T>) => Promise.all([ask(1), ask(2)]);

it('the keys of generation_config.json become sampling options, where they are in range', () => {
  const config = { temperature: 0.6, top_k: 20, top_p: 0.95, min_p: 0.1, repetition_penalty: 1.05 };
  const options = { temperature: 0.6, topK: 20, topP: 0.95, minP: 0.1, repetitionPenalty: 1.05 };
  expect(checkpointSampling({ ...config, do_sample: true })).toEqual(options);
  expect(checkpointSampling({ ...config, do_sample: false })).toEqual({ ...options, temperature: 0 });
  expect(checkpointSampling({ top_k: 0, temperature: '1', top_p: 2, min_p: null })).toEqual({});
  expect(checkpointSampling(null)).toEqual({});
});

it('a GGUF file has the same keys below general.sampling., as float32', () => {
  const config = { temperature: 0.6, top_k: 20, top_p: 0.95, min_p: 0.1, repetition_penalty: 1.05 };
  const entries = samplingEntries({ ...config, eos_token_id: 3 });
  expect(entries.map(([key]) => key)).toEqual([
    'general.sampling.temp',
    'general.sampling.top_k',
    'general.sampling.top_p',
    'general.sampling.min_p',
    'general.sampling.penalty_repeat',
  ]);
  const metadata = new Map(entries.map(([key, { value }]) => [key, Math.fround(value as number)]));
  expect(ggufGenerationConfig({ path: 'a.gguf', metadata })).toEqual(config);
  expect(samplingEntries({ temperature: '1', top_k: -1, top_p: 1e60 })).toEqual([]);
  expect(samplingEntries(null)).toEqual([]);
});

describe('an engine', () => {
  const ask = (of: typeof engine, options: object) => (seed: number) =>
    of.generate({ prompt: 'once', maxTokens: 12, seed, ...options }).then(({ tokens }) => tokens.join());

  it('samples as the checkpoint says where the request is silent, and as the request says elsewhere', async () => {
    expect(engine.samplingDefaults).toEqual({ temperature: 1.5, topK: 1 });
    const [one, other] = await two(ask(engine, {}));
    expect(other).toBe(one);
    const [free, freer] = await two(ask(engine, { topK: Number.POSITIVE_INFINITY }));
    expect(freer).not.toBe(free);
  });

  it('ignores the checkpoint where it is told to', async () => {
    const ignoring = await Engine.open(dir, { generationConfig: 'ignore' });
    expect(ignoring.samplingDefaults).toEqual({});
    expect(ignoring.fingerprint).not.toBe(engine.fingerprint);
    const [one, other] = await two(ask(ignoring, {}));
    expect(other).not.toBe(one);
    await ignoring.close();
    await expect(Engine.open(dir, { generationConfig: 'auto' as 'model' })).rejects.toThrow(
      /generationConfig must be 'model' or 'ignore', got auto/,
    );
  });
});

it('a server does, too; top_k -1 is all, whatever the checkpoint says', async () => {
  const ask = (fields: object) => async (seed: number) => {
    const body = { prompt: 'once', max_tokens: 12, seed, ...fields };
    const response = await post(`${server.url}/v1/completions`, body);
    const { choices } = (await response.json()) as { choices: { text: string }[] };
    return choices[0].text;
  };
  const [one, other] = await two(ask({}));
  expect(other).toBe(one);
  const [free, freer] = await two(ask({ top_k: -1 }));
  expect(freer).not.toBe(free);
});

it('sgemoe generate does, too, where it has no flag', async () => {
  const ask = (flags: string[]) => async (seed: number) => {
    const argv = [
      'generate',
      dir,
      '--prompt',
      'once',
      '--max-tokens',
      '12',
      '--seed',
      String(seed),
      ...flags,
    ];
    const { code, stdout } = await sgemoe(argv);
    expect(code).toBe(0);
    return stdout;
  };
  const [one, other] = await two(ask([]));
  expect(other).toBe(one);
  for (const flags of [
    ['--top-k', '200'],
    ['--generation-config', 'ignore'],
  ]) {
    const [free, freer] = await two(ask(flags));
    expect(freer, flags[0]).not.toBe(free);
  }
});
