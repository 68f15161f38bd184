import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, openServer, post } from './servers';

describe('x-request-id', () => {
  const lines: string[] = [];
  let logged: Awaited<ReturnType<typeof openServer>>;
  beforeAll(async () => {
    const log = { write: (line: string) => lines.push(line) };
    logged = await openServer({ log, apiKeys: ['key'] });
  });
  afterAll(() => logged.close());
  const ask = (body: object, headers: Record<string, string> = {}, path = '/v1/completions') =>
    post(logged.url + path, body, { authorization: 'Bearer key', ...headers });
  const completed = async (id: string) => {
    const find = () =>
      lines
        .map((line) => JSON.parse(line))
        .find(({ requestId, msg }) => requestId === id && msg === 'request completed');
    await eventually(() => find() !== undefined);
    return find();
  };

  it("is the client's if that is valid, else a new one, on answers, streams and errors, and in the log", async () => {
    const good = { prompt: 'a', max_tokens: 1 };
    const cases: [number, object, Record<string, string>, string?][] = [
      [200, good, {}],
      [200, { ...good, stream: true }, {}],
      [400, { ...good, max_tokens: 'x' }, {}],
      [401, good, { authorization: 'Bearer wrong' }],
      [404, good, {}, '/nowhere'],
      [415, good, { 'content-type': 'text/plain' }],
    ];
    for (const [i, [status, body, headers, path]] of cases.entries()) {
      const given = await ask(body, { ...headers, 'x-request-id': `trace:${i}` }, path);
      await given.text();
      expect([given.status, given.headers.get('x-request-id')]).toEqual([status, `trace:${i}`]);
      expect(await completed(`trace:${i}`)).toMatchObject({ res: { statusCode: status } });
      for (const wrong of ['', 'a b', '{"x":1}', 'x'.repeat(129)]) {
        const made = await ask(body, { ...headers, 'x-request-id': wrong }, path);
        await made.text();
        expect(made.headers.get('x-request-id')).toMatch(/^[\da-f]{8}-[\da-f-]{27}$/);
        expect(await completed(made.headers.get('x-request-id')!)).toBeDefined();
      }
    }
    const socket = connect(Number(new URL(logged.url).port), '127.0.0.1').end('NOT HTTP\r\n\r\n');
    let text = '';
    for await (const part of socket) text += part;
    const [, id] = /^x-request-id: (.+)\r$/m.exec(text)!;
    expect(lines.some((line) => line.includes(id))).toBe(true);
  });

  it('leads to the log line that says what was wrong, without anything of the prompt', async () => {
    const secret = 'my secret';
    const cases: [object, object][] = [
      [
        { temperature: secret },
        { param: 'temperature', message: /'temperature' must be a number.*a string/ },
      ],
      [{ temperature: -1 }, { param: 'temperature', message: /got -1\./ }],
      [{ prompt: 'x'.repeat(200) }, { code: 'context_length_exceeded', message: /200 tokens/ }],
      [{ [secret]: 1 }, { param: '(another name)', message: /a field that is not known/ }],
      [{ promt: secret }, { param: 'promt', message: /not known/ }],
      [{ model: secret }, { param: 'model', code: 'model_not_found', message: /no model of this name/ }],
      [{ logit_bias: { 999: 1 } }, { message: /^logitBias: a key must be an integer >= 0 and < 256\.$/ }],
    ];
    for (const [i, [body, error]] of cases.entries()) {
      const answer = await ask({ prompt: secret, ...body }, { 'x-request-id': `wrong-${i}` });
      expect(answer.ok).toBe(false);
      const { message, ...rest } = error as { message: RegExp };
      const entry = await completed(`wrong-${i}`);
      expect(entry.error).toMatchObject({ type: 'invalid_request_error', ...rest });
      expect(entry.error.message).toMatch(message);
    }
    expect(lines.join('')).not.toContain(secret);
  });

  it('stands beside the trace of a valid traceparent in each line of its request', async () => {
    const [trace_id, span_id] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'];
    const wrong = [
      `00-${trace_id}-${span_id}`,
      `ff-${trace_id}-${span_id}-01`,
      `00-${'0'.repeat(32)}-${span_id}-01`,
      `00-${trace_id}-${span_id}-01-more`,
      `00-${trace_id.toUpperCase()}-${span_id}-01`,
    ];
    for (const [i, traceparent] of [
      `00-${trace_id}-${span_id}-01`,
      `cc-${trace_id}-${span_id}-01-more`,
      ...wrong,
    ].entries()) {
      await (
        await ask({ prompt: 'a', max_tokens: 1 }, { traceparent, 'x-request-id': `traced-${i}` })
      ).text();
      await completed(`traced-${i}`);
      const own = lines
        .map((line) => JSON.parse(line))
        .filter(({ requestId }) => requestId === `traced-${i}`);
      expect(own.length).toBeGreaterThanOrEqual(3);
      for (const line of own) {
        if (i < 2) expect(line).toMatchObject({ trace_id, span_id, trace_flags: '01' });
        else expect(line).not.toHaveProperty('trace_id');
      }
    }
  });
});
