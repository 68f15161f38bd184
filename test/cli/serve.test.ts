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

async function start(args: string[], env: Record<string, string> = {}): Promise<Serving> {
  const child = spawn(process.execPath, [MAIN, 'serve', run, '--port', '0', ...args], {
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
      const [, address] = /is served at (\S+)\n/.exec(output.stderr) ?? [];
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

  it('is refused without a checkpoint, with a key file that holds none, and with a context that is too long', async () => {
    const empty = join(folder, 'empty.txt');
    writeFileSync(empty, '\n');
    const cases: [string[], RegExp][] = [
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
