/** The official client against the server. */
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, openServer, slowEngine } from './servers';

const KEY = 'sk-right';
let server: Awaited<ReturnType<typeof openServer>>;
let client: OpenAI;
beforeAll(async () => {
  server = await openServer({ engine: await slowEngine(), model: 'book', apiKeys: ['sk-other', KEY] });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: KEY, maxRetries: 0 });
});
afterAll(() => server.close());

const model = 'book';
const messages = [{ role: 'user' as const, content: 'hello' }];

describe("OpenAI's client", () => {
  it('lists the model and retrieves it', async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(['book']);
    expect(await client.models.retrieve('book')).toMatchObject({ id: 'book', object: 'model' });
  });

  it('gets a completion with log-probabilities and usage, the same again from the same seed', async () => {
    const request = { model, prompt: 'once', max_tokens: 6, seed: 5, logprobs: 3 };
    const [first, again] = [
      await client.completions.create(request),
      await client.completions.create(request),
    ];
    const [choice] = first.choices;
    expect(again.choices[0].text).toBe(choice.text);
    expect(choice).toMatchObject({ index: 0, finish_reason: 'length' });
    expect(choice.logprobs!.tokens).toHaveLength(6);
    expect(choice.logprobs!.token_logprobs!.every((value) => value < 0)).toBe(true);
    expect(first.usage).toMatchObject({ prompt_tokens: 4, completion_tokens: 6, total_tokens: 10 });
  });

  it('gets n choices of each prompt, each of which a seed of its own gives alone', async () => {
    const request = { model, max_tokens: 5, seed: 10 };
    const prompts = ['abc', 'something else'];
    const { choices } = await client.completions.create({ ...request, prompt: prompts, n: 2 });
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    const alone = await client.completions.create({ ...request, prompt: 'something else', seed: 11 });
    expect(alone.choices[0].text).toBe(choices[3].text);
  });

  it('scores a prompt, and gets the best of several choices', async () => {
    const scored = await client.completions.create({
      model,
      prompt: 'once',
      echo: true,
      max_tokens: 0,
      logprobs: 1,
    });
    const { text, logprobs } = scored.choices[0];
    expect(text).toBe('once');
    expect(logprobs!.token_logprobs).toEqual([null, ...new Array(3).fill(expect.any(Number))]);
    const best = await client.completions.create({ model, prompt: 'once', best_of: 3, n: 2, max_tokens: 3 });
    expect(best.choices.map(({ index }) => index)).toEqual([0, 1]);
    expect(best.usage!.completion_tokens).toBe(9);
  });

  it('sends conversations in parts, and fields that have no effect', async () => {
    const { choices, system_fingerprint } = await client.chat.completions.create({
      model,
      messages: [
        { role: 'developer', content: 'be brief' },
        { role: 'user', content: [{ type: 'text', text: 'hello' }] },
        { role: 'assistant', content: [{ type: 'text', text: 'hm' }] },
      ],
      max_completion_tokens: 2,
      store: true,
      metadata: { purpose: 'test' },
      service_tier: 'flex',
      verbosity: 'low',
      modalities: ['text'],
      reasoning_effort: 'low',
      top_p: 0,
    });
    expect(choices).toHaveLength(1);
    expect(system_fingerprint).toBe(server.engine.fingerprint);
  });

  it('gets a chat answer with the bytes of each token', async () => {
    const request = { model, messages, max_completion_tokens: 4, logprobs: true, top_logprobs: 2 };
    const { choices } = await client.chat.completions.create(request);
    expect(choices[0].message.role).toBe('assistant');
    const content = choices[0].logprobs!.content!;
    expect(content).toHaveLength(4);
    const bytes = content.flatMap((token) => token.bytes!);
    expect(new TextDecoder().decode(Uint8Array.from(bytes))).toBe(choices[0].message.content);
    expect(content[0].top_logprobs).toHaveLength(2);
  });

  it('streams what it gets at once, and the usage at the end', async () => {
    const request = { model, messages, max_tokens: 20, seed: 3 };
    const whole = await client.chat.completions.create(request);
    const chunks = [];
    const options = { stream: true, stream_options: { include_usage: true } } as const;
    for await (const chunk of await client.chat.completions.create({ ...request, ...options }))
      chunks.push(chunk);
    const text = chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('');
    expect(text).toBe(whole.choices[0].message.content);
    expect(chunks[0].choices[0].delta.role).toBe('assistant');
    expect(chunks.at(-2)!.choices[0].finish_reason).toBe('length');
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 20 } });
  });

  it('stops the computation when it aborts a stream', async () => {
    const stream = await client.completions.create({ model, prompt: 'x', max_tokens: 4000, stream: true });
    const { aborted } = server.engine.metrics().requests;
    for await (const _chunk of stream) {
      expect(server.engine.metrics().running).toBe(1);
      stream.controller.abort();
    }
    await eventually(() => server.engine.metrics().requests.aborted === aborted + 1);
    await eventually(() => server.engine.metrics().running === 0);
  });

  it('stops the computation when it leaves an answer that is not a stream', async () => {
    const { aborted } = server.engine.metrics().requests;
    const leaving = new AbortController();
    const request = { model, prompt: 'y', max_tokens: 4000 };
    const answer = client.completions.create(request, { signal: leaving.signal });
    answer.catch(() => undefined);
    await eventually(() => server.engine.metrics().running === 1);
    leaving.abort();
    await expect(answer).rejects.toThrow(OpenAI.APIUserAbortError);
    await eventually(() => server.engine.metrics().requests.aborted === aborted + 1);
  });

  it('gets embeddings, in the base64 that it asks for as in numbers', async () => {
    const request = { model, input: ['one', 'two words'] };
    const asked = await client.embeddings.create(request);
    const numbers = await client.embeddings.create({ ...request, encoding_format: 'float' });
    expect(asked.data.map(({ embedding }) => embedding)).toEqual(
      numbers.data.map(({ embedding }) => embedding),
    );
    expect(asked.data[0].embedding).toHaveLength(64);
    expect(asked.usage.prompt_tokens).toBe(12);
    const short = await client.embeddings.create({ ...request, dimensions: 8 });
    expect(short.data.map(({ embedding }) => embedding)).toEqual(
      asked.data.map(({ embedding }) => embedding.slice(0, 8)),
    );
  });

  it('throws its own classes of errors', async () => {
    const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'sk-wrong', maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toThrow(OpenAI.AuthenticationError);
    const other = client.completions.create({ model: 'other', prompt: 'x' });
    await expect(other).rejects.toThrow(OpenAI.NotFoundError);
    const wrong = client.completions.create({ model, prompt: 'x', temperature: -1 });
    await expect(wrong).rejects.toThrow(OpenAI.BadRequestError);
    await expect(wrong).rejects.toMatchObject({ param: 'temperature' });
    const tooLong = client.completions.create({ model, prompt: 'x'.repeat(5000), stream: true });
    await expect(tooLong).rejects.toMatchObject({ status: 400, code: 'context_length_exceeded' });
  });
});
