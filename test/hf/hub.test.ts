import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type HubOptions, inspectCheckpoint, MoETransformer, type PullProgress, pull } from '../../src';
import { modelPath } from '../../src/hf/hub/modelPath';
import { pullFrom } from '../../src/hf/hub/pull';
import { expectError } from '../helpers/expectError';
import { FakeHub, gitSha1, sendFile, sha256 } from '../helpers/fakeHub';
import { SMALL } from '../helpers/smallModel';

/** What `symlink` of the system does; a test may take the right to make links away. */
const links = vi.hoisted(() => ({ refused: false }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const symlink: typeof real.symlink = async (...args) => {
    if (links.refused)
      throw Object.assign(new Error('EPERM: no links'), { code: 'EPERM', syscall: 'symlink' });
    return real.symlink(...args);
  };
  return { ...real, symlink };
});

const COMMIT = 'c0ffee'.padEnd(40, '0');
const NAME = 'maker/small';
const hub = new FakeHub();
let cacheDir: string;
let options: HubOptions;
let notes: string[];
let whole: Record<string, Buffer>;

beforeAll(async () => {
  await hub.open();
  const folder = mkdtempSync(join(tmpdir(), 'sgemoe hub-'));
  await MoETransformer.create(SMALL, { seed: 1 }).save(folder);
  const read = (name: string) => readFileSync(join(folder, name));
  whole = {
    'config.json': read('config.json'),
    'generation_config.json': Buffer.from('{"eos_token_id": 3}'),
    'tokenizer.json': Buffer.from('{"type":"byte","vocab_size":256}'),
    'tokenizer_config.json': Buffer.from('{}'),
    'chat_template.jinja': Buffer.from('{{ messages }}'),
    'model.safetensors': read('model.safetensors'),
    'pytorch_model.bin': Buffer.from('pickle'),
    'consolidated.safetensors': Buffer.from('again'),
    'original/params.json': Buffer.from('{}'),
    'onnx/model.onnx': Buffer.from('onnx'),
    'README.md': Buffer.from('# A model'),
  };
  rmSync(folder, { recursive: true });
});
afterAll(() => hub.close());

beforeEach(() => {
  cacheDir = mkdtempSync(join(tmpdir(), 'sgemoe hub-'));
  notes = [];
  options = { endpoint: hub.endpoint, cacheDir, token: null, onNote: (note) => notes.push(note) };
  hub.reset();
  hub.repositories.clear();
  hub.repositories.set(NAME, { commit: COMMIT, files: whole });
});
afterEach(() => {
  links.refused = false;
  rmSync(cacheDir, { recursive: true });
});

const repositoryFolder = () => join(cacheDir, 'models--maker--small');
const blobs = () => readdirSync(join(repositoryFolder(), 'blobs')).sort();
const weights = () => whole['model.safetensors'];
const partial = () => join(repositoryFolder(), 'blobs', `${sha256(weights())}.sgemoe.incomplete`);
const leavePartial = (bytes: Buffer) => {
  mkdirSync(join(repositoryFolder(), 'blobs'), { recursive: true });
  writeFileSync(partial(), bytes);
};
/** Files of equal content, for repositories whose weights don't matter. */
const ggufs = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, Buffer.from(`GGUF ${name}`)]));

