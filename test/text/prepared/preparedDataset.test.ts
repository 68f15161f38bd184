import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Batch } from '../../../src/base/batch';
import { Lcg64 } from '../../../src/base/random';
import { trainBpe } from '../../../src/text/bpe/trainBpe';
import { ByteTokenizer } from '../../../src/text/byteTokenizer';
import { TextDataset } from '../../../src/text/dataset';
import type { HuggingFaceTokenizer } from '../../../src/text/huggingFaceTokenizer';
import { type PrepareProgress, prepareDataset } from '../../../src/text/prepared/prepareDataset';
import { PreparedDataset } from '../../../src/text/prepared/preparedDataset';
import { Shuffle } from '../../../src/text/prepared/shuffle';
import { writeTokenizer } from '../../../src/text/readTokenizer';
import type { Tokenizer } from '../../../src/text/tokenizer';
import { expectError } from '../../helpers/expectError';

let folder: string;
let texts: string;
let bpe: HuggingFaceTokenizer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe prepared-'));
  texts = join(folder, 'texts');
  mkdirSync(texts);
  // The second is longer than a piece; the third is empty, the fourth not UTF-8.
  writeFileSync(join(texts, 'a.txt'), 'the first document, naïve and short\n');
  writeFileSync(join(texts, 'b.txt'), 'some words of a longer one 😀 \n'.repeat(9000));
  writeFileSync(join(texts, 'c.txt'), '');
  writeFileSync(
    join(texts, 'd.txt'),
    Uint8Array.from({ length: 300 }, (_, i) => 255 - (i & 255) || 1),
  );
  bpe = await trainBpe([readFileSync(join(texts, 'a.txt')), 'some words of a longer one\n'.repeat(3)], {
    vocabSize: 290,
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let made = 0;
async function prepare(tokenizer: Tokenizer, more: { validationFraction?: number } = {}): Promise<string> {
  const out = join(folder, `set ${made++}`);
  await prepareDataset(texts, { tokenizer, out, ...more });
  return out;
}

function tokensOf(path: string): number[] {
  const bytes = readFileSync(path);
  return Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i));
}

/** A data set of the tokens 0 .. count - 1, all of them to train on. */
async function counting(count: number): Promise<PreparedDataset> {
  const tokenizer: Tokenizer = Object.assign(new ByteTokenizer(), {
    vocabSize: count,
    encode: () => Int32Array.from({ length: count }, (_, i) => i),
    countBytes: (ids: ArrayLike<number>) => ids.length,
    toJSON: () => ({ type: 'byte', count }),
  });
  const out = join(folder, `counting ${count} ${made++}`);
  await prepareDataset(join(texts, 'a.txt'), { tokenizer, out, validationFraction: 0 });
  return PreparedDataset.open(out, { tokenizer });
}

