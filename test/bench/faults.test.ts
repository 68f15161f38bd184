import { expect, test } from 'vitest';
import { runBench } from './command';

test('bench/faults.js: some hundred malformed requests are refused, and the server goes on answering', async () => {
  const { code, stdout, stderr } = await runBench('faults.js', [
    '--requests',
    '400',
    '--connections',
    '0',
    '--seed',
    '7',
  ]);
  expect(code, stdout + stderr).toBe(0);
  expect(stdout).toContain('400 requests in');
  expect(stdout).toContain('not refused with a sentence: 0.');
  expect(stdout).toContain('A completion afterwards: answered.');
});