describe('pull', () => {
  it('downloads what sgemoe reads, into the layout of huggingface_hub, and the model loads', async () => {
    const path = await pull(NAME, options);
    expect(path).toBe(join(repositoryFolder(), 'snapshots', COMMIT));
    const taken = Object.keys(whole).slice(0, 6).sort();
    expect(readdirSync(path).sort()).toEqual(taken);
    for (const name of taken) expect(readFileSync(join(path, name)).equals(whole[name]), name).toBe(true);
    expect(readlinkSync(join(path, 'config.json'))).toBe(
      join('..', '..', 'blobs', gitSha1(whole['config.json'])),
    );
    expect(readlinkSync(join(path, 'model.safetensors'))).toBe(join('..', '..', 'blobs', sha256(weights())));
    expect(readFileSync(join(repositoryFolder(), 'refs', 'main'), 'utf8')).toBe(COMMIT);
    const locks = join(cacheDir, '.locks', 'models--maker--small');
    expect(readdirSync(locks)).toEqual([]);
    expect(notes).toHaveLength(1);
    expect(notes[0]).toMatch(
      /^Downloading maker\/small at c0ffee0, 6 files of [\d.]+ kB, from http:\/\/127.* to /,
    );
    expect((await MoETransformer.load(path)).endTokens).toEqual([3]);
  });

  it('asks only for the list when everything is there, and downloads only what a new commit changes', async () => {
    await pull(NAME, options);
    hub.reset();
    await pull(NAME, options);
    expect(hub.seen.map(({ url }) => url)).toEqual([`/api/models/${NAME}/revision/main?blobs=true`]);
    const [next, template] = ['beef'.padEnd(40, '0'), Buffer.from('{{ other }}')];
    hub.repositories.set(NAME, { commit: next, files: { ...whole, 'chat_template.jinja': template } });
    hub.reset();
    const path = await pull(NAME, options);
    expect(hub.seen).toHaveLength(2);
    expect(path).toBe(join(repositoryFolder(), 'snapshots', next));
    expect(readFileSync(join(path, 'chat_template.jinja')).equals(template)).toBe(true);
    expect(readFileSync(join(path, 'model.safetensors')).equals(weights())).toBe(true);
    expect(readFileSync(join(repositoryFolder(), 'refs', 'main'), 'utf8')).toBe(next);
  });

  it('takes the shards that the index names', async () => {
    const { 'model.safetensors': all, ...files } = whole;
    const index = {
      weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' },
    };
    const shards = {
      'model-00001-of-00002.safetensors': all.subarray(0, 100),
      'model-00002-of-00002.safetensors': all.subarray(100),
    };
    const indexed = {
      ...files,
      ...shards,
      'model.safetensors.index.json': Buffer.from(JSON.stringify(index)),
    };
    hub.repositories.set(NAME, { commit: COMMIT, files: indexed });
    const path = await pull(NAME, options);
    const names = readdirSync(path).filter((name) => name.includes('safetensors'));
    expect(names.sort()).toEqual([...Object.keys(shards), 'model.safetensors.index.json'].sort());
    hub.repositories.set(NAME, { commit: 'f'.repeat(40), files: { ...indexed, ...ggufs() } });
    delete (indexed as Record<string, Buffer>)['model-00002-of-00002.safetensors'];
    hub.repositories.set(NAME, { commit: 'f'.repeat(40), files: indexed });
    await expectError('SGEMOE_HUB_FILES', /index\.json names model-00002-of-00002\.safetensors/, () =>
      pull(NAME, options),
    );
  });

  it('asks for sizes and checksums of single files where the list has none', async () => {
    hub.repositories.set(NAME, { commit: COMMIT, files: whole, bare: true });
    const path = await pull(NAME, options);
    expect(readFileSync(join(path, 'model.safetensors')).equals(weights())).toBe(true);
    expect(blobs()).toContain(sha256(weights()));
    expect(blobs()).toContain(gitSha1(whole['config.json']));
  });

  it('takes a branch, a tag or a commit, by option or in the name', async () => {
    await pull(`${NAME}@refs/pr/1`, options);
    expect(readFileSync(join(repositoryFolder(), 'refs', 'refs', 'pr', '1'), 'utf8')).toBe(COMMIT);
    await pull(NAME, { ...options, revision: COMMIT });
    expect(readdirSync(join(repositoryFolder(), 'refs'))).toEqual(['refs']);
    await expectError('SGEMOE_HUB_NOT_FOUND', /no revision 'v1'; there is v1\.0, main/, () =>
      pull(`${NAME}@v1`, options),
    );
    await expect(pull(`${NAME}@a`, { ...options, revision: 'b' })).rejects.toThrow(
      /asks for revision a, the options for b/,
    );
    await expect(pull(NAME, { ...options, revision: '../up' })).rejects.toThrow(RangeError);
  });

  it('reports the bytes of the whole model as they arrive', async () => {
    const seen: PullProgress[] = [];
    await pull(NAME, { ...options, onProgress: (progress) => seen.push(progress) });
    const last = seen.at(-1)!;
    expect(last).toEqual({ file: 'model.safetensors', bytes: last.totalBytes, totalBytes: last.totalBytes });
    expect(seen.every(({ bytes }, i) => i === 0 || bytes >= seen[i - 1].bytes)).toBe(true);
  });

  it('moves the content into the snapshot where links are refused, and knows it there', async () => {
    links.refused = true;
    const path = await pull(NAME, options);
    expect(readFileSync(join(path, 'model.safetensors')).equals(weights())).toBe(true);
    expect(blobs()).toEqual([]);
    hub.reset();
    await pull(NAME, options);
    expect(hub.seen).toHaveLength(1);
  });

  it('copies a blob that was there already where links are refused', async () => {
    await pull(NAME, options);
    links.refused = true;
    hub.repositories.set(NAME, { commit: 'f'.repeat(40), files: whole });
    const path = await pull(NAME, options);
    expect(readFileSync(join(path, 'model.safetensors')).equals(weights())).toBe(true);
    expect(blobs()).toContain(sha256(weights()));
  });
});

