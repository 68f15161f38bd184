import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadLora, MoETransformer, readTokenizer, saveLora } from '../../src';
import { chatTokenizer } from '../helpers/chatTokenizer';
import { expectRelative } from '../helpers/close';
import { SMALL } from '../helpers/smallModel';
import { readMetrics, sgemoe, temporaryFolder } from './run';

const { main: program } = require(resolve(__dirname, '../../dist/cli/program.js'));

let folder: string;
let model: string;
let data: string;
const chat = (question: string, answer: string) => ({
  messages: [
    { role: 'user', content: question },
    { role: 'assistant', content: answer },
  ],
});
const CHATS = Array.from({ length: 20 }, (_, i) => chat(`is ${i} even?`, i % 2 === 0 ? 'yes' : 'no'));

beforeAll(async () => {
  folder = temporaryFolder();
  model = join(folder, 'model');
  data = write('chats.jsonl', CHATS);
  const config = { ...SMALL, vocabSize: 260, maxSeqLen: 160 };
  await MoETransformer.create(config, { seed: 1 }).save(model, chatTokenizer().files());
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, rows: unknown[]): string {
  const path = join(folder, name);
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  return path;
}

/** What a model, as a command line names it, says in generate and chat, and its loss in eval to 4 digits. */
async function answersOf(way: string[]): Promise<string[]> {
  const text = join(folder, 'text.txt');
  writeFileSync(text, 'is 3 even? no, is 4 even? yes');
  const greedy = ['--temperature', '0', '--max-tokens', '5'];
  const runs = await Promise.all([
    sgemoe(['generate', ...way, '--prompt', 'is 4 even?', '--chat', ...greedy]),
    sgemoe(['chat', ...way, ...greedy], { program, stdin: ['is 4 even?\n'] }),
    sgemoe(['eval', ...way, '--data', text, '--seq-len', '16', '--json']),
  ]);
  for (const { code, stderr } of runs) expect(code, stderr).toBe(0);
  const { loss } = JSON.parse(runs[2].stdout);
  return [runs[0].stdout, runs[1].stdout, loss.toPrecision(4)];
}

const finetune = (out: string, ...more: string[]) =>
  sgemoe(['finetune', model, '--data', data, '--out', join(folder, out), '--sample-tokens', '4', ...more]);

describe('sgemoe finetune', () => {
  it('trains on the answers, tells what is learnt, and leaves a model to talk to', async () => {
    const run = await finetune('first', '--epochs', '6', '--lr', '1e-2', '--seq-len', '160');
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout).toContain('18 samples share 5 rows of 160 tokens');
    expect(run.stdout).toContain('15 steps of 2 rows are 6.0 passes over them');
    expect(run.stdout).toMatch(/chats\.jsonl, line 1: 4 of 34 tokens are learnt/);
    expect(run.stdout).toContain('  | <|im_start|>assistant\n  | ⟦yes<|im_end|>⟧\n');
    expect(run.stdout).toContain(`Talk to it:  sgemoe chat '${join(folder, 'first')}'`);
    const metrics = readMetrics(join(folder, 'first'));
    expect(metrics).toHaveLength(15);
    const [first, last] = [metrics[0], metrics[14]].map(({ crossEntropy }) => crossEntropy as number);
    expect(last).toBeLessThan(first / 2);
    const saved = await readTokenizer(join(folder, 'first'));
    expect(saved.files()).toEqual(chatTokenizer().files());
  });

  it('a run that was stopped goes on to the bit, without the model and the data named again', async () => {
    const options = ['--batch-size', '1', '--seq-len', '80', '--steps', '9', '--eval-interval', '3'];
    await finetune('whole', ...options);
    await finetune('cut', ...options.with(5, '4'));
    const resumed = await sgemoe(['finetune', '--out', join(folder, 'cut'), '--resume', '--steps', '9']);
    expect(resumed).toMatchObject({ code: 0, stderr: '' });
    // The schedule of the shorter run was another one, so only the data are compared: tokens of each step.
    const tokens = (out: string) => readMetrics(join(folder, out)).map((step) => step.tokens);
    expect(tokens('cut')).toEqual(tokens('whole'));
    expect(new Set(tokens('whole')).size).toBeGreaterThan(1);
    const run = JSON.parse(readFileSync(join(folder, 'cut', 'run.json'), 'utf8'));
    expect(run.options).toMatchObject({
      initFrom: model,
      data: [data],
      epochs: 3,
      steps: 9,
      lossOn: 'assistant',
    });
    const other = await sgemoe(['finetune', '--out', join(folder, 'cut'), '--resume', '--loss-on', 'all']);
    expect(other).toMatchObject({ code: 2 });
    expect(other.stderr).toContain("--resume goes on with the run's own --loss-on (assistant)");
  });

  it('the same schedule: weights of a resumed run are those of a whole one, to the bit', async () => {
    const options = ['--steps', '6', '--schedule', 'constant', '--warmup', '0', '--seq-len', '80'];
    await finetune('all six', ...options);
    await finetune('three', ...options.with(1, '3'));
    await sgemoe(['finetune', '--out', join(folder, 'three'), '--resume', '--steps', '6']);
    const bytes = (out: string) => readFileSync(join(folder, out, 'model.safetensors'));
    expect(bytes('three').equals(bytes('all six'))).toBe(true);
  });

  it('tells rows that it leaves out, the first ten', async () => {
    const rows = [...CHATS, ...Array.from({ length: 12 }, () => ({ messages: [] }))];
    const other = write('bad.jsonl', rows);
    const run = await sgemoe([
      'finetune',
      model,
      '--data',
      other,
      '--out',
      join(folder, 'bad'),
      '--steps',
      '1',
    ]);
    expect(run.code).toBe(0);
    const lines = run.stderr.trimEnd().split('\n');
    expect(lines).toHaveLength(11);
    expect(lines[0]).toBe(`${other}, line 21: it is empty: it has no messages; left out.`);
    expect(lines[10]).toBe('... and 2 more rows like these.');
  });

  it('samples answer a question in the template', async () => {
    await finetune('asked', '--steps', '2', '--sample-interval', '1', '--sample-prompt', 'is 3 even?');
    const lines = readFileSync(join(folder, 'asked', 'samples.jsonl'), 'utf8')
      .trimEnd()
      .split('\n');
    expect(lines.map((line) => JSON.parse(line).prompt)).toEqual([
      '<|im_start|>user\nis 3 even?<|im_end|>\n<|im_start|>assistant\n',
      '<|im_start|>user\nis 3 even?<|im_end|>\n<|im_start|>assistant\n',
    ]);
  });

  it('validates on files of their own, and stops early by them', async () => {
    const validation = write('validation.jsonl', [chat('is 1 even?', 'maybe')]);
    const options = ['--validation', validation, '--early-stopping', '1', '--eval-interval', '1'];
    const run = await finetune('early', ...options, '--steps', '40', '--lr', '0.03', '--warmup', '0');
    expect(run.code).toBe(0);
    const { result, files } = JSON.parse(readFileSync(join(folder, 'early', 'run.json'), 'utf8'));
    expect(result.stoppedEarly).toBe(true);
    expect(files).toEqual([data, validation]);
  });

  it('says that weights of another type are widened', async () => {
    const small = join(folder, 'bf16');
    expect((await sgemoe(['export', model, '--out', small, '--dtype', 'bf16'])).code).toBe(0);
    const run = await sgemoe([
      'finetune',
      small,
      '--data',
      data,
      '--out',
      join(folder, 'widened'),
      '--steps',
      '1',
    ]);
    expect(run.code).toBe(0);
    expect(run.stderr).toContain('has weights in BF16; all are trained, and saved, as float32.');
  });

  it.each([
    [['--out', 'x'], /--data is missing/],
    [['--data', 'chats.jsonl', '--out', 'x'], /finetune needs a model/],
    [['--data', 'chats.jsonl'], /--out is missing/],
  ])('refuses %j', async (args, message) => {
    const run = await sgemoe(['finetune', ...args]);
    expect(run.code).toBe(2);
    expect(run.stderr).toMatch(message);
  });

  it('refuses rows beyond the context', async () => {
    const run = await finetune('long', '--seq-len', '161');
    expect(run).toMatchObject({ code: 2 });
    expect(run.stderr).toContain('--seq-len must be at most 160');
  });
});

