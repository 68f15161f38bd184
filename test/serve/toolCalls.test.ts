/** Calls of functions: read from what a model writes, prescribed where a request wants them, over HTTP by OpenAI's client. */
import Ajv from 'ajv';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Completion, GenerateRequest, StreamChunk, Tool } from '../../src';
import { createKernels } from '../../src/backend';
import { TokenVocabulary } from '../../src/sampling/constraints/constraint';
import { resolveSampling } from '../../src/sampling/options';
import { CompletionSequence } from '../../src/serve/engine/completion';
import { toolWork } from '../../src/serve/engine/toolRequest';
import { loadTokenizer } from '../../src/text/loadTokenizer';
import type { Tokenizer } from '../../src/text/tokenizer';
import {
  TOOL_CALL_FORMAT_NAMES,
  TOOL_CALL_MARKS,
  type ToolCallFormatName,
} from '../../src/text/toolCalls/formats';
import { constraintBytes } from '../../src/text/toolCalls/marks';
import { joinCalls, type ToolCallDelta } from '../../src/text/toolCalls/parser';
import { built } from '../helpers/built';
import { SMALL } from '../helpers/smallModel';
import { ByteTokenizer, byteModel, Engine } from './engines';
import { errorOf, openServer, post } from './servers';

const WEATHER: Tool = {
  type: 'function',
  function: {
    name: 'weather',
    description: 'Tells the weather.',
    parameters: {
      type: 'object',
      properties: { city: { enum: ['Rome', 'Oslo'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
      required: ['city', 'days'],
      additionalProperties: false,
    },
  },
};
const TIME: Tool = { type: 'function', function: { name: 'get-time' } };
const tools = [WEATHER, TIME];
const messages = [{ role: 'user', content: 'x' }];
const isWeather = new Ajv().compile(WEATHER.function.parameters!);

const END = '<end>';

/** Bytes as tokens, and marks of calls as special tokens. */
async function tokenizerWith(marks: readonly string[]): Promise<Tokenizer> {
  const specialTokens = [END, ...marks];
  return built.trainBpe(['a'], { vocabSize: 256 + specialTokens.length, specialTokens });
}

/** What a sequence gives out when the model wants these tokens, one a step. */
function follow(
  tokenizer: Tokenizer,
  request: GenerateRequest,
  format: ToolCallFormatName,
  wanted: number[],
) {
  const { vocabSize } = tokenizer;
  const { topLogprobs, stop } = request;
  const [end] = tokenizer.encode(END);
  const sequence = new CompletionSequence({
    id: 1,
    client: 'one',
    work: {
      kind: 'generate',
      adapter: null,
      prompt: { ids: Int32Array.of(1), stop: null },
      compiled: [],
      vocabulary: null,
      sampling: resolveSampling({ temperature: 0, maxTokens: 400, topLogprobs, stop }, vocabSize),
      skipSpecialTokens: true,
      echo: false,
      logprobs: topLogprobs !== undefined,
      routing: false,
      tools: toolWork(request, () => format),
    },
    tokenizer,
    vocabulary: new TokenVocabulary(constraintBytes(tokenizer)),
    endTokens: [end],
    adapter: null,
    contextLength: 1000,
    speculateTokens: 0,
    onGuesses: () => undefined,
    kernels: createKernels('reference'),
    config: byteModel({ vocabSize }).config as never,
    takeSlot: () => ({ slot: 0, reused: 0 }),
  });
  const chunks: NonNullable<ReturnType<CompletionSequence['takeChunk']>>[] = [];
  for (const token of [...wanted, end, end, end]) {
    sequence.feed(1);
    const logits = new Float32Array(vocabSize);
    logits[token] = 10;
    logits[end] += 1;
    const step = { logits, hidden: logits, experts: new Int32Array(0), gateWeights: logits };
    const isOver = sequence.take({ ...step, tokens: 1, at: 0, count: 1, logitsRow: 0 });
    const chunk = sequence.takeChunk();
    if (chunk !== null) chunks.push(chunk);
    if (isOver) break;
  }
  const calls: ToolCallDelta[] = [];
  for (const { toolCalls } of chunks) joinCalls(calls, toolCalls);
  return {
    chunks,
    calls,
    text: chunks.map(({ text }) => text).join(''),
    raw: chunks.flatMap(({ texts }) => texts).join(''),
    finishReason: chunks.at(-1)!.finishReason,
  };
}

const ROME = '{"city": "Rome", "days": 2}';
/** An answer of each family; marks are special tokens of its tokenizer, or not. */
const ANSWERS: [format: ToolCallFormatName, answer: string][] = [
  ['hermes', `Wait: é.\n<tool_call>\n{"name": "weather", "arguments": ${ROME}}\n</tool_call>`],
  ['mistral-list', `Wait: é.[TOOL_CALLS] [{"name": "weather", "arguments": ${ROME}}]`],
  ['mistral-args', `Wait: é.[TOOL_CALLS]weather[ARGS]${ROME}`],
  ['granite', `Wait: é.<|tool_call|>[{"name": "weather", "arguments": ${ROME}}]`],
  ['llama3', `Wait: é.<|python_tag|>{"name": "weather", "parameters": ${ROME}}`],
];

describe('an answer with calls', () => {
  describe.each([
    ['special tokens', TOOL_CALL_MARKS],
    ['texts', []],
  ])('whose marks are %s', (_, marks) => {
    it.each(ANSWERS)('in the form %s is text and calls, token by token', async (format, answer) => {
      const tokenizer = await tokenizerWith(marks);
      const ids = [...tokenizer.encode(answer)];
      const result = follow(tokenizer, { messages, tools, topLogprobs: 0 }, format, ids);
      expect(result.text).toBe('Wait: é.');
      expect(result.calls).toEqual([{ index: 0, id: expect.any(String), name: 'weather', arguments: ROME }]);
      expect(result.finishReason).toBe('tool_calls');
      // Tokens tell the whole answer, and arguments came in pieces.
      expect(result.raw).toBe(answer);
      expect(result.chunks.filter(({ toolCalls }) => toolCalls.length > 0).length).toBeGreaterThan(10);
    });
  });

  it('ends after its first call where it may have only one', async () => {
    const tokenizer = await tokenizerWith([]);
    const call = `<tool_call>{"name": "get-time", "arguments": {}}</tool_call>`;
    const ids = [...tokenizer.encode(call + call)];
    const one = follow(tokenizer, { messages, tools, parallelToolCalls: false }, 'hermes', ids);
    expect([one.calls.length, one.finishReason]).toEqual([1, 'tool_calls']);
    expect(follow(tokenizer, { messages, tools }, 'hermes', ids).calls).toHaveLength(2);
  });

  it('has arguments that are an object, and valid if the function is strict, whatever the model wants', async () => {
    const tokenizer = await tokenizerWith(['[TOOL_CALLS]', '[ARGS]']);
    const wrong = [...tokenizer.encode('[TOOL_CALLS]weather[ARGS]{"city": Paris, "nights": 99')];
    const strict = { ...WEATHER, function: { ...WEATHER.function, strict: true } };
    const held = follow(tokenizer, { messages, tools: [strict] }, 'mistral-args', wrong);
    expect(held.finishReason).not.toBe('length');
    const loose = follow(tokenizer, { messages, tools }, 'mistral-args', wrong);
    for (const { calls } of [held, loose]) {
      expect(calls[0].arguments.startsWith('{"city": ')).toBe(true);
      expect(calls[0].arguments).not.toContain(': P');
    }
    const { arguments: given } = held.calls[0];
    expect(given).toMatch(/^\{"city": "(Rome|Oslo)/);
  });

  it.each([['special tokens', TOOL_CALL_MARKS] as const, ['texts', []] as const])(
    'of elements has values of the types that its schema tells; marks are %s',
    async (_, marks) => {
      const tokenizer = await tokenizerWith(marks);
      const written =
        'Wait.\n<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>';
      const result = follow(tokenizer, { messages, tools }, 'qwen3-coder', [...tokenizer.encode(written)]);
      expect(result).toMatchObject({ text: 'Wait.', raw: written, finishReason: 'tool_calls' });
      expect(result.calls).toEqual([{ index: 0, id: expect.any(String), name: 'weather', arguments: ROME }]);
    },
  );

  it('that only looks like calls is text, and a stop text within a call ends the answer', async () => {
    const tokenizer = await tokenizerWith([]);
    const text = '<tool_call>weather(Rome)</tool_call>';
    const none = follow(tokenizer, { messages, tools }, 'hermes', [...tokenizer.encode(text)]);
    expect(none).toMatchObject({ text, calls: [], finishReason: 'stop' });
    const ids = [...tokenizer.encode(ANSWERS[0][1])];
    const cut = follow(tokenizer, { messages, tools, stop: ['days'] }, 'hermes', ids);
    expect(cut.finishReason).toBe('stop');
    expect(cut.calls).toMatchObject([{ name: 'weather', arguments: '{"city": "Rome", "' }]);
  });
});

describe('an engine', () => {
  it.each(TOOL_CALL_FORMAT_NAMES.filter((name) => name !== 'qwen3-coder'))(
    'writes the calls that a request requires, in the form %s',
    async (form) => {
      const tokenizer = await tokenizerWith(form === 'hermes' ? [] : TOOL_CALL_MARKS);
      const model = byteModel({ ...SMALL, vocabSize: tokenizer.vocabSize, maxSeqLen: 1500 });
      await using engine = await Engine.create(model, tokenizer, { toolCallFormat: form });
      const request = { messages, tools, maxTokens: 300, parallelToolCalls: false };
      for (let seed = 0; seed < 3; seed++) {
        const any = await engine.generate({ ...request, seed, toolChoice: 'required' });
        checkCalls(any);
        const named = await engine.generate({ ...request, seed, toolChoice: { name: 'weather' } });
        checkCalls(named);
        expect(named.toolCalls[0].name).toBe('weather');
        const chunks: StreamChunk[] = [];
        for await (const chunk of engine.stream({ ...request, seed, toolChoice: 'required' }))
          chunks.push(chunk);
        const calls: ToolCallDelta[] = [];
        for (const { toolCalls } of chunks) joinCalls(calls, toolCalls);
        expect(calls.map((call) => [call.name, call.arguments])).toEqual(
          any.toolCalls.map((call) => [call.name, call.arguments]),
        );
      }
    },
  );

  it('refuses to hold an answer to calls that are elements', async () => {
    await using engine = await Engine.create(byteModel({ maxSeqLen: 2000 }), new ByteTokenizer(), {
      toolCallFormat: 'qwen3-coder',
    });
    const strict = { ...WEATHER, function: { ...WEATHER.function, strict: true } };
    const wrong: [object, RegExp][] = [
      [{ tools, toolChoice: 'required' }, /toolChoice must be 'auto' or 'none', .* in the form qwen3-coder/],
      [{ tools, toolChoice: { name: 'weather' } }, /toolChoice must be/],
      [{ tools, jsonSchema: { type: 'object' } }, /without a jsonSchema/],
      [{ tools: [strict] }, /tools must not be strict .* in the form qwen3-coder/],
    ];
    for (const [fields, message] of wrong) {
      await expect(engine.generate({ messages, ...fields } as GenerateRequest)).rejects.toThrow(message);
    }
    const free = await engine.generate({ messages, tools, maxTokens: 3 });
    expect(free.usage.completionTokens).toBeLessThanOrEqual(3);
  });

  it('answers by a schema or with calls where both are wanted', async () => {
    await using engine = await Engine.create(byteModel({ maxSeqLen: 2000 }), new ByteTokenizer());
    const jsonSchema = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] };
    const request = { messages, tools, jsonSchema, maxTokens: 300, parallelToolCalls: false };
    const seen = new Set<string>();
    for (let seed = 0; seed < 12; seed++) {
      const answer = await engine.generate({ ...request, seed });
      seen.add(answer.toolCalls.length > 0 ? 'calls' : 'text');
      if (answer.toolCalls.length > 0) checkCalls(answer);
      else expect(answer.text).toMatch(/^\{\s*"ok": ?(true|false)\s*\}$/);
    }
    expect(seen.size).toBe(2);
  });

  it('refuses tools that are wrong, or beside what they can not stand beside', async () => {
    await using engine = await Engine.create(byteModel(), new ByteTokenizer());
    const wrong: [object, RegExp][] = [
      [{ tools: {} }, /tools must be an array/],
      [{ tools: [{ type: 'function' }] }, /tools\[0\] must be/],
      [{ tools: [{ type: 'function', function: { name: 'a b' } }] }, /name must be up to 64/],
      [{ tools: [TIME, TIME] }, /must have different names/],
      [{ tools, toolChoice: { name: 'x' } }, /must choose among tools, got x/],
      [{ tools: [], toolChoice: 'required' }, /must choose among tools/],
      [{ tools, toolChoice: 'some' }, /toolChoice must be/],
      [{ tools, parallelToolCalls: 1 }, /parallelToolCalls must be a boolean/],
      [{ tools, regex: 'a' }, /regex must be absent beside tools/],
      [{ tools, echo: true }, /without echo/],
    ];
    for (const [fields, message] of wrong) {
      await expect(engine.generate({ messages, ...fields } as GenerateRequest)).rejects.toThrow(message);
    }
    await using roomy = await Engine.create(byteModel({ maxSeqLen: 2000 }), new ByteTokenizer());
    const not = { type: 'object', properties: { a: { not: {} } } };
    for (const toolChoice of ['auto', 'required'] as const) {
      const refused = [{ type: 'function', function: { name: 'f', parameters: not, strict: true } }] as const;
      await expect(roomy.generate({ messages, tools: refused, toolChoice })).rejects.toMatchObject({
        code: 'SGEMOE_CONSTRAINT_INVALID',
      });
    }
  });
});

function checkCalls({ toolCalls, text, finishReason }: Completion): void {
  expect([toolCalls.length, text, finishReason]).toEqual([1, '', 'tool_calls']);
  const [{ name, arguments: given }] = toolCalls;
  const value: unknown = JSON.parse(given);
  if (name === 'weather') expect(isWeather(value), given).toBe(true);
  else expect([name, value]).toEqual(['get-time', {}]);
}

/** An engine whose model calls a function at first, and says something once it has the result. */
async function willingEngine() {
  const engine = await Engine.create(byteModel({ maxSeqLen: 4000 }), new ByteTokenizer(), { maxBatch: 4 });
  const willed = (request: GenerateRequest): GenerateRequest => {
    if (request.tools === undefined) return request;
    const isAnswered = request.messages!.some(({ role }) => role === 'tool');
    if (!isAnswered) return { parallelToolCalls: false, ...request, toolChoice: 'required' };
    const { tools: _tools, toolChoice: _choice, parallelToolCalls: _parallel, ...rest } = request;
    return { ...rest, choice: ['It is sunny.'] };
  };
  const { generate, stream } = engine;
  engine.generate = (request) => generate.call(engine, willed(request));
  engine.stream = (request) => stream.call(engine, willed(request));
  return engine;
}

describe("OpenAI's client", () => {
  let server: Awaited<ReturnType<typeof openServer>>;
  let client: OpenAI;
  beforeAll(async () => {
    server = await openServer({ engine: await willingEngine() });
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0 });
  });
  afterAll(() => server.close());
  const chat = {
    model: 'sgemoe',
    messages: [{ role: 'user' as const, content: 'x' }],
    tools: tools as OpenAI.ChatCompletionTool[],
  };

  it('gets the call of a named function, whole and as a stream', async () => {
    const request = {
      ...chat,
      seed: 3,
      tool_choice: { type: 'function' as const, function: { name: 'weather' } },
    };
    const { choices } = await client.chat.completions.create(request);
    const [{ message, finish_reason }] = choices;
    expect([message.content, finish_reason, message.tool_calls!.length]).toEqual([null, 'tool_calls', 1]);
    const [call] = message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
    const { content, tool_calls } = await client.chat.completions
      .stream({ ...request, tool_choice: request.tool_choice })
      .finalMessage();
    expect(content ?? '').toBe('');
    expect(tool_calls).toMatchObject([{ type: 'function', function: call.function }]);
    expect(call.id).toMatch(/^call_/);
  });

  it('runs its loop of tools: a call, the result, an answer', async () => {
    for (const stream of [false, true]) {
      const asked: unknown[] = [];
      const run = {
        ...chat,
        tools: [
          {
            type: 'function' as const,
            function: {
              ...WEATHER.function,
              parameters: WEATHER.function.parameters as object,
              description: 'Tells the weather.',
              parse: JSON.parse,
              function: (given: object) => {
                asked.push(given);
                return 'sunny';
              },
            },
          },
        ],
      };
      const runner = stream
        ? client.chat.completions.runTools({ ...run, stream: true })
        : client.chat.completions.runTools(run);
      expect(await runner.finalContent()).toBe('It is sunny.');
      expect(asked).toHaveLength(1);
      expect(isWeather(asked[0])).toBe(true);
    }
  });

  it('is told what is wrong with tools', async () => {
    const wrong: [object, string, RegExp][] = [
      [{ tools: [{}] }, 'tools[0].type', /must be 'function'/],
      [{ tools: [{ type: 'web_search' }] }, 'tools[0].type', /only functions are/],
      [{ tools: [{ type: 'function' }] }, 'tools[0].function', /an object/],
      [{ tools: [{ type: 'function', function: { name: '' } }] }, 'tools[0].function.name', /letters/],
      [{ tools: [TIME, TIME] }, 'tools', /different names/],
      [{ tool_choice: 'required' }, 'tool_choice', /needs 'tools'/],
      [{ tools, tool_choice: { type: 'function', function: { name: 'x' } } }, 'tool_choice', /names "x"/],
      [{ tools, tool_choice: { type: 'allowed_tools' } }, 'tool_choice', /'auto', 'none'/],
      [{ functions: [] }, 'functions', /`tools` has taken its place/],
    ];
    for (const [fields, param, message] of wrong) {
      const response = await post(`${server.url}/v1/chat/completions`, { messages, ...fields });
      expect(response.status).toBe(400);
      const error = await errorOf(response);
      expect([error.param, error.message]).toEqual([param, expect.stringMatching(message)]);
    }
  });

  it('may leave the tools out of an answer', async () => {
    const request = { ...chat, tool_choice: 'none' as const, max_tokens: 3 };
    const engine = await Engine.create(byteModel({ maxSeqLen: 4000 }), new ByteTokenizer());
    const plain = await openServer({ engine });
    const direct = new OpenAI({ baseURL: `${plain.url}/v1`, apiKey: 'x' });
    const none = await direct.chat.completions.create(request);
    const without = await direct.chat.completions.create({
      ...request,
      tools: undefined,
      tool_choice: undefined,
    });
    expect(none.usage!.prompt_tokens).toBe(without.usage!.prompt_tokens);
    const shown = await direct.chat.completions.create({ ...request, tool_choice: 'auto' });
    expect(shown.usage!.prompt_tokens).toBeGreaterThan(without.usage!.prompt_tokens);
    await plain.close();
  });
});

it('a template that does not know tools is given them as texts, and so are calls and results', () => {
  const source = '{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}';
  const tokenizer = loadTokenizer(
    { model: { type: 'BPE', vocab: { a: 0 }, merges: [] } },
    { chatTemplate: source },
  );
  const call = { id: '1', type: 'function', function: { name: 'f', arguments: { a: 1 } } };
  const text = tokenizer.applyChatTemplate(
    [
      { role: 'system', content: 'Brief.' },
      { role: 'user', content: 'q' },
      { role: 'assistant', content: '', tool_calls: [call, call] },
      { role: 'tool', content: 'r1' },
      { role: 'tool', content: 'r2' },
    ],
    { tools: [TIME] },
  );
  const written = '<tool_call>\n{"name": "f", "arguments": {"a":1}}\n</tool_call>';
  expect(text).toContain('[system:Brief.\n\nThese functions may be called');
  expect(text).toContain(JSON.stringify(TIME));
  expect(text).toContain(`[user:q][assistant:${written}\n${written}]`);
  expect(
    text.endsWith('[user:<tool_response>\nr1\n</tool_response>\n<tool_response>\nr2\n</tool_response>]'),
  ).toBe(true);
});

it('the form of calls is told by the template, else by tokens', () => {
  const formatOf = (chatTemplate: string | undefined, tokens: string[] = []) =>
    loadTokenizer(
      {
        model: { type: 'BPE', vocab: { a: 0 }, merges: [] },
        added_tokens: tokens.map((content, i) => ({ id: i + 1, content, special: true })),
      },
      { chatTemplate },
    ).toolCallFormat;
  expect(formatOf(undefined)).toBe('hermes');
  expect(formatOf('{{ messages }}')).toBe('hermes');
  expect(formatOf('{{ tools }}<tool_call>')).toBe('hermes');
  expect(formatOf('{{ tools }}[TOOL_CALLS][{"name":')).toBe('mistral-list');
  expect(formatOf('{{ tools }}[TOOL_CALLS]name[ARGS]')).toBe('mistral-args');
  expect(formatOf('{{ tools }}<|tool_call|>')).toBe('granite');
  expect(formatOf('{{ tools }}{"name": f, "parameters": d}')).toBe('llama3');
  expect(formatOf('{{ tools }}<tool_call><function=name><parameter=key>')).toBe('qwen3-coder');
  expect(formatOf('{{ tools }}<function=name>{')).toBe(null);
  expect(formatOf('{{ tools }}')).toBe(null);
  expect(formatOf('{{ tools }}', ['[TOOL_CALLS]'])).toBe('mistral-list');
  expect(formatOf('{{ tools }}', ['<|python_tag|>'])).toBe('llama3');
});
