/** sgemoe/ai under the AI SDK's own functions. */
import type { LanguageModelV3, LanguageModelV3CallOptions } from '@ai-sdk/provider';
import {
  createProviderRegistry,
  embed,
  embedMany,
  generateObject,
  generateText,
  jsonSchema,
  Output,
  streamObject,
  streamText,
} from 'ai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { Engine } from '../../src';
import { builtAi } from '../helpers/built';
import { openEngine } from './engines';

const { createSgemoe } = builtAi;
const SCHEMA = z.object({ ok: z.boolean(), kind: z.enum(['a', 'b']), n: z.number().int().min(0).max(99) });
const messages = [
  { role: 'system' as const, content: 'Be short.' },
  { role: 'user' as const, content: 'Hello' },
];

let engine: Engine;
let sgemoe: ReturnType<typeof createSgemoe>;
beforeAll(async () => {
  engine = await openEngine({ maxBatch: 4 }, { maxSeqLen: 512 });
  sgemoe = createSgemoe(engine);
});
afterAll(() => engine.close());

const call = (options: Partial<LanguageModelV3CallOptions>): LanguageModelV3CallOptions => ({
  prompt: [{ role: 'user', content: [{ type: 'text', text: 'Hello' }] }],
  ...options,
});

describe('a language model', () => {
  it("answers generateText as the engine does, with the SDK's settings", async () => {
    const settings = { temperature: 0.7, topP: 0.9, topK: 50, presencePenalty: 0.5, frequencyPenalty: 0.5 };
    const direct = await engine.generate({ messages, maxTokens: 20, seed: 7, stop: ['zq'], ...settings });
    const { text, usage, finishReason, warnings } = await generateText({
      model: sgemoe(),
      messages,
      maxOutputTokens: 20,
      seed: 7,
      stopSequences: ['zq'],
      ...settings,
    });
    expect(text).toBe(direct.text);
    expect(finishReason).toBe(direct.finishReason);
    expect(warnings).toEqual([]);
    expect(usage).toMatchObject({
      inputTokens: direct.usage.promptTokens,
      outputTokens: direct.usage.completionTokens,
    });
  });

  it('streams the same text in several parts', async () => {
    const options = { model: sgemoe('sgemoe'), messages, maxOutputTokens: 100, seed: 3 };
    const whole = await generateText(options);
    const result = streamText(options);
    const parts: string[] = [];
    for await (const part of result.textStream) parts.push(part);
    expect(parts.length).toBeGreaterThan(1);
    expect(parts.join('')).toBe(whole.text);
    expect(await result.finishReason).toBe('length');
    expect((await result.usage).outputTokens).toBe(whole.usage.outputTokens);
  });

  it('draws a seed where none is given', async () => {
    const texts = await Promise.all(
      [1, 2].map(() => generateText({ model: sgemoe(), prompt: 'x', maxOutputTokens: 60 })),
    );
    expect(texts[0].text).not.toBe(texts[1].text);
  });

  it('holds generateObject, streamObject and Output to their schemas', async () => {
    const options = { model: sgemoe(), prompt: 'x', maxOutputTokens: 300, seed: 5 };
    const { object } = await generateObject({ ...options, schema: SCHEMA });
    expect(SCHEMA.parse(object)).toEqual(object);
    const many = await generateObject({
      ...options,
      output: 'array',
      schema: jsonSchema<string>({ enum: ['a', 'b'] }),
    });
    for (const each of many.object) expect(['a', 'b']).toContain(each);
    const one = await generateObject({ ...options, output: 'enum', enum: ['yes', 'no'] });
    expect(['yes', 'no']).toContain(one.object);
    const streamed = streamObject({ ...options, schema: SCHEMA });
    for await (const _ of streamed.partialObjectStream);
    expect(await streamed.object).toEqual(object);
    const { output } = await generateText({ ...options, output: Output.object({ schema: SCHEMA }) });
    expect(output).toEqual(object);
  });

  it("takes the engine's own options by providerOptions.sgemoe, and tells what they ask for", async () => {
    const options = { model: sgemoe(), prompt: 'x', maxOutputTokens: 10 };
    const sgemoeOptions = { regex: '[ab]{5}', topLogprobs: 1, routing: true };
    const { text, providerMetadata } = await generateText({
      ...options,
      providerOptions: { sgemoe: sgemoeOptions },
    });
    expect(text).toMatch(/^[ab]{5}$/);
    expect(providerMetadata?.sgemoe.logprobs).toHaveLength(5);
    expect(providerMetadata?.sgemoe.routing).toHaveLength(5);
    const streamed = streamText({ ...options, providerOptions: { sgemoe: sgemoeOptions } });
    expect(await streamed.text).toMatch(/^[ab]{5}$/);
    expect((await streamed.providerMetadata)?.sgemoe.logprobs).toHaveLength(5);
    for (const wrong of [{ minQ: 1 }, { prompt: 'y' }, { echo: true }]) {
      const given = { ...options, providerOptions: { sgemoe: wrong }, maxRetries: 0 };
      await expect(generateText(given)).rejects.toThrow(Object.keys(wrong)[0]);
    }
  });

  it('ends a stream with the reason of its signal, and the engine goes on', async () => {
    const controller = new AbortController();
    const { stream } = await sgemoe().doStream(call({ abortSignal: controller.signal }));
    const reader = stream.getReader();
    for (let part = await reader.read(); part.value?.type !== 'text-delta'; ) part = await reader.read();
    controller.abort();
    const rest = async () => {
      while (!(await reader.read()).done);
    };
    await expect(rest()).rejects.toMatchObject({ name: 'AbortError' });
    await expect.poll(() => engine.metrics().running).toBe(0);
    const aborted = generateText({ model: sgemoe(), prompt: 'x', abortSignal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('gives up the request whose stream is cancelled', async () => {
    const before = engine.metrics().requests.aborted;
    const { stream } = await sgemoe().doStream(call({}));
    const reader = stream.getReader();
    await reader.read();
    await reader.cancel();
    expect(engine.metrics().requests.aborted).toBe(before + 1);
  });

  it('tells an error before the first token as a part of the stream', async () => {
    const errors: unknown[] = [];
    const result = streamText({
      model: sgemoe(),
      prompt: 'x'.repeat(600),
      onError: ({ error }) => void errors.push(error),
    });
    const types: string[] = [];
    for await (const { type } of result.fullStream) types.push(type);
    expect(types).toContain('error');
    expect(errors).toEqual([expect.objectContaining({ code: 'SGEMOE_CONTEXT_FULL' })]);
  });

  it('refuses images by name', async () => {
    const image = new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
    const content = [{ type: 'image' as const, image, mediaType: 'image/png' }];
    const asked = generateText({ model: sgemoe(), messages: [{ role: 'user', content }], maxRetries: 0 });
    await expect(asked).rejects.toThrow(
      'prompt must hold texts, since the model reads nothing else, got image/png',
    );
  });
});

describe('an embedding model', () => {
  it('embeds as the engine does', async () => {
    const values = ['one', 'two', 'three'];
    const { embeddings, promptTokens } = await engine.embed(values, { normalize: true });
    const model = sgemoe.embeddingModel();
    const providerOptions = { sgemoe: { normalize: true } };
    const many = await embedMany({ model, values, providerOptions });
    expect(many.embeddings).toEqual(embeddings.map((each) => Array.from(each)));
    expect(many.usage.tokens).toBe(promptTokens);
    const { embedding } = await embed({ model, value: 'two', providerOptions });
    expect(embedding).toEqual(many.embeddings[1]);
  });
});

describe('a provider', () => {
  it('has several engines by name, also in a registry', async () => {
    const named = createSgemoe({ small: engine, other: engine });
    expect(named('small').modelId).toBe('small');
    const registry = createProviderRegistry({ sgemoe: named });
    const { text } = await generateText({
      model: registry.languageModel('sgemoe:other'),
      prompt: 'x',
      maxOutputTokens: 3,
    });
    expect(typeof text).toBe('string');
    expect(() => named('third')).toThrow('sgemoe: the model must be small or other, got third');
    expect(() => named()).toThrow('got undefined');
    expect(() => named.imageModel('x')).toThrow(RangeError);
  });

  it('takes nothing but engines', () => {
    for (const wrong of [{}, { a: {} }, null]) {
      expect(() => createSgemoe(wrong as never)).toThrow(TypeError);
    }
  });

  it("is one of the SDK's types", () => {
    const model: LanguageModelV3 = sgemoe();
    expect([model.specificationVersion, model.provider, model.modelId]).toEqual(['v3', 'sgemoe', 'sgemoe']);
  });
});
