/** Things that a run does beside its steps: early stopping, samples. */
import { EventEmitter } from 'node:events';
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readMetrics, sgemoe, TINY, temporaryFolder, writeText } from './run';

let folder: string;
let text: string;
beforeAll(() => {
  folder = temporaryFolder();
  text = writeText(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(out: string, ...more: string[]): string[] {
  const steps = ['--steps', '24', '--eval-interval', '4', '--eval-batches', '1', '--lr', '1e-2'];
  return ['train', '--data', text, '--out', out, ...TINY, ...steps, '--sample-tokens', '0', ...more];
}

/** Runs with a SIGTERM as soon as `seen` is on stdout. */
async function interrupted(argv: string[], seen: string): Promise<void> {
  const signals = new EventEmitter();
  const onStdout = (line: string) => line.includes(seen) && signals.emit('SIGTERM');
  expect((await sgemoe(argv, { signals, onStdout })).code).toBe(130);
}

function expectSameFiles(a: string, b: string, names: string[]): void {
  for (const name of names) {
    expect(readFileSync(join(a, name)).equals(readFileSync(join(b, name))), name).toBe(true);
  }
}

const resultOf = (dir: string) => JSON.parse(readFileSync(join(dir, 'run.json'), 'utf8')).result;

describe('--early-stopping', () => {
  // A loss that must fall by 9 nats: no evaluation after the first improves.
  const hard = ['--early-stopping', '3', '--early-stopping-min-delta', '9'];

  it('ends the run after this many evaluations without a lower loss, saves it and keeps the best one', async () => {
    const out = join(folder, 'early');
    const { code, stdout, stderr } = await sgemoe(start(out, ...hard));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('Stopped early, at step 16 of 24: the evaluations had stopped improving.');
    expect(readMetrics(out)).toHaveLength(16);
    expect(resultOf(out)).toMatchObject({ steps: 16, stoppedEarly: true, interrupted: false });
    const losses = readMetrics(out).flatMap((line) => (line.validationLoss as number) ?? []);
    expect(resultOf(out).best.loss).toBe(Math.min(...losses));
    expect(JSON.parse(readFileSync(join(out, 'state.json'), 'utf8'))).toMatchObject({
      step: 16,
      progress: { earlyStopping: { best: losses[0], waited: 3 } },
    });
    const again = await sgemoe(['train', '--out', out, '--resume']);
    expect(again.stderr).toMatch(
      /stopped early, 3 evaluations without improvement; give a larger --early-stopping/,
    );
    expect(again.code).toBe(2);
  });

  it('keeps counting in a run that is resumed, and a larger number or 0 goes on after the end', async () => {
    const [out, whole] = [join(folder, 'early resumed'), join(folder, 'early')];
    await interrupted(start(out, ...hard), 'step  8/24');
    expect((await sgemoe(['train', '--out', out, '--resume'])).code).toBe(0);
    expectSameFiles(out, whole, ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']);
    expect(readMetrics(out)).toHaveLength(16);
    expect((await sgemoe(['train', '--out', out, '--resume', '--early-stopping', '4'])).code).toBe(0);
    expect(resultOf(out)).toMatchObject({ steps: 20, stoppedEarly: true });
    expect((await sgemoe(['train', '--out', out, '--resume', '--early-stopping', '0'])).code).toBe(0);
    expect(resultOf(out)).toMatchObject({ steps: 24, stoppedEarly: false });
  });

  it('makes no further step when it was cut off at its end, after the last save', async () => {
    const out = join(folder, 'cut');
    await sgemoe(start(out, ...hard));
    const run = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8'));
    const { result, ...unfinished } = run;
    writeFileSync(join(out, 'run.json'), JSON.stringify(unfinished));
    expect((await sgemoe(['train', '--out', out, '--resume'])).code).toBe(0);
    const { seconds, tokensPerSec, ...told } = result;
    expect(resultOf(out)).toMatchObject(told);
    expectSameFiles(out, join(folder, 'early'), ['model.safetensors', 'optimizer.safetensors']);
  });

  it('is refused without text for validation', async () => {
    const { code, stderr } = await sgemoe(
      start(join(folder, 'blind'), ...hard, '--validation-fraction', '0'),
    );
    expect(stderr).toMatch(/--early-stopping goes by evaluations/);
    expect(code).toBe(2);
  });
});

describe('--sample-interval', () => {
  const sampling = ['--sample-interval', '5', '--sample-tokens', '12', '--sample-prompt', 'two "and"'];
  const readSamples = (dir: string) => {
    const lines = readFileSync(join(dir, 'samples.jsonl'), 'utf8').split('\n');
    expect(lines.pop()).toBe('');
    return lines.map((line) => JSON.parse(line));
  };
  let sampled: string;

  it('writes samples to samples.jsonl and leaves training as it is, to the bit', async () => {
    sampled = join(folder, 'sampled');
    const plain = join(folder, 'plain');
    const { code, stdout, stderr } = await sgemoe(start(sampled, ...sampling));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect((await sgemoe(start(plain))).code).toBe(0);
    expect(existsSync(join(plain, 'samples.jsonl'))).toBe(false);
    const files = ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors'];
    expectSameFiles(sampled, plain, files);
    const samples = readSamples(sampled);
    expect(samples.map(({ step }) => step)).toEqual([5, 10, 15, 20]);
    for (const sample of samples) {
      expect(Object.keys(sample)).toEqual(['step', 'prompt', 'text']);
      expect(sample.prompt).toBe('two "and"');
      expect(sample.text).not.toBe('');
    }
    expect(new Set(samples.map((sample) => sample.text)).size).toBeGreaterThan(1);
    expect(stdout).toContain('Sample:\n');
  });

  it('writes the same ones in a run that is resumed, without those of steps that are made again', async () => {
    const out = join(folder, 'sampled resumed');
    await interrupted(start(out, ...sampling), 'step 12/24');
    const line = JSON.stringify({ step: 15, prompt: '', text: 'of a step that no checkpoint holds' });
    appendFileSync(join(out, 'samples.jsonl'), `${line}\n{"step":20,"pro`);
    expect((await sgemoe(['train', '--out', out, '--resume'])).code).toBe(0);
    expect(readSamples(out)).toEqual(readSamples(sampled));
  });

  it('goes with --overwrite: the samples of the earlier run are gone', async () => {
    const argv = start(join(folder, 'sampled resumed'), '--overwrite', '--steps', '1');
    expect((await sgemoe(argv)).code).toBe(0);
    expect(existsSync(join(folder, 'sampled resumed', 'samples.jsonl'))).toBe(false);
  });

  it.each([
    ['no tokens', ['--sample-interval', '5'], /--sample-interval asks for samples, --sample-tokens 0/],
    ['an empty prompt', ['--sample-prompt', ''], /--sample-prompt[\s\S]*must be a text that is not empty/],
    [
      'a prompt of unknown characters',
      ['--tokenizer', 'char', '--sample-tokens', '9', '--sample-prompt', '?'],
      /does not know the character "\?"/,
    ],
  ])('is refused with %s, before the first step', async (_what, more, message) => {
    const { code, stderr } = await sgemoe(start(join(folder, 'no'), ...more));
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
    expect(existsSync(join(folder, 'no'))).toBe(false);
  });

  it('is refused with a prompt that the tokenizer drops', async () => {
    const file = join(folder, 'words.json');
    const model = { type: 'WordLevel', vocab: { '[UNK]': 0, and: 1 }, unk_token: '[UNK]' };
    const other = { normalizer: null, post_processor: null, decoder: null, added_tokens: [] };
    writeFileSync(file, JSON.stringify({ ...other, pre_tokenizer: { type: 'WhitespaceSplit' }, model }));
    const { code, stderr } = await sgemoe(
      start(join(folder, 'no'), '--tokenizer', file, '--sample-tokens', '9'),
    );
    expect(stderr).toMatch(
      /--sample-prompt "\\n" has no tokens in this tokenizer; give another, or --sample-tokens 0/,
    );
    expect(code).toBe(2);
    expect(existsSync(join(folder, 'no'))).toBe(false);
  });
});