describe('sgemoe finetune --lora-targets', () => {
  const OPTIONS = [
    '--lora-targets',
    'attention',
    'experts',
    'router',
    '--lora-rank',
    '3',
    '--seq-len',
    '160',
  ];

  it('trains adapters alone, which merge adds to the weights and other commands take as a model', async () => {
    const run = await finetune('adapters', ...OPTIONS, '--epochs', '6', '--lr', '2e-2');
    expect(run).toMatchObject({ code: 0, stderr: '' });
    const out = join(folder, 'adapters');
    expect(run.stdout).toContain(`Talk to it:  sgemoe chat '${out}'`);
    expect(existsSync(join(out, 'model.safetensors'))).toBe(false);
    const metrics = readMetrics(out);
    const [first, last] = [metrics[0], metrics[14]].map(({ crossEntropy }) => crossEntropy as number);
    expect(last).toBeLessThan(first / 2);
    const { options } = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8'));
    expect(options).toMatchObject({ loraTargets: ['attention', 'experts', 'router'], loraRank: 3 });
    const merged = join(folder, 'merged');
    const { code, stdout } = await sgemoe(['merge', model, out, '--out', merged]);
    expect([code, stdout]).toEqual([0, `${merged}: 14 adapters of rank 3 added to the weights\n`]);
    const tuned = await MoETransformer.load(model);
    await loadLora(out, tuned);
    const prompt = [1, 2, 3];
    const [want, got] = [tuned, await MoETransformer.load(merged)].map((each) =>
      each.nextTokenLogits(prompt),
    );
    expectRelative('merged', got, want, 1e-4);
    expect((await readTokenizer(merged)).files()).toEqual(chatTokenizer().files());
    const bare = join(folder, 'bare');
    await saveLora(bare, tuned);
    const ways = [[out], [bare], [model, '--adapter', out], [merged], [model], [join(out, 'best')]];
    const said = await Promise.all(ways.map(answersOf));
    for (const each of said.slice(0, 4)) expect(each).toEqual(said[0]);
    expect(said[4]).not.toEqual(said[0]);
  });

  it('a run that was stopped goes on to the bit, with its own adapters', async () => {
    const options = ['--steps', '6', '--schedule', 'constant', '--warmup', '0', ...OPTIONS];
    await finetune('six adapters', ...options);
    await finetune('three adapters', ...options.with(1, '3'));
    const resumed = await sgemoe([
      'finetune',
      '--out',
      join(folder, 'three adapters'),
      '--resume',
      '--steps',
      '6',
    ]);
    expect(resumed).toMatchObject({ code: 0, stderr: '' });
    const bytes = (out: string) => readFileSync(join(folder, out, 'adapter_model.safetensors'));
    expect(bytes('three adapters').equals(bytes('six adapters'))).toBe(true);
  });

  it('refuses flags of adapters without targets, and targets that the model lacks', async () => {
    const alone = await finetune('alone', '--lora-rank', '4');
    expect(alone).toMatchObject({ code: 2 });
    expect(alone.stderr).toContain('--lora-rank is of adapters; --lora-targets says which matrices get one.');
    const wrong = await finetune('wrong', '--lora-targets', 'q_porj');
    expect(wrong).toMatchObject({ code: 2 });
    expect(wrong.stderr).toContain("'q_porj' is part of no name here");
  });
});

