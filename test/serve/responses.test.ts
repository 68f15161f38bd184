/** /v1/responses by OpenAI's client. */
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GenerateRequest } from '../../src';
import { ResponseStore } from '../../src/serve/http/responses/store';
import { ByteTokenizer, byteModel, Engine } from './engines';
import { errorOf, openServer, post } from './servers';

type Event = OpenAI.Responses.ResponseStreamEvent;

const WEATHER = {
  type: 'function' as const,
  name: 'weather',
  strict: true,
  parameters: {
    type: 'object',
    properties: { city: { enum: ['Rome', 'Oslo'] } },
    required: ['city'],
    additionalProperties: false,
  },
};

/** The conversations that the engine was asked for. */
const asked: GenerateRequest[] = [];
let server: Awaited<ReturnType<typeof openServer>>;
let client: OpenAI;
beforeAll(async () => {
  const engine = await Engine.create(byteModel({ maxSeqLen: 1500 }), new ByteTokenizer(), { maxBatch: 4 });
  const { stream } = engine;
  engine.stream = (request) => {
    asked.push(request);
    return stream.call(engine, request);
  };
  server = await openServer({ engine, maxResponses: 4 });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0 });
});
afterAll(() => server.close());

const ask = { model: 'sgemoe', input: 'hello', max_output_tokens: 8, seed: 1 } as const;
const choice = (...texts: string[]) => ({
  grammar: `root ::= ${texts.map((each) => `"${each}"`).join(' | ')}`,
});

