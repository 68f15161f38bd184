import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sgemoe, TINY, temporaryFolder, writeText } from './run';

const MAIN = resolve(__dirname, '../../dist/cli/main.js');
let folder: string;
let run: string;
beforeAll(async () => {
  folder = temporaryFolder();
  run = join(folder, 'book');
  const data = writeText(folder);
  await sgemoe(['train', '--data', data, '--out', run, ...TINY, '--steps', '2', '--sample-tokens', '0']);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Serving {
  child: ChildProcess;
  url: string;
  output: () => { stdout: string; stderr: string };
  ended: Promise<number | null>;
}

async function start(args: string[], env: Record<string, string> = {}, models = [run]): Promise<Serving> {
  const child = spawn(process.execPath, [MAIN, 'serve', ...models, '--port', '0', ...args], {
    env: { ...process.env, ...env },
  });
  const output = { stdout: '', stderr: '' };
  const ended = new Promise<number | null>((done) => child.once('close', done));
  child.stdout.on('data', (text) => {
    output.stdout += text;
  });
  const url = await new Promise<string>((found, fail) => {
    child.stderr.on('data', (text) => {
      output.stderr += text;
      const [, address] = /(?:is|are) served at (\S+)\n/.exec(output.stderr) ?? [];
      if (address !== undefined) found(address);
    });
    void ended.then(() => fail(new Error(output.stderr)));
  });
  return { child, url, output: () => output, ended };
}

const ask = (url: string, body: object, key = '') =>
  fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: JSON.stringify(body),
  });

describe.skipIf(process.platform === 'win32')('sgemoe serve', () => {
  it('answers under the name of the folder, logs JSON lines without prompts, and drains at SIGTERM', async () => {
    const { child, url, output, ended } = await start([]);
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const request = { model: 'book', prompt: 'two secrets', max_tokens: 4 };
    expect((await ask(url, request)).status).toBe(200);
    const stream = await ask(url, { ...request, prompt: 'a', max_tokens: 8, stream: true });
    child.kill('SIGTERM');
    expect(await stream.text()).toMatch(/data: \[DONE\]\n\n$/);
    expect(await ended).toBe(0);
    const lines = output().stdout.trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).msg)).toContain('completion');
    expect(output().stdout).not.toContain('secrets');
  });

  it("with --drain-delay isn't ready at once, but takes requests meanwhile and closes their connections", async () => {
    const { child, url, output, ended } = await start(['--drain-delay', '900']);
    const request = { prompt: 'a', max_tokens: 8 };
    expect((await fetch(`${url}/ready`)).status).toBe(200);
    const before = await ask(url, request);
    expect([before.status, before.headers.get('connection')]).toEqual([200, 'keep-alive']);
    child.kill('SIGTERM');
    while ((await fetch(`${url}/ready`)).status === 200);
    expect(output().stderr).toMatch(/\/ready is 503 from now on; requests are taken for another 900 s\.\n$/);
    for (const stream of [false, true]) {
      const after = await ask(url, { ...request, stream });
      expect([after.status, after.headers.get('connection')]).toEqual([200, 'close']);
      expect(await after.text()).toContain(stream ? '[DONE]' : '"length"');
    }
    expect((await fetch(`${url}/health`)).status).toBe(200);
    child.kill('SIGKILL');
    await ended;
  });

  it('ends after --drain-delay', async () => {
    const { child, ended } = await start(['--drain-delay', '1']);
    const signalled = performance.now();
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    // A timer may be early by a millisecond.
    expect(performance.now() - signalled).toBeGreaterThan(998);
  });

  it('takes keys from the command line, a file and the environment', async () => {
    const file = join(folder, 'keys.txt');
    writeFileSync(file, 'from-file\n\n  second \n');
    const args = ['--api-key', 'from-line', '--api-key-file', file, '--log-level', 'silent'];
    const { child, url, output, ended } = await start(args, { SGEMOE_API_KEY: 'from-env' });
    for (const key of ['from-line', 'from-file', 'second', 'from-env']) {
      expect((await ask(url, { prompt: 'a', max_tokens: 1 }, key)).status, key).toBe(200);
    }
    expect((await ask(url, { prompt: 'a', max_tokens: 1 }, 'another')).status).toBe(401);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(output().stdout).toBe('');
  });

  it('serves several models by their names and aliases, from the command line over a file of options', async () => {
    const file = join(folder, 'serve.json');
    const config = { models: [run, `other=${run}`], alias: ['a=book', 'b=other'], apiKey: ['k'], port: 1 };
    writeFileSync(file, JSON.stringify({ ...config, basePath: '/llm', maxTokens: 3, playground: false }));
    const { child, url, output, ended } = await start(['--config', file, '--max-tokens', '2'], {}, []);
    expect(url).toMatch(/:\d{2,}\/llm$/);
    expect(output().stderr).toContain('book, other are served at ');
    const named = async (model: string) => {
      const answer = await ask(url, { model, prompt: 'a', max_tokens: 2 }, 'k');
      return ((await answer.json()) as { model?: string }).model;
    };
    expect(await Promise.all(['a', 'b', 'other', 'c'].map(named))).toEqual([
      'book',
      'other',
      'other',
      undefined,
    ]);
    expect((await ask(url, { prompt: 'a', max_tokens: 3 }, 'k')).status).toBe(400);
    expect((await ask(url, { prompt: 'a' })).status).toBe(401);
    expect((await fetch(`${url}/`)).status).toBe(404);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  });

  it('is refused without a checkpoint, with a key file that holds none, and with a context that is too long', async () => {
    const empty = join(folder, 'empty.txt');
    writeFileSync(empty, '\n');
    const wrong = join(folder, 'wrong.json');
    writeFileSync(wrong, '{ "maxBatsch": 3 }');
    const typed = join(folder, 'typed.json');
    writeFileSync(typed, '{ "port": "many" }');
    const cases: [string[], RegExp][] = [
      [['serve'], /needs a model/],
      [['serve', run, run], /Two models are called book/],
      [['serve', run, `b=${run}`, '--model-name', 'c'], /--model-name names a single model/],
      [['serve', run, '--alias', 'a=b'], /--alias a=b: there is no model 'b', only book/],
      [['serve', run, '--base-path', 'llm'], /must be a path such as/],
      [['serve', run, '--config', wrong], /unknown option 'maxBatsch'/],
      [['serve', run, '--config', typed], /port can't be "many"/],
      [['serve', '/no/such'], /there is no such checkpoint folder/],
      [['serve', run, '--api-key-file', empty], /has no key in it/],
      [['serve', run, '--api-key-file', '/no/such'], /can not be read/],
      [['serve', run, '--api-key', 'two words'], /must not have spaces/],
      [['serve', run, '--context-length', '100000'], /--context-length/],
      [['serve', run, '--port', '70000'], /integer >= 0 and <= 65535/],
    ];
    for (const [argv, message] of cases) {
      const { code, stderr } = await sgemoe(argv);
      expect(stderr).toMatch(message);
      expect(code).toBe(2);
    }
  });
});
