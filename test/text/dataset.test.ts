import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Batch } from '../../src/base/batch';
import { ByteTokenizer } from '../../src/text/byteTokenizer';
import { TextDataset } from '../../src/text/dataset';
import type { Tokenizer } from '../../src/text/tokenizer';
import { expectError } from '../helpers/expectError';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sgemoe-data-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function put(files: Record<string, string | Uint8Array>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), content);
  }
}

const noValidation = { validationFraction: 0 };
const textOf = (dataset: TextDataset): string =>
  dataset.tokenizer.decode(dataset.train) + dataset.tokenizer.decode(dataset.validation);
const namesOf = (dataset: TextDataset): string[] =>
  dataset.files.map((path) => relative(folder, path).split(sep).join('/'));

describe('TextDataset.fromPaths', () => {
  it('reads a folder and those below it, sorted by path, with a newline between files', async () => {
    await put({ 'b.txt': 'B\n', 'a/z.md': 'Z', 'a.txt': 'A', 'C.txt': 'upper', 'empty.txt': '' });
    const dataset = await TextDataset.fromPaths(folder, noValidation);
    expect(namesOf(dataset)).toEqual(['C.txt', 'a.txt', 'a/z.md', 'b.txt', 'empty.txt']);
    expect(textOf(dataset)).toBe('upper\nA\nZ\nB\n');
  });

  it('leaves out dot-files, node_modules, links and binary files of a folder', async () => {
    await put({
      'a.txt': 'text',
      '.hidden': 'x',
      '.git/config': 'x',
      'node_modules/m/index.js': 'x',
      'deep/node_modules/m.js': 'x',
      'image.bin': new Uint8Array([1, 0, 2]),
    });
    await symlink(folder, join(folder, 'loop'));
    await symlink(join(folder, 'a.txt'), join(folder, 'link.txt'));
    expect(namesOf(await TextDataset.fromPaths(folder))).toEqual(['a.txt']);
  });

  it('always reads a file that is named, whatever it looks like', async () => {
    await put({ '.hidden': new Uint8Array([0, 255, 0]) });
    const dataset = await TextDataset.fromPaths(join(folder, '.hidden'), {
      ...noValidation,
      extensions: ['.md'],
    });
    expect([...dataset.train]).toEqual([0, 255, 0]);
  });

  it('keeps the order of several paths and reads no file twice', async () => {
    await put({ 'x/b.txt': 'b', 'x/a.txt': 'a', 'c.txt': 'c' });
    const paths = [join(folder, 'c.txt'), join(folder, 'x'), join(folder, 'x', 'a.txt'), folder];
    expect(textOf(await TextDataset.fromPaths(paths, noValidation))).toBe('c\na\nb');
  });

  it('takes only the extensions asked for from folders', async () => {
    await put({ 'a.md': 'a', 'b.ts': 'b', 'c.json': 'c' });
    const dataset = await TextDataset.fromPaths(folder, { extensions: ['.md', '.ts'] });
    expect(namesOf(dataset)).toEqual(['a.md', 'b.ts']);
  });

  it('names the path that is missing, and a folder without text', async () => {
    const missing = join(folder, 'nowhere.txt');
    await expectError('SGEMOE_DATA_NOT_FOUND', /nowhere\.txt does not exist/, () =>
      TextDataset.fromPaths(missing),
    );
    await put({ 'sub/.dot': 'x', 'sub/a.bin': new Uint8Array(3) });
    const sub = join(folder, 'sub');
    await expectError('SGEMOE_DATA_NOT_FOUND', /sub holds no text files \(/, () =>
      TextDataset.fromPaths([sub]),
    );
    await expectError('SGEMOE_DATA_NOT_FOUND', /no text files ending in \.md/, () =>
      TextDataset.fromPaths(sub, { extensions: ['.md'] }),
    );
    await expect(TextDataset.fromPaths([])).rejects.toThrow(RangeError);
  });

  it('says how many tokens there are and how many one window needs', async () => {
    await put({ 'short.txt': '12345678' });
    const path = join(folder, 'short.txt');
    const message = /training split has 8 of the text's 8 tokens, but 9 are needed/;
    await expectError('SGEMOE_DATA_TOO_SHORT', message, () => TextDataset.fromPaths(path, { seqLen: 8 }));
    await put({ 'empty.txt': '' });
    await expectError('SGEMOE_DATA_TOO_SHORT', /has 0 of the text's 0 tokens, but 2/, async () =>
      (await TextDataset.fromPaths(join(folder, 'empty.txt'))).batches({ batchSize: 1, seqLen: 1 }),
    );
  });
});

describe('the split', () => {
  it('keeps the tail of the stream for validation', () => {
    const dataset = TextDataset.fromText('0123456789abcdefghijk');
    expect(dataset.tokenizer.decode(dataset.train)).toBe('0123456789abcdefghi');
    expect(dataset.tokenizer.decode(dataset.validation)).toBe('jk');
  });

  it('refuses fractions outside [0, 1) and a validation split too short to predict in', async () => {
    for (const validationFraction of [-0.1, 1, Number.NaN]) {
      expect(() => TextDataset.fromText('abc', { validationFraction })).toThrow(RangeError);
    }
    const short = TextDataset.fromText('0123456789');
    await expectError('SGEMOE_DATA_TOO_SHORT', /validation split has 1 of the text's 10 tokens, but 2/, () =>
      short.validationBatches({ batchSize: 1, seqLen: 4 }),
    );
    await expectError('SGEMOE_DATA_TOO_SHORT', /validation split/, () =>
      TextDataset.fromText('0123456789', { seqLen: 4 }),
    );
  });

  it.each([
    [256, Uint8Array],
    [65_536, Uint16Array],
    [65_537, Int32Array],
  ])('holds the tokens of a vocabulary of %i in the smallest type', (vocabSize, type) => {
    const tokenizer: Tokenizer = Object.assign(new ByteTokenizer(), {
      vocabSize,
      encode: (text: string | Uint8Array) => new Int32Array(text.length).fill(vocabSize - 1),
    });
    const dataset = TextDataset.fromText('abc', { tokenizer });
    expect(dataset.train).toEqual(new type(3).fill(vocabSize - 1));
  });
});

describe('batches', () => {
  const dataset = TextDataset.fromText(
    Uint8Array.from({ length: 100 }, (_, i) => i),
    noValidation,
  );
  const options = { batchSize: 3, seqLen: 5, seed: 7 };

  it('gives windows with the targets one token later', () => {
    const { ids, targets, batch, seqLen } = dataset.batches(options).next().value;
    expect([ids.length, targets.length, batch, seqLen]).toEqual([15, 15, 3, 5]);
    expect([...targets]).toEqual([...ids].map((id) => id + 1));
    for (let row = 0; row < 3; row++) {
      const start = ids[row * 5];
      expect([...ids.subarray(row * 5, row * 5 + 5)]).toEqual([0, 1, 2, 3, 4].map((i) => start + i));
    }
  });

  it('draws every window that fits, and no other', () => {
    const starts = new Set<number>();
    const sampler = dataset.batches({ batchSize: 1, seqLen: 95, seed: 1 });
    for (let i = 0; i < 200; i++) starts.add(sampler.next().value.ids[0]);
    expect([...starts].sort()).toEqual([0, 1, 2, 3, 4]);
    const only = dataset.batches({ batchSize: 2, seqLen: 99 }).next().value;
    expect([only.ids[0], only.ids[99], only.targets[98]]).toEqual([0, 0, 99]);
  });

  it('repeats itself for a seed, differs for another, and leaves earlier batches alone', () => {
    const first = dataset.batches(options);
    const kept = first.next().value;
    const copy = kept.ids.slice();
    const then = first.next().value;
    expect(kept.ids).toEqual(copy);
    const again = dataset.batches(options);
    expect(again.next().value).toEqual(kept);
    expect(again.next().value).toEqual(then);
    expect(dataset.batches({ ...options, seed: 8 }).next().value).not.toEqual(kept);
  });

  it('goes on exactly from a saved state', () => {
    const sampler = dataset.batches(options);
    for (let i = 0; i < 4; i++) sampler.next();
    const resumed = dataset.batches({ ...options, seed: 0 });
    resumed.setState(JSON.parse(JSON.stringify(sampler.getState())));
    for (let i = 0; i < 4; i++) expect(resumed.next().value).toEqual(sampler.next().value);
  });

  it('refuses a position of another kind', () => {
    const sampler = dataset.batches(options);
    expect(() => sampler.setState({ kind: 'shuffled-windows', random: '1' })).toThrow(/"random-windows"/);
    expect(() => sampler.setState({ kind: 'random-windows', random: 'x' })).toThrow(RangeError);
  });

  it('refuses sizes that are not positive integers, and windows longer than the text', async () => {
    expect(() => dataset.batches({ batchSize: 0, seqLen: 5 })).toThrow(
      /^batchSize must be an integer >= 1, got 0$/,
    );
    expect(() => dataset.batches({ batchSize: 1, seqLen: 1.5 })).toThrow(
      /^seqLen must be an integer >= 1, got 1.5$/,
    );
    await expectError('SGEMOE_DATA_TOO_SHORT', /has 100 of .* 101 are needed/, () =>
      dataset.batches({ batchSize: 1, seqLen: 100 }),
    );
  });
});

describe('validationBatches', () => {
  const shapes = (batches: Batch[]): number[][] => batches.map(({ batch, seqLen }) => [batch, seqLen]);

  it('predicts every token but the first exactly once, in order', () => {
    const sizes = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 120 }), sizes, sizes, (length, batchSize, seqLen) => {
        const bytes = Uint8Array.from({ length: 2 * length }, (_, i) => i);
        const dataset = TextDataset.fromText(bytes, { validationFraction: 0.5 });
        const batches = [...dataset.validationBatches({ batchSize, seqLen })];
        const expected = Array.from({ length: length - 1 }, (_, i) => length + i);
        expect(batches.flatMap(({ ids }) => [...ids])).toEqual(expected.map((id) => id & 255));
        expect(batches.flatMap(({ targets }) => [...targets])).toEqual(expected.map((id) => (id + 1) & 255));
        for (const batch of batches) {
          expect(batch.ids.length).toBe(batch.batch * batch.seqLen);
          expect(batch.batch <= batchSize && batch.seqLen <= seqLen).toBe(true);
        }
      }),
    );
  });

  it('ends with the whole windows that are left and then the rest', () => {
    const dataset = TextDataset.fromText('x'.repeat(40), { validationFraction: 0.5 });
    expect(shapes([...dataset.validationBatches({ batchSize: 2, seqLen: 6 })])).toEqual([
      [2, 6],
      [1, 6],
      [1, 1],
    ]);
    expect(shapes([...dataset.validationBatches({ batchSize: 2, seqLen: 6, maxBatches: 1 })])).toEqual([
      [2, 6],
    ]);
    expect(shapes([...dataset.validationBatches({ batchSize: 2, seqLen: 100 })])).toEqual([[1, 19]]);
    expect(() => dataset.validationBatches({ batchSize: 1, seqLen: 1, maxBatches: 0 })).toThrow(RangeError);
  });
});