describe('a response', () => {
  it('is text, with usage, and incomplete where max_output_tokens cuts it', async () => {
    const response = await client.responses.create({ ...ask, metadata: { purpose: 'test' } });
    expect(response).toMatchObject({
      object: 'response',
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      model: 'sgemoe',
      metadata: { purpose: 'test' },
      max_output_tokens: 8,
      truncation: 'disabled',
      tool_choice: 'auto',
      error: null,
    });
    expect(response.output).toMatchObject([{ type: 'message', role: 'assistant', status: 'incomplete' }]);
    expect(response.output_text.length).toBeGreaterThan(0);
    expect(response.usage).toMatchObject({ output_tokens: 8 });
    expect(response.usage!.total_tokens).toBe(response.usage!.input_tokens + 8);
    const whole = await client.responses.create({ ...ask, ...choice('yes') } as typeof ask);
    expect([whole.status, whole.output_text, whole.incomplete_details]).toEqual(['completed', 'yes', null]);
  });

  it('streams the events of its text, numbered, and ends with what it is as a whole', async () => {
    const whole = await client.responses.create(ask);
    const events: Event[] = [];
    for await (const event of await client.responses.create({ ...ask, stream: true })) events.push(event);
    expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, i) => i));
    const kinds = events.map(({ type }) => type).filter((type) => type !== 'response.output_text.delta');
    expect(kinds).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.incomplete',
    ]);
    const deltas = events.flatMap((event) =>
      event.type === 'response.output_text.delta' ? event.delta : [],
    );
    expect(deltas.join('')).toBe(whole.output_text);
    const final = await client.responses.stream(ask).finalResponse();
    expect(final.output_text).toBe(whole.output_text);
  });

  it('is sent as named events without [DONE]', async () => {
    const answer = await post(`${server.url}/v1/responses`, { ...ask, stream: true });
    const text = await answer.text();
    expect(text).toMatch(/^event: response\.created\ndata: \{"type":"response\.created"/);
    expect(text).not.toContain('[DONE]');
  });

  it('follows a schema, and has log-probabilities where they are asked for', async () => {
    const schema = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] };
    const format = { type: 'json_schema' as const, name: 'answer', schema, strict: true };
    const parsed = await client.responses.parse({ ...ask, max_output_tokens: 80, text: { format } });
    expect(parsed.output_parsed).toEqual({ ok: expect.any(Boolean) });
    const include = ['message.output_text.logprobs'] as const;
    const scored = await client.responses.create({ ...ask, include: [...include], top_logprobs: 2 });
    const [{ content }] = scored.output as OpenAI.Responses.ResponseOutputMessage[];
    const [part] = content as OpenAI.Responses.ResponseOutputText[];
    expect(part.logprobs).toHaveLength(8);
    expect(part.logprobs![0].top_logprobs).toHaveLength(2);
  });

  it('calls a function, whole and as a stream, and goes on from its result', async () => {
    const request = {
      ...ask,
      tools: [WEATHER],
      tool_choice: { type: 'function' as const, name: 'weather' },
      max_output_tokens: 200,
    };
    const whole = await client.responses.create(request);
    const [call] = whole.output as OpenAI.Responses.ResponseFunctionToolCall[];
    expect([whole.output.length, whole.status, call.type, call.name]).toEqual([
      1,
      'completed',
      'function_call',
      'weather',
    ]);
    expect(['Rome', 'Oslo']).toContain((JSON.parse(call.arguments) as { city: string }).city);

    const events: Event[] = [];
    for await (const event of await client.responses.create({ ...request, stream: true })) events.push(event);
    const kinds = events
      .map(({ type }) => type)
      .filter((type) => type !== 'response.function_call_arguments.delta');
    expect(kinds).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.function_call_arguments.done',
      'response.output_item.done',
      'response.completed',
    ]);
    const pieces = events.flatMap((event) =>
      event.type === 'response.function_call_arguments.delta' ? event.delta : [],
    );
    expect(pieces.join('')).toBe(call.arguments);

    const result = { type: 'function_call_output' as const, call_id: call.call_id, output: 'sunny' };
    await client.responses.create({ ...ask, previous_response_id: whole.id, input: [result] });
    const continued = asked.at(-1)!.messages!;
    // The same without the server's memory.
    await client.responses.create({
      ...ask,
      input: [{ role: 'user', content: 'hello' }, call, result],
      store: false,
    });
    expect(asked.at(-1)!.messages).toEqual(continued);
    expect(continued).toEqual([
      { role: 'user', content: 'hello' },
      {
        role: 'assistant',
        content: '',
        tool_calls: [
          {
            id: call.call_id,
            type: 'function',
            function: { name: 'weather', arguments: JSON.parse(call.arguments) },
          },
        ],
      },
      { role: 'tool', content: 'sunny', tool_call_id: call.call_id, name: 'weather' },
    ]);
  });

  it('is kept, found and deleted; instructions are not passed on', async () => {
    const first = await client.responses.create({
      ...ask,
      instructions: 'Be brief.',
      ...choice('yes'),
    } as typeof ask);
    expect(asked.at(-1)!.messages![0]).toEqual({ role: 'system', content: 'Be brief.' });
    expect((await client.responses.retrieve(first.id)).output_text).toBe('yes');
    const second = await client.responses.create({ ...ask, previous_response_id: first.id, input: 'more' });
    expect(asked.at(-1)!.messages).toEqual([
      { role: 'user', content: 'hello' },
      { role: 'assistant', content: 'yes' },
      { role: 'user', content: 'more' },
    ]);
    expect(second.previous_response_id).toBe(first.id);
    await client.responses.delete(first.id);
    await expect(client.responses.retrieve(first.id)).rejects.toMatchObject({ status: 404 });
    await expect(client.responses.delete(first.id)).rejects.toMatchObject({ status: 404 });
    const gone = client.responses.create({ ...ask, previous_response_id: first.id });
    await expect(gone).rejects.toMatchObject({ status: 404, param: 'previous_response_id' });
    const unkept = await client.responses.create({ ...ask, store: false });
    await expect(client.responses.retrieve(unkept.id)).rejects.toMatchObject({ status: 404 });
  });

  it('makes room for others once there are too many', async () => {
    const { id } = await client.responses.create({ ...ask, max_output_tokens: 1 });
    for (let i = 0; i < 3; i++) await client.responses.create({ ...ask, max_output_tokens: 1 });
    await client.responses.retrieve(id); // now the last used one
    for (let i = 0; i < 3; i++) await client.responses.create({ ...ask, max_output_tokens: 1 });
    await client.responses.retrieve(id);
    for (let i = 0; i < 4; i++) await client.responses.create({ ...ask, max_output_tokens: 1 });
    await expect(client.responses.retrieve(id)).rejects.toMatchObject({ status: 404 });
  });

  it('leaves out the oldest messages where truncation is auto', async () => {
    const input = ['x'.repeat(1000), 'y'.repeat(1000), 'last'].flatMap((content) => [
      { role: 'user' as const, content },
      { role: 'assistant' as const, content: 'hm' },
    ]);
    const request = { ...ask, instructions: 'Be brief.', input: input.slice(0, -1) };
    await expect(client.responses.create(request)).rejects.toMatchObject({ code: 'context_length_exceeded' });
    const { truncation } = await client.responses.create({ ...request, truncation: 'auto' });
    expect(truncation).toBe('auto');
    const contents = asked.at(-1)!.messages!.map(({ content }) => String(content).slice(0, 9));
    expect(contents).toEqual(['Be brief.', 'yyyyyyyyy', 'hm', 'last']);
  });

  it.each<[object, string, RegExp]>([
    [{ input: [] }, 'input', /an array with a message/],
    [{ input: [{ type: 'reasoning', summary: [] }] }, 'input', /an array with a message/],
    [{ input: undefined }, 'input', /a string or an array of items/],
    [{ input: [{ type: 'web_search_call' }] }, 'input[0].type', /"web_search_call" is not supported/],
    [{ input: [{ role: 'critic', content: 'x' }] }, 'input[0].role', /'user' or/],
    [{ input: [{ role: 'user', content: [{ type: 'input_image' }] }] }, 'input[0].content', /an image/],
    [{ input: [{ role: 'user', content: 'x', wrong: 1 }] }, 'input[0].wrong', /no field/],
    [
      { input: [{ type: 'function_call_output', call_id: 'c', output: '' }] },
      'input[0].call_id',
      /'function_call' before it/,
    ],
    [
      { input: [{ type: 'function_call', call_id: 'c', name: 'f', arguments: '{' }] },
      'input[0].arguments',
      /JSON of an object/,
    ],
    [{ tools: [{ type: 'file_search' }] }, 'tools[0].type', /only functions are/],
    [{ tools: [{ type: 'function', name: 'a b' }] }, 'tools[0].name', /letters/],
    [{ tool_choice: 'required' }, 'tool_choice', /needs 'tools'/],
    [{ text: { format: { type: 'json_schema' } } }, 'text.format.schema', /an object/],
    [{ text: { format: { type: 'xml' } } }, 'text.format.type', /'text' or/],
    [{ max_output_tokens: 0 }, 'max_output_tokens', /integer >= 1/],
    [{ metadata: { a: 1 } }, 'metadata', /16 texts/],
    [{ include: ['file_search_call.results'] }, 'include', /an array of 'message/],
    [{ background: true }, 'background', /except as false/],
    [{ conversation: 'c' }, 'conversation', /`previous_response_id` continues/],
    [{ truncation: 'some' }, 'truncation', /'auto' or 'disabled'/],
    [{ messages: [] }, 'messages', /no field 'messages'/],
  ])('%j is refused with a sentence', async (fields, param, message) => {
    const response = await post(`${server.url}/v1/responses`, { ...ask, ...fields });
    expect(response.status).toBe(400);
    const error = await errorOf(response);
    expect([error.param, error.message]).toEqual([param, expect.stringMatching(message)]);
  });
});