describe('prepareDataset', () => {
  it.each([
    ['bytes', () => new ByteTokenizer()],
    ['BPE', () => bpe],
  ])('writes the tokens of TextDataset, as nanoGPT lays them out: %s', async (_, tokenizerOf) => {
    const tokenizer = tokenizerOf();
    const out = await prepare(tokenizer);
    const text = await TextDataset.fromPaths(texts, { tokenizer });
    expect(tokensOf(join(out, 'train.bin'))).toEqual([...text.train]);
    expect(tokensOf(join(out, 'val.bin'))).toEqual([...text.validation]);
    const meta = JSON.parse(readFileSync(join(out, 'meta.json'), 'utf8'));
    expect(meta).toMatchObject({ vocab_size: tokenizer.vocabSize, dtype: 'uint16', documents: 3 });
    expect(meta.train).toEqual({
      file: 'train.bin',
      tokens: text.train.length,
      bytes: tokenizer.countBytes(text.train),
    });
    expect(meta.validation.bytes).toBe(tokenizer.countBytes(text.validation));
  });

  it('separates documents by the end-of-text token', async () => {
    const tokens = tokensOf(join(await prepare(bpe, { validationFraction: 0 }), 'train.bin'));
    expect(tokens.filter((id) => id === bpe.endOfText)).toHaveLength(2);
    expect(tokens.indexOf(bpe.endOfText!)).toBe(bpe.encode(readFileSync(join(texts, 'a.txt'))).length);
  });

  it('takes uint32 for vocabularies beyond 65,536', async () => {
    const dataset = await counting(70_000);
    expect(readFileSync(join(dataset.path, 'train.bin')).readUInt32LE(4 * 69_999)).toBe(69_999);
    expect(dataset.batches({ batchSize: 1, seqLen: 69_999 }).next().value.targets[69_998]).toBe(69_999);
    dataset.close();
  });

  it('refuses a folder with other things in it, and one with a data set unless it may replace it', async () => {
    await expectError('SGEMOE_DATA_WRITE', /not empty and holds no data set/, () =>
      prepareDataset(texts, { tokenizer: bpe, out: texts, overwrite: true }),
    );
    const out = await prepare(bpe);
    await expectError('SGEMOE_DATA_WRITE', /holds a data set already/, () =>
      prepareDataset(texts, { tokenizer: new ByteTokenizer(), out }),
    );
    expect((await PreparedDataset.open(out)).tokenizer.vocabSize).toBe(bpe.vocabSize);
    await prepareDataset(texts, { tokenizer: new ByteTokenizer(), out, overwrite: true });
    expect((await PreparedDataset.open(out)).tokenizer.vocabSize).toBe(256);
    expect(readdirSync(out).sort()).toEqual(['meta.json', 'tokenizer.json', 'train.bin', 'val.bin']);
  });

  it('reports its progress, and leaves nothing behind when it is stopped or fails', async () => {
    const before = readdirSync(folder).sort();
    const seen: PrepareProgress[] = [];
    const controller = new AbortController();
    const stopped = prepareDataset(texts, {
      tokenizer: bpe,
      out: join(folder, 'stopped'),
      signal: controller.signal,
      onProgress: (progress) => {
        seen.push(progress);
        if (seen.length === 2) controller.abort();
      },
    });
    await expect(stopped).rejects.toThrow(/abort/);
    expect(seen[0]).toMatchObject({ bytes: 37, documents: 1 });
    await expectError('SGEMOE_DATA_NOT_FOUND', /does not exist/, () =>
      prepareDataset('/no/such', { tokenizer: bpe, out: join(folder, 'failed') }),
    );
    await expectError('SGEMOE_DATA_WRITE', /could not be written|can't be used/, () =>
      prepareDataset(texts, { tokenizer: bpe, out: join(texts, 'a.txt', 'below a file') }),
    );
    expect(readdirSync(folder).sort()).toEqual(before);
  });

  it('refuses fractions outside [0, 1) and unknown options', async () => {
    const out = join(folder, 'never');
    await expect(prepareDataset(texts, { tokenizer: bpe, out, validationFraction: 1 })).rejects.toThrow(
      RangeError,
    );
    await expect(prepareDataset(texts, { tokenizer: bpe, out, fraction: 0 } as never)).rejects.toThrow(
      /unknown option/,
    );
    expect(existsSync(out)).toBe(false);
  });
});

