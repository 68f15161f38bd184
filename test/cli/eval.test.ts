import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ByteTokenizer, evaluate, prepareDataset, TextDataset } from '../../src';
import { expectClose } from '../helpers/close';
import { smallModel } from '../helpers/smallModel';
import { sgemoe } from './run';

const folder = mkdtempSync(join(tmpdir(), 'sgemoe eval-'));
const [run, book, prepared] = ['run', 'book.txt', 'prepared'].map((name) => join(folder, name));
const tokenizer = new ByteTokenizer();
const model = smallModel({ vocabSize: 256 });
const text = 'some words of a book, naïve and short. '.repeat(5);

beforeAll(async () => {
  writeFileSync(book, text);
  await model.save(run, tokenizer.files());
  await prepareDataset(book, { tokenizer, out: prepared, validationFraction: 0.25 });
});

async function evaluation(...args: string[]) {
  const { code, stdout, stderr } = await sgemoe(['eval', run, ...args, '--json']);
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout);
}

describe('sgemoe eval', () => {
  test('prints loss, perplexity and bits per byte of the whole text', async () => {
    const { code, stdout, stderr } = await sgemoe(['eval', run, '--data', book]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const bytes = Buffer.byteLength(text);
    expect(stdout).toMatch(/^loss +\d\.\d{4} nats per token$/m);
    expect(stdout).toMatch(/^perplexity +[\d.]+$/m);
    expect(stdout).toMatch(/^bits per byte +\d\.\d{4}$/m);
    expect(stdout).toMatch(new RegExp(`^scored +${bytes - 1} tokens, ${bytes - 1} bytes of text$`, 'm'));
    expect(stdout).toMatch(/^windows +32 tokens, 16 apart$/m);
  });

  // A frozen model adds up in another order: 1e-5 of the logits, see freeze.test.ts.
  test('--json is one object, of windows side by side the plain evaluation', async () => {
    const args = ['--data', book, '--seq-len', '8', '--stride', '8', '--batch-size', '3'];
    const result = await evaluation(...args);
    const dataset = TextDataset.fromText(text, { validationFraction: 0 });
    const want = evaluate(model, dataset.batchesInOrder('train', { seqLen: 8, batchSize: 3 }));
    expectClose('loss', result.loss, want.loss, 1e-5);
    expect(result).toMatchObject({ seqLen: 8, stride: 8, batchSize: 3, files: [book] });
    expect(result.countedTokens).toBe(want.countedTokens);
    expect(result.perplexity).toBeCloseTo(Math.exp(result.loss), 9);
  });

  test('--split scores the part that training keeps, of text and of a prepared data set alike', async () => {
    const validation = await evaluation('--data', prepared);
    const ofText = ['--data', book, '--split', 'validation', '--validation-fraction', '0.25'];
    expect((await evaluation(...ofText)).loss).toBe(validation.loss);
    const tokens = Buffer.byteLength(text);
    expect(validation.countedTokens).toBe(Math.floor(tokens * 0.25) - 1);
    const training = await evaluation('--data', prepared, '--split', 'train');
    expect(training.countedTokens).toBe(tokens - Math.floor(tokens * 0.25) - 1);
    expect((await evaluation('--data', book, '--split', 'validation')).countedTokens).toBe(
      Math.floor(tokens / 10) - 1,
    );
  });

  test('a prepared data set without a validation split is scored whole', async () => {
    const out = join(folder, 'whole');
    await prepareDataset(book, { tokenizer, out, validationFraction: 0 });
    const whole = await evaluation('--data', out);
    expect(whole).toMatchObject({ countedTokens: Buffer.byteLength(text) - 1, files: [out] });
    expect(whole.loss).toBe((await evaluation('--data', book)).loss);
  });

  test('impossible requests are refused in a sentence', async () => {
    const empty = join(folder, 'empty.txt');
    writeFileSync(empty, '');
    await smallModel({ vocabSize: 256 }).save(join(folder, 'bare'));
    const mixed = join(folder, 'mixed');
    await smallModel({ vocabSize: 19 }).save(mixed, tokenizer.files());
    const refusals: [string[], RegExp, number?][] = [
      [['eval', run], /required option '--data/],
      [['eval', run, '--data', empty], /^sgemoe: The text has 0 tokens, but 2 are needed/],
      [['eval', run, '--data', join(folder, 'none.txt')], /does not exist/],
      [['eval', join(folder, 'bare'), '--data', book], /There is no tokenizer at/, 1],
      [['eval', mixed, '--data', book], /has 256 tokens, its model 19: the folder mixes two checkpoints/, 1],
      [
        ['eval', run, '--data', book, '--seq-len', '33'],
        /--seq-len must be at most maxSeqLen \(32\), got 33/,
      ],
      [['eval', run, '--data', book, '--stride', '33'], /--stride must be at most --seq-len \(32\), got 33/],
      [['eval', run, '--data', book, '--validation-fraction', '0.1'], /goes with --split and text/],
      [['eval', run, '--data', prepared, book], /one prepared data set/],
      [['eval', run, '--data', prepared, '--split', 'test'], /Allowed choices are train, validation/],
    ];
    for (const [argv, message, wanted = 2] of refusals) {
      const { code, stdout, stderr } = await sgemoe(argv);
      expect(stderr).toMatch(message);
      expect({ code, stdout }, argv.join(' ')).toEqual({ code: wanted, stdout: '' });
    }
  });

  test('leaves the checkpoint as it is', async () => {
    const before = readFileSync(join(run, 'model.safetensors'));
    await evaluation('--data', book, '--threads', '1');
    expect(readFileSync(join(run, 'model.safetensors')).equals(before)).toBe(true);
  });
});
