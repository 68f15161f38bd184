/** Files of samples, their packing, and the order of batches. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Batch, ByteTokenizer, ChatDataset, type ChatDatasetOptions, Lcg64 } from '../../../src';
import { bestFit } from '../../../src/text/chats/bestFit';
import { chatTokenizer } from '../../helpers/chatTokenizer';
import { expectError } from '../../helpers/expectError';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe chats-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const lines = (rows: unknown[]) => rows.map((row) => JSON.stringify(row)).join('\n');
const TEXTS = [
  'one',
  'three',
  'four.',
  'a longer text',
  'six',
  'x',
  'seven..',
  'the tenth',
  'two words',
  'end',
];
const rows = TEXTS.map((text) => ({ text }));
const options = (more: Partial<ChatDatasetOptions> = {}): ChatDatasetOptions => ({
  tokenizer: chatTokenizer(),
  seqLen: 20,
  validationFraction: 0,
  ...more,
});

/** The samples of a batch as texts, each without its last token, row by row. */
function textsOf({ ids, positions, seqLen, batch }: Batch): string[][] {
  const tokenizer = chatTokenizer();
  return Array.from({ length: batch }, (_, row) => {
    const samples: number[][] = [];
    for (let t = row * seqLen; t < (row + 1) * seqLen; t++) {
      if (positions![t] === 0) samples.push([]);
      if (positions![t] >= 0) samples[samples.length - 1].push(ids[t]);
    }
    return samples.map((sample) => tokenizer.decode(sample));
  });
}

describe('files', () => {
  it('one JSON object a line, or an array of them, are the same', async () => {
    const [a, b] = [file('a.jsonl', `${lines(rows)}\n\n`), file('b.json', JSON.stringify(rows, null, 2))];
    const [one, other] = await Promise.all([a, b].map((path) => ChatDataset.fromPaths(path, options())));
    const bare = (set: ChatDataset) => set.train.map(({ ids, counts }) => ({ ids, counts }));
    expect(bare(other)).toEqual(bare(one));
    expect(one.train.length).toBe(TEXTS.length);
    expect(one.trainTokens).toBe(TEXTS.reduce((sum, text) => sum + text.length + 1, 0));
  });

  it('rows that can not be used are told by line and left out; too long ones, too, or cut', async () => {
    const path = file(
      'bad.jsonl',
      `${lines([{ text: 'good' }, { text: 'x'.repeat(30) }, {}])}\n{"text": "half`,
    );
    const told = async (tooLong: 'skip' | 'cut') => {
      const notes: string[] = [];
      const set = await ChatDataset.fromPaths(path, options({ tooLong, onNote: (note) => notes.push(note) }));
      return {
        notes: notes.map((note) => note.replace(path, 'bad.jsonl')),
        sizes: set.train.map(({ ids }) => ids.length),
      };
    };
    const others = [
      'bad.jsonl, line 3: it has neither messages, nor prompt and completion, nor text; left out.',
      'bad.jsonl, line 4: it is no JSON; left out.',
    ];
    expect(await told('skip')).toEqual({
      notes: ['bad.jsonl, line 2: it has 31 tokens, more than 20; left out.', ...others],
      sizes: [5],
    });
    expect(await told('cut')).toEqual({
      notes: ['bad.jsonl, line 2: it has 31 tokens, more than 20; cut.', ...others],
      sizes: [5, 21],
    });
  });

  it('a cut that leaves nothing to learn leaves the row out', async () => {
    const path = file('cut.jsonl', lines([{ text: 'good' }, { prompt: 'x'.repeat(30), completion: 'y' }]));
    const notes: string[] = [];
    await ChatDataset.fromPaths(path, options({ tooLong: 'cut', onNote: (note) => notes.push(note) }));
    expect(notes).toEqual([
      expect.stringMatching(/line 2: it has 32 tokens.* hold nothing to learn; left out/),
    ]);
  });

  it('files of which nothing can be used, and a tokenizer without a template, end in an error', async () => {
    const bad = file('none.jsonl', '{}\n{}');
    await expectError('SGEMOE_DATA_ROWS', /None of the 2 rows .*line 2: it has neither/, () =>
      ChatDataset.fromPaths(bad, options()),
    );
    await expectError('SGEMOE_DATA_ROWS', /begins as an array and is no JSON/, () =>
      ChatDataset.fromPaths(file('open.json', '[1'), options()),
    );
    await expectError('SGEMOE_DATA_NOT_FOUND', /can not be read/, () =>
      ChatDataset.fromPaths(join(folder, 'missing'), options()),
    );
    const chats = file(
      'chats.jsonl',
      lines([{ messages: [{ role: 'assistant', content: 'a' }] }, { text: 'b' }]),
    );
    await expectError('SGEMOE_CHAT_TEMPLATE', /no chat template/, () =>
      ChatDataset.fromPaths(chats, options({ tokenizer: new ByteTokenizer() })),
    );
  });

  it('validation is the end of the samples, or files of its own', async () => {
    const path = file('split.jsonl', lines(rows));
    const set = await ChatDataset.fromPaths(path, options({ validationFraction: 0.3 }));
    expect([set.train.length, set.validation.length]).toEqual([7, 3]);
    const other = await ChatDataset.fromPaths(
      path,
      options({ validation: [file('v.jsonl', lines(rows.slice(0, 2)))] }),
    );
    expect([other.train.length, other.validation.length, other.files.length]).toEqual([10, 2, 2]);
    const [only] = [...set.validationBatches({ batchSize: 8, seqLen: 20 })];
    expect(textsOf(only).flat().sort()).toEqual(['end', 'the tenth', 'two words']);
  });

  it.each([
    [{ seqLen: 1 }, /seqLen must be/],
    [{ validationFraction: 1 }, /validationFraction must be a number >= 0 and < 1/],
    [{ lossOn: 'user' }, /lossOn must be 'assistant' or 'all'/],
    [{ tooLong: 'wrap' }, /tooLong must be 'skip' or 'cut'/],
    [{ tokenizer: 'byte' }, /tokenizer must be a Tokenizer/],
    [{ seqlen: 1 }, /unknown option/],
  ])('wrong options are refused: %j', async (wrong, message) => {
    const path = file('wrong.jsonl', lines(rows));
    await expect(ChatDataset.fromPaths(path, options(wrong as object))).rejects.toThrow(message);
  });
});

