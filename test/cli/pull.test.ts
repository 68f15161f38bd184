import { EventEmitter } from 'node:events';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { ByteTokenizer, MoETransformer } from '../../src';
import { FakeHub } from '../helpers/fakeHub';
import { SMALL } from '../helpers/smallModel';
import { type RunOptions, sgemoe, TINY, temporaryFolder, writeText } from './run';

const { main: program } = require(resolve(__dirname, '../../dist/cli/program.js'));
const COMMIT = 'c0ffee'.padEnd(40, '0');
const NAME = 'maker/small';
const hub = new FakeHub();
const folder = temporaryFolder();
let cache: string;
let text: string;
let caches = 0;

beforeAll(async () => {
  await hub.open();
  text = writeText(folder, 20);
  const model = MoETransformer.create({ ...SMALL, vocabSize: 256 }, { seed: 5 });
  await model.save(join(folder, 'model'), new ByteTokenizer().files());
  const names = ['config.json', 'model.safetensors', 'tokenizer.json'];
  const files = Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, 'model', name))]));
  hub.repositories.set(NAME, { commit: COMMIT, files });
});
afterAll(async () => {
  await hub.close();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  hub.reset();
  cache = join(folder, `cache ${caches++}`);
});

const run = (argv: readonly string[], options: RunOptions = {}) =>
  sgemoe(argv, { ...options, env: { HF_ENDPOINT: hub.endpoint, HF_HOME: cache, ...options.env } });
const snapshot = () => join(cache, 'hub', 'models--maker--small', 'snapshots', COMMIT);

it('prints the path to stdout, and to stderr what is downloaded, from where and where to', async () => {
  const { code, stdout, stderr } = await run(['pull', NAME]);
  expect(code, stderr).toBe(0);
  expect(stdout).toBe(`${snapshot()}\n`);
  const said = `Downloading maker/small at c0ffee0, 3 files of \\S+ kB, from ${hub.endpoint} to ${join(cache, 'hub')}\n`;
  expect(stderr).toMatch(new RegExp(`^${said}$`));
  expect(readdirSync(snapshot())).toHaveLength(3);
  expect(await run(['pull', NAME])).toEqual({ code: 0, stdout, stderr: '' });
  const offline = await run(['pull', NAME, '--offline', '--revision', 'main']);
  expect(offline).toEqual({ code: 0, stdout, stderr: '' });
});

it('a terminal sees a line with share, speed and time left', async () => {
  // The line is drawn every tenth of a second.
  hub.fault = ({ server, url }, response) => {
    const { 'model.safetensors': bytes, 'config.json': config } = hub.repositories.get(NAME)!.files;
    if (url.endsWith('config.json')) {
      setTimeout(() => response.end(config), 200);
      return true;
    }
    if (server !== 'cdn') return false;
    response.writeHead(200, { 'content-length': bytes.length });
    response.write(bytes.subarray(0, 1000));
    setTimeout(() => response.write(bytes.subarray(1000, 2000)), 200);
    setTimeout(() => response.end(bytes.subarray(2000)), 400);
    return true;
  };
  let drawn = '';
  const stderr = { write: (piece: string) => (drawn += piece), isTTY: true, columns: 100 };
  const { stdin, stdout } = { stdin: (async function* () {})(), stdout: { write: () => undefined } };
  const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: cache };
  expect(await program(['pull', NAME], { stdin, stdout, stderr, env, signals: new EventEmitter() })).toBe(0);
  expect(drawn).not.toMatch(/NaN|undefined/);
  expect(drawn).toMatch(/\r\S*\d\.\d % of [\d.]+ kB, [\d.]+ \S?B\/s, \d:\d\d left, model\.safetensors/);
});

it('generate, eval, inspect, import, export and quantize take a name, and write what they write for the folder', async () => {
  const out = (name: string) => join(cache, name);
  const same = async (argv: (model: string) => string[]) => {
    const [named, local] = [await run(argv(NAME)), await run(argv(join(folder, 'model')))];
    expect(named.code, named.stderr).toBe(0);
    const times = /\d+(\.\d+)? ?(s|k?tokens\/s)|"seconds": .*|time .*/g;
    expect(named.stdout.replace(times, '')).toBe(local.stdout.replace(times, ''));
    return named;
  };
  const first = await same((model) => [
    'generate',
    model,
    '--prompt',
    'a',
    '--max-tokens',
    '4',
    '--seed',
    '1',
  ]);
  expect(first.stderr).toContain('Downloading maker/small at c0ffee0');
  hub.reset();
  await same((model) => ['eval', model, '--data', text, '--json']);
  await same((model) => ['inspect', model]);
  await same((model) => ['import', model, '--out', out('imported')]);
  await same((model) => ['export', model, '--out', out('exported')]);
  await same((model) => ['quantize', `${model}`, '--dtype', 'bfloat16', '--out', out('quantized')]);
  expect(hub.seen.every(({ url }) => url.startsWith('/api/'))).toBe(true);
  expect(readdirSync(out('quantized'))).toContain('model.safetensors');
});

