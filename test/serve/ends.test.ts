/** What ends a text, and what does not end it yet; choices; what the tokens of a text say. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { built } from '../helpers/built';
import { byteModel } from './engines';
import { errorOf, openServer, post } from './servers';

const END = 65;
const dir = join(mkdtempSync(join(tmpdir(), 'ends-')), 'model');
const files = new built.ByteTokenizer().files();
await byteModel().save(dir, { ...files, generationConfig: { eos_token_id: END } });
const engine = await built.Engine.open(dir, { maxBatch: 4 });
const server = await openServer({ engine, maxChoices: 20 });
afterAll(() => server.close());

const B = 66;
/** Chooses END wherever it may, else B. */
const ending = { prompt: 'x', temperature: 0, logitBias: { [END]: 100, [B]: 50 } };

describe('an end token', () => {
  it('ends no text before minTokens', async () => {
    const { text, finishReason } = await engine.generate({ ...ending, minTokens: 3 });
    expect([text, finishReason]).toEqual(['BBB', 'stop']);
    const asked = { ...ending, logitBias: { [B]: 50, 67: 100 }, stopTokens: [67], minTokens: 2 };
    expect((await engine.generate(asked)).text).toBe('BB');
  });

  it('is a token like others with ignoreEos, but one that the request names', async () => {
    const ignoring = { ...ending, ignoreEos: true, maxTokens: 4 };
    expect((await engine.generate(ignoring)).text).toBe('AAAA');
    expect((await engine.generate({ ...ignoring, stopTokens: [END] })).text).toBe('');
  });

  it('is told with its log-probability, and is no token of the text', async () => {
    const { tokens, logprobs, endToken } = await engine.generate({ ...ending, topLogprobs: 0 });
    expect([tokens, logprobs]).toEqual([[], []]);
    expect(endToken).toMatchObject({ token: END, logprob: expect.any(Number) });
    expect((await engine.generate(ending)).endToken).toBeNull();
  });
});

describe('a stop text', () => {
  const bs = { prompt: 'x', temperature: 0, logitBias: { [B]: 100 }, maxTokens: 8, stop: ['BBB'] };

  it('counts from minTokens on', async () => {
    expect(await engine.generate(bs)).toMatchObject({ text: '', finishReason: 'stop' });
    expect(await engine.generate({ ...bs, minTokens: 4 })).toMatchObject({
      text: 'BBB',
      finishReason: 'stop',
    });
  });

  it('leaves tokens whose texts join to the text, streamed too', async () => {
    const request = { ...bs, minTokens: 4, topLogprobs: 0 };
    const { text, texts, logprobs, tokens, usage } = await engine.generate(request);
    expect(texts).toEqual(['B', 'B', 'B', '', '', '']);
    expect(logprobs!.map((token) => token.text)).toEqual(texts);
    expect([tokens.length, usage.completionTokens]).toEqual([6, 6]);
    let streamed = '';
    const parts: string[] = [];
    for await (const chunk of engine.stream(request)) {
      streamed += chunk.text;
      parts.push(...chunk.texts);
    }
    expect([streamed, parts]).toEqual([text, texts]);
  });
});

it('an incomplete character at the end belongs to the last token', async () => {
  const request = { prompt: 'x', temperature: 0, logitBias: { 195: 100 }, maxTokens: 1, topLogprobs: 0 };
  const { text, texts } = await engine.generate(request);
  expect([text, texts]).toEqual(['\ufffd', ['\ufffd']]);
});

it('topP 0 takes the most probable token', async () => {
  const request = { prompt: 'once', maxTokens: 10, ignoreEos: true };
  const greedy = await engine.generate({ ...request, temperature: 0 });
  expect((await engine.generate({ ...request, temperature: 2, topP: 0, seed: 9 })).tokens).toEqual(
    greedy.tokens,
  );
});

