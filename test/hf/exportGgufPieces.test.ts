import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportGguf, loadTokenizer, MoETransformer, readTokenizer, type Tokenizer } from '../../src';
import { GgufFile } from '../../src/checkpoint/gguf/ggufFile';
import { sgemoe } from '../cli/run';
import { ALL_DENSE, SMALL } from '../helpers/smallModel';

const fixture = (name: string) => JSON.parse(readFileSync(join(__dirname, '../fixtures/gguf', name), 'utf8'));
const texts: string[] = fixture('texts.json');
/** What llama.cpp, and Python's tokenizers with pieces.json, make of the texts. */
const wanted: number[][] = fixture('ids.json').spm.map((line: string) =>
  line.split(' ').filter(Boolean).map(Number),
);
interface Pieces {
  added_tokens: { content: string }[];
  model: { vocab: Record<string, number>; merges: [string, string][] };
  decoder: { decoders: object[] };
}
/** As transformers makes it of SentencePiece's vocabulary, in the form of Llama 2. */
const pieces = (): Record<string, unknown> & Pieces => fixture('pieces.json');
const metaspace = (prepend_scheme: string, split = false) => ({
  normalizer: null,
  pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme, split },
});

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sgemoe-export-pieces-'));
  path = join(folder, 'model.gguf');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Ids that the model has alone are the last 20. */
const model = () => MoETransformer.create({ ...SMALL, ...ALL_DENSE, vocabSize: 620 }, { seed: 5 });

async function exported(tokenizer: object): Promise<{ again: Tokenizer; notes: string[] }> {
  const notes: string[] = [];
  await exportGguf(path, model(), { tokenizer, onNote: (note) => notes.push(note) });
  return { again: await readTokenizer(path), notes };
}

describe("SentencePiece's tokenizer comes back from a GGUF file", () => {
  it("with llama.cpp's ids, special tokens and texts", async () => {
    const { again, notes } = await exported(pieces());
    const before = loadTokenizer(pieces());
    for (const [i, text] of texts.entries()) {
      expect([text, ...again.encode(text)]).toEqual([text, ...wanted[i]]);
      expect([...again.encode(text, { addSpecialTokens: true })]).toEqual([1, ...wanted[i]]);
      expect(again.decode(wanted[i])).toBe(before.decode(wanted[i]));
    }
    expect(again.vocabSize).toBe(before.vocabSize);
    expect(again.endOfText).toBe(2);
    expect(notes).toEqual([]);
  });

  it('with the kinds of tokens that llama.cpp has', async () => {
    await exported(pieces());
    const file = await GgufFile.open(path);
    await file.close();
    const get = (key: string) => file.metadata.get(`tokenizer.ggml.${key}`);
    const kinds = get('token_type') as Int32Array;
    const { vocab } = pieces().model;
    const of = (token: string) => kinds[vocab[token]];
    const named = ['<unk>', '<s>', '<tool>', '<0x0A>', '▁', '<0xFF>'].map(of);
    expect([...named, kinds[619]]).toEqual([2, 3, 4, 6, 1, 6, 5]);
    const told = ['model', 'add_space_prefix', 'unknown_token_id', 'add_bos_token'].map(get);
    expect(told).toEqual(['llama', true, 0, true]);
  });

  it('without a space of its own, with old merges and without a token for what is unknown', async () => {
    const { normalizer, decoder, model, ...rest } = pieces();
    const merges = model.merges.map((pair) => pair.join(' '));
    const bare = {
      ...rest,
      normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      decoder: { type: 'Sequence', decoders: decoder.decoders.slice(0, 3) },
      model: { ...model, merges, unk_token: null },
    };
    const before = loadTokenizer(bare);
    const { again, notes } = await exported(bare);
    for (const text of texts) {
      expect(again.encode(text)).toEqual(before.encode(text));
      expect(again.decode(again.encode(text))).toBe(text);
    }
    expect(notes).toEqual([]);
  });

  it('written as Metaspace by newer files, with a note on where llama.cpp puts more spaces', async () => {
    for (const scheme of ['first', 'always']) {
      const file = { ...pieces(), ...metaspace(scheme) };
      const before = loadTokenizer(file);
      const { again, notes } = await exported(file);
      const equal = (text: string) => again.encode(text).join() === before.encode(text).join();
      const plain = texts.filter((text) => !/^ |<tool>|<\|x\|>/.test(text));
      expect(plain.filter((text) => !equal(text))).toEqual([]);
      expect(plain.length).toBeGreaterThan(80);
      expect([equal(' Hello'), equal('call <tool> now')]).toEqual([false, false]);
      expect(notes).toHaveLength(1);
      expect(notes[0]).toMatch(/^In llama.cpp each text gets a space in front, .* begins with a space/);
      expect(notes[0].includes('behind a special token')).toBe(scheme === 'first');
    }
    const { decoder, ...rest } = pieces();
    const stages = { type: 'Sequence', decoders: decoder.decoders.slice(0, 3) };
    expect((await exported({ ...rest, ...metaspace('never'), decoder: stages })).notes).toEqual([]);
  });
});

describe("what scores can't say is refused by name", () => {
  const refuse = (tokenizer: object, message: RegExp) =>
    expect(exportGguf(join(folder, 'never.gguf'), model(), { tokenizer })).rejects.toThrow(message);
  const withModel = (changes: object) => ({ ...pieces(), model: { ...pieces().model, ...changes } });

  it('merges that are not all pairs of a token, or not one behind another', async () => {
    const { merges } = pieces().model;
    const results = merges.map((pair) => pair.join(''));
    const at = results.findIndex((result, i) => result === results[i + 1]);
    const [left, right] = merges[at];
    await refuse(
      withModel({ merges: merges.filter((_, i) => i !== at) }),
      new RegExp(`no form in a GGUF: its tokens "${left}" and "${right}" join to one and don't merge`),
    );
    const parted = [...merges.slice(0, at), ...merges.slice(at + 1), merges[at]];
    await refuse(
      withModel({ merges: parted }),
      new RegExp(`between the merges that make "${left}${right}" stand others`),
    );
  });

  it('a byte without a token, whole words, other spaces, decoders and added tokens', async () => {
    const { vocab, merges } = pieces().model;
    const { '<0x0A>': _, ...rest } = vocab;
    await refuse(withModel({ vocab: rest, merges }), /it has no token <0x0A>/);
    await refuse(withModel({ ignore_merges: true }), /takes words that are tokens whole/);
    await refuse({ ...pieces(), normalizer: { type: 'NFKC' } }, /do more than to write spaces as ▁/);
    await refuse({ ...pieces(), ...metaspace('first', true) }, /its token ".+▁.*" goes across one/);
    await refuse({ ...pieces(), ...metaspace('never') }, /its decoder is another/);
    const added = pieces().added_tokens.map((token) => ({ ...token, normalized: true }));
    await refuse({ ...pieces(), added_tokens: added }, /"<unk>" is found in normalized text/);
  });
});

it('on the command line, a checkpoint with such a tokenizer becomes a GGUF file that writes the same', async () => {
  const dir = join(folder, 'run');
  await model().save(dir, { tokenizer: pieces() });
  const { code, stderr } = await sgemoe(['export', dir, '--out', path, '--gguf']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const written = (checkpoint: string) =>
    sgemoe(['generate', checkpoint, '--prompt', 'Hello für 😀', '--max-tokens', '9', '--temperature', '0']);
  const [ours, theirs] = [await written(dir), await written(path)];
  expect(theirs.code, theirs.stderr).toBe(0);
  expect(theirs.stdout).toBe(ours.stdout);
});