describe('GGUF repositories', () => {
  const files = ggufs(
    'small-Q4_K_M.gguf',
    'small-Q8_0.gguf',
    'small.Q4_K.gguf',
    'mmproj-small-f16.gguf',
    'BF16/small.gguf',
  );
  const put = (content: Record<string, Buffer>) =>
    hub.repositories.set(NAME, { commit: COMMIT, files: content });

  it.each([
    ['small-Q8_0.gguf', 'small-Q8_0.gguf'],
    ['q4_k_m', 'small-Q4_K_M.gguf'],
    ['Q4_K', 'small.Q4_K.gguf'],
    ['bf16', 'BF16/small.gguf'],
    ['BF16/small.gguf', 'BF16/small.gguf'],
  ])('%s means %s', async (wanted, path) => {
    put(files);
    const found = await pull(`${NAME}:${wanted}`, options);
    expect(found).toBe(join(repositoryFolder(), 'snapshots', COMMIT, path));
    expect(readFileSync(found).equals(files[path])).toBe(true);
    expect(blobs()).toHaveLength(1);
  });

  it('a repository with one GGUF needs no name; one with several lists them', async () => {
    put(ggufs('only.gguf', 'mmproj-f16.gguf'));
    expect(await pull(NAME, options)).toMatch(/only\.gguf$/);
    put(files);
    const several = /several GGUF files.*maker\/small:small-Q4_K_M\.gguf.*small-Q8_0\.gguf \(20 B\)/;
    await expectError('SGEMOE_HUB_FILES', several, () => pull(NAME, options));
  });

  it('a file that is not there is told with close names', async () => {
    put(files);
    const close = /no GGUF file 'q4_k_s'; there is small\.Q4_K\.gguf|small-Q4_K_M\.gguf/;
    await expectError('SGEMOE_HUB_NOT_FOUND', close, () => pull(`${NAME}:q4_k_s`, options));
  });

  it('a split GGUF is refused by name, and so is a repository with nothing to read', async () => {
    put(ggufs('s-Q4_0-00001-of-00002.gguf', 's-Q4_0-00002-of-00002.gguf'));
    for (const name of [NAME, `${NAME}:q4_0`, `${NAME}:s-Q4_0-00001-of-00002.gguf`]) {
      await expectError('SGEMOE_HUB_FILES', /s-Q4_0-00001-of-00002\.gguf is a part/, () =>
        pull(name, options),
      );
    }
    put({ 'config.json': Buffer.from('{}'), 'pytorch_model.bin': Buffer.from('x') });
    await expectError('SGEMOE_HUB_FILES', /nothing that sgemoe reads/, () => pull(NAME, options));
  });
});

