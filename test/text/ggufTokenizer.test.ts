import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HuggingFaceTokenizer, loadTokenizer, readTokenizer } from '../../src';
import { GgufFile } from '../../src/checkpoint/gguf/ggufFile';
import { ggufGenerationConfig, ggufTokenizer } from '../../src/checkpoint/gguf/ggufTokenizer';
import { PRE_TOKENIZER_NAMES, preTokenizerName } from '../../src/checkpoint/gguf/preTokenizers';
import { expectError } from '../helpers/expectError';
import { ggufBytes, type Value } from '../helpers/ggufWriter';

const fixture = (name: string) => join(__dirname, '../fixtures/gguf', name);
const json = (name: string) => JSON.parse(readFileSync(fixture(name), 'utf8'));
const texts: string[] = json('texts.json');
/** What llama.cpp makes of the texts; a name stands for the ids of that pre-tokenizer. */
const ids: { spm: string[]; bpe: Record<string, string | string[]> } = json('ids.json');
/** What Python's tokenizers make of them and of more, for what llama.cpp only comes near: `pre` is how files write it. */
const words: {
  texts: string[];
  shapes: Record<string, { pre: object[]; ignore_merges: boolean; ids: string[] }>;
} = json('words.json');
const parsed = (line: string) => line.split(' ').filter(Boolean).map(Number);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sgemoe-gguf-tokenizer-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function withPre(name: string) {
  const file = await GgufFile.open(fixture('bpe.gguf'));
  await file.close();
  const metadata = new Map(file.metadata).set('tokenizer.ggml.pre', name);
  const { tokenizer, ...beside } = ggufTokenizer({ path: 'bpe.gguf', metadata });
  return loadTokenizer(tokenizer, beside);
}

describe("a byte-level GGUF tokenizer gives llama.cpp's ids and decodes to the text", () => {
  it('with every pre-tokenizer that is known', () => {
    const names = [...Object.keys(ids.bpe), ...Object.keys(words.shapes)];
    expect(names.sort()).toEqual([...PRE_TOKENIZER_NAMES].sort());
  });

  for (const [name, given] of Object.entries(ids.bpe)) {
    it(name, async () => {
      const wanted = typeof given === 'string' ? (ids.bpe[given] as string[]) : given;
      const tokenizer = await withPre(name);
      for (const [i, text] of texts.entries()) {
        expect([text, ...tokenizer.encode(text)]).toEqual([text, ...parsed(wanted[i])]);
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }
    });
  }
});

describe("a byte-level GGUF tokenizer gives the ids of Python's tokenizers", () => {
  for (const [name, { pre, ignore_merges, ids: wanted }] of Object.entries(words.shapes)) {
    it(`${name}, whose name is written for each way in which files have it`, async () => {
      const tokenizer = await withPre(name);
      for (const [i, text] of words.texts.entries()) {
        expect([text, ...tokenizer.encode(text)]).toEqual([text, ...parsed(wanted[i])]);
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }
      const file = tokenizer.toJSON();
      const model = { ...(file.model as object), ignore_merges };
      const names = [file.pre_tokenizer, ...pre].map((pre_tokenizer) =>
        preTokenizerName({ ...file, model, pre_tokenizer }),
      );
      expect(names).toEqual(names.map(() => name));
      expect(pre.length).toBeGreaterThan(0);
    });
  }
});

it("a SentencePiece GGUF tokenizer gives llama.cpp's ids, bytes for characters without a piece, and decodes to the text", async () => {
  const tokenizer = await readTokenizer(fixture('spm.gguf'));
  for (const [i, text] of texts.entries()) {
    const wanted = parsed(ids.spm[i]);
    expect([text, ...tokenizer.encode(text)]).toEqual([text, ...wanted]);
    // A space of its own stands before each text between added tokens, as in llama.cpp; decoding takes the first away.
    if (!/<tool>|<\|x\|>/.test(text)) expect(tokenizer.decode(wanted)).toBe(text);
    expect([...tokenizer.encode(text, { addSpecialTokens: true })]).toEqual([1, ...wanted]);
  }
});