describe('packing', () => {
  it('best fit: nothing is lost, no bin overflows, and little room is left', () => {
    const random = new Lcg64(1);
    const lengths = Array.from({ length: 500 }, () => 1 + random.nextInt(100));
    const bins = bestFit(lengths, 128);
    expect(bins.flat().sort((a, b) => a - b)).toEqual(lengths.map((_, i) => i));
    const sums = bins.map((bin) => bin.reduce((sum, i) => sum + lengths[i], 0));
    expect(Math.max(...sums)).toBeLessThanOrEqual(128);
    const total = lengths.reduce((a, b) => a + b);
    expect(bins.length).toBeLessThanOrEqual(Math.ceil((total / 128) * 1.02));
    expect(bestFit([4, 4, 4], 4)).toEqual([[0], [1], [2]]);
    expect(bestFit([], 4)).toEqual([]);
  });

  it('a batch holds each sample with targets where it is learnt and positions from 0; a pass holds each once', async () => {
    const set = await ChatDataset.fromPaths(file('p.jsonl', lines(rows)), options());
    const batches = set.batches({ batchSize: 1, seqLen: 20, seed: 3 });
    const drawn: string[] = [];
    for (let i = 0; i < set.rowsPerEpoch; i++) drawn.push(...textsOf(batches.next().value).flat());
    expect(drawn.sort()).toEqual([...TEXTS].sort());
    const { ids, targets, positions } = batches.next().value;
    for (let t = 0; t < ids.length; t++) {
      if (positions![t] === -1) expect([ids[t], targets[t]]).toEqual([0, -100]);
      else if (positions![t + 1] > 0) expect(targets[t]).toBe(ids[t + 1]);
      else expect(targets[t]).toBe(258);
    }
  });

  it('passes differ in their order, a seed repeats it, and a position goes on to the bit', async () => {
    const set = await ChatDataset.fromPaths(file('s.jsonl', lines(rows)), options());
    const some = (seed: number, count = 12) => {
      const batches = set.batches({ batchSize: 2, seqLen: 20, seed });
      return Array.from({ length: count }, () => batches.next().value);
    };
    expect(some(1)).toEqual(some(1));
    expect(some(1)).not.toEqual(some(2));
    const orders = some(1).map((batch) => JSON.stringify(textsOf(batch)));
    expect(new Set(orders).size).toBeGreaterThan(6);
    for (const at of [0, 1, 5, 11]) {
      const [whole, rest] = [1, 2].map(() => set.batches({ batchSize: 2, seqLen: 20, seed: 1 }));
      for (let i = 0; i < at; i++) whole.next();
      rest.setState(JSON.parse(JSON.stringify(whole.getState())));
      for (let i = 0; i < 5; i++) expect(rest.next()).toEqual(whole.next());
    }
  });

  it('positions of other data and rows that are too short are refused', async () => {
    const set = await ChatDataset.fromPaths(file('r.jsonl', lines(rows)), options());
    const batches = set.batches({ batchSize: 2, seqLen: 20 });
    const state = batches.getState();
    expect(() => batches.setState({ ...state, rows: 99 })).toThrow(/position is of 99 rows/);
    expect(() => batches.setState({ ...state, kind: 'random-windows' })).toThrow(
      /must be of kind "packed-samples"/,
    );
    expect(() => batches.setState({ ...state, epoch: -1 })).toThrow(RangeError);
    expect(() => set.batches({ batchSize: 2, seqLen: 10 })).toThrow(
      /seqLen must be at least that of the data set, 20/,
    );
    expect(() => [...set.batchesInOrder('train', { batchSize: 2, seqLen: 20, stride: 4 })]).toThrow(
      /no stride/,
    );
  });
});
