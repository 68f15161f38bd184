import { describe, expect, test } from 'vitest';
import { ByteTokenizer } from '../../src';
import { generateText } from '../../src/training/generateText';
import { smallModel } from '../helpers/smallModel';

const model = smallModel({ vocabSize: 256 });
const tokenizer = new ByteTokenizer();
const prompt = tokenizer.encode('to be');

/** The pieces, and the tokens that they stand for. */
async function pieces(options: Partial<Parameters<typeof generateText>[3]> = {}) {
  const tokens: number[] = [];
  const texts: string[] = [];
  const onToken = ({ token }: { token: number }) => tokens.push(token);
  const sampling = { maxTokens: 40, temperature: 1.5, seed: 3 };
  for await (const text of generateText(model, tokenizer, prompt, { sampling, onToken, ...options })) {
    texts.push(text);
  }
  return { tokens, texts };
}

describe('generateText', () => {
  test('gives the text of its tokens in pieces, none of them empty or a part of a character', async () => {
    const { tokens, texts } = await pieces();
    expect(tokens).toHaveLength(40);
    expect(texts.length).toBeGreaterThan(1);
    expect(texts.join('')).toBe(tokenizer.decode(tokens));
    expect(texts).not.toContain('');
  });

  test('ends at a stop token, which is no part of it, and in front of a stop text', async () => {
    const whole = await pieces();
    const stop = whole.tokens[10];
    const at = whole.tokens.indexOf(stop);
    const sampling = { maxTokens: 40, temperature: 1.5, seed: 3 };
    const ended = await pieces({ sampling: { ...sampling, stopTokens: [stop] } });
    expect(ended.tokens).toEqual(whole.tokens.slice(0, at));
    const text = whole.texts.join('');
    const cut = await pieces({ sampling: { ...sampling, stop: [text.slice(5, 7)] } });
    expect(cut.texts.join('')).toBe(text.slice(0, text.indexOf(text.slice(5, 7))));
  });

  test('ends between two tokens when the signal is aborted', async () => {
    const stop = new AbortController();
    let seen = 0;
    const onToken = () => {
      if (++seen === 4) stop.abort();
    };
    await pieces({ signal: stop.signal, onToken });
    expect(seen).toBe(4);
  });
});