it('train and data prepare take the tokenizer of a model of the hub, and nothing else of it', async () => {
  const words = { type: 'WordLevel', vocab: { '<unk>': 0, one: 1, and: 2 }, unk_token: '<unk>' };
  const json = { model: words, pre_tokenizer: { type: 'Whitespace' }, added_tokens: [] };
  const { files } = hub.repositories.get(NAME)!;
  hub.repositories.set('maker/words', {
    commit: COMMIT,
    files: { ...files, 'tokenizer.json': Buffer.from(JSON.stringify(json)) },
  });
  const [out, data] = [join(cache, 'run'), join(cache, 'data')];
  const prepared = await run([
    'data',
    'prepare',
    '--data',
    text,
    '--tokenizer',
    'maker/words',
    '--out',
    data,
  ]);
  expect(prepared.code, prepared.stderr).toBe(0);
  const trained = await run(
    [
      'train',
      '--data',
      data,
      '--tokenizer',
      'maker/words',
      '--out',
      out,
      ...TINY,
      '--steps',
      '1',
      '--eval-batches',
      '1',
      '--sample-tokens',
      '0',
    ],
    { program },
  );
  expect(trained.code, trained.stderr).toBe(0);
  const downloaded = hub.seen.map(({ url }) => url).filter((url) => url.includes('/resolve/'));
  expect(downloaded).toEqual([expect.stringContaining('tokenizer.json')]);
  expect(JSON.parse(readFileSync(join(out, 'run.json'), 'utf8')).options.tokenizer).toBe('maker/words');
  const { stdout } = await run(['pull', 'maker/words', '--tokenizer-only', '--offline']);
  expect(readdirSync(stdout.trim())).toEqual(['tokenizer.json']);
  // The model isn't there whole.
  expect((await run(['pull', 'maker/words', '--offline'])).code).toBe(2);
});

it('serve and chat take a name', async () => {
  const signals = new EventEmitter();
  const onStdout = (line: string) =>
    line.includes('listening') && setTimeout(() => signals.emit('SIGTERM'), 0);
  const served = run(['serve', NAME, '--port', '0'], { program, signals, onStdout });
  const { stderr } = await served;
  expect(stderr).toMatch(/maker\/small is served at http/);
  const chat = await run(['chat', `hf.co/${NAME}`, '--max-tokens', '3', '--offline'], {
    program,
    stdin: ['a\n'],
  });
  expect(chat.code, chat.stderr).toBe(0);
  expect(chat.stderr).toMatch(/^\[3 tokens/m);
});

it('train --init-from takes a name, which run.json keeps', async () => {
  const out = join(folder, 'tuned');
  const argv = [
    'train',
    '--data',
    text,
    '--out',
    out,
    '--init-from',
    NAME,
    '--steps',
    '1',
    '--seq-len',
    '16',
  ];
  const { code, stderr } = await run([
    ...argv,
    '--batch-size',
    '2',
    '--eval-batches',
    '1',
    '--sample-tokens',
    '0',
  ]);
  expect(code, stderr).toBe(0);
  expect(stderr).toContain('Downloading maker/small');
  expect(JSON.parse(readFileSync(join(out, 'run.json'), 'utf8')).options.initFrom).toBe(NAME);
});

it.each([
  [['pull', 'small'], /name must be org\/name/],
  [['pull', 'maker/none'], /has no model maker\/none/],
  [['pull', `${NAME}:Q4_K_M`], /no GGUF file 'Q4_K_M'/],
  [['pull', NAME, '--revision', 'v2'], /no revision 'v2'; there is v1\.0/],
  [['pull', NAME, '--offline'], /not whole, in .*offline/],
  [['inspect', 'maker/none'], /no folder or file maker\/none here\. .*no model maker\/none/],
  [['inspect', 'no name'], /no name: there is no such checkpoint folder$/m],
  [
    ['inspect', 'test/missing'],
    /test\/missing: there is no such checkpoint folder \(hf\.co\/test\/missing would/,
  ],
  [['inspect', 'test', '--revision', 'main'], /--revision goes with a model of the hub; test is not one/],
])('%j ends with exit code 2', async (argv, message) => {
  const { code, stderr } = await run(argv);
  expect(stderr).toMatch(message);
  expect(code).toBe(2);
});

it('a gated model and a hub that is down end with exit code 1', async () => {
  hub.repositories.set('maker/gated', { commit: COMMIT, files: {}, token: 'hf_x', gated: true });
  expect(await run(['pull', 'maker/gated'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('set HF_TOKEN'),
  });
  hub.fault = (_, response) => {
    response.writeHead(503, { 'retry-after': '0' });
    response.end();
    return true;
  };
  const { code, stderr } = await run(['generate', 'maker/other']);
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('after 5 tries: it answers 503'),
  });
});

it('Ctrl-C keeps what has arrived and ends with exit code 130', async () => {
  const signals = new EventEmitter();
  hub.fault = ({ server, headers }, response) => {
    if (server !== 'cdn' || headers.range !== undefined) return false;
    const bytes = hub.repositories.get(NAME)!.files['model.safetensors'];
    response.writeHead(200, { 'content-length': bytes.length });
    response.write(bytes.subarray(0, 700), () => setTimeout(() => signals.emit('SIGINT'), 200));
    return true;
  };
  const { code, stderr } = await run(['pull', NAME], { signals });
  expect(code).toBe(130);
  expect(stderr).toMatch(/sgemoe: stopped; what has arrived is kept/);
  expect((await run(['pull', NAME])).code).toBe(0);
  expect(hub.downloads('model.safetensors').map(({ headers }) => headers.range)).toEqual([
    undefined,
    'bytes=700-',
  ]);
});