it('special tokens, ends of a text and the chat template are those of the file', async () => {
  const tokenizer = (await readTokenizer(fixture('bpe.gguf'))) as HuggingFaceTokenizer;
  expect([...tokenizer.specialTokens.keys()]).toEqual(['<|endoftext|>', '<|im_start|>', '<|im_end|>']);
  expect(tokenizer.endOfText).toBe(2);
  expect(tokenizer.encode('a', { addSpecialTokens: true })).toHaveLength(1);
  const chat = tokenizer.applyChatTemplate([{ role: 'user', content: 'Hi' }]);
  expect(chat).toBe('<|im_start|>user\nHi<|im_end|>\n');
  expect([...tokenizer.encode(chat)].at(-2)).toBe(2);
  const file = await GgufFile.open(fixture('bpe.gguf'));
  await file.close();
  expect(ggufGenerationConfig(file)).toEqual({ eos_token_id: [2, 0] });
});

describe('what is not known or damaged is refused by name', () => {
  const strings = (...values: string[]): Value => ({ type: 'array', of: 'string', values });
  const good: Record<string, Value> = {
    model: { type: 'string', value: 'gpt2' },
    pre: { type: 'string', value: 'gpt-2' },
    tokens: strings('a', 'b', 'ab'),
    token_type: { type: 'array', of: 'u32', values: [1, 1, 1] },
    merges: strings('a b'),
  };
  const cases: Record<string, [Record<string, Value>, RegExp]> = {
    'a kind of tokenizer': [
      { model: { type: 'string', value: 'bert' } },
      /kind "bert"; read are gpt2 and llama/,
    ],
    'a pre-tokenizer': [
      { pre: { type: 'string', value: 'viking' } },
      /"viking" is not known; known are default/,
    ],
    'a token that stands there twice': [
      { tokens: strings('a', 'b', 'a') },
      /"a" stands there twice, as 0 and as 2/,
    ],
    'too few kinds of tokens': [
      { token_type: { type: 'array', of: 'u32', values: [1] } },
      /token_type must be a list of 3 numbers, got object of length 1/,
    ],
    'merges that are no texts': [
      { merges: { type: 'array', of: 'u32', values: [1] } },
      /merges must be a list of texts/,
    ],
    'a merge of unknown tokens': [{ merges: strings('a c') }, /tokens outside the vocabulary/],
    'an end outside the vocabulary': [
      { eos_token_id: { type: 'u32', value: 3 } },
      /eos_token_id 3 lies outside/,
    ],
    'a truth value that is a number': [{ add_bos_token: { type: 'u32', value: 1 } }, /must be a truth value/],
    'no scores of SentencePiece': [
      { model: { type: 'string', value: 'llama' } },
      /scores must be a list of 3 numbers, got undefined/,
    ],
    'a score that is no number': [
      {
        model: { type: 'string', value: 'llama' },
        scores: { type: 'array', of: 'f32', values: [0, Number.NaN, 0] },
      },
      /score of token 1 is not a number/,
    ],
  };
  const write = async (values: Record<string, Value>) => {
    const path = join(folder, 'file.gguf');
    const metadata = Object.entries(values).map(([key, value]) => [`tokenizer.ggml.${key}`, value] as const);
    await writeFile(path, ggufBytes({ metadata }));
    return path;
  };

  it('but a sound file is read', async () => {
    const tokenizer = await readTokenizer(await write(good));
    expect([...tokenizer.encode('aba')]).toEqual([2, 0]);
  });

  for (const [what, [changes, message]] of Object.entries(cases)) {
    it(what, async () => {
      const path = await write({ ...good, ...changes });
      await expectError('SGEMOE_TOKENIZER_INVALID', message, () => readTokenizer(path));
    });
  }

  it('a file without a tokenizer', async () => {
    const path = await write({});
    await expectError('SGEMOE_TOKENIZER_INVALID', /no tokenizer at/, () => readTokenizer(path));
  });
});
