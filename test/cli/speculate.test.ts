import { expect, it } from 'vitest';
import { byteModel, sgemoe } from './run';

const saved = byteModel();

it('generate writes the same text with --speculate', async () => {
  const flags = ['--prompt', 'abcabcabc', '--max-tokens', '60', '--temperature', '0', '--logit-bias', '98=2'];
  const [plain, guessed] = await Promise.all(
    [[], ['--speculate', '8']].map((more) => sgemoe(['generate', saved.model, ...flags, ...more])),
  );
  expect([plain.code, guessed.code]).toEqual([0, 0]);
  expect(plain.stdout.length).toBeGreaterThan(10);
  expect(guessed.stdout).toBe(plain.stdout);
});

it('generate refuses more guesses than a step has room for', async () => {
  const { code, stderr } = await sgemoe(['generate', saved.model, '--speculate', '129']);
  expect(code).toBe(2);
  expect(stderr).toContain('--speculate');
});
