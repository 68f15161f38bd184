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
  stepCountIs,
  streamObject,
  streamText,
  tool,
} from 'ai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { Engine } from '../../src';
import { promptMessages } from '../../src/serve/ai/promptMessages';
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
  engine = await openEngine({ maxBatch: 4 }, { maxSeqLen: 2048 });
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
      prompt: 'x'.repeat(3000),
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

describe('tools', () => {
  const weather = tool({
    description: 'Tells the weather.',
    inputSchema: z.object({ city: z.enum(['Rome', 'Oslo']), days: z.number().int().min(1).max(9) }),
    execute: ({ city, days }) => `${city} ${days}`,
  });
  const options = { prompt: 'x', tools: { weather }, seed: 1, maxOutputTokens: 300 };
  const named = { type: 'tool' as const, toolName: 'weather' as const };

  it('are called with arguments that fit, and their results go back to the model', async () => {
    const prompts: number[] = [];
    const { steps } = await generateText({
      ...options,
      model: sgemoe(),
      stopWhen: stepCountIs(2),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? named : 'none' }),
      onStepFinish: ({ usage }) => void prompts.push(usage.inputTokens!),
    });
    expect(steps).toHaveLength(2);
    const [{ toolCalls, toolResults, finishReason }] = steps;
    expect(finishReason).toBe('tool-calls');
    expect(toolCalls).toHaveLength(1);
    for (const [i, { toolName, input }] of toolCalls.entries()) {
      expect(toolName).toBe('weather');
      const { city, days } = input as { city: string; days: number };
      expect(toolResults[i].output).toBe(`${city} ${days}`);
    }
    // The second prompt has the call and its result, though not the tools, which `none` leaves out.
    expect(prompts).toHaveLength(2);
    expect(steps[1].toolCalls).toEqual([]);
  });

  it('stream as the whole answer has them', async () => {
    const asked = {
      ...options,
      model: sgemoe(),
      toolChoice: { type: 'tool' as const, toolName: 'weather' as const },
    };
    const whole = await generateText(asked);
    const streamed = streamText(asked);
    let deltas = '';
    for await (const part of streamed.fullStream) if (part.type === 'tool-input-delta') deltas += part.delta;
    const calls = await streamed.toolCalls;
    expect(calls.map(({ input }) => input)).toEqual(whole.toolCalls.map(({ input }) => input));
    expect(calls).toHaveLength(1);
    expect(JSON.parse(deltas)).toEqual(calls[0].input);
    expect(await streamed.finishReason).toBe('tool-calls');
  });

  it('of an earlier turn are messages that templates know', () => {
    const messages = promptMessages([
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
      {
        role: 'assistant',
        content: [
          { type: 'reasoning', text: 'hm' },
          { type: 'tool-call', toolCallId: '1', toolName: 'weather', input: { city: 'Rome' } },
        ],
      },
      {
        role: 'tool',
        content: [
          {
            type: 'tool-result',
            toolCallId: '1',
            toolName: 'weather',
            output: { type: 'json', value: { c: 20 } },
          },
          { type: 'tool-result', toolCallId: '2', toolName: 'time', output: { type: 'execution-denied' } },
        ],
      },
    ]);
    expect(messages).toEqual([
      { role: 'user', content: 'ab' },
      {
        role: 'assistant',
        content: '',
        reasoning_content: 'hm',
        tool_calls: [
          { id: '1', type: 'function', function: { name: 'weather', arguments: { city: 'Rome' } } },
        ],
      },
      { role: 'tool', tool_call_id: '1', name: 'weather', content: '{"c":20}' },
      { role: 'tool', tool_call_id: '2', name: 'time', content: 'The call was not permitted.' },
    ]);
  });

  it('that another provider would run are told as not supported', async () => {
    const { warnings } = await sgemoe().doGenerate(
      call({
        tools: [{ type: 'provider', id: 'openai.web_search', name: 'search', args: {} }],
        maxOutputTokens: 1,
      }),
    );
    expect(warnings).toEqual([{ type: 'unsupported', feature: 'tool openai.web_search' }]);
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
