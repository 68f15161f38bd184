import { EventEmitter } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer as Engine } from '@huggingface/tokenizers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ModelConfig } from '../../src/config/modelConfig';
import { MoETransformer } from '../../src/model/model';
import { TextDataset } from '../../src/text/dataset';
import type { HuggingFaceTokenizer } from '../../src/text/huggingFaceTokenizer';
import { readTokenizer } from '../../src/text/readTokenizer';
import { evaluate } from '../../src/training/evaluate';
import { readMetrics, sgemoe, TINY, temporaryFolder, writeText } from './run';

let folder: string;
let text: string;
let tokenizer: string;
let trained: Awaited<ReturnType<typeof sgemoe>>;
beforeAll(async () => {
  folder = temporaryFolder();
  text = writeText(folder);
  tokenizer = join(folder, 'tokenizer');
  trained = await sgemoe(['tokenizer', 'train', '--data', text, '--vocab-size', '280', '--out', tokenizer]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inFolder = (name: string) => join(folder, name);
const train = (data: string, out: string, ...more: string[]) =>
  sgemoe(['train', '--data', data, '--out', out, ...TINY, '--steps', '6', '--sample-tokens', '8', ...more]);
const prepare = (out: string, ...more: string[]) =>
  sgemoe(['data', 'prepare', '--data', text, '--tokenizer', tokenizer, '--out', out, ...more]);

describe('sgemoe tokenizer train', () => {
  it("writes files that Hugging Face's package encodes identically with", async () => {
    expect(trained.code, trained.stderr).toBe(0);
    expect(trained.stdout).toMatch(
      /^Tokenizer: 280 tokens from [\d,]+ bytes, \d+ different words, in 0:\d\d\.\n/,
    );
    expect(readdirSync(tokenizer).sort()).toEqual(['tokenizer.json', 'tokenizer_config.json']);
    const content = readFileSync(text, 'utf8');
    const config = JSON.parse(readFileSync(join(tokenizer, 'tokenizer_config.json'), 'utf8'));
    expect(config.eos_token).toBe('<|endoftext|>');
    const engine = new Engine(JSON.parse(readFileSync(join(tokenizer, 'tokenizer.json'), 'utf8')), config);
    const ids = (await readTokenizer(tokenizer)).encode(content);
    expect(engine.encode(content).ids).toEqual([...ids]);
    expect(ids.length).toBeLessThan(content.length / 2);
  });

  it('writes a single file when its name ends in .json, with the options asked for', async () => {
    const out = inFolder('one.json');
    const options = ['--special-tokens', '<end>', '<user>', '--min-frequency', '100000', '--max-words', '50'];
    const { code, stdout } = await sgemoe([
      'tokenizer',
      'train',
      '--data',
      text,
      '--vocab-size',
      '400',
      '--out',
      out,
      ...options,
    ]);
    expect(code).toBe(0);
    expect(stdout).toContain('That is fewer than 400: no pair of tokens is left');
    const written = (await readTokenizer(out)) as HuggingFaceTokenizer;
    expect([written.vocabSize, written.idToToken(1)]).toEqual([258, '<user>']);
  });

  it('gives the same file for the same text', async () => {
    const again = inFolder('again.json');
    await sgemoe(['tokenizer', 'train', '--data', text, '--vocab-size', '280', '--out', again]);
    expect(readFileSync(again, 'utf8')).toBe(readFileSync(join(tokenizer, 'tokenizer.json'), 'utf8'));
  });

  it('replaces a tokenizer with --overwrite only', async () => {
    const argv = ['tokenizer', 'train', '--data', text, '--vocab-size', '280', '--out', tokenizer];
    const refused = await sgemoe(argv);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/holds a tokenizer already; --overwrite replaces it/);
    expect((await sgemoe([...argv, '--overwrite'])).code).toBe(0);
  });

  it('stops at an interrupt and writes nothing', async () => {
    const signals = new EventEmitter();
    const out = inFolder('stopped');
    const argv = ['tokenizer', 'train', '--data', text, '--vocab-size', '280', '--out', out];
    const running = sgemoe(argv, { signals });
    // Interrupts as soon as the command listens.
    while (signals.listenerCount('SIGINT') === 0) await new Promise((done) => setImmediate(done));
    signals.emit('SIGINT');
    const { code, stderr } = await running;
    expect([code, stderr]).toEqual([130, 'sgemoe: stopped; nothing was written.\n']);
    expect(existsSync(out)).toBe(false);
  });

  it.each([
    [
      'a vocabulary smaller than the bytes',
      ['--vocab-size', '256'],
      /--vocab-size must be an integer >= 257, got 256/,
    ],
    [
      'a special token that is a byte',
      ['--vocab-size', '300', '--special-tokens', 'a'],
      /--special-tokens\[0\] must not be a byte's/,
    ],
  ])('refuses %s in the words of the command line', async (_, options, message) => {
    const argv = ['tokenizer', 'train', '--data', text, '--out', inFolder('never'), ...options];
    const { code, stderr } = await sgemoe(argv);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});

describe('sgemoe train with a BPE', () => {
  it('trains the tokenizer first, saves it beside the weights, and lets generate use it', async () => {
    const out = inFolder('bpe');
    const { code, stdout, stderr } = await train(text, out, '--tokenizer', 'bpe', '--vocab-size', '280');
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('Tokenizer: 280 tokens');
    expect(readFileSync(join(out, 'tokenizer.json'), 'utf8')).toBe(
      readFileSync(join(tokenizer, 'tokenizer.json'), 'utf8'),
    );
    expect(existsSync(join(out, 'best', 'tokenizer_config.json'))).toBe(true);
    const argv = ['generate', out, '--prompt', 'one and', '--temperature', '0', '--max-tokens', '12'];
    const generated = await sgemoe(argv);
    const model = await MoETransformer.load(out);
    const bpe = await readTokenizer(out);
    const prompt = bpe.encode('one and');
    const ids = model.generate(prompt, prompt.length + 12, undefined, { slidingWindow: true });
    const end = ids.indexOf(bpe.endOfText!, prompt.length);
    expect(generated.stdout).toBe(bpe.decode(ids.slice(prompt.length, end < 0 ? undefined : end)));
  });

  it('reports bits per byte of text, which the bytes of its tokens give', async () => {
    const out = inFolder('bits');
    const { stdout } = await train(
      text,
      out,
      '--tokenizer',
      tokenizer,
      '--eval-interval',
      '6',
      '--eval-batches',
      '999',
    );
    const bpe = await readTokenizer(out);
    const dataset = await TextDataset.fromPaths(text, { tokenizer: bpe });
    const batches = [...dataset.validationBatches({ batchSize: 4, seqLen: 16 })];
    const model = await MoETransformer.load(out);
    const targets = batches.flatMap((batch) => [...batch.targets]);
    const bytesPerToken = bpe.countBytes(targets) / targets.length;
    expect(bytesPerToken).toBeGreaterThan(1.5);
    const { bitsPerByte } = evaluate(model, batches, { bytesPerToken });
    const reported = Number(/([\d.]+) bits per byte/.exec(stdout)![1]);
    expect(Math.abs(reported - bitsPerByte)).toBeLessThan(6e-4); // three places
    const { validationBitsPerByte, validationLoss } = readMetrics(out)[5] as Record<string, number>;
    expect(validationBitsPerByte).toBeCloseTo(bitsPerByte, 9);
    expect(validationLoss / Math.LN2 / bytesPerToken).toBeCloseTo(bitsPerByte, 9);
  });

  it.each([
    ['a size for another tokenizer', ['--vocab-size', '300'], /--vocab-size goes with --tokenizer bpe/],
    ['a tokenizer that is not there', ['--tokenizer', '/no/such'], /--tokenizer \/no\/such does not exist/],
  ])('refuses %s', async (_, options, message) => {
    const { code, stderr } = await train(text, inFolder('refused'), ...options);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});

describe('with --tokenizer char', () => {
  it('train makes the tokenizer of the text, generate refuses characters that were not in it', async () => {
    const out = inFolder('char');
    const { code, stdout, stderr } = await train(text, out, '--tokenizer', 'char');
    expect(code, stderr).toBe(0);
    const characters = [...new Set(readFileSync(text, 'utf8'))];
    expect(stdout).toContain(`Tokenizer: ${characters.length} characters from`);
    const saved = await readTokenizer(out);
    expect(saved.vocabSize).toBe(characters.length);
    expect((await MoETransformer.load(join(out, 'best'))).vocabSize).toBe(characters.length);
    const [known, unknown] = await Promise.all(
      ['naïve', 'naïve?'].map((prompt) => sgemoe(['generate', out, '--prompt', prompt, '--max-tokens', '5'])),
    );
    expect([known.code, [...known.stdout].length]).toEqual([0, 5]);
    expect(unknown.stderr).toMatch(/^sgemoe: The tokenizer does not know the character "\?" \(U\+003F\)/);
    expect(unknown.code).toBe(2);
  });

  it('data prepare makes the tokenizer of all files, with the newline that stands between them', async () => {
    const source = inFolder('documents');
    mkdirSync(source);
    writeFileSync(join(source, '1.txt'), 'abc '.repeat(20));
    writeFileSync(join(source, '2.txt'), 'déf '.repeat(20));
    const data = inFolder('char data');
    const argv = ['data', 'prepare', '--data', source, '--tokenizer', 'char', '--out', data];
    const { code, stdout, stderr } = await sgemoe(argv);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('Tokenizer: 8 characters from 180 bytes.');
    const header = JSON.parse(readFileSync(join(data, 'meta.json'), 'utf8'));
    expect([header.vocab_size, header.train.tokens + header.validation.tokens]).toEqual([8, 161]);
    const bin = readFileSync(join(data, 'train.bin'));
    const ids = new Uint16Array(bin.buffer.slice(bin.byteOffset, bin.byteOffset + bin.length));
    const tokenizer = await readTokenizer(data);
    expect(tokenizer.decode(ids)).toBe(`${'abc '.repeat(20)}\n${'déf '.repeat(20)}`.slice(0, ids.length));
    const trained = await train(data, inFolder('char prepared'));
    expect(trained.stdout).toContain('vocabulary 8');
  });
});

describe('sgemoe data prepare', () => {
  it('writes what train reads from the disk, with its own tokenizer and split', async () => {
    const data = inFolder('data');
    const prepared = await prepare(data, '--validation-fraction', '0.25');
    expect(prepared.code, prepared.stderr).toBe(0);
    expect(prepared.stdout).toMatch(
      /^[\d,]+ tokens to train on, [\d,]+ to validate, of 1 documents, as uint16, in 0:\d\d/,
    );
    const out = inFolder('prepared run');
    const { code, stdout, stderr } = await train(data, out);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('vocabulary 280');
    expect(JSON.parse(readFileSync(join(out, 'run.json'), 'utf8')).result.validation.loss).toBeGreaterThan(0);
    expect((await MoETransformer.load(out)).vocabSize).toBe(280);
    expect((await train(data, inFolder('same tokenizer'), '--tokenizer', tokenizer)).code).toBe(0);
  });

  it.each<[string, string[], RegExp, number?]>([
    ['another tokenizer', ['--tokenizer', 'byte'], /prepared with another tokenizer/, 1],
    ['a tokenizer to be trained', ['--tokenizer', 'bpe'], /is tokenized already/],
    ['a tokenizer to be made', ['--tokenizer', 'char'], /is tokenized already; --tokenizer char needs/],
    ['another split', ['--validation-fraction', '0.5'], /has been split already/],
  ])('and train refuses %s for it', async (_, options, message, wanted = 2) => {
    const data = inFolder('data for refusals');
    if (!existsSync(data)) await prepare(data);
    const { code, stderr } = await train(data, inFolder('refused'), ...options);
    expect(stderr).toMatch(message);
    expect(code).toBe(wanted);
  });

  it('and train refuses it together with other data', async () => {
    const data = inFolder('data and more');
    await prepare(data);
    const { code, stderr } = await sgemoe([
      'train',
      '--data',
      data,
      text,
      '--out',
      inFolder('both'),
      ...TINY,
    ]);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/one prepared data set, or files/)]);
  });

  it('refuses a folder that holds other things, and replaces a data set with --overwrite only', async () => {
    const taken = inFolder('taken');
    mkdirSync(taken);
    writeFileSync(join(taken, 'thesis.md'), 'years of work');
    expect(await prepare(taken, '--overwrite')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/is not empty/),
    });
    const data = inFolder('twice');
    expect((await prepare(data)).code).toBe(0);
    expect(await prepare(data)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/holds a data set already/),
    });
    expect((await prepare(data, '--overwrite')).code).toBe(0);
  });

  it('stops at an interrupt and leaves nothing behind', async () => {
    const signals = new EventEmitter();
    const before = readdirSync(folder);
    const argv = ['data', 'prepare', '--data', text, '--tokenizer', 'byte', '--out', inFolder('stopped')];
    const running = sgemoe(argv, { signals });
    while (signals.listenerCount('SIGINT') === 0) await new Promise((done) => setImmediate(done));
    signals.emit('SIGINT');
    expect(await running).toMatchObject({ code: 130, stderr: 'sgemoe: stopped; nothing was written.\n' });
    expect(readdirSync(folder)).toEqual(before);
  });
});

