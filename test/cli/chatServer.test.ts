/** sgemoe chat --url: the same conversation, answered by a server. */
import { EventEmitter } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { trainBpe } from '../../src';
import { built } from '../helpers/built';
import { SMALL } from '../helpers/smallModel';
import { type RunOptions, sgemoe } from './run';

const { main: program } = require(resolve(__dirname, '../../dist/cli/program.js'));
const TEMPLATE = '{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}';
let engine: Awaited<ReturnType<typeof built.Engine.create>>;
let server: Awaited<ReturnType<typeof built.serve>>;
const bodies: Record<string, unknown>[] = [];
beforeAll(async () => {
  const trained = await trainBpe(['what a cat sat on a mat that is flat '.repeat(9)], { vocabSize: 270 });
  const tokenizer = built.loadTokenizer(trained.toJSON(), { chatTemplate: TEMPLATE });
  const model = built.MoETransformer.create({ ...SMALL, vocabSize: 270, maxSeqLen: 256 }, { seed: 3 });
  engine = await built.Engine.create(model, tokenizer);
  server = await built.serve({
    engine,
    model: 'cat',
    aliases: { feline: 'cat' },
    apiKeys: ['secret'],
    basePath: '/llm',
    port: 0,
  });
});
afterAll(async () => {
  await server.close({ graceMs: 0 });
  await engine.close();
});

const chat = (said: readonly string[], flags: string[] = [], options: Partial<RunOptions> = {}) =>
  sgemoe(['chat', '--url', server.url, '--temperature', '0', '--max-tokens', '6', ...flags], {
    env: { SGEMOE_API_KEY: 'secret' },
    program,
    ...options,
    stdin: said.map((line) => `${line}\n`),
  });
const contexts = (stderr: string) =>
  [...stderr.matchAll(/; ([\d,]+) of 256 tokens/g)].map((match) => Number(match[1]));

it('answers, remembers, forgets and takes a system message as with a model of this machine', async () => {
  const { code, stdout, stderr } = await chat(['a cat', 'a mat']);
  expect(code).toBe(0);
  const [first, second] = contexts(stderr);
  expect(second).toBeGreaterThan(first);
  expect(stdout.split('\n')).toHaveLength(3);
  const reset = await chat(['a cat', '/reset', 'a cat', '/system a flat cat', 'a cat']);
  const [one, two, three] = contexts(reset.stderr);
  expect([one, two]).toEqual([first, first]);
  expect(three).toBeGreaterThan(two);
});

it('the key comes from an option or the environment, the model from the argument', async () => {
  const wrong = await chat(['a'], ['--api-key', 'other']);
  expect(wrong.code).toBe(1);
  expect(wrong.stderr).toMatch(/The API key is not known here/);
  const named = await chat(['a'], ['feline', '--api-key', 'secret'], { env: {} });
  expect(named.code).toBe(0);
  expect(named.stderr).toMatch(/^cat at http/);
  const none = await chat(['a'], ['dog']);
  expect(none.code).toBe(1);
  expect(none.stderr).toMatch(/has no model dog; it has: cat/);
});

it('a full context loses its oldest messages, and a message that alone is too long is refused', async () => {
  const long = 'x '.repeat(60);
  const { code, stderr } = await chat([long, long, 'x'.repeat(400), 'a cat']);
  expect(code).toBe(0);
  expect(stderr).toMatch(/oldest messages are left out/);
  expect(stderr).toMatch(/message is too long/);
  expect(contexts(stderr)).toHaveLength(3);
});

it('Ctrl-C ends the answer and not the conversation', async () => {
  const signals = new EventEmitter();
  let interrupted = false;
  const onStdout = (text: string) => {
    if (interrupted || text === '') return;
    interrupted = true;
    signals.emit('SIGINT');
  };
  const { code, stdout } = await chat(['a cat', 'a mat'], ['--max-tokens', '100'], { signals, onStdout });
  expect(code).toBe(0);
  expect(stdout.split('\n').length).toBeGreaterThan(2);
});

let fake: Server | undefined;
afterEach(() => {
  fake?.close();
  fake?.closeAllConnections();
});

