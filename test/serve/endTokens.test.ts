/** Tokens of a checkpoint that end a text, through the engine and over HTTP; test/hf/endTokens.test.ts tests the rest. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { built } from '../helpers/built';
import { ByteTokenizer, byteModel, Engine, MoETransformer } from './engines';
import { openServer, post } from './servers';

const ENDS = [97, 98];

async function savedModel(vocabSize = 256): Promise<string> {
  const dir = join(mkdtempSync(join(tmpdir(), 'ends-')), 'model');
  const generationConfig = { eos_token_id: ENDS };
  await byteModel({ vocabSize }).save(dir, { ...new ByteTokenizer().files(), generationConfig });
  return dir;
}

const always = (token: number) => ({ temperature: 0, maxTokens: 4, logitBias: new Map([[token, 100]]) });

describe('an engine', () => {
  test.each([true, false])('stops at every end that the checkpoint lists (freeze: %s)', async (freeze) => {
    await using engine = await Engine.open(await savedModel(), { freeze });
    for (const token of ENDS) {
      const { finishReason, tokens, text } = await engine.generate({ prompt: 'x', ...always(token) });
      expect([finishReason, Array.from(tokens), text]).toEqual(['stop', [], '']);
    }
    const other = await engine.generate({ prompt: 'x', ...always(99) });
    expect([other.finishReason, other.text]).toEqual(['length', 'cccc']);
  });

  test('a tokenizer’s own end counts beside them, and no tokenizer is needed', async () => {
    const dir = await savedModel(300);
    const bpe = await built.trainBpe(['some text '.repeat(50)], { vocabSize: 262, specialTokens: ['<end>'] });
    const model = await MoETransformer.load(dir);
    for (const [tokenizer, ends] of [[bpe, [0, ...ENDS]] as const, [null, ENDS] as const]) {
      await using engine = await Engine.create(model, tokenizer, {});
      for (const token of ends) {
        const { finishReason, tokens } = await engine.generate({ prompt: [1, 2], ...always(token) });
        expect([finishReason, tokens.length]).toEqual(['stop', 0]);
      }
    }
  });

  test('the server says "stop"', async () => {
    const engine = await Engine.open(await savedModel());
    const server = await openServer({ engine });
    const ask = async (token: number) => {
      const body = { prompt: 'x', max_tokens: 4, temperature: 0, logit_bias: { [token]: 100 } };
      const answer = await post(`${server.url}/v1/completions`, body);
      return ((await answer.json()) as { choices: { finish_reason: string }[] }).choices[0].finish_reason;
    };
    expect([await ask(97), await ask(98), await ask(99)]).toEqual(['stop', 'stop', 'length']);
    await server.close();
  });
});
