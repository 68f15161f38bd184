import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { backendInfo } from '../../src/backend';
import { byteModel, sgemoe } from './run';

const saved = byteModel();

/** The first token's log-probability after a prompt of `length` bytes, and what was said beside the text. */
async function firstAfter(length: number, ...flags: string[]) {
  const log = join(saved.folder, `${length}${flags.join('')}.jsonl`);
  const own = [
    '--prompt',
    'ab'.repeat(length / 2),
    '--max-tokens',
    '1',
    '--temperature',
    '0',
    '--logprobs',
    log,
  ];
  const { code, stderr } = await sgemoe(['generate', saved.model, ...own, ...flags]);
  expect(code).toBe(0);
  const { logprob } = JSON.parse(readFileSync(log, 'utf8')) as { logprob: number };
  return { logprob, stderr };
}

it('generate --precision bfloat16 rounds in long prompts, and says so once where that is no faster', async () => {
  const mixed = await firstAfter(40, '--precision', 'bfloat16');
  const single = await firstAfter(40);
  expect(mixed.logprob).not.toBe(single.logprob);
  expect(mixed.logprob).toBeCloseTo(single.logprob, 1);
  const none = backendInfo().matrixUnit === 'none';
  expect(mixed.stderr.match(/Mixed precision is no faster here/g) ?? []).toHaveLength(none ? 1 : 0);
  expect(single.stderr).not.toContain('Mixed');
  const short = await firstAfter(20, '--precision', 'bfloat16');
  expect(short.logprob).toBe((await firstAfter(20)).logprob);
});

it.each(['generate', 'chat', 'serve'])('%s refuses a precision that there is not', async (command) => {
  const { code, stderr } = await sgemoe([command, saved.model, '--precision', 'float16']);
  expect(code).toBe(2);
  expect(stderr).toMatch(/--precision .*float16.*float32.*bfloat16/s);
});
