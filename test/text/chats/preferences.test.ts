/** Rows of pairs: their forms, what is learnt of them, and what is left out. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ChatDataset, PreferenceDataset, type PreferenceDatasetOptions } from '../../../src';
import { holdsPairs } from '../../../src/text/chats/pairs';
import type { Sample } from '../../../src/text/chats/samples';
import { chatTokenizer } from '../../helpers/chatTokenizer';
import { expectError } from '../../helpers/expectError';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe pairs-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const tokenizer = chatTokenizer();
const user = { role: 'user', content: 'q' };
const says = (content: string) => ({ role: 'assistant', content });

function file(rows: unknown[]): string {
  const path = join(folder, 'pairs.jsonl');
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  return path;
}

async function read(rows: unknown[], options: Partial<PreferenceDatasetOptions> = {}) {
  const notes: string[] = [];
  const path = file(rows);
  const set = await PreferenceDataset.fromPaths(path, {
    tokenizer,
    seqLen: 200,
    validationFraction: 0,
    onNote: (note) => notes.push(note.replace(path, 'pairs.jsonl')),
    ...options,
  });
  return { set, notes };
}

const learnt = ({ ids, counts }: Sample) => tokenizer.decode(ids.filter((_, i) => counts[i] === 1));

test.each([
  ['texts', { prompt: 'q: ', chosen: 'good', rejected: 'bad' }],
  ['messages', { prompt: [user], chosen: [says('good')], rejected: [says('bad')] }],
  ['whole conversations', { chosen: [user, says('good')], rejected: [user, says('bad')] }],
  [
    'whole conversations whose prompt is repeated',
    { prompt: 'q', chosen: [user, says('good')], rejected: [user, says('bad')] },
  ],
])('%s: the answers alone count', async (_, row) => {
  const { set } = await read([row]);
  const [{ chosen, rejected }] = set.train;
  expect([learnt(chosen), learnt(rejected)]).toEqual(['good<|im_end|>', 'bad<|im_end|>']);
  expect(tokenizer.decode(chosen.ids)).toContain('q');
  expect(await holdsPairs(join(folder, 'pairs.jsonl'))).toBe(true);
});

test('both answers of a pair stand in one row, the chosen first', async () => {
  const rows = ['aa', 'bb', 'cc'].map((text) => ({ prompt: 'q', chosen: text, rejected: `${text}!` }));
  const { set } = await read(rows, { seqLen: 13 });
  set.setReference({
    train: [
      [-1, -2],
      [-3, -4],
      [-5, -6],
    ],
    validation: [],
  });
  const { value } = set.batches({ batchSize: 2, seqLen: 13 }).next();
  const chosen = [...value.ids].map((id, t) => (value.positions![t] === 1 ? tokenizer.decode([id]) : ''));
  const order = chosen.join('').replace(/(.)\1/g, '$1');
  const scores = { a: [-1, -2], b: [-3, -4], c: [-5, -6] };
  expect(value.preferences!.reference).toEqual([...order].flatMap((letter) => scores[letter as 'a']));
  expect(value.preferences!.beta).toBe(0.1);
  expect(set.rowsPerEpoch).toBe(3);
});

test('rows that can not be used are told', async () => {
  const good = { prompt: 'q', chosen: 'a', rejected: 'b' };
  const { set, notes } = await read(
    [
      good,
      { prompt: 'q', chosen: 'a' },
      { prompt: 'q', chosen: 'a', rejected: 'a' },
      { prompt: 'q', chosen: 'x'.repeat(30), rejected: 'b' },
      { text: 'no pair' },
      { prompt: [user], chosen: [says('a'), user, says('b')], rejected: [says('c')] },
    ],
    { seqLen: 30 },
  );
  expect(set.train).toHaveLength(1);
  expect(notes[0]).toBe('pairs.jsonl, line 2: it must have chosen and rejected; left out.');
  expect(notes[1]).toBe('pairs.jsonl, line 3: both of its answers are the same; left out.');
  expect(notes[2]).toMatch(/line 4: its answers have 32 and 3 tokens, together more than 30; left out/);
  expect(notes[3]).toBe('pairs.jsonl, line 5: it must have chosen and rejected; left out.');
  expect(notes).toHaveLength(5);
  const { set: cut } = await read([{ prompt: 'q', chosen: 'x'.repeat(30), rejected: 'b' }], {
    seqLen: 20,
    tooLong: 'cut',
  });
  const [pair] = cut.train;
  expect([pair.chosen.ids.length, pair.rejected.ids.length]).toEqual([19, 3]);
});

test('a file of conversations leaves pairs out, and says so', async () => {
  const path = file([{ prompt: 'q', chosen: 'a', rejected: 'b' }]);
  await expectError('SGEMOE_DATA_ROWS', /neither|completion|pair/, () =>
    ChatDataset.fromPaths(path, { tokenizer, seqLen: 20 }),
  );
});