describe('sgemoe finetune on pairs', () => {
  const PAIRS = Array.from({ length: 20 }, (_, i) => ({
    prompt: [{ role: 'user', content: `is ${i} even?` }],
    chosen: [{ role: 'assistant', content: 'yes' }],
    rejected: [{ role: 'assistant', content: 'no' }],
  }));
  const onPairs = (out: string, ...more: string[]) =>
    sgemoe(['finetune', model, '--data', write('pairs.jsonl', PAIRS), '--out', join(folder, out), ...more]);

  it('learns to prefer the chosen answers, with adapters, and tells how many', async () => {
    const options = [
      '--lora-targets',
      'all',
      '--lr',
      '2e-2',
      '--epochs',
      '4',
      '--beta',
      '0.2',
      '--sample-tokens',
      '4',
    ];
    const run = await onPairs('preferred', ...options);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout).toContain('18 pairs (beta 0.2) share 9 rows of 160 tokens');
    expect(run.stdout).toContain('⟦yes<|im_end|>⟧');
    expect(run.stdout).toMatch(/rejected:\n.*3 of 33 tokens are learnt/);
    expect(run.stdout).toMatch(/loss 0\.\d+ {2}\d+\.\d % preferred/);
    expect(run.stdout).toMatch(/Validation loss 0\.\d+, 100\.0 % of the chosen answers preferred, margin \d/);
    const metrics = readMetrics(join(folder, 'preferred'));
    const [first, last] = [metrics[0], metrics[metrics.length - 1]].map(
      ({ preferences }) => preferences as unknown as { loss: number; accuracy: number },
    );
    expect(first.loss).toBeCloseTo(Math.LN2, 3);
    expect(last.accuracy).toBe(1);
  });

  it('has lower learning rates by default, and refuses options of other rows', async () => {
    await onPairs('lower', '--steps', '1', '--warmup', '0', '--schedule', 'constant', '--sample-tokens', '0');
    expect(readMetrics(join(folder, 'lower'))[0].lr).toBe(5e-6);
    const wrong = await onPairs('wrong', '--loss-on', 'all');
    expect(wrong).toMatchObject({ code: 2 });
    expect(wrong.stderr).toContain('--loss-on is not for pairs');
    const beta = await finetune('beta', '--beta', '0.2');
    expect(beta).toMatchObject({ code: 2 });
    expect(beta.stderr).toContain('--beta is for pairs');
  });
});
