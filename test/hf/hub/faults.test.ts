import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type PullProgress, pull } from '../../../src';
import { expectError } from '../../helpers/expectError';
import { sendFile, sha256 } from '../../helpers/fakeHub';
import {
  COMMIT,
  cacheDir,
  hub,
  leavePartial,
  NAME,
  notes,
  options,
  partial,
  repositoryFolder,
  useHub,
  weights,
  whole,
} from '../../helpers/smallHub';

useHub();

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