/** A server that lists a model and answers each chat with these events, or with a status. */
async function otherServer(answer: string | number): Promise<string> {
  fake = createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    if (request.method === 'GET') return response.end('{"data":[{"id":"m"}]}');
    bodies.push(JSON.parse(body));
    if (typeof answer === 'number') return response.writeHead(answer).end('busy');
    return response.end(answer);
  }).listen(0, '127.0.0.1');
  await new Promise((done) => fake!.once('listening', done));
  return `http://127.0.0.1:${(fake.address() as AddressInfo).port}`;
}

const DELTA = 'data:{"choices":[{"delta":{"content":"hello"}}]}\r\n\r\n';
const ask = (url: string, flags: string[] = [], options: Partial<RunOptions> = {}) =>
  sgemoe(['chat', '--url', `${url}/v1/`, ...flags], { program, ...options, stdin: ['hi\n', 'ho\n'] });

it('another server gets the flags that are given and no others', async () => {
  const url = await otherServer(`: a comment\r\n\r\n${DELTA}data: [DONE]\r\n\r\n`);
  const flags = ['--top-k', '3', '--seed', '7', '--stop', 'x', '--logit-bias', '5=2', '--system', 's'];
  const { code, stdout, stderr } = await ask(url, flags);
  expect({ code, stdout, stderr }).toEqual({
    code: 0,
    stdout: 'hello\nhello\n',
    stderr: `m at ${url}/v1/\n`,
  });
  expect(bodies.at(-1)).toEqual({
    model: 'm',
    top_k: 3,
    seed: 7,
    stop: ['x'],
    logit_bias: { 5: 2 },
    stream: true,
    stream_options: { include_usage: true },
    messages: [
      { role: 'system', content: 's' },
      { role: 'user', content: 'hi' },
      { role: 'assistant', content: 'hello' },
      { role: 'user', content: 'ho' },
    ],
  });
});

it.each<[string, string | number, RegExp]>([
  ['a status', 503, /answered 503/],
  ['an error in the stream', 'data: {"error":{"message":"It broke."}}\n\n', /It broke\./],
  ['an end before the end', DELTA, /connection ended before the answer did/],
  ['no JSON', 'data: {\n\n', /no JSON/],
])('%s ends a script with the code 1, and leaves a terminal at its prompt', async (_, answer, message) => {
  const url = await otherServer(answer);
  const script = await ask(url);
  expect(script.code).toBe(1);
  expect(script.stderr).toMatch(message);
  const before = bodies.length;
  const stdin = Object.assign(
    (async function* () {
      yield 'hi\n';
      yield 'ho\n';
    })(),
    { isTTY: true, destroy: () => undefined },
  );
  const terminal = await sgemoe(['chat', '--url', url], { program, stdin });
  expect(terminal.code).toBe(0);
  expect(bodies.length - before).toBe(2);
  // The first message was taken back.
  expect(bodies.at(-1)!.messages).toEqual([{ role: 'user', content: 'ho' }]);
});

it('is refused by name for what only a model of this machine has, and without a server', async () => {
  const cases: [string[], number, RegExp][] = [
    [['--dtype', 'q8_0'], 2, /--dtype is for a model of this machine/],
    [['--context-length', '64'], 2, /--context-length is for/],
    [['--regex', 'a+'], 2, /--regex is for/],
  ];
  for (const [flags, wanted, message] of cases) {
    const { code, stderr } = await chat(['a'], flags);
    expect(stderr).toMatch(message);
    expect(code).toBe(wanted);
  }
  expect((await sgemoe(['chat'])).stderr).toMatch(/needs a model/);
  expect((await sgemoe(['chat', 'm', '--api-key', 'k'])).stderr).toMatch(/--api-key goes with --url/);
  expect((await sgemoe(['chat', '--url', 'localhost:1'])).stderr).toMatch(/must be a URL such as/);
  const gone = await sgemoe(['chat', '--url', 'http://127.0.0.1:9'], { program });
  expect(gone.code).toBe(1);
  expect(gone.stderr).toMatch(/can't be reached/);
});
