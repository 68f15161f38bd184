import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { JsonLines, keepLines } from '../../src/checkpoint/jsonLines';
import { temporaryFolder } from '../cli/run';

let folder: string;
beforeAll(() => {
  folder = temporaryFolder();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('lines of JSON', () => {
  it('that a full disk refused are kept, and written later, in pieces if need be', () => {
    let room = 0;
    let written = '';
    const lines = new JsonLines(join(folder, 'full.jsonl'), (_file, bytes) => {
      const taken = Math.min(room, bytes.length, 7);
      if (taken === 0) throw new Error('ENOSPC');
      room -= taken;
      written += Buffer.from(bytes.subarray(0, taken)).toString();
      return taken;
    });
    lines.append({ text: 'as long as a line of metrics' });
    expect(written).toBe('');
    room = 20;
    lines.append({ b: 2 });
    expect(written).toHaveLength(20);
    room = Infinity;
    lines.flush();
    expect(written).toBe('{"text":"as long as a line of metrics"}\n{"b":2}\n');
    lines.append({ c: 'x\n' });
    lines.close();
    expect(written.endsWith('{"b":2}\n{"c":"x\\n"}\n')).toBe(true);
  });

  it('are kept up to the first that is refused or not whole', async () => {
    const file = join(folder, 'kept.jsonl');
    const small = (value: unknown) => (value as { n: number }).n < 3;
    const first = '{"n":1,"s":"ä"}\n{"n":2}\n';
    for (const rest of ['', '{"n":3}\n{"n":0}\n', '{"n":2', '{"n":\n{"n":1}\n', '\n']) {
      writeFileSync(file, first + rest);
      await keepLines(file, small);
      expect(readFileSync(file, 'utf8')).toBe(first);
    }
    appendFileSync(file, '7\n');
    await keepLines(file, () => true);
    expect(readFileSync(file, 'utf8')).toBe(`${first}7\n`);
  });

  it('of a missing file are none, and the file is not created', async () => {
    await keepLines(join(folder, 'missing.jsonl'), () => true);
    expect(existsSync(join(folder, 'missing.jsonl'))).toBe(false);
  });

  it('lose the last one if its line break was cut off', async () => {
    const file = join(folder, 'cut.jsonl');
    writeFileSync(file, '{"n":1}\n{"n":2}');
    await keepLines(file, () => true);
    const lines = new JsonLines(file);
    lines.append({ n: 3 });
    lines.close();
    expect(readFileSync(file, 'utf8')).toBe('{"n":1}\n{"n":3}\n');
  });
});