describe('sgemoe generate', () => {
  /** A model that always chooses this token. */
  async function sayer(name: string, vocabSize: number, says: number, files: object): Promise<string> {
    const dir = inFolder(name);
    const sizes = {
      hiddenDim: 8,
      nLayers: 1,
      nHeads: 1,
      nKvHeads: 1,
      headDim: 8,
      nExperts: 2,
      topKExperts: 1,
    };
    const config = new ModelConfig({ ...ModelConfig.tiny(), ...sizes, ffnDim: 8, vocabSize, maxSeqLen: 16 });
    const model = MoETransformer.create(config);
    for (const [parameter, { data }] of model.namedParameters()) {
      if (parameter === 'lm_head.weight') data.fill(0);
      // The hidden state is the same everywhere: blocks add nothing, and all rows of the embedding are equal.
      else if (parameter.includes('embed')) data.fill(1);
      else if (!parameter.includes('norm')) data.fill(0);
      if (parameter === 'lm_head.weight') data.fill(1, says * 8, (says + 1) * 8);
    }
    await model.save(dir, files);
    return dir;
  }
  const tokens = (dir: string, ...more: string[]) =>
    sgemoe(['generate', dir, '--prompt', 'one', '--temperature', '0', '--max-tokens', '5', ...more]);

  it('ends at the end-of-text token', async () => {
    const files = (await readTokenizer(tokenizer)).files();
    expect((await tokens(await sayer('ends', 280, 0, files))).stderr).toMatch(/^0 tokens/);
    const says = await sayer('goes on', 280, 70, files);
    expect((await tokens(says)).stdout).toHaveLength(5);
  });

  it('never says an id that the tokenizer does not have', async () => {
    const files = (await readTokenizer(tokenizer)).files();
    // Ids beyond the tokenizer's have the highest logits; all others are equal, and the lowest of them is the end.
    const padded = await sayer('padded', 300, 299, files);
    const { code, stderr } = await tokens(padded);
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^0 tokens/)]);
    const small = await sayer('small', 270, 0, files);
    expect(await tokens(small)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/mixes two checkpoints/),
    });
  });

  it('puts the prompt into the chat template with --chat', async () => {
    const plain = await readTokenizer(tokenizer);
    const files = { ...plain.files(), chatTemplate: "{{ raise_exception('saw ' + messages[0].content) }}" };
    const chat = await sayer('chat', 280, 70, files);
    expect(await tokens(chat, '--chat')).toMatchObject({ code: 1, stderr: expect.stringMatching(/saw one/) });
    const answering = await sayer('answering', 280, 70, {
      ...files,
      chatTemplate: '{{ messages[0].content }}',
    });
    expect((await tokens(answering, '--chat')).stdout).toBe((await tokens(answering)).stdout);
    const without = await sayer('without', 280, 70, plain.files());
    expect(await tokens(without, '--chat')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no chat template/),
    });
  });
});
