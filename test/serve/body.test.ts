/** Bodies that come in chunks, are too long or incomplete, and answers that nobody reads. */
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually, openServer, post, slowEngine } from './servers';

const lines: string[] = [];
let server: Awaited<ReturnType<typeof openServer>>;
beforeAll(async () => {
  server = await openServer({ maxBodyBytes: 1000, log: { write: (line: string) => lines.push(line) } });
});
afterAll(() => server.close());

const HEAD = 'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n';
const open = () => connect(Number(new URL(server.url).port), '127.0.0.1');
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

/** The server's output as soon as `pattern` is in it. */
async function read(socket: Socket, pattern: RegExp): Promise<string> {
  let text = '';
  for await (const part of socket.iterator({ destroyOnReturn: false })) {
    text += part;
    if (pattern.test(text)) return text;
  }
  return text;
}

it('a body in chunks is taken, and refused once it is too long, on a connection that goes on', async () => {
  const socket = open();
  socket.write(`${HEAD}transfer-encoding: chunked\r\n\r\n`);
  for (const part of ['{"prompt":"a",', '"max_tokens":1}']) socket.write(chunk(part));
  socket.write('0\r\n\r\n');
  expect(await read(socket, /"usage"/)).toMatch(/^HTTP\/1\.1 200 OK/);
  socket.write(`${HEAD}transfer-encoding: chunked\r\n\r\n${chunk('x'.repeat(1001))}`);
  expect(await read(socket, /at most 1000 bytes/)).toMatch(/^HTTP\/1\.1 413 Payload Too Large/);
  for (let i = 0; i < 5; i++) socket.write(chunk('x'.repeat(5000)));
  socket.write('0\r\n\r\nGET /health HTTP/1.1\r\nhost: localhost\r\n\r\n');
  expect(await read(socket, /"ok"/)).toMatch(/^HTTP\/1\.1 200 OK/);
  socket.destroy();
});

it('a length beyond the limit is refused before the body has come', async () => {
  const socket = open();
  socket.write(`${HEAD}content-length: 1001\r\n\r\n`);
  expect(await read(socket, /at most 1000 bytes/)).toMatch(/^HTTP\/1\.1 413 /);
  socket.destroy();
});

it('a client that leaves in the middle of its body is logged as gone, and harms nobody', async () => {
  const socket = open();
  socket.write(`${HEAD}x-request-id: leaving\r\ncontent-length: 100\r\n\r\n{"prompt":`);
  await eventually(() => lines.some((line) => line.includes('"leaving"')));
  socket.destroy();
  const completed = () => lines.map((line) => JSON.parse(line)).find(isLeaving);
  const isLeaving = ({ requestId, msg }: Record<string, unknown>) =>
    requestId === 'leaving' && msg === 'request completed';
  await eventually(() => completed() !== undefined);
  expect(completed().res).toEqual({ statusCode: 499 });
  expect((await post(`${server.url}/v1/completions`, { prompt: 'a', max_tokens: 1 })).status).toBe(200);
});

it('an answer is given up when the client reads nothing of it', async () => {
  const patient = { maxBodyBytes: 2 ** 23, stallMs: 50, log: { write: (line: string) => lines.push(line) } };
  const strict = await openServer({ ...patient, engine: server.engine });
  const socket = connect(Number(new URL(strict.url).port), '127.0.0.1').pause();
  const body = JSON.stringify({ prompt: 'x'.repeat(4_000_000) });
  const head = HEAD.replace('/v1/completions', '/tokenize');
  socket.write(`${head}x-request-id: unread\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  const given = () => lines.some((line) => line.includes('"unread"') && line.includes('request completed'));
  await eventually(given);
  socket.destroy();
});

it('an answer that takes longer than that to begin is not given up, whatever went over the connection before', async () => {
  const strict = await openServer({ stallMs: 1, engine: await slowEngine() });
  const socket = connect(Number(new URL(strict.url).port), '127.0.0.1');
  const body = '{"prompt":"x","max_tokens":400}';
  const health = 'GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n';
  socket.write(`${health}${HEAD}content-length: ${body.length}\r\n\r\n${body}`);
  expect(await read(socket, /"usage"/)).toMatch(/"completion_tokens":400/);
  socket.destroy();
  await strict.close();
});
