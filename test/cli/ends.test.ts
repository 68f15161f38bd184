/** Where a text ends: --min-tokens and --ignore-eos. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { saveByteModel, sgemoe, temporaryFolder } from './run';

const A = 'a'.charCodeAt(0);
let folder: string;
let model: string;
beforeAll(async () => {
  folder = temporaryFolder();
  model = await saveByteModel(folder);
  // 'a' ends a text of this checkpoint.
  writeFileSync(join(model, 'generation_config.json'), JSON.stringify({ eos_token_id: A }));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let runs = 0;
/** The tokens of a text in which 'a' is most probable everywhere, each told in the log-probabilities. */
async function tokensOf(...flags: string[]): Promise<number[]> {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${runs++}.jsonl`);
  const always = ['--temperature', '0', '--logit-bias', `${A}=100`, '--max-tokens', '6', '--logprobs', file];
  const { code, stderr } = await sgemoe(['generate', model, '--prompt', 'x', ...always, ...flags]);
  expect(code, stderr).toBe(0);
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
  return lines.map((line) => (JSON.parse(line) as { token: number }).token);
}

it("a text ends at the checkpoint's end token, not before --min-tokens", async () => {
  expect(await tokensOf()).toEqual([]);
  const tokens = await tokensOf('--min-tokens', '3');
  expect(tokens).toHaveLength(3);
  expect(tokens).not.toContain(A);
});

it('--ignore-eos goes on after end tokens', async () => {
  expect(await tokensOf('--ignore-eos')).toEqual([A, A, A, A, A, A]);
});

it.each([
  [['--max-tokens', '2', '--min-tokens', '3'], 'minTokens must be an integer >= 0 and <= 2, got 3'],
  [['--stop-token', '256'], 'a token must be an integer >= 0 and < 256, got 256'],
  [['--logit-bias', '256=1'], 'a key must be an integer >= 0 and < 256, got 256'],
])(
  '%j does not fit the rest of the command line or the vocabulary: a usage error',
  async (flags, message) => {
    const { code, stderr } = await sgemoe(['generate', model, ...flags]);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  },
);
