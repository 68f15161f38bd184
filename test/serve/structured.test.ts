import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEngine } from './engines';
import { errorOf, openServer, post } from './servers';

const SCHEMA = {
  type: 'object',
  properties: { ok: { type: 'boolean' }, n: { type: 'integer', minimum: 0, maximum: 99 } },
  required: ['ok', 'n'],
};
const ANSWER = /^\{\s*"ok": ?(true|false),\s*"n": ?\d{1,2}\s*\}$/;

describe('an engine', () => {
  it('decodes sequences with constraints of their own beside free ones', async () => {
    await using engine = await openEngine({ maxBatch: 8 });
    const options = [
      { jsonSchema: SCHEMA },
      { jsonSchema: SCHEMA, temperature: 0 },
      { regex: '[a-c]{3}-[0-9]+!' },
      { choice: ['yes', 'no'] },
      { grammar: 'root ::= "(" root ")" | "x"' },
      {},
      { regex: '' },
    ];
    const answers = await Promise.all(
      options.map((each, seed) =>
        engine.generate({ prompt: 'ab', maxTokens: 100, seed, topLogprobs: 0, ...each }),
      ),
    );
    const [json, greedy, pattern, word, nested, free, nothing] = answers;
    expect(json.text).toMatch(ANSWER);
    expect(greedy.text).toMatch(ANSWER);
    if (pattern.finishReason === 'stop') expect(pattern.text).toMatch(/^[a-c]{3}-[0-9]+!$/);
    expect(['yes', 'no']).toContain(word.text);
    if (nested.finishReason === 'stop') expect(nested.text).toMatch(/^\(*x\)*$/);
    expect(free.finishReason).toBe('length');
    expect(nothing).toMatchObject({ text: '', finishReason: 'stop' });
    for (const each of [json, greedy, word]) {
      expect(each.finishReason).toBe('stop');
      expect(each.logprobs).toHaveLength(each.tokens.length);
    }
  });

  it('tells an answer that is cut as length, and refuses a constraint before the first chunk', async () => {
    await using engine = await openEngine();
    const { text, finishReason } = await engine.generate({ prompt: 'a', jsonSchema: SCHEMA, maxTokens: 3 });
    expect([text.startsWith('{'), finishReason]).toEqual([true, 'length']);
    const refused = engine.generate({ prompt: 'a', jsonSchema: { not: {} } });
    await expect(refused).rejects.toMatchObject({ code: 'SGEMOE_CONSTRAINT_INVALID' });
    await expect(engine.generate({ prompt: 'a', maxTokens: 2 })).resolves.toMatchObject({
      finishReason: 'length',
    });
  });
});

describe('a constraint that is too much to follow from its beginning', () => {
  it('leaves its place to others', async () => {
    await using engine = await openEngine({ maxBatch: 2 });
    for (let i = 0; i < 3; i++) {
      const refused = engine.generate({ prompt: 'a', regex: '(a?){100000}' });
      await expect(refused).rejects.toMatchObject({ code: 'SGEMOE_CONSTRAINT_LIMIT' });
    }
    const answers = ['a', 'b'].map((prompt) => engine.generate({ prompt, maxTokens: 2, timeoutMs: 60_000 }));
    expect((await Promise.all(answers)).map(({ finishReason }) => finishReason)).toEqual([
      'length',
      'length',
    ]);
  });
});

describe('the server', () => {
  let server: Awaited<ReturnType<typeof openServer>>;
  beforeAll(async () => {
    server = await openServer();
  });
  afterAll(() => server.close());
  const chat = (body: object) =>
    post(`${server.url}/v1/chat/completions`, {
      messages: [{ role: 'user', content: 'x' }],
      max_tokens: 80,
      ...body,
    });
  const contentOf = async (response: Response) => {
    const { choices } = (await response.json()) as {
      choices: { message: { content: string }; finish_reason: string }[];
    };
    return choices[0];
  };

  it('answers by the schema of response_format', async () => {
    const response_format = {
      type: 'json_schema',
      json_schema: { name: 'answer', strict: true, schema: SCHEMA },
    };
    const { message, finish_reason } = await contentOf(await chat({ response_format }));
    expect(message.content).toMatch(ANSWER);
    expect(finish_reason).toBe('stop');
  });

  it('answers with an object, or any text, as response_format says', async () => {
    const object = await contentOf(await chat({ response_format: { type: 'json_object' } }));
    expect(object.message.content.startsWith('{')).toBe(true);
    expect((await chat({ response_format: { type: 'text' } })).status).toBe(200);
  });

  it('takes json_schema and grammar as llama.cpp does', async () => {
    const body = { prompt: 'x', max_tokens: 80 };
    for (const [fields, form] of [
      [{ json_schema: SCHEMA }, ANSWER],
      [{ grammar: 'root ::= "a" [bc] "d"' }, /^a[bc]d$/],
    ] as const) {
      const response = await post(`${server.url}/v1/completions`, { ...body, ...fields });
      const { choices } = (await response.json()) as { choices: { text: string }[] };
      expect(choices[0].text).toMatch(form);
    }
  });

  it('refuses what is not supported with the place, also of a stream', async () => {
    const schema = { properties: { a: { not: {} } } };
    const response_format = { type: 'json_schema', json_schema: { schema } };
    for (const stream of [false, true]) {
      const response = await chat({ response_format, stream });
      expect(response.status).toBe(400);
      const { code, message } = await errorOf(response);
      expect(code).toBe('constraint_invalid');
      expect(message).toContain("'not' at #/properties/a");
    }
    const twice = await chat({ response_format: { type: 'json_object' }, json_schema: SCHEMA });
    expect([twice.status, (await errorOf(twice)).message]).toEqual([
      400,
      expect.stringContaining("'json_schema' must be absent beside 'response_format'"),
    ]);
    const both = await chat({ response_format, grammar: 'root ::= "a"' });
    expect([both.status, (await errorOf(both)).message]).toEqual([
      400,
      expect.stringContaining('at most one constraint'),
    ]);
  });
});