describe('downloads that go wrong', () => {
  const isWeights = (url: string) => url.includes('model.safetensors');

  it('a connection that is cut goes on where it ended', async () => {
    let cuts = 0;
    hub.fault = ({ server, url, headers }, response) => {
      if (server !== 'cdn' || !isWeights(url) || cuts === 5) return false;
      cuts++;
      const from = Number(/\d+/.exec(headers.range ?? '0')![0]);
      const total = weights().length;
      response.writeHead(from === 0 ? 200 : 206, {
        'content-length': total - from,
        ...(from > 0 && { 'content-range': `bytes ${from}-${total - 1}/${total}` }),
      });
      response.write(weights().subarray(from, from + 1000), () => response.destroy());
      return true;
    };
    const path = await pull(NAME, options);
    expect(readFileSync(join(path, 'model.safetensors')).equals(weights())).toBe(true);
    const ranges = hub.downloads('model.safetensors').map(({ headers }) => headers.range);
    expect(ranges).toEqual([undefined, ...Array.from({ length: 5 }, (_, i) => `bytes=${1000 * (i + 1)}-`)]);
  }, 60_000);

  it('goes on from what an earlier download left, and asks for nothing when that is whole', async () => {
    leavePartial(weights().subarray(0, 1234));
    await pull(NAME, options);
    expect(hub.downloads('model.safetensors').map(({ headers }) => headers.range)).toEqual(['bytes=1234-']);
    rmSync(repositoryFolder(), { recursive: true });
    hub.reset();
    leavePartial(weights());
    const path = await pull(NAME, options);
    expect(hub.downloads('model.safetensors')).toEqual([]);
    expect(readFileSync(join(path, 'model.safetensors')).equals(weights())).toBe(true);
  });

  it('begins anew when the server ignores ranges, and when what was left is wrong or too long', async () => {
    leavePartial(weights().subarray(0, 1234));
    hub.fault = ({ server, method }, response) => {
      if (server !== 'cdn') return false;
      sendFile({ headers: {}, method }, response, weights());
      return true;
    };
    const check = async () => {
      const path = await pull(NAME, options);
      expect(readFileSync(join(path, 'model.safetensors')).equals(weights())).toBe(true);
      rmSync(repositoryFolder(), { recursive: true });
    };
    await check();
    hub.reset();
    leavePartial(Buffer.alloc(1234));
    await check();
    expect(hub.downloads('model.safetensors').map(({ headers }) => headers.range)).toEqual([
      'bytes=1234-',
      undefined,
    ]);
    leavePartial(Buffer.alloc(weights().length + 1));
    await check();
  });

  it('wrong bytes are asked for twice and never become a file of the snapshot', async () => {
    const wrong = Buffer.from(weights());
    wrong[wrong.length - 1] ^= 1;
    hub.fault = ({ server, method }, response) => {
      if (server !== 'cdn') return false;
      sendFile({ headers: {}, method }, response, wrong);
      return true;
    };
    await expectError('SGEMOE_HUB_DAMAGED', /model\.safetensors.*checksum/, () => pull(NAME, options));
    expect(hub.downloads('model.safetensors')).toHaveLength(2);
    const files = readdirSync(repositoryFolder(), { recursive: true, encoding: 'utf8' });
    expect(
      files.filter((name) => name.includes('model.safetensors') || name.includes(sha256(weights()))),
    ).toEqual([]);
    expect(files.filter((name) => name.startsWith('refs'))).toEqual([]);
    hub.reset();
    rmSync(repositoryFolder(), { recursive: true });
    hub.fault = ({ url }, response) => {
      if (!url.includes('tokenizer.json')) return false;
      response.end('{"type":"evil","vocab_size":256}');
      return true;
    };
    await expectError('SGEMOE_HUB_DAMAGED', /tokenizer\.json.*checksum/, () => pull(NAME, options));
  });

  it('more bytes than the hub told are not written', async () => {
    hub.fault = ({ server }, response) => {
      if (server !== 'cdn') return false;
      response.end(Buffer.concat([weights(), Buffer.alloc(100_000)]));
      return true;
    };
    await expectError('SGEMOE_HUB_DAMAGED', /longer than the \d+ bytes/, () => pull(NAME, options));
    expect(statSync(partial()).size).toBeLessThanOrEqual(weights().length);
  });

  it('429 and 5xx are tried again after the time that the hub asks for, five times', async () => {
    const answers = [429, 503, 500];
    hub.fault = ({ url }, response) => {
      const status = url.includes('/revision/') ? answers.shift() : undefined;
      if (status === undefined) return false;
      response.writeHead(status, { 'retry-after': '0' });
      response.end();
      return true;
    };
    await pull(NAME, options);
    expect(answers).toEqual([]);
    hub.reset();
    hub.fault = (_, response) => {
      response.writeHead(429, { 'retry-after': '0' });
      response.end();
      return true;
    };
    rmSync(repositoryFolder(), { recursive: true });
    await expectError('SGEMOE_HUB_UNREACHABLE', /after 5 tries: it answers 429/, () => pull(NAME, options));
    expect(hub.seen).toHaveLength(5);
  });

  it('a connection that says nothing is given up and tried again', async () => {
    let silent = 1;
    hub.fault = ({ server }, response) => {
      if (server !== 'cdn' || silent-- <= 0) return false;
      response.writeHead(200, { 'content-length': weights().length });
      response.write(weights().subarray(0, 500));
      return true;
    };
    await pull(NAME, { ...options, stallTimeoutMs: 300 });
    expect(hub.downloads('model.safetensors').map(({ headers }) => headers.range)).toEqual([
      undefined,
      'bytes=500-',
    ]);
  });

  it('an abort keeps the part that has arrived, for the next call', async () => {
    const control = new AbortController();
    hub.fault = ({ server, headers }, response) => {
      if (server !== 'cdn' || headers.range !== undefined) return false;
      response.writeHead(200, { 'content-length': weights().length });
      response.write(weights().subarray(0, 800));
      return true;
    };
    const onProgress = ({ file, bytes }: PullProgress) => {
      if (file === 'model.safetensors' && bytes > 0) control.abort(new Error('enough'));
    };
    const stopped = pull(NAME, { ...options, signal: control.signal, onProgress });
    await expect(stopped).rejects.toThrow('enough');
    expect(statSync(partial()).size).toBe(800);
    await pull(NAME, options);
    expect(hub.downloads('model.safetensors').at(-1)!.headers.range).toBe('bytes=800-');
  });

  it('a hub that is not there is an error, and no obstacle to what the cache has', async () => {
    const closed = 'http://127.0.0.1:9';
    await pull(NAME, options);
    notes.length = 0;
    expect(await pull(NAME, { ...options, endpoint: closed })).toMatch(/c0ffee0+$/);
    expect(notes.join()).toMatch(
      /127\.0\.0\.1:9 can't be reached, after 2 tries: .*The copy in the cache is used/,
    );
    hub.fault = (_, response) => {
      response.end('<html>');
      return true;
    };
    const none = () => pull('maker/other', options);
    await expectError('SGEMOE_HUB_UNREACHABLE', /doesn't answer as a hub does/, none);
  });

  it('a cache folder that is a file is told', async () => {
    const file = join(cacheDir, 'file');
    writeFileSync(file, '');
    const failing = () => pull(NAME, { ...options, cacheDir: file });
    await expectError('SGEMOE_HUB_WRITE', /cache folder .*file can't be written/, failing);
  });
});

it.runIf(existsSync('/dev/full'))(
  'a disk that fills while a file arrives is told, and the rest comes later',
  async () => {
    mkdirSync(dirname(partial()), { recursive: true });
    symlinkSync('/dev/full', partial());
    await expectError('SGEMOE_HUB_WRITE', /can't be written: no space left on the device \(ENOSPC\)/, () =>
      pull(NAME, options),
    );
    rmSync(partial());
    const path = await pull(NAME, options);
    expect(readFileSync(join(path, 'model.safetensors')).equals(weights())).toBe(true);
    expect(hub.downloads('chat_template.jinja')).toHaveLength(1);
  },
);

describe('tokenizerOnly', () => {
  it("takes the tokenizer's files alone, and refuses a repository without them by name", async () => {
    const path = await pull(NAME, { ...options, tokenizerOnly: true });
    expect(readdirSync(path).sort()).toEqual([
      'chat_template.jinja',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    const { 'tokenizer.json': _, ...without } = whole;
    hub.repositories.set('maker/none', { commit: COMMIT, files: without });
    await expectError('SGEMOE_HUB_FILES', /maker\/none has no tokenizer\.json, and no GGUF file/, () =>
      pull('maker/none', { ...options, tokenizerOnly: true }),
    );
  });
});

describe('several downloads at once', () => {
  it('share one download of each file', async () => {
    const paths = await Promise.all([pull(NAME, options), pull(NAME, options), pull(NAME, options)]);
    expect(new Set(paths).size).toBe(1);
    expect(hub.downloads('model.safetensors')).toHaveLength(1);
    expect(readFileSync(join(paths[0], 'model.safetensors')).equals(weights())).toBe(true);
  });

  it('a lock whose file does not grow is not waited for', async () => {
    const locks = join(cacheDir, '.locks', 'models--maker--small');
    mkdirSync(locks, { recursive: true });
    // An owner that can't be seen from here, as on a shared disk.
    const owner = {
      pid: 1,
      host: `not ${hostname()}`,
      since: '',
      purpose: 'a download',
      processStart: null,
      id: 'x',
    };
    writeFileSync(join(locks, `${sha256(weights())}.sgemoe.lock`), JSON.stringify(owner));
    leavePartial(weights().subarray(0, 99));
    const path = await pull(NAME, { ...options, stallTimeoutMs: 200 });
    expect(readFileSync(join(path, 'model.safetensors')).equals(weights())).toBe(true);
    expect(statSync(partial()).size).toBe(99);
    expect(notes.join()).toContain('Another process downloads model.safetensors');
    expect(blobs().filter((name) => name.endsWith('.incomplete'))).toHaveLength(1);
  });
});

describe('access', () => {
  const TOKEN = 'hf_secret';

  it('the token goes to the hub and never to another host, nor into a message', async () => {
    hub.repositories.set(NAME, { commit: COMMIT, files: whole, token: TOKEN });
    await pull(NAME, { ...options, token: TOKEN });
    const sent = (server: string) =>
      hub.seen.filter((each) => each.server === server).map(({ headers }) => headers.authorization);
    expect(new Set(sent('hub'))).toEqual(new Set([`Bearer ${TOKEN}`]));
    expect(sent('cdn')).toEqual([undefined]);
    expect(notes.join()).not.toContain(TOKEN);
    const unsendable = pull(NAME, { ...options, token: 'hf_secret\nx' });
    await expect(unsendable).rejects.toThrow(/printable ASCII without spaces$/);
  });

  it('gated, private and missing models say what to do', async () => {
    hub.repositories.set(NAME, { commit: COMMIT, files: whole, token: TOKEN, gated: true });
    const terms = /maker\/small is gated: accept its terms at http.*\/maker\/small, and set HF_TOKEN/;
    await expectError('SGEMOE_HUB_ACCESS', terms, () => pull(NAME, options));
    const others = /gated.*with the account of your token/;
    await expectError('SGEMOE_HUB_ACCESS', others, () => pull(NAME, { ...options, token: 'hf_other' }));
    const missing =
      /no model maker\/smal, or it is private, which needs a token \(HF_TOKEN\); there is maker\/small/;
    await expectError('SGEMOE_HUB_NOT_FOUND', missing, () => pull('maker/smal', options));
    hub.fault = (_, response) => {
      response.writeHead(401, { 'x-error-message': 'Invalid credentials in Authorization header' });
      response.end();
      return true;
    };
    await expectError('SGEMOE_HUB_ACCESS', /refuses the token/, () =>
      pull(NAME, { ...options, token: 'hf_old' }),
    );
  });

  it('takes endpoint, token, cache folder and offline from the variables of huggingface_hub', async () => {
    hub.repositories.set(NAME, { commit: COMMIT, files: whole, token: TOKEN });
    const env = { HF_ENDPOINT: `${hub.endpoint}/`, HF_HOME: cacheDir };
    writeFileSync(join(cacheDir, 'token'), `${TOKEN}\n`);
    expect(await pullFrom(NAME, {}, env)).toBe(
      join(cacheDir, 'hub', 'models--maker--small', 'snapshots', COMMIT),
    );
    const other = join(cacheDir, 'other');
    const path = await pullFrom(NAME, {}, { ...env, HF_TOKEN: TOKEN, HF_HUB_CACHE: other });
    expect(path.startsWith(other)).toBe(true);
    expect(await pullFrom(NAME, {}, { HOME: cacheDir, HF_HUB_CACHE: '~/other', HF_HUB_OFFLINE: '1' })).toBe(
      path,
    );
    await expect(pullFrom(NAME, {}, { ...env, HF_ENDPOINT: 'ftp://x:secret@y' })).rejects.toThrow(
      /without user and password$/,
    );
    const anonymous = () => pullFrom(NAME, {}, { ...env, HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' });
    await expectError('SGEMOE_HUB_NOT_FOUND', /needs a token/, anonymous);
  });

  it('offline makes no request and takes only what is whole', async () => {
    const offline = { ...options, offline: true };
    await expectError('SGEMOE_HUB_NOT_FOUND', /not whole, in .*offline/, () => pull(NAME, offline));
    const path = await pull(NAME, options);
    hub.reset();
    expect(await pull(NAME, offline)).toBe(path);
    rmSync(join(path, 'model.safetensors'));
    await expectError('SGEMOE_HUB_NOT_FOUND', /not whole/, () => pull(NAME, offline));
    expect(hub.seen).toEqual([]);
  });
});

describe('a hub that lies', () => {
  it.each(['../../../evil.gguf', '/evil.gguf', 'a/../../evil.gguf', 'a\\..\\evil.gguf', 'C:evil.gguf', ''])(
    'file %j is no file of the model',
    async (name) => {
      hub.repositories.set(NAME, { commit: COMMIT, files: { [name]: Buffer.from('GGUF') } });
      await expectError('SGEMOE_HUB_FILES', /nothing that sgemoe reads/, () => pull(NAME, options));
      expect(readdirSync(cacheDir)).toEqual([]);
    },
  );

  it.each(['../../evil', 'main', 'C'.repeat(40), 7])('commit %j is refused', async (commit) => {
    hub.repositories.set(NAME, { commit: commit as string, files: whole });
    await expectError('SGEMOE_HUB_UNREACHABLE', /doesn't answer as a hub does/, () => pull(NAME, options));
    expect(readdirSync(cacheDir)).toEqual([]);
  });

  it('a file without a checksum is refused', async () => {
    hub.repositories.set(NAME, { commit: COMMIT, files: whole, bare: true });
    hub.fault = ({ method }, response) => {
      if (method !== 'HEAD') return false;
      response.writeHead(200, { etag: '"../../../evil"', 'content-length': 5 });
      response.end();
      return true;
    };
    await expectError('SGEMOE_HUB_DAMAGED', /no checksum/, () => pull(NAME, options));
    expect(readdirSync(cacheDir)).toEqual([]);
  });

  it('more bytes than any disk has are refused before the download', async () => {
    const list = {
      sha: COMMIT,
      siblings: [{ rfilename: 'a.gguf', size: 2 ** 52, lfs: { sha256: 'a'.repeat(64) } }],
    };
    hub.fault = (_, response) => {
      response.end(JSON.stringify(list));
      return true;
    };
    await expectError('SGEMOE_HUB_WRITE', /needs 4,500 TB.*HF_HUB_CACHE/, () => pull(NAME, options));
    expect(hub.seen).toHaveLength(1);
  });
});

describe('names in place of paths', () => {
  it('load and inspectCheckpoint take them, quietly', async () => {
    const warn = vi.spyOn(process, 'emitWarning');
    const { onNote: _, ...quiet } = options;
    const model = await MoETransformer.load(NAME, { hub: quiet });
    expect(model.config.hiddenDim).toBe(SMALL.hiddenDim);
    expect(
      (await inspectCheckpoint(`hf.co/${NAME}`, { hub: { ...quiet, offline: true } })).parameters.total,
    ).toBe(model.config.totalParams());
    expect(warn).not.toHaveBeenCalled();
    warn.mockRestore();
  });

  it('a folder or file here comes first, and so does the folder of the owner, unless the name begins with hf.co', async () => {
    const before = process.cwd();
    process.chdir(cacheDir);
    try {
      mkdirSync('maker');
      expect(await modelPath(NAME, options)).toBe(NAME);
      expect(hub.seen).toEqual([]);
      expect(await modelPath(`hf.co/${NAME}`, options)).toMatch(/c0ffee0+$/);
      mkdirSync(NAME);
      hub.reset();
      expect(await modelPath(NAME, options)).toBe(NAME);
      expect(hub.seen).toEqual([]);
    } finally {
      process.chdir(before);
    }
  });

  it.each([
    'model',
    './maker/small',
    '../maker/small',
    'maker/small/best',
    '/maker/small',
    'maker/model.gguf',
    'C:\\maker/small',
    'maker/sm all',
    'maker/-small',
    '',
  ])('%j is a path', async (path) => {
    expect(await modelPath(path, options)).toBe(path);
    expect(hub.seen).toEqual([]);
  });

  it('a name that nobody has is told with both places', async () => {
    const both = /no folder or file maker\/none here\. http.* has no model maker\/none/;
    await expectError('SGEMOE_HUB_NOT_FOUND', both, () =>
      MoETransformer.load('maker/none', { hub: options }),
    );
    await expect(pull('no name', options)).rejects.toThrow(/name must be org\/name/);
  });
});
