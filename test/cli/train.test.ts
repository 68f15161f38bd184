import { EventEmitter } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sampler } from '../../src';
import { MoETransformer } from '../../src/model/model';
import { type Outcome, readMetrics, sgemoe, TINY, temporaryFolder, writeText } from './run';
import { elementNames } from './xml';

let folder: string;
let text: string;
let out: string;
let trained: Outcome;

beforeAll(async () => {
  folder = temporaryFolder();
  text = writeText(folder);
  out = join(folder, 'run');
  const more = ['--steps', '30', '--eval-interval', '10', '--lr', '1e-2', '--sample-tokens', '20'];
  trained = await sgemoe(['train', '--data', text, '--out', out, ...TINY, ...more]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('sgemoe train', () => {
  it('ends well, leaves its files and prints losses and a sample', () => {
    expect(trained.code).toBe(0);
    expect(trained.stderr).toBe('');
    const names = [
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'metrics.jsonl',
      'curve.svg',
      'run.json',
    ];
    for (const name of [...names, 'best/model.safetensors']) expect(existsSync(join(out, name))).toBe(true);
    expect(trained.stdout).toMatch(/Validation loss \d\.\d{4} nats per token, \d\.\d{3} bits per byte/);
    expect(trained.stdout).toContain('Sample:\n');
  });

  it('writes a line of metrics for each step, with the validation loss where it evaluates', () => {
    const metrics = readMetrics(out);
    expect(metrics.map((line) => line.step)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
    const evaluated = metrics.filter((line) => line.validationLoss !== undefined).map((line) => line.step);
    expect(evaluated).toEqual([10, 20, 30]);
    for (const line of metrics) {
      for (const key of ['loss', 'crossEntropy', 'auxLoss', 'lr', 'gradNorm', 'tokensPerSec']) {
        expect(line[key]).toBeTypeOf('number');
      }
      expect(line.skipped).toBe(false);
      const load = line.expertLoad as number[][];
      expect(load.map((layer) => layer.length)).toEqual([4, 4]);
      // Four shares, each rounded to 1e-4.
      for (const layer of load) expect(Math.abs(layer.reduce((a, b) => a + b) - 1)).toBeLessThan(2.1e-4);
    }
    expect(metrics[29].crossEntropy as number).toBeLessThan((metrics[0].crossEntropy as number) - 1);
  });

  it('draws a picture that is well-formed and finite', () => {
    const svg = readFileSync(join(out, 'curve.svg'), 'utf8');
    expect(elementNames(svg)).toContain('polyline');
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });

  it('reports the loss of the whole split that the saved model has', async () => {
    const { result } = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8'));
    const reported = Number(/Validation loss (\d\.\d+)/.exec(trained.stdout)![1]);
    expect(result.validation.loss).toBeCloseTo(reported, 4);
    expect(result).toMatchObject({ steps: 30, skippedSteps: 0, interrupted: false });
    expect((await MoETransformer.load(out)).config.maxSeqLen).toBe(16);
  });

  it('keeps the best evaluation apart from the last weights', () => {
    const { result } = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8'));
    const losses = readMetrics(out).flatMap((line) => (line.validationLoss as number) ?? []);
    expect(result.best.loss).toBe(Math.min(...losses));
  });

  it('gives the same metrics and weights with the same seed', async () => {
    const run = async (name: string, seed: string) => {
      const dir = join(folder, name);
      const more = ['--steps', '3', '--seed', seed, '--sample-tokens', '0'];
      await sgemoe(['train', '--data', text, '--out', dir, ...TINY, ...more]);
      return readFileSync(join(dir, 'model.safetensors'));
    };
    const first = await run('seed 7', '7');
    expect(first.equals(await run('seed 7 again', '7'))).toBe(true);
    expect(first.equals(await run('seed 8', '8'))).toBe(false);
  });

  it('trains without a validation split', async () => {
    const dir = join(folder, 'blind');
    const more = ['--steps', '2', '--validation-fraction', '0', '--sample-tokens', '0'];
    const { code, stdout } = await sgemoe(['train', '--data', text, '--out', dir, ...TINY, ...more]);
    expect(code).toBe(0);
    expect(stdout).not.toContain('Validation loss');
    expect(existsSync(join(dir, 'best'))).toBe(false);
  });

  it('skips, counts and reports steps that are not finite', async () => {
    const dir = join(folder, 'diverged');
    const more = ['--steps', '4', '--lr', '1e38', '--warmup', '0', '--sample-tokens', '0'];
    const { code, stdout } = await sgemoe(['train', '--data', text, '--out', dir, ...TINY, ...more]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/3 of them skipped: loss or gradient not finite/);
    expect(readMetrics(dir).map((line) => line.skipped)).toEqual([false, true, true, true]);
    // No two lines share a step; a skipped update is made again.
    expect(readMetrics(dir).map(({ step, update }) => [step, update])).toEqual(
      [1, 2, 3, 4].map((n) => [n, Math.min(n, 2)]),
    );
    expect((await sgemoe(['report', dir])).stdout).toContain('diverged: 3 of 4 steps skipped');
    elementNames(readFileSync(join(dir, 'curve.svg'), 'utf8'));
  });

  it('ends with a sentence when no step is finite any more', async () => {
    const out = join(folder, 'endless');
    const diverging = ['--steps', '12', '--lr', '1e30', '--grad-clip', '0'];
    const args = ['train', '--data', text, '--out', out, ...TINY, ...diverging, '--sample-tokens', '0'];
    const { code, stderr, stdout } = await sgemoe(args);
    expect(stderr).toMatch(/10 steps in a row: training has diverged/);
    expect(stdout.match(/not finite/g)).toHaveLength(1);
    expect(code).toBe(1);
    expect(readMetrics(out).map(({ step }) => step)).toEqual(Array.from({ length: 11 }, (_, i) => i + 1));
    const { error, result } = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8'));
    expect(error).toMatchObject({ code: 'SGEMOE_TRAINING_DIVERGED' });
    expect(result).toBeUndefined();
    const patient = await sgemoe([...args, '--overwrite', '--max-skipped-steps', '0']);
    expect(patient.code).toBe(0);
    expect(patient.stdout).toMatch(/11 of them skipped/);
    const sooner = await sgemoe([...args, '--overwrite', '--max-skipped-steps', '3']);
    expect(sooner.stderr).toMatch(/3 steps in a row/);
  });

  it('takes a preset with the vocabulary of the tokenizer', async () => {
    const dir = join(folder, 'preset');
    const more = ['--preset', 'tiny', '--layers', '1', '--seq-len', '8', '--batch-size', '1', '--steps', '1'];
    await sgemoe(['train', '--data', text, '--out', dir, ...more, '--sample-tokens', '0']);
    const { config } = await MoETransformer.load(dir);
    expect(config).toMatchObject({ hiddenDim: 64, nLayers: 1, headDim: 16, ffnDim: 256, vocabSize: 256 });
    expect(config).toMatchObject({ qkNorm: 'none', embeddingMultiplier: 1 });
  });

  it('trains a model with dense layers, some or all, and writes with it', async () => {
    const sizes = [
      '--hidden-dim',
      '16',
      '--layers',
      '2',
      '--heads',
      '2',
      '--seq-len',
      '16',
      '--batch-size',
      '4',
    ];
    const train = async (name: string, ...more: string[]) => {
      const dir = join(folder, name);
      const args = ['train', '--data', text, '--out', dir, ...more, '--steps', '2', '--sample-tokens', '4'];
      const { code, stdout, stderr } = await sgemoe(args);
      expect([code, stderr]).toEqual([0, '']);
      return { config: (await MoETransformer.load(dir)).config, stdout, last: readMetrics(dir)[1] };
    };
    const all = await train('all-dense', ...sizes, '--dense-layers', 'all', '--dense-ffn-dim', '24');
    expect(all.config).toMatchObject({ denseLayers: [0, 1], nExperts: 0, topKExperts: 0, ffnDim: 0 });
    expect(all.stdout).toContain('2 dense layers');
    expect(all.last).toMatchObject({
      auxLoss: 0,
      expertLoad: [[], []],
      router: { deadExperts: [null, null] },
    });
    const some = await train('some-dense', ...TINY, '--dense-layers', '1');
    expect(some.config).toMatchObject({ denseLayers: [1], denseFfnDim: 2 * 16, nExperts: 4 });
    expect(some.stdout).toContain('2 layers (1 dense), 4 experts, top 2');
    expect((some.last.expertLoad as number[][]).map(({ length }) => length)).toEqual([4, 0]);
  });

  it('names the flags of layers and widths that do not fit together', async () => {
    const train = (...more: string[]) =>
      sgemoe(['train', '--data', text, '--out', join(folder, 'no'), ...more]);
    expect((await train('--dense-layers', '9')).stderr).toMatch(
      /--dense-layers must be ascending and below --layers \(4\), got 9/,
    );
    expect((await train('--dense-layers', 'first')).stderr).toMatch(
      /--dense-layers must be a list of integers >= 0/,
    );
    expect((await train('--dense-ffn-dim', '8')).stderr).toMatch(
      /--dense-ffn-dim must be 0 without --dense-layers/,
    );
    const { code, stderr } = await train('--dense-layers', 'all', '--experts', '8');
    expect(stderr).toMatch(/--experts must be 0 where every layer is dense, got 8/);
    expect(code).toBe(2);
  });

  it('makes the kind of model asked for', async () => {
    const dir = join(folder, 'kind');
    const more = [
      '--qk-norm',
      'head',
      '--embedding-multiplier',
      '2.5',
      '--steps',
      '1',
      '--sample-tokens',
      '0',
    ];
    const { stderr } = await sgemoe(['train', '--data', text, '--out', dir, ...TINY, ...more]);
    expect(stderr).toBe('');
    const { config } = await MoETransformer.load(dir);
    expect(config).toMatchObject({ qkNorm: 'head', embeddingMultiplier: 2.5 });
  });
});

describe('an interrupt', () => {
  it('finishes the step, saves, says how to go on and gives 130', async () => {
    const dir = join(folder, 'interrupted');
    const signals = new EventEmitter();
    const argv = ['train', '--data', text, '--out', dir, ...TINY, '--steps', '100000'];
    const { code, stdout } = await sgemoe(argv, {
      signals,
      onStdout: (line) => line.startsWith('step') && signals.emit('SIGTERM'),
    });
    expect(code).toBe(130);
    const { length } = readMetrics(dir);
    expect(stdout).toMatch(new RegExp(`Stopped at step ${length} of 100000`));
    expect(stdout).toContain('sgemoe generate');
    await MoETransformer.load(dir);
    expect(signals.eventNames()).toEqual([]);
  });

  it('ends a text early, with the figures', async () => {
    const signals = new EventEmitter();
    const { code, stderr } = await sgemoe(['generate', out, '--max-tokens', '100000'], {
      signals,
      onStdout: () => signals.emit('SIGINT'),
    });
    expect(code).toBe(130);
    expect(stderr).toMatch(/tokens in .* stopped early/);
  });
});

describe('sgemoe generate', () => {
  const generate = (...more: string[]) => sgemoe(['generate', out, '--prompt', 'one and', ...more]);

  it('writes new text alone to stdout, figures to stderr', async () => {
    const { code, stdout, stderr } = await generate('--max-tokens', '40');
    expect(code).toBe(0);
    expect(stdout).not.toContain('one and one and');
    expect(stderr).toMatch(/^40 tokens in \d+\.\d\d s, .* tokens\/s\n$/);
    expect((await generate('--max-tokens', '40', '--echo')).stdout).toBe(`one and${stdout}`);
  });

  it('gives the same text for the same seed, another for another', async () => {
    const first = await generate('--seed', '1', '--temperature', '1.5');
    expect((await generate('--seed', '1', '--temperature', '1.5')).stdout).toBe(first.stdout);
    expect((await generate('--seed', '2', '--temperature', '1.5')).stdout).not.toBe(first.stdout);
  });

  it('is greedy at temperature 0, as the library, also beyond the longest sequence', async () => {
    const { stdout } = await generate('--temperature', '0', '--max-tokens', '40');
    const model = await MoETransformer.load(out);
    const ids = model.generate(Buffer.from('one and'), 47, undefined, { slidingWindow: true });
    expect(stdout).toBe(Buffer.from(ids.slice(7)).toString('utf8'));
  });

  it('never prints a part of a character', async () => {
    const pieces: string[] = [];
    await sgemoe(['generate', out, '--max-tokens', '300', '--temperature', '3'], {
      onStdout: (piece) => pieces.push(piece),
    });
    const bytes = Buffer.from(pieces.join(''));
    expect(bytes.toString()).toBe(pieces.join(''));
    expect(pieces.length).toBeGreaterThan(10);
  });

  it('ends in front of a stop text, which may span tokens, and never says a forbidden token', async () => {
    const plain = (await generate('--temperature', '0', '--max-tokens', '40')).stdout;
    const stop = plain.slice(10, 13);
    const stopped = await generate(
      '--temperature',
      '0',
      '--max-tokens',
      '40',
      '--stop',
      'never',
      '--stop',
      stop,
    );
    expect(stopped.stdout).toBe(plain.slice(0, plain.indexOf(stop)));
    const id = plain.charCodeAt(0);
    const ended = await generate('--temperature', '0', '--max-tokens', '40', '--stop-token', String(id));
    expect(ended.stdout).toBe('');
    const forbidden = await generate(
      '--max-tokens',
      '40',
      '--logit-bias',
      `${id}=-Infinity`,
      '--logit-bias',
      '1=0.5',
    );
    expect(forbidden.stdout).not.toContain(plain[0]);
  });

  it('takes every option of sampling', async () => {
    const choice = '--max-tokens 30 --top-k 40 --top-p 0.95 --min-p 0.01 --seed 5';
    const penalty = '--repetition-penalty 1.2 --presence-penalty -0.5 --frequency-penalty 0.3';
    const { code, stdout } = await generate(...`${choice} ${penalty}`.split(' '));
    const model = await MoETransformer.load(out);
    const options = { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.01, seed: 5, repetitionPenalty: 1.2 };
    const penalties = { presencePenalty: -0.5, frequencyPenalty: 0.3 };
    const sampler = new Sampler({ ...options, ...penalties }, { vocabSize: 256 });
    const ids = model.generate(Buffer.from('one and'), 37, sampler, { slidingWindow: true });
    expect([code, stdout]).toEqual([0, Buffer.from(ids.slice(7)).toString('utf8')]);
  });

  it('writes log-probabilities to a file, a line each', async () => {
    const file = join(folder, 'logprobs.jsonl');
    const more = ['--temperature', '0', '--max-tokens', '5', '--logprobs', file, '--top-logprobs', '2'];
    const { stdout } = await generate(...more);
    const lines = readFileSync(file, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map(({ text }) => text).join('')).toBe(stdout);
    for (const { token, logprob, top } of lines) {
      // Greedy: the best alternative is the token itself; float32 of the same logarithm, computed in two ways.
      expect(top).toHaveLength(2);
      expect(top[0].token).toBe(token);
      expect(top[0].logprob).toBeCloseTo(logprob, 5);
      expect(logprob).toBeLessThanOrEqual(0);
    }
  });

  it('reads the prompt from stdin, and takes a line break for an empty one', async () => {
    const piped = await sgemoe(['generate', out, '--prompt', '-'], { stdin: ['one', Buffer.from(' and')] });
    expect(piped.stdout).toBe((await generate()).stdout);
    const empty = await sgemoe(['generate', out]);
    expect(empty.stdout).toBe((await sgemoe(['generate', out, '--prompt', '\n'])).stdout);
  });

  it('ends with a line break on a terminal only', async () => {
    const { stdout } = await generate('--max-tokens', '5');
    const onTerminal = await sgemoe(['generate', out, '--prompt', 'one and', '--max-tokens', '5'], {
      isTTY: true,
    });
    expect(onTerminal.stdout).toBe(`${stdout}\n`);
  });

  it('fails with exit code 1 and one sentence for a damaged checkpoint', async () => {
    const dir = join(folder, 'damaged');
    await sgemoe(['train', '--data', text, '--out', dir, ...TINY, '--steps', '1', '--sample-tokens', '0']);
    const weights = join(dir, 'model.safetensors');
    writeFileSync(weights, readFileSync(weights).subarray(0, 5000));
    const { code, stderr } = await sgemoe(['generate', dir]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^sgemoe: .*model\.safetensors.*\n$/);
  });
});
