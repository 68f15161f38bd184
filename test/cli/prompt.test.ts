import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { HuggingFaceTokenizer, MoETransformer } from '../../src';
import { SMALL } from '../helpers/smallModel';
import { sgemoe, temporaryFolder } from './run';

const folder = temporaryFolder();
afterAll(() => rmSync(folder, { recursive: true }));

it('generate writes what tokens add to the prompt, its first space too', async () => {
  // Words have a space in front, as SentencePiece writes it; decoding drops it at the beginning of a text.
  const words = Array.from({ length: 20 }, (_, i) => `▁w${i}`);
  const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first' };
  const tokenizer = new HuggingFaceTokenizer({
    pre_tokenizer: metaspace,
    decoder: metaspace,
    model: {
      type: 'WordLevel',
      unk_token: '▁w0',
      vocab: Object.fromEntries(words.map((word, id) => [word, id])),
    },
  });
  const model = MoETransformer.create({ ...SMALL, vocabSize: words.length }, { seed: 1 });
  await model.save(join(folder, 'model'), tokenizer.files());
  const log = join(folder, 'log.jsonl');
  const { code, stdout } = await sgemoe([
    'generate',
    join(folder, 'model'),
    '--prompt',
    'w1 w2',
    '--max-tokens',
    '3',
    '--logprobs',
    log,
  ]);
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
  const texts = lines.map((line) => JSON.parse(line).text);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^( w\d+){3}$/);
  expect(texts.join('')).toBe(stdout);
});
