/** Answers with guessed tokens are those without, whatever else a request asks for and whatever runs beside it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, GenerateRequest } from '../../src';
import { openEngine } from './engines';
import { openServer, post } from './servers';

const REPEATED = 'say it again: one two three. one two three. one';
const REQUESTS: GenerateRequest[] = [
  { temperature: 0 },
  { seed: 1 },
  { seed: 2, temperature: 0.5, topK: 5, topP: 0.9 },
  { temperature: 0, repetitionPenalty: 1.1 },
  { seed: 3, temperature: 0.3, frequencyPenalty: 0.1, presencePenalty: 0.1 },
  { temperature: 0, topLogprobs: 2, routing: true },
  { regex: '(one|two|three| )*', temperature: 0 },
  { jsonSchema: { type: 'array', items: { enum: ['one', 'two'] } }, seed: 4 },
  { temperature: 0, minTokens: 30, stopTokens: [101, 32, 10] },
  { temperature: 0, echo: true, topLogprobs: 1 },
  { temperature: 0, maxTokens: 1 },
  { temperature: 0, maxTokens: 2 },
];

let plain: Engine;
let guessing: Engine;
beforeAll(async () => {
  [plain, guessing] = await Promise.all([0, 8].map((speculateTokens) => openEngine({ speculateTokens })));
});
afterAll(() => Promise.all([plain.close(), guessing.close()]));

const requestsFrom = (options: readonly GenerateRequest[]) =>
  options.map((each) => ({ prompt: REPEATED, maxTokens: 60, ...each }));
const answers = (engine: Engine, requests: readonly GenerateRequest[]) =>
  Promise.all(requests.map((request) => engine.generate(request)));

/** What a completion says, apart from probabilities, whose last bits depend on the number of rows, and the cache's use. */
function said({
  text,
  tokens,
  texts,
  finishReason,
  usage,
  logprobs,
  routing,
}: Awaited<ReturnType<Engine['generate']>>) {
  const { promptTokens, completionTokens } = usage;
  const alternatives = logprobs?.map(({ token, top }) => [token, ...top.map((each) => each.token)]);
  const experts = routing?.map((each) => each.experts);
  return { text, tokens, texts, finishReason, promptTokens, completionTokens, alternatives, experts };
}

describe('guessed tokens', () => {
  it.each(REQUESTS)('change no answer: %o', async (options) => {
    const before = guessing.metrics().speculation;
    const [request] = requestsFrom([options]);
    const [[expected], [got]] = [await answers(plain, [request]), await answers(guessing, [request])];
    expect(said(got)).toEqual(said(expected));
    for (const [i, { logprob }] of (expected.logprobs ?? []).entries()) {
      if (Number.isFinite(logprob)) expect(got.logprobs![i].logprob).toBeCloseTo(logprob, 3);
    }
    const { draftedTokens, acceptedTokens } = guessing.metrics().speculation;
    expect(draftedTokens).toBeGreaterThanOrEqual(before.draftedTokens);
    expect(acceptedTokens).toBeLessThanOrEqual(draftedTokens);
  });

  it('change no answer of requests that run together', async () => {
    const requests = requestsFrom([...REQUESTS, ...REQUESTS]);
    const expected = await answers(plain, requests);
    const got = await answers(guessing, requests);
    expect(got.map(said)).toEqual(expected.map(said));
  });

  it('are counted, and those that were right, too: a text that repeats itself takes fewer steps than tokens', async () => {
    const before = guessing.metrics();
    const { tokens } = await guessing.generate({
      prompt: REPEATED,
      maxTokens: 70,
      logitBias: { 97: 100 },
      temperature: 0,
    });
    expect(tokens).toEqual(new Array(70).fill(97));
    const { speculation, expertLoad } = guessing.metrics();
    const accepted = speculation.acceptedTokens - before.speculation.acceptedTokens;
    const drafted = speculation.draftedTokens - before.speculation.draftedTokens;
    expect(accepted).toBeGreaterThan(50);
    expect(drafted).toBeGreaterThanOrEqual(accepted);
    expect(expertLoad.flat().length).toBe(before.expertLoad.flat().length);
    expect(plain.metrics().speculation).toEqual({ draftedTokens: 0, acceptedTokens: 0 });
  });

  it('end with the context, and leave a cache that the next request may reuse', async () => {
    const prompt = `${'ab'.repeat(50)}`;
    for (const engine of [plain, guessing]) {
      const whole = await engine.generate({ prompt, temperature: 0 });
      expect([whole.tokens.length, whole.finishReason]).toEqual([28, 'length']);
    }
    const next = `${prompt}cd`;
    const [[expected], [got]] = await Promise.all(
      [plain, guessing].map((engine) => answers(engine, [{ prompt: next, temperature: 0 }])),
    );
    expect(said(got)).toEqual(said(expected));
  });

  it('are refused beyond 128 and below 0', async () => {
    for (const speculateTokens of [-1, 129, 1.5]) {
      await expect(openEngine({ speculateTokens })).rejects.toThrow('speculateTokens');
    }
  });

  it('are counted in /metrics', async () => {
    const server = await openServer({}, { speculateTokens: 4 });
    try {
      const body = { prompt: 'aaaa', max_tokens: 20, temperature: 0, logit_bias: { 97: 100 } };
      expect((await post(`${server.url}/v1/completions`, body)).status).toBe(200);
      const text = await (await fetch(`${server.url}/metrics`)).text();
      const value = (name: string) =>
        Number(new RegExp(`^sgemoe_${name}_tokens_total{.*} (\\d+)$`, 'm').exec(text)![1]);
      expect(value('accepted')).toBeGreaterThan(10);
      expect(value('drafted')).toBeGreaterThanOrEqual(value('accepted'));
    } finally {
      await server.close();
    }
  });
});