describe('PreparedDataset.open', () => {
  it('refuses files of another length than the header says', async () => {
    const out = await prepare(bpe);
    truncateSync(join(out, 'val.bin'), 101);
    await expectError(
      'SGEMOE_DATA_INVALID',
      /val\.bin: it has 101 bytes, but \d+ tokens of uint16 take/,
      () => PreparedDataset.open(out),
    );
    rmSync(join(out, 'train.bin'));
    await expectError('SGEMOE_DATA_INVALID', /train\.bin: it can not be read/, () =>
      PreparedDataset.open(out),
    );
  });

  it('refuses another tokenizer, beside it or given', async () => {
    const out = await prepare(bpe);
    await expectError('SGEMOE_DATA_INVALID', /another tokenizer than the tokenizer given/, () =>
      PreparedDataset.open(out, { tokenizer: new ByteTokenizer() }),
    );
    await writeTokenizer(join(out, 'tokenizer.json'), new ByteTokenizer());
    await expectError('SGEMOE_DATA_INVALID', /another tokenizer than the tokenizer\.json/, () =>
      PreparedDataset.open(out),
    );
  });

  it.each([
    ['format', 'other', /"format" must be/],
    ['version', 2, /"version" must be 1/],
    ['dtype', 'uint32', /"dtype" must be uint16/],
    ['vocab_size', 0, /"vocab_size" must be an integer >= 1/],
    ['end_of_text', 9999, /"end_of_text" must be a token/],
    ['tokenizer_sha256', 'x', /SHA-256/],
    ['train', { file: '../secret', tokens: 1, bytes: 1 }, /must have the file "train\.bin"/],
    ['validation', { file: 'val.bin', tokens: -1, bytes: 1 }, /"tokens" of "validation"/],
  ])('refuses a header with %s = %j', async (name, value, message) => {
    const out = await prepare(bpe);
    const path = join(out, 'meta.json');
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), [name]: value }));
    await expectError('SGEMOE_DATA_INVALID', message, () => PreparedDataset.open(out));
  });

  it('says what is missing or too short', async () => {
    await expectError('SGEMOE_DATA_NOT_FOUND', /no prepared data set/, () => PreparedDataset.open(texts));
    await expectError('SGEMOE_DATA_TOO_SHORT', /1000001 are needed/, async () =>
      PreparedDataset.open(await prepare(bpe), { seqLen: 1_000_000 }),
    );
    const unreadable = await prepare(bpe);
    writeFileSync(join(unreadable, 'meta.json'), '{');
    await expectError('SGEMOE_DATA_INVALID', /not readable JSON/, () => PreparedDataset.open(unreadable));
  });

  it('names a token that the vocabulary does not have, where it is read', async () => {
    const out = await prepare(bpe, { validationFraction: 0 });
    const path = join(out, 'train.bin');
    const bytes = readFileSync(path);
    bytes.writeUInt16LE(65_000, 2 * 100);
    writeFileSync(path, bytes);
    const dataset = await PreparedDataset.open(out);
    const batches = dataset.batches({ batchSize: 1, seqLen: dataset.trainTokens - 1 });
    await expectError('SGEMOE_DATA_INVALID', /token 100 is 65000, must be below 276/, () => batches.next());
    dataset.close();
  });
});

