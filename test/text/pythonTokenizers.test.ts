import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { HuggingFaceTokenizer } from '../../src';

/** What Python's tokenizers 0.23.3 makes of texts, for each shape of tokenizer.json: see fixtures/tokenizers/make.py. */
interface Shape {
  file: { model: string; [part: string]: unknown };
  /** For each text: its ids, how many more with special tokens, and the text of the ids. */
  wanted: [ids: number[], around: number, decoded: string][];
}

const path = join(__dirname, '../fixtures/tokenizers/tokenizers.json');
const { models, texts, shapes } = JSON.parse(readFileSync(path, 'utf8')) as {
  models: Record<string, object>;
  texts: string[];
  shapes: Record<string, Shape>;
};

const tokenizerOf = ({ file }: Shape) => new HuggingFaceTokenizer({ ...file, model: models[file.model] });

describe.each(Object.entries(shapes))('%s', (_, shape) => {
  const tokenizer = tokenizerOf(shape);

  test("ids and texts are those of Python's tokenizers", () => {
    for (const [i, [ids, around, decoded]] of shape.wanted.entries()) {
      expect([texts[i], ...tokenizer.encode(texts[i])]).toEqual([texts[i], ...ids]);
      expect(tokenizer.encode(texts[i], { addSpecialTokens: true })).toHaveLength(ids.length + around);
      expect(tokenizer.decode(ids)).toBe(decoded);
    }
  });

  test('streamed text is decoded text, from the beginning and behind a prompt', () => {
    for (const [ids, , decoded] of shape.wanted) {
      for (const at of new Set([0, 1, ids.length >> 1, ids.length])) {
        const prompt = ids.slice(0, at);
        const before = tokenizer.decode(prompt);
        const decoder = tokenizer.createDecoder({ prompt });
        const pieces = ids.slice(at).map((id) => {
          const { text } = decoder.peek(id);
          const piece = decoder.push(id);
          expect(text).toBe(piece);
          return piece;
        });
        const added = pieces.join('') + decoder.flush();
        // A prompt that ends within a character has U+FFFD there, which is not in the whole text.
        if (decoded.startsWith(before)) expect(before + added).toBe(decoded);
        else expect(before).toMatch(/\ufffd$|▁$/);
      }
    }
  });
});

test('every kind of stage that tokenizers has is among the shapes, UnicodeScripts excepted, which is refused', () => {
  const kinds = [
    'NFC',
    'NFD',
    'NFKC',
    'NFKD',
    'Lowercase',
    'StripAccents',
    'Strip',
    'Nmt',
    'Prepend',
    'Replace',
    'Precompiled',
    'BertNormalizer',
    'ByteLevel',
    'Metaspace',
    'Split',
    'Punctuation',
    'Whitespace',
    'WhitespaceSplit',
    'Digits',
    'BertPreTokenizer',
    'CharDelimiterSplit',
    'FixedLength',
    'Sequence',
    'ByteFallback',
    'Fuse',
    'WordPiece',
    'BPEDecoder',
    'CTC',
    'TemplateProcessing',
    'RobertaProcessing',
    'BertProcessing',
  ];
  const types = JSON.stringify(shapes).match(/(?<="type":")\w+/g);
  expect(kinds.filter((kind) => !types?.includes(kind))).toEqual([]);
  const [{ file }] = Object.values(shapes);
  const scripts = { ...file, model: models[file.model], pre_tokenizer: { type: 'UnicodeScripts' } };
  expect(() => new HuggingFaceTokenizer(scripts)).toThrow(
    /"pre_tokenizer.type" must be one of .*got "UnicodeScripts"/,
  );
});
