import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { byteModel, sgemoe } from './run';

const saved = byteModel();

function file(name: string, text: string): string {
  writeFileSync(join(saved.folder, name), text);
  return join(saved.folder, name);
}

const generate = (...flags: string[]) =>
  sgemoe(['generate', saved.model, '--prompt', 'a', '--max-tokens', '100', ...flags]);

describe('sgemoe generate', () => {
  it('writes what a schema, a grammar, a pattern or a choice allows', async () => {
    const schema = JSON.stringify({
      type: 'object',
      properties: { n: { type: 'boolean' } },
      required: ['n'],
    });
    const json = await generate('--json-schema', file('schema.json', schema));
    expect(JSON.parse(json.stdout)).toEqual({ n: expect.any(Boolean) });
    expect((await generate('--grammar', file('g.gbnf', 'root ::= "x" [yz]'))).stdout).toMatch(/^x[yz]$/);
    expect((await generate('--regex', '[0-9]{3}')).stdout).toMatch(/^[0-9]{3}$/);
    expect(['yes', 'no']).toContain((await generate('--choice', 'yes', '--choice', 'no')).stdout);
  });

  it('ends with exit code 2 for a file that is not there or two constraints, and 1 for what is wrong in a file', async () => {
    const missing = await generate('--grammar', join(saved.folder, 'none'));
    expect([missing.code, missing.stderr]).toEqual([2, expect.stringContaining("can't be read")]);
    const both = await generate('--regex', 'a', '--choice', 'b');
    expect([both.code, both.stderr]).toEqual([2, expect.stringContaining('at most one constraint')]);
    const broken = await generate('--json-schema', file('broken.json', '{'));
    expect([broken.code, broken.stderr]).toEqual([1, expect.stringContaining('is not JSON')]);
    const refused = await generate('--json-schema', file('refused.json', '{"not": {}}'));
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining("'not' at # is not supported"),
    ]);
  });
});