it('belongs to the key that made it, whose tokens it uses', async () => {
  const keyed = await openServer({ apiKeys: ['sk-a', 'sk-b'], maxTokensPerMinute: 10 });
  const as = (apiKey: string) => new OpenAI({ baseURL: `${keyed.url}/v1`, apiKey, maxRetries: 0 }).responses;
  const { id } = await as('sk-a').create(ask);
  await as('sk-a').retrieve(id);
  await expect(as('sk-b').retrieve(id)).rejects.toMatchObject({ status: 404 });
  const foreign = as('sk-b').create({ ...ask, previous_response_id: id });
  await expect(foreign).rejects.toMatchObject({ status: 404 });
  await expect(as('sk-a').create(ask)).rejects.toMatchObject({ status: 429 });
  await keyed.close();
});

it('a store keeps as many responses as its bounds allow, in number and in bytes', () => {
  const store = new ResponseStore(10, 260);
  const stored = (id: string, content: string) => ({
    response: { id },
    owner: 'me',
    messages: [{ role: 'user', content }],
  });
  store.add(stored('a', 'x'.repeat(40)));
  store.add(stored('b', 'x'.repeat(40)));
  expect([store.count, store.get('a', 'me')?.response.id]).toEqual([2, 'a']);
  store.add(stored('c', 'é'.repeat(20)));
  expect([store.get('b', 'me'), store.count]).toEqual([undefined, 2]);
  expect(store.bytes).toBeLessThanOrEqual(260);
  store.add(stored('d', 'x'.repeat(400)));
  expect([store.count, store.bytes]).toEqual([0, 0]);
  store.add(stored('e', ''));
  expect([store.get('e', 'you'), store.delete('e', 'you'), store.get('e', undefined)]).toEqual([
    undefined,
    false,
    undefined,
  ]);
  expect([store.delete('e', 'me'), store.count, store.bytes]).toEqual([true, 0, 0]);
  const none = new ResponseStore(0, 1000);
  none.add(stored('a', ''));
  expect(none.get('a', 'me')).toBeUndefined();
});
