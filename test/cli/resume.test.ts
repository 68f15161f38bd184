import { EventEmitter } from 'node:events';
import { appendFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { MoETransformer } from '../../src/model/model';
import { readMetrics, sgemoe, TINY, temporaryFolder, writeText } from './run';

let folder: string;
let text: string;
const whole = () => join(folder, 'whole');
const STEPS = ['--steps', '24', '--eval-interval', '6', '--eval-batches', '2', '--lr', '1e-2'];
const QUIET = ['--sample-tokens', '0'];

beforeAll(async () => {
  folder = temporaryFolder();
  text = writeText(folder);
  const { code, stderr } = await sgemoe(start(whole()));
  expect(stderr).toBe('');
  expect(code).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(out: string, ...more: string[]): string[] {
  return ['train', '--data', text, '--out', out, ...TINY, ...STEPS, ...QUIET, ...more];
}

/** A run that gets a SIGTERM after its first evaluation. */
async function interrupted(name: string): Promise<string> {
  const out = join(folder, name);
  const signals = new EventEmitter();
  const onStdout = (line: string) => line.includes('validation ') && signals.emit('SIGTERM');
  expect((await sgemoe(start(out), { signals, onStdout })).code).toBe(130);
  const steps = readMetrics(out).length;
  expect(steps).toBeGreaterThan(0);
  expect(steps).toBeLessThan(24);
  return out;
}

function expectSameRun(out: string): void {
  for (const name of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
    expect(readFileSync(join(out, name)).equals(readFileSync(join(whole(), name))), name).toBe(true);
  }
  const lines = (dir: string) => readMetrics(dir).map(({ tokensPerSec, ...line }) => line);
  expect(lines(out)).toEqual(lines(whole()));
  const result = (dir: string) => JSON.parse(readFileSync(join(dir, 'run.json'), 'utf8')).result;
  expect(result(out).best).toEqual(result(whole()).best);
  expect(result(out).validation).toEqual(result(whole()).validation);
}

describe('--resume', () => {
  it('goes on after an interrupt, with its own options: files and metrics as of a run without one', async () => {
    const out = await interrupted('goes on');
    // A crash leaves lines of steps that no checkpoint holds, the last one cut off.
    const line = readMetrics(out).at(-1)!;
    appendFileSync(join(out, 'metrics.jsonl'), `${JSON.stringify({ ...line, step: 23 })}\n{"step":24,"lo`);
    const { code, stdout, stderr } = await sgemoe(['train', '--out', out, '--resume']);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(stdout).toContain('Validation loss');
    expectSameRun(out);
  });

  it('starts at the beginning when there was no checkpoint yet', async () => {
    const out = join(folder, 'early');
    mkdirSync(out);
    writeFileSync(join(out, 'run.json'), readFileSync(join(whole(), 'run.json')));
    expect((await sgemoe(['train', '--out', out, '--resume'])).code).toBe(0);
    expectSameRun(out);
  });

  it.each(['model.safetensors', 'checkpoints'])('refuses to start anew over %s', async (name) => {
    const out = join(folder, `over ${name}`);
    mkdirSync(join(out, 'checkpoints'), { recursive: true });
    for (const file of ['run.json', 'model.safetensors']) cpSync(join(whole(), file), join(out, file));
    rmSync(join(out, name === 'checkpoints' ? 'model.safetensors' : 'checkpoints'), { recursive: true });
    const { code, stderr } = await sgemoe(['train', '--out', out, '--resume']);
    expect(stderr).toMatch(/has weights, but no state\.json to go on from; --init-from/);
    expect(code).toBe(2);
    expect(readdirSync(out).sort()).toEqual([name, 'run.json'].sort());
  });

  it('goes on beyond the end with more steps', async () => {
    const out = await interrupted('longer');
    const { code } = await sgemoe(['train', '--out', out, '--resume', '--steps', '30', '--threads', '1']);
    expect(code).toBe(0);
    expect(readMetrics(out)).toHaveLength(30);
    expect(JSON.parse(readFileSync(join(out, 'run.json'), 'utf8')).options.steps).toBe(30);
  });

  it('takes the weights in best/ for the best ones, when the steps that made them were lost', async () => {
    const out = await interrupted('best');
    cpSync(join(whole(), 'best'), join(out, 'best'), { recursive: true });
    // Unchanged weights never give a lower evaluation.
    expect((await sgemoe(['train', '--out', out, '--resume', '--lr', '0'])).code).toBe(0);
    const best = (dir: string) => JSON.parse(readFileSync(join(dir, 'run.json'), 'utf8')).result.best;
    expect(best(whole()).step).toBeGreaterThan(6);
    expect(best(out)).toEqual(best(whole()));
    const weights = (dir: string) => readFileSync(join(dir, 'best/model.safetensors'));
    expect(weights(out).equals(weights(whole()))).toBe(true);
  });

  it('goes on in another working directory, where paths were relative', async () => {
    const { options } = JSON.parse(readFileSync(join(whole(), 'run.json'), 'utf8'));
    const before = process.cwd();
    const out = join(folder, 'moved');
    const tokenizer = ['--tokenizer', relative(before, whole())];
    const argv = start(relative(before, out), '--steps', '2', ...tokenizer);
    expect((await sgemoe(argv.map((arg) => (arg === text ? relative(before, text) : arg)))).stderr).toBe('');
    process.chdir(folder);
    try {
      const more = ['--steps', '4', '--tokenizer', 'whole'];
      expect((await sgemoe(['train', '--out', 'moved', '--resume', ...more])).stderr).toBe('');
    } finally {
      process.chdir(before);
    }
    const run = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8'));
    expect(run.options).toMatchObject({ data: options.data, out, tokenizer: whole() });
    expect(readMetrics(out)).toHaveLength(4);
  });

  it.each<[string, () => string[], RegExp, number?]>([
    ['a folder without a run', () => ['--out', join(folder, 'none'), '--resume'], /there is no .*run\.json/],
    [
      'a run at its end',
      () => ['--out', whole(), '--resume'],
      /has made its 24 steps; give a larger --steps/,
    ],
    [
      'another size',
      () => ['--out', whole(), '--resume', '--ffn-dim', '32'],
      /own --ffn-dim \(16\); it can't become 32/,
    ],
    [
      'other data',
      () => ['--out', whole(), '--resume', '--steps', '30', '--data', other()],
      /data have become/,
      1,
    ],
    ['--overwrite with it', () => ['--out', whole(), '--resume', '--overwrite'], /give one of them/],
  ])('refuses %s', async (_what, argv, message, wanted = 2) => {
    const { code, stderr } = await sgemoe(['train', ...argv()]);
    expect(stderr).toMatch(message);
    expect(code).toBe(wanted);
  });
});

function other(): string {
  const file = join(folder, 'other.txt');
  writeFileSync(file, 'another text '.repeat(200));
  return file;
}

describe('--init-from', () => {
  it('starts from the weights and tokenizer of a checkpoint, with a fresh optimizer', async () => {
    const out = join(folder, 'tuned');
    const still = ['--lr', '0', '--steps', '1', '--seq-len', '8'];
    const argv = ['train', '--data', other(), '--init-from', whole(), '--out', out, ...still, ...QUIET];
    expect((await sgemoe(argv)).stderr).toBe('');
    const weights = async (dir: string) => (await MoETransformer.load(dir)).parameter('lm_head.weight').data;
    expect(await weights(out)).toEqual(await weights(whole()));
    expect(JSON.parse(readFileSync(join(out, 'state.json'), 'utf8'))).toMatchObject({ step: 1 });
  });

  it.each([
    ['sizes', ['--layers', '3'], /takes the model of its checkpoint; leave out layers/],
    ['another kind of model', ['--qk-norm', 'full'], /takes the model of its checkpoint; leave out qkNorm/],
    ['a longer sequence', ['--seq-len', '32'], /--seq-len must be at most 16/],
  ])('refuses %s beside it', async (_what, more, message) => {
    const argv = ['train', '--data', text, '--out', join(folder, 'no'), '--init-from', whole()];
    const { code, stderr } = await sgemoe([...argv, ...more]);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});

describe('--config', () => {
  const write = (content: unknown) => {
    const file = join(folder, 'options.json');
    writeFileSync(file, JSON.stringify(content));
    return file;
  };

  it('holds any option; the command line takes precedence; the whole is stored in run.json', async () => {
    const options = {
      data: [text],
      hiddenDim: 16,
      layers: 1,
      heads: 2,
      kvHeads: 1,
      ffnDim: 16,
      seqLen: 8,
      batchSize: 2,
      steps: 9,
      lr: 1e-7,
      sampleTokens: 0,
      saveInterval: '5m',
      preset: null,
    };
    const out = join(folder, 'by file');
    const argv = ['train', '--config', write(options), '--out', out, '--steps', '2'];
    expect((await sgemoe(argv)).stderr).toBe('');
    const run = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8'));
    const { preset, ...given } = options;
    expect(run.options).toMatchObject({ ...given, steps: 2, out, weightDecay: 0.1 });
    expect(run.model).toMatchObject({ hidden_size: 16, num_hidden_layers: 1 });
  });

  it("takes the trainer's options (schedule, moments, exclusions), and a run.json gives them back", async () => {
    const told = ['--schedule', 'linear', '--min-lr-ratio', '0.2', '--beta1', '0.8', '--beta2', '0.99'];
    const more = ['--eps', '1e-6', '--weight-decay-exclude', 'norms', 'biases', '--steps', '2'];
    const [out, again] = [join(folder, 'told'), join(folder, 'told again')];
    expect((await sgemoe([...start(out), ...told, ...more])).stderr).toBe('');
    const config = join(out, 'run.json');
    expect((await sgemoe(['train', '--config', config, '--out', again])).stderr).toBe('');
    const given = { schedule: 'linear', minLrRatio: 0.2, beta1: 0.8, beta2: 0.99, eps: 1e-6 };
    for (const dir of [out, again]) {
      const state = JSON.parse(readFileSync(join(dir, 'state.json'), 'utf8'));
      expect(state.config).toMatchObject({ ...given, weightDecayExclude: ['norms', 'biases'] });
    }
  });

  it('repeats a run by its run.json, to the bit', async () => {
    const out = join(folder, 'repeated');
    expect((await sgemoe(['train', '--config', join(whole(), 'run.json'), '--out', out])).stderr).toBe('');
    expectSameRun(out);
  });

  it.each([
    ['an unknown key', { learningRate: 1 }, /unknown option 'learningRate'; known: data, out, .*lr/],
    ['a key that is no option of a run', { resume: true }, /unknown option 'resume'/],
    ['an impossible value', { steps: 1.5 }, /steps can't be 1\.5\. It must be an integer >= 1/],
    ['an unknown choice', { preset: 'huge' }, /preset can't be "huge"\. Allowed choices are tiny, small/],
    ['a value of another kind', { lr: [1] }, /lr must be a text or a number, got \[1\]/],
    [
      'an unknown choice in a list',
      { weightDecayExclude: ['norms', 'heads'] },
      /weightDecayExclude can't be "heads"\. Allowed choices are norms, embeddings, biases/,
    ],
    ['data that are no list of texts', { data: [1] }, /data must be a list of texts/],
    ['what is no object', [1], /must hold a JSON object/],
  ])('refuses %s, with exit code 2', async (_what, content, message) => {
    const argv = ['train', '--config', write(content), '--data', text, '--out', join(folder, 'no')];
    const { code, stderr } = await sgemoe(argv);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});

describe('saving', () => {
  it('every few steps, with the last ones kept', async () => {
    const out = join(folder, 'kept');
    const { code } = await sgemoe(start(out, '--save-interval', '5', '--keep', '3'));
    expect(code).toBe(0);
    const names = ['step-0000000015', 'step-0000000020', 'step-0000000024'];
    expect(readdirSync(join(out, 'checkpoints')).sort()).toEqual(names);
    for (const name of names) await MoETransformer.load(join(out, 'checkpoints', name));
  });

  it('that fails is reported, does not end the training, and is tried again at the next one', async () => {
    const out = join(folder, 'full');
    const block = join(out, '.saved');
    let told = '';
    const onStdout = (line: string) => {
      told += line;
      // A file where the save needs a folder, for the first two checkpoints.
      if (line.startsWith('Data:')) writeFileSync(block, '');
      if (line.startsWith('step 18/')) rmSync(block);
    };
    const { code } = await sgemoe(start(out), { onStdout });
    expect(told).toMatch(
      /NOT SAVED: .*could not be written, what was there is untouched.* next save tries again/,
    );
    expect(code).toBe(0);
    expectSameRun(out);
  });

  it('every few minutes that fails is tried again after as many minutes, not at every step', async () => {
    const out = join(folder, 'full for minutes');
    const block = join(out, '.saved');
    let told = '';
    const onStdout = (line: string) => {
      told += line;
      if (line.startsWith('Data:')) writeFileSync(block, '');
      if (line.startsWith('step 24/')) rmSync(block);
    };
    // A step looks at the clock a few times, so a save is due once or twice.
    let minutes = 0;
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => 60_000 * minutes++);
    const { code } = await sgemoe(start(out, '--save-interval', '40m'), { onStdout }).finally(() =>
      clock.mockRestore(),
    );
    expect(code).toBe(0);
    const failures = told.split('NOT SAVED').length - 1;
    expect(failures).toBeGreaterThan(0);
    expect(failures).toBeLessThan(4);
  });
});
