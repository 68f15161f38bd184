/** The engine in a program whose global object isn't Node's own: as jest runs tests, and vitest in vmThreads. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';

it("what comes from worker threads is of the caller's realm, in vitest's vmThreads", async () => {
  const vitest = join(__dirname, '../../node_modules/vitest/vitest.mjs');
  const config = join(__dirname, 'realms/vitest.config.mts');
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST')));
  const child = spawn(process.execPath, [vitest, 'run', '--config', config, '--reporter=json'], { env });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  await new Promise((done) => child.once('close', done));
  const { numPassedTests, numTotalTests, success } = JSON.parse(stdout.slice(stdout.indexOf('{')) || '{}');
  expect({ success, passed: numPassedTests }, stdout + stderr).toEqual({
    success: true,
    passed: numTotalTests,
  });
  expect(numTotalTests).toBeGreaterThan(0);
});
