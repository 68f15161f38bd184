import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as otherFields from '../../src/serve/http/otherFields';
import { errorOf, openServer, post } from './servers';

let server: Awaited<ReturnType<typeof openServer>>;
beforeAll(async () => {
  server = await openServer();
});
afterAll(() => server.close());

const complete = (body: object) =>
  post(`${server.url}/v1/completions`, { prompt: 'ab', max_tokens: 2, ...body });
const chat = (body: object) =>
  post(`${server.url}/v1/chat/completions`, {
    messages: [{ role: 'user', content: 'x' }],
    max_tokens: 2,
    ...body,
  });

describe('fields of a completion', () => {
  it.each<[string, object]>([
    ['sampling', { temperature: 0.5, top_p: 0.9, top_k: 5, min_p: 0.1, repetition_penalty: 1.1, seed: -3 }],
    [
      'penalties and biases',
      { presence_penalty: -2, frequency_penalty: 2, logit_bias: { 65: 100, 66: -100 } },
    ],
    ['ends', { stop: ['a', 'b', ''], stop_token_ids: [10] }],
    ['many ends', { stop: Array.from({ length: 128 }, (_, i) => `end ${i}`) }],
    [
      'neutral ones',
      { user: 'me', echo: false, best_of: 1, store: true, service_tier: 'flex', suffix: null },
    ],
    ['null for the default', { temperature: null, stop: null, stream: null, n: null, logprobs: null }],
    ['constraints', { grammar: 'root ::= "a"' }],
    ['a schema', { json_schema: { type: 'null' } }],
    ['token ids', { model: 'sgemoe', prompt: [1, 2, 3] }],
    ['top_k -1 for all', { top_k: -1 }],
  ])('%s are taken', async (_, body) => {
    const response = await complete(body);
    expect(response.status, await response.clone().text()).toBe(200);
  });

  it.each<[object, string | null, RegExp]>([
    [{ temperature: -1 }, 'temperature', /'temperature' must be a number >= 0.*, got -1\./],
    [{ temperature: 'NaN' }, 'temperature', /got "NaN"/],
    [{ top_p: -0.1 }, 'top_p', />= 0 and <= 1/],
    [{ min_tokens: 1.5 }, 'min_tokens', /integer >= 0/],
    [{ ignore_eos: 1 }, 'ignore_eos', /true or false/],
    [{ max_tokens: 1e9 }, 'max_tokens', /integer >= 0 and <= 128, got 1000000000/],
    [{ max_tokens: 1.5 }, 'max_tokens', /integer/],
    [{ n: 0 }, 'n', /an integer >= 1/],
    [{ n: 65, prompt: ['a', 'b'] }, 'n', /128 choices/],
    [{ prompt: undefined }, 'prompt', /a string.*got nothing/],
    [{ prompt: '' }, null, /at least one token/],
    [{ prompt: [256] }, null, /token id 256/],
    [{ prompt: [] }, 'prompt', /got an array/],
    [{ stop: new Array(129).fill('x') }, 'stop', /up to 128 strings/],
    [{ logit_bias: { a: 1 } }, 'logit_bias', /token ids .*, got "a"/],
    [{ logit_bias: { 65: 1, '065': 2 } }, 'logit_bias', /got "065"/],
    [{ logit_bias: { 65: 101 } }, 'logit_bias', /-100 to 100, got 101/],
    [{ logit_bias: { 999: 1 } }, null, /logitBias: a key must be an integer/],
    [{ echo: 1 }, 'echo', /true or false/],
    [{ suffix: 'x' }, 'suffix', /no tokens for filling gaps/],
    [{ best_of: 3, stream: true }, 'best_of', /'stream': false/],
    [{ stream_options: {} }, 'stream_options', /needs 'stream': true/],
    [{ stream: true, stream_options: { x: 1 } }, 'stream_options.x', /no field 'stream_options\.x'/],
    [{ max_tokenz: 5 }, 'max_tokenz', /There is no field 'max_tokenz'/],
    [{ sgemoe: { routing: 'yes' } }, 'sgemoe.routing', /true or false/],
    [{ prompt: 'x'.repeat(200) }, null, /200 tokens; the context has room for 128/],
  ])('%o is refused with a sentence', async (body, param, message) => {
    const response = await complete(body);
    expect(response.status).toBe(400);
    const error = await errorOf(response);
    expect(error).toMatchObject({ type: 'invalid_request_error', param });
    expect(error.message).toMatch(message);
  });

  it('of a chat: max_completion_tokens comes before max_tokens', async () => {
    const lengths = [{ max_tokens: 3 }, { max_tokens: 3, max_completion_tokens: 2 }].map(async (fields) => {
      const { usage } = (await (await chat(fields)).json()) as { usage: { completion_tokens: number } };
      return usage.completion_tokens;
    });
    expect(await Promise.all(lengths)).toEqual([3, 2]);
  });

  it('of a chat that can not be honoured are refused', async () => {
    const refused: [object, string][] = [
      [{ tools: [{}] }, 'tools[0].type'],
      [{ tools: {} }, 'tools'],
      [{ tool_choice: 'any' }, 'tool_choice'],
      [{ parallel_tool_calls: 1 }, 'parallel_tool_calls'],
      [{ response_format: { type: 'xml' } }, 'response_format.type'],
      [{ response_format: { type: 'json_schema' } }, 'response_format.json_schema'],
      [
        { response_format: { type: 'json_schema', json_schema: { name: 'x' } } },
        'response_format.json_schema.schema',
      ],
      [{ modalities: ['audio'] }, 'modalities'],
      [{ top_logprobs: 2 }, 'top_logprobs'],
      [{ reasoning_effort: 1 }, 'reasoning_effort'],
      [{ add_generation_prompt: true, continue_final_message: true }, 'add_generation_prompt'],
      [{ chat_template_kwargs: [] }, 'chat_template_kwargs'],
      [{ messages: [] }, 'messages'],
      [{ messages: [{ role: 'critic', content: 'x' }] }, 'messages[0].role'],
      [{ messages: [{ role: 'user', content: null }] }, 'messages[0].content'],
      [{ messages: [{ role: 'assistant', tool_calls: [{ function: 'f' }] }] }, 'messages[0].tool_calls[0]'],
      [{ messages: [{ role: 'user', content: 5 }] }, 'messages[0].content'],
      [
        { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
        'messages[0].content',
      ],
      [{ messages: [{ role: 'user', content: [{ type: 'input_audio' }] }] }, 'messages[0].content'],
    ];
    for (const [body, param] of refused) {
      const response = await chat(body);
      expect(response.status, param).toBe(400);
      expect(await errorOf(response)).toMatchObject({ param });
    }
    expect(
      (await chat({ messages: [{ role: 'developer', content: [{ type: 'text', text: 'x' }] }] })).status,
    ).toBe(200);
  });

  it('routing tells for each token the experts of each layer and their weights', async () => {
    const body = { max_tokens: 3, logprobs: 2, sgemoe: { routing: true } };
    const { choices } = (await (await complete(body)).json()) as {
      choices: [{ sgemoe: { tokens: Token[] } }];
    };
    interface Token {
      id: number;
      logprob: number;
      top: unknown[];
      experts: number[][];
      weights: number[][];
    }
    const { tokens } = choices[0].sgemoe;
    expect(tokens).toHaveLength(3);
    for (const { experts, weights, top, logprob } of tokens) {
      expect(experts.map((layer) => layer.length)).toEqual([2, 2]);
      for (const layer of weights) expect(layer[0] + layer[1]).toBeCloseTo(1, 5);
      expect(top).toHaveLength(2);
      expect(logprob).toBeLessThan(0);
    }
  });
});

describe('fields beside', () => {
  const { IDLE_COMMON, IDLE_CHAT, IDLE_EMBEDDING, REFUSED_CHAT } = otherFields;
  const embed = (body: object) => post(`${server.url}/v1/embeddings`, { input: 'x', ...body });

  it.each([
    ['completions', complete, IDLE_COMMON],
    ['chats', chat, { ...IDLE_COMMON, ...IDLE_CHAT }],
    ['embeddings', embed, IDLE_EMBEDDING],
  ] as const)('are taken without effect where the table says so: %s', async (_, ask, rows) => {
    for (const [name, { values = ['anything'] }] of Object.entries(rows)) {
      for (const value of values) {
        const answer = await ask({ [name]: value });
        expect(answer.status, name).toBe(200);
      }
      if (rows[name].values === undefined) continue;
      const answer = await ask({ [name]: 'anything' });
      expect(await errorOf(answer), name).toMatchObject({ param: name });
    }
  });

  it.each(Object.entries(REFUSED_CHAT))('are refused where the table says so: %s', async (name, why) => {
    const { message, param } = await errorOf(await chat({ [name]: 'anything' }));
    expect({ message, param }).toEqual({ message: `'${name}' is not supported: ${why}.`, param: name });
  });
});
