/** Completions that begin with their prompt: its text, and the scores of its tokens. */
import { afterAll, describe, expect, it } from 'vitest';
import { built } from '../helpers/built';
import { byteModel } from './engines';
import { openServer, post } from './servers';

const model = byteModel();
/** Steps of 16 tokens, so that prompts take several. */
const engine = await built.Engine.create(model, new built.ByteTokenizer(), {
  maxBatch: 4,
  maxStepTokens: 16,
});
const server = await openServer({ engine });
afterAll(() => server.close());

const PROMPT = 'The quick brown fox jumps over the lazy dog, and naïvely so.';

/** log softmax(logits of the tokens before)[token], each prompt computed alone. */
function scoresOf(ids: ArrayLike<number>): number[] {
  const tokens = Array.from(ids);
  return tokens.slice(1).map((token, i) => {
    const logits = model.nextTokenLogits(tokens.slice(0, i + 1), new Float32Array(model.vocabSize));
    const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
    return logits[token] - Math.log(sum);
  });
}

describe('echo', () => {
  it('scores the prompt as the model does, whatever its chunks and whatever runs beside', async () => {
    const request = { prompt: PROMPT, echo: true, maxTokens: 0, topLogprobs: 256 };
    const busy = engine.generate({ prompt: 'beside', maxTokens: 20 });
    const both = await Promise.all([
      engine.generate(request),
      engine.generate({ ...request, prompt: 'short' }),
    ]);
    await busy;
    for (const [i, text] of [PROMPT, 'short'].entries()) {
      const { text: echoed, tokens, logprobs, usage, finishReason } = both[i];
      const ids = [...new TextEncoder().encode(text)];
      expect(echoed).toBe(text);
      expect(tokens).toEqual(ids);
      expect(logprobs![0].logprob).toBeNaN();
      const expected = scoresOf(ids);
      // Float32 logits of a step of many rows against those of a row alone.
      for (const [t, score] of expected.entries()) expect(logprobs![t + 1].logprob).toBeCloseTo(score, 4);
      const own = logprobs!
        .slice(1)
        .map(({ token, top }) => top.find((each) => each.token === token)!.logprob);
      // A backend may add up a row's exponentials in two orders: a few float32 roundings of numbers below 16 (2^-21 each).
      for (const [t, value] of own.entries()) {
        expect(Math.abs(value - logprobs![t + 1].logprob)).toBeLessThan(4 * 2 ** -21);
      }
      expect({ usage, finishReason }).toMatchObject({
        usage: { promptTokens: ids.length, reusedTokens: 0, completionTokens: 0 },
        finishReason: 'length',
      });
    }
  });

  it('goes on behind the prompt as without it, and its tokens join to the text', async () => {
    const request = { prompt: PROMPT, maxTokens: 12, seed: 4, topLogprobs: 1, routing: true };
    const plain = await engine.generate(request);
    const echoed = await engine.generate({ ...request, echo: true });
    expect(echoed.text).toBe(PROMPT + plain.text);
    expect(echoed.texts.join('')).toBe(echoed.text);
    expect(echoed.tokens.slice(-12)).toEqual(plain.tokens);
    expect(echoed.routing).toHaveLength(echoed.tokens.length);
    expect(echoed.routing![0].experts).toEqual([[], []]);
    expect(echoed.routing![1].experts.map((experts) => experts.length)).toEqual([2, 2]);
    expect(echoed.usage).toEqual({ ...plain.usage, reusedTokens: 0 });
    const alone = await engine.generate({ ...request, topLogprobs: undefined, routing: false, echo: true });
    expect([alone.text, alone.tokens]).toEqual([echoed.text, echoed.tokens]);
  });

  it('streams the prompt first', async () => {
    let text = '';
    let given = 0;
    const texts: string[] = [];
    const ids = [...new TextEncoder().encode(PROMPT)];
    for await (const chunk of engine.stream({ prompt: PROMPT, echo: true, maxTokens: 5, topLogprobs: 0 })) {
      text += chunk.text;
      texts.push(...chunk.texts);
      given += chunk.tokens.length;
      // The prompt's tokens are no new ones.
      expect(chunk.usageSoFar.completionTokens).toBe(Math.max(0, given - ids.length));
    }
    expect(text.startsWith(PROMPT)).toBe(true);
    expect(texts.join('')).toBe(text);
  });

  it('fills the context when nothing follows', async () => {
    const prompt = 'x'.repeat(128);
    const { tokens } = await engine.generate({ prompt, echo: true, maxTokens: 0, topLogprobs: 0 });
    expect(tokens).toHaveLength(128);
    await expect(engine.generate({ prompt, echo: true, maxTokens: 1 })).rejects.toThrow(/has room for 128/);
  });

  it('over HTTP has the shape that lm-evaluation-harness reads, also where the text ends at once', async () => {
    interface Choice {
      index: number;
      text: string;
      logprobs: {
        tokens: string[];
        token_logprobs: (number | null)[];
        top_logprobs: (Record<string, number> | null)[];
        text_offset: number[];
      };
    }
    const prompt = [[...new TextEncoder().encode('one two')], [...new TextEncoder().encode('three')]];
    // Each new token ends the text.
    const ends = { stop_token_ids: [65], logit_bias: { 65: 100 } };
    const body = { prompt, echo: true, max_tokens: 1, logprobs: 1, temperature: 0, ...ends };
    const { choices } = (await (await post(`${server.url}/v1/completions`, body)).json()) as {
      choices: Choice[];
    };
    for (const { index, text, logprobs } of choices) {
      const ids = prompt[index];
      expect(text).toBe(['one two', 'three'][index]);
      expect(logprobs.tokens.join('')).toBe(text);
      expect(logprobs.token_logprobs).toHaveLength(ids.length + 1);
      expect(logprobs.token_logprobs[0]).toBeNull();
      expect(logprobs.top_logprobs[0]).toBeNull();
      expect(logprobs.text_offset.slice(0, 3)).toEqual([0, 1, 2]);
      const scored = logprobs.token_logprobs.slice(1, -1);
      expect(scored).toHaveLength(ids.length - 1);
      for (const [t, score] of scoresOf(ids).entries()) expect(scored[t]).toBeCloseTo(score, 4);
    }
  });
});