describe('batches', () => {
  const draw = (batches: Iterator<Batch>, count: number): Batch[] =>
    Array.from({ length: count }, () => batches.next().value);

  it('pass over all windows, in another random order each time', async () => {
    const dataset = await counting(1000);
    const batches = dataset.batches({ batchSize: 1, seqLen: 10, seed: 3 });
    const passes: number[][] = [];
    for (;;) {
      const { ids, targets } = batches.next().value;
      const epoch = batches.getState().epoch as number;
      if (epoch === 4) break;
      expect([...targets]).toEqual([...ids].map((id) => id + 1));
      passes[epoch] = [...(passes[epoch] ?? []), ids[0]];
    }
    for (const starts of passes) {
      const sorted = starts.toSorted((a, b) => a - b);
      expect(sorted[0]).toBeLessThan(10);
      expect(sorted).toEqual(sorted.map((_, i) => sorted[0] + 10 * i));
      // The next window would end beyond the last token.
      expect(sorted.at(-1)! + 20).toBeGreaterThan(999);
      expect(starts).not.toEqual(sorted);
    }
    expect(new Set(passes.map(String)).size).toBe(4);
    dataset.close();
  });

  it('repeat themselves for a seed and differ for another', async () => {
    const dataset = await counting(500);
    const options = { batchSize: 3, seqLen: 8, seed: 5 };
    const first = draw(dataset.batches(options), 60);
    expect(draw(dataset.batches(options), 60)).toEqual(first);
    expect(draw(dataset.batches({ ...options, seed: 6 }), 60)).not.toEqual(first);
    dataset.close();
  });

  it('go on from any position that JSON kept', async () => {
    const dataset = await counting(500);
    await fc.assert(
      fc.asyncProperty(fc.nat(120), fc.integer({ min: 1, max: 7 }), async (before, batchSize) => {
        const options = { batchSize, seqLen: 9, seed: 1n };
        const batches = dataset.batches(options);
        draw(batches, before);
        const position = JSON.parse(JSON.stringify(batches.getState()));
        expect(JSON.stringify(position).length).toBeLessThan(150);
        const resumed = dataset.batches(options);
        resumed.setState(position);
        expect(draw(resumed, 30)).toEqual(draw(batches, 30));
      }),
    );
    dataset.close();
  });

  it('refuse a position of other options', async () => {
    const dataset = await counting(500);
    const batches = dataset.batches({ batchSize: 2, seqLen: 9, seed: 1 });
    const position = batches.getState();
    const cases = { seed: '2', seqLen: 8, tokens: 501, kind: 'random-windows', epoch: -1, window: 1e6 };
    for (const [name, value] of Object.entries(cases)) {
      expect(() => batches.setState({ ...position, [name]: value }), name).toThrow(RangeError);
    }
    expect(batches.getState()).toEqual(position);
    dataset.close();
  });

  // NTFS would fill the file.
  it.skipIf(process.platform === 'win32')(
    'read windows of files beyond memory, and hold none of them',
    async () => {
      const out = await prepare(bpe);
      const tokens = 20e9;
      truncateSync(join(out, 'train.bin'), 2 * tokens);
      const path = join(out, 'meta.json');
      const meta = JSON.parse(readFileSync(path, 'utf8'));
      writeFileSync(path, JSON.stringify({ ...meta, train: { ...meta.train, tokens } }));
      const dataset = await PreparedDataset.open(out);
      const batches = dataset.batches({ batchSize: 8, seqLen: 64, seed: 1 });
      const before = process.memoryUsage().arrayBuffers;
      for (const batch of draw(batches, 200)) expect(batch.ids.length).toBe(512);
      // 200 batches of two arrays of 2 KiB, and the test runner's own memory.
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16e6);
      dataset.close();
    },
  );

  it('train from one window alone, and validate in order', async () => {
    const dataset = await counting(11);
    expect([...dataset.batches({ batchSize: 2, seqLen: 10 }).next().value.ids.slice(10)]).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
    await expectError('SGEMOE_DATA_TOO_SHORT', /validation split has 0/, () =>
      dataset.validationBatches({ batchSize: 1, seqLen: 4 }),
    );
    dataset.close();
    const both = await PreparedDataset.open(await prepare(bpe));
    const text = await TextDataset.fromPaths(texts, { tokenizer: bpe });
    const options = { batchSize: 4, seqLen: 32, maxBatches: 5 };
    expect([...both.validationBatches(options)]).toEqual([...text.validationBatches(options)]);
    both.close();
  });
});

describe('Shuffle', () => {
  it('is an order of all numbers', () => {
    for (const count of [1, 2, 3, 4, 5, 15, 16, 17, 1000, 65_537]) {
      const shuffle = new Shuffle(count, new Lcg64(count));
      const all = Array.from({ length: count }, (_, place) => shuffle.at(place)).sort((a, b) => a - b);
      expect(all).toEqual(Array.from({ length: count }, (_, i) => i));
    }
    const large = new Shuffle(2 ** 32 - 5, new Lcg64(1));
    expect(new Set(Array.from({ length: 1000 }, (_, i) => large.at(2 ** 32 - 6 - i))).size).toBe(1000);
    expect(() => new Shuffle(0, new Lcg64(1))).toThrow(RangeError);
  });

  it('puts each number at each place about equally often', () => {
    const count = 8;
    const runs = 8000;
    const seen = new Float64Array(count * count);
    for (let seed = 0; seed < runs; seed++) {
      const shuffle = new Shuffle(count, new Lcg64(seed * 7919 + 13));
      for (let place = 0; place < count; place++) seen[place * count + shuffle.at(place)]++;
    }
    // Binomial with mean 1000 and standard deviation 29.6: six of them.
    for (const times of seen) expect(Math.abs(times - runs / count)).toBeLessThan(180);
  });
});
