/** Commands refuse a model that doesn't fit, with both figures in a sentence and exit code 1, before they take memory. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { ByteTokenizer, ModelConfig, memoryBytes } from '../../src';
import { smallModel } from '../helpers/smallModel';
import { HUGE, writeSparseCheckpoint } from '../helpers/sparseCheckpoint';
import { type Outcome, readMetrics, sgemoe, TINY, temporaryFolder, writeText } from './run';

const folder = temporaryFolder();
const [huge, small, run, out] = ['huge', 'small', 'run', 'out'].map((name) => join(folder, name));
let text: string;

beforeAll(async () => {
  text = writeText(folder);
  writeSparseCheckpoint(huge, HUGE);
  await smallModel({ vocabSize: 256 }).save(small, new ByteTokenizer().files());
  const trained = await sgemoe(['train', '--data', text, '--out', run, ...TINY, '--steps', '2']);
  expect(trained.code, trained.stderr).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

const limit = (bytes: number) => vi.stubEnv('SGEMOE_MEMORY_LIMIT', `${bytes}`);

function expectRefused({ code, stdout, stderr }: Outcome, message: RegExp): void {
  expect(code, stderr).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toMatch(message);
  expect(stderr).toMatch(/ but [\d.]+ [kMGT]?B are available .*SGEMOE_MEMORY_LIMIT=none\.\n$/);
}

// Windows writes the hole.
describe.skipIf(process.platform === 'win32')(
  'a checkpoint of 1.8 TB in float32, on this machine as it is',
  () => {
    const float = ['--dtype', 'float32'];
    test.each([
      ['serve', [huge, '--port', '0', ...float], /cache [\d.]+ GB/],
      ['generate', [huge, '--prompt', 'a', ...float], /cache [\d.]+ MB/],
      ['eval', [huge, '--data', 'text.txt', ...float], /activations/],
      [
        'train',
        ['--init-from', huge, '--data', 'text.txt', '--out', out],
        /gradients .*moments .*activations/,
      ],
      ['import', [huge, '--out', out], /weights/],
      ['export', [huge, '--out', out], /weights/],
    ])('%s', async (command, args, parts) => {
      const outcome = await sgemoe([command, ...args.map((arg) => (arg === 'text.txt' ? text : arg))]);
      expectRefused(outcome, /^sgemoe: The model in .*huge takes [\d.]+ TB of memory \(weights 1\.74 TB/);
      expect(outcome.stderr).toMatch(parts);
      expect(existsSync(out)).toBe(false);
    });
  },
);

test('train from scratch counts all that the steps take, before the weights', async () => {
  const args = ['train', '--data', text, '--out', out, ...TINY, '--steps', '2', '--grad-accumulation', '2'];
  const model = ModelConfig.fromJSON(
    JSON.parse((await sgemoe(['inspect', run, '--json'])).stdout).config as Record<string, unknown>,
  );
  // Two parts of two of the four sequences.
  const { total } = memoryBytes(model, { batch: 2, seq: 16 });
  limit(total - 1);
  const parts =
    /^sgemoe: The training takes [\d.]+ kB of memory \(weights .*, gradients .*, moments .*, activations /;
  expectRefused(await sgemoe(args), parts);
  expect(existsSync(out)).toBe(false);
  limit(10 * total);
  expect((await sgemoe(args)).code).toBe(0);
});

test('train --resume counts them too, and leaves the run as it is', async () => {
  limit(1000);
  const args = ['train', '--resume', '--out', run, '--steps', '4'];
  expectRefused(await sgemoe(args), /^sgemoe: The model in .*run takes .*gradients .*moments .*activations/);
  expect(readMetrics(run)).toHaveLength(2);
  vi.stubEnv('SGEMOE_MEMORY_LIMIT', 'none');
  expect((await sgemoe(args)).code).toBe(0);
  expect(readMetrics(run)).toHaveLength(4);
});

test("generate counts the cache of the requested text, not of the model's whole context", async () => {
  const { config } = smallModel({ vocabSize: 256 });
  limit(memoryBytes(config, { mode: 'decode', contextLength: 8 }).total);
  const generate = (tokens: number) =>
    sgemoe(['generate', small, '--prompt', 'abc', '--max-tokens', `${tokens}`]);
  expect((await generate(5)).code).toBe(0);
  expectRefused(await generate(6), /^sgemoe: The model in .*small takes .*key-value cache/);
});

test('an invalid limit is reported', async () => {
  vi.stubEnv('SGEMOE_MEMORY_LIMIT', 'much');
  const { code, stderr } = await sgemoe(['generate', small, '--prompt', 'a']);
  expect(code).not.toBe(0);
  expect(stderr).toMatch(/SGEMOE_MEMORY_LIMIT must be bytes, such as 12GB or 8GiB, or 'none', got 'much'/);
});