it('a gap is filled between prompt and suffix by a tokenizer with tokens for it', async () => {
  const specialTokens = ['<fim_prefix>', '<fim_suffix>', '<fim_middle>'];
  const bpe = await built.trainBpe(['some text '.repeat(50)], { vocabSize: 262, specialTokens });
  const filling = await built.Engine.create(byteModel({ vocabSize: 262 }), bpe, { maxBatch: 2 });
  const request = { maxTokens: 6, seed: 2, ignoreEos: true };
  const filled = await filling.generate({ ...request, prompt: 'some', suffix: 'text' });
  const written = await filling.generate({
    ...request,
    prompt: '<fim_prefix>some<fim_suffix>text<fim_middle>',
  });
  expect([filled.tokens, filled.usage.promptTokens]).toEqual([written.tokens, written.usage.promptTokens]);
  const other = await openServer({ engine: filling });
  const answer = await post(`${other.url}/v1/completions`, { prompt: 'some', suffix: 'text', max_tokens: 2 });
  expect(await answer.json()).toMatchObject({ usage: { prompt_tokens: written.usage.promptTokens } });
  await other.close();
  await expect(engine.generate({ prompt: 'a', suffix: 'b' })).rejects.toThrow(/suffix must be absent/);
});

describe('over HTTP', () => {
  const complete = (body: object) =>
    post(`${server.url}/v1/completions`, { prompt: 'ab', max_tokens: 4, ...body });

  it('min_tokens, ignore_eos and top_p 0 are the options', async () => {
    const body = { temperature: 1, top_p: 0, logit_bias: { [END]: 100, [B]: 50 }, max_tokens: 4 };
    const textOf = async (fields: object) =>
      ((await (await complete({ ...body, ...fields })).json()) as { choices: { text: string }[] }).choices[0]
        .text;
    expect([await textOf({ min_tokens: 2 }), await textOf({ ignore_eos: true })]).toEqual(['BB', 'AAAA']);
  });

  it('usage comes with each chunk of a stream where it is asked for, and grows', async () => {
    const stream_options = { continuous_usage_stats: true, include_usage: true };
    const text = await (
      await complete({ stream: true, stream_options, max_tokens: 20, ignore_eos: true })
    ).text();
    const chunks = Array.from(text.matchAll(/data: (\{.*\})\n/g), ([, json]) => JSON.parse(json));
    const counts = chunks.map(({ usage }) => usage.completion_tokens);
    expect(counts).toEqual(counts.toSorted((a, b) => a - b));
    expect(counts.at(-1)).toBe(20);
    expect(chunks.every(({ usage }) => usage.prompt_tokens === 2)).toBe(true);
  });

  it('best_of returns the choices of the highest mean log-probability, of each prompt', async () => {
    interface Answer {
      choices: { index: number; text: string; logprobs: { token_logprobs: number[] } | null }[];
      usage: { completion_tokens: number };
    }
    const body = { prompt: ['ab', 'cd'], seed: 3, ignore_eos: true };
    const ask = async (fields: object) => (await (await complete({ ...body, ...fields })).json()) as Answer;
    const all = await ask({ n: 4, logprobs: 0 });
    const mean = ({ logprobs }: Answer['choices'][0]) =>
      logprobs!.token_logprobs.reduce((sum, each) => sum + each, 0) / 4;
    const expected = [all.choices.slice(0, 4), all.choices.slice(4)].flatMap((group) =>
      group
        .toSorted((a, b) => mean(b) - mean(a))
        .slice(0, 2)
        .map(({ text }) => text),
    );
    const best = await ask({ n: 2, best_of: 4 });
    expect(best.choices.map(({ text }) => text)).toEqual(expected);
    expect(best.choices.map(({ index, logprobs }) => [index, logprobs])).toEqual(
      [0, 1, 2, 3].map((i) => [i, null]),
    );
    expect(best.usage.completion_tokens).toBe(8 * 4);
  });

  it.each<[object, string | null, RegExp]>([
    [{ n: 21 }, 'n', /20 choices/],
    [{ best_of: 11, prompt: ['a', 'b'] }, 'n', /20 choices.*asks for 22/],
    [{ n: 3, best_of: 2 }, 'best_of', /at least 'n' \(3\), got 2/],
    [{ best_of: 2, stream: true }, 'best_of', /'stream': false/],
    [{ min_tokens: 5 }, null, /minTokens must be an integer >= 0 and <= 4, got 5/],
    [{ suffix: 'end' }, 'suffix', /no tokens for filling gaps/],
    [{ suffix: 'end', echo: true }, 'suffix', /without 'echo'/],
    [{ suffix: 'end', prompt: [1] }, 'suffix', /a prompt that is a text/],
  ])('%o is refused', async (body, param, message) => {
    const answer = await complete(body);
    expect(answer.status).toBe(400);
    const error = await errorOf(answer);
    expect(error.param).toBe(param);
    expect(error.message).toMatch(message);
  });
});
