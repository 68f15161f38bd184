import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { GenerateRequest, StreamChunk } from '../../src';
import { expectRelative } from '../helpers/close';
import { ALL_DENSE, SOME_DENSE } from '../helpers/smallModel';
import { ByteTokenizer, byteModel, Engine, openEngine, Sampler, Tensor } from './engines';

const model = byteModel();
let engine: Awaited<ReturnType<typeof openEngine>>;
beforeAll(async () => {
  engine = await Engine.create(model, new ByteTokenizer(), { maxBatch: 4 });
});
afterAll(() => engine.close());

/** The answer of the library, without an engine, to a request. */
function expected(prompt: string, options: GenerateRequest & { maxTokens: number }): number[] {
  const sampler = new Sampler(options, { vocabSize: 256 });
  const ids = [...new TextEncoder().encode(prompt)];
  sampler.acceptPrompt(ids);
  return model.generate(ids, ids.length + options.maxTokens, sampler).slice(ids.length);
}

async function chunksOf(request: GenerateRequest): Promise<StreamChunk[]> {
  const chunks: StreamChunk[] = [];
  for await (const chunk of engine.stream(request)) chunks.push(chunk);
  return chunks;
}

describe('a completion', () => {
  test.each<GenerateRequest>([
    { temperature: 0 },
    { seed: 7 },
    { temperature: 0.7, topK: 40, topP: 0.9, minP: 0.01, repetitionPenalty: 1.2, seed: 3n },
    { presencePenalty: 0.5, frequencyPenalty: 0.2, logitBias: new Map([[65, 3]]) },
  ])('is what the same sampler writes without an engine: %o', async (options) => {
    const { tokens, text, finishReason, usage } = await engine.generate({
      ...options,
      prompt: 'once',
      maxTokens: 12,
    });
    expect(tokens).toEqual(expected('once', { ...options, maxTokens: 12 }));
    expect(text).toBe(new ByteTokenizer().decode(tokens));
    expect(finishReason).toBe('length');
    expect(usage).toMatchObject({ promptTokens: 4, completionTokens: 12 });
  });

  test('streams the same in chunks, the last of which has the usage', async () => {
    const request = { prompt: 'a stream', maxTokens: 30 };
    const chunks = await chunksOf(request);
    const whole = await engine.generate(request);
    expect(chunks.map(({ text }) => text).join('')).toBe(whole.text);
    expect(chunks.flatMap(({ tokens }) => tokens)).toEqual(whole.tokens);
    expect(chunks.map(({ finishReason }) => finishReason)).toEqual([
      ...chunks.slice(1).map(() => null),
      'length',
    ]);
    expect(chunks.at(-1)!.usage).toMatchObject({ promptTokens: 8, completionTokens: 30 });
  });

  test('from ids is that of the text', async () => {
    const options = { maxTokens: 5 };
    const fromIds = await engine.generate({ prompt: [...new TextEncoder().encode('abc')], ...options });
    expect(fromIds.tokens).toEqual((await engine.generate({ prompt: 'abc', ...options })).tokens);
  });

  test('ends in front of a stop text that spans tokens, and at a stop token', async () => {
    const prompt = 'where does it end';
    const { tokens } = await engine.generate({ prompt, maxTokens: 20, temperature: 0, logitBias: ASCII });
    const text = new ByteTokenizer().decode(tokens);
    const request = { prompt, maxTokens: 20, temperature: 0, logitBias: ASCII };
    const stop = text.slice(5, 8);
    const byText = await engine.generate({ ...request, stop });
    expect(byText).toMatchObject({ finishReason: 'stop', text: text.slice(0, text.indexOf(stop)) });
    const byToken = await engine.generate({ ...request, stopTokens: [tokens[6]] });
    const end = tokens.indexOf(tokens[6]);
    expect(byToken).toMatchObject({ finishReason: 'stop', tokens: tokens.slice(0, end) });
    expect(byToken.usage.completionTokens).toBe(end);
  });

  test('ends by its length when the context is full, and at once when no token is asked for', async () => {
    const prompt = 'x'.repeat(120);
    expect((await engine.generate({ prompt })).usage).toMatchObject({
      promptTokens: 120,
      completionTokens: 8,
    });
    const none = await engine.generate({ prompt: 'x', maxTokens: 0 });
    expect(none).toMatchObject({ text: '', tokens: [], finishReason: 'length' });
  });

  test('tells log-probabilities and alternatives when asked, for each token', async () => {
    const { tokens, logprobs } = await engine.generate({ prompt: 'p', maxTokens: 3, topLogprobs: 2 });
    const logits = model.nextTokenLogits([112]);
    const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
    expect(logprobs!.map(({ token }) => token)).toEqual(tokens);
    expect(logprobs!.map(({ top }) => top.length)).toEqual([2, 2, 2]);
    expect(logprobs![0].logprob).toBeCloseTo(logits[tokens[0]] - Math.log(sum), 4);
    expect(logprobs![0].top[0]).toMatchObject({
      logprob: Math.max(...logprobs![0].top.map((t) => t.logprob)),
    });
    expect((await engine.generate({ prompt: 'p', maxTokens: 1, topLogprobs: 0 })).logprobs![0].top).toEqual(
      [],
    );
    expect((await engine.generate({ prompt: 'p', maxTokens: 1 })).logprobs).toBeNull();
  });

  test('tells which experts predicted each token when asked', async () => {
    const { tokens, routing } = await engine.generate({ prompt: 'route', maxTokens: 4, routing: true });
    const ids = [...new TextEncoder().encode('route'), ...tokens];
    const { topKExperts: K } = model.config;
    const { routing: layers } = model.trace(Tensor.fromIds([ids.slice(0, -1)]));
    expect(routing).toHaveLength(4);
    for (const [i, { experts, weights }] of routing!.entries()) {
      const position = 4 + i;
      const rows = (values: ArrayLike<number>) => Array.from(values).slice(position * K, (position + 1) * K);
      expect(experts).toEqual(layers.map((layer) => rows(layer!.indices.data as Int32Array)));
      const computed = layers.flatMap((layer) => rows(layer!.weights.data as Float32Array));
      expectRelative('weights', Float32Array.from(weights.flat()), Float32Array.from(computed), 1e-5);
    }
  });

  test('of a model with dense layers has no experts there, and counts none', async () => {
    for (const [dense, experts] of [
      [SOME_DENSE, [0, 3]],
      [ALL_DENSE, [0, 0]],
    ] as const) {
      const own = await openEngine({}, dense);
      const { tokens, routing } = await own.generate({
        prompt: 'route',
        maxTokens: 4,
        temperature: 0,
        routing: true,
      });
      const { expertLoad } = own.metrics();
      await own.close();
      expect(tokens).toEqual(
        byteModel(dense)
          .generateGreedy([...new TextEncoder().encode('route')], 9)
          .slice(5),
      );
      const K = experts[1] === 0 ? 0 : 2;
      for (const each of routing!) {
        expect(each.experts.map(({ length }) => length)).toEqual([0, K]);
        expect(each.weights.map(({ length }) => length)).toEqual([0, K]);
      }
      expect(expertLoad.map(({ length }) => length)).toEqual(experts);
      // Five tokens of the prompt and the first three new ones are cached.
      expect(expertLoad.flat().reduce((sum, n) => sum + n, 0)).toBe(8 * K);
    }
  });

  test('of a conversation is that of the plain template where the tokenizer has none', async () => {
    const messages = [{ role: 'user', content: 'hi' }];
    const asText = await engine.generate({ prompt: 'user: hi\nassistant:', maxTokens: 6 });
    expect((await engine.generate({ messages, maxTokens: 6 })).tokens).toEqual(asText.tokens);
    const ids = await engine.tokenize({ messages, chat: { addGenerationPrompt: false } });
    expect(await engine.detokenize(ids)).toBe('user: hi\n');
  });
});

/** Lets a model of bytes write whole characters only. */
const ASCII = Object.fromEntries(Array.from({ length: 128 }, (_, i) => [128 + i, Number.NEGATIVE_INFINITY]));
