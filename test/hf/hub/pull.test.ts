import { mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { MoETransformer, type PullProgress, pull } from '../../../src';
import { expectError } from '../../helpers/expectError';
import { gitSha1, sha256 } from '../../helpers/fakeHub';
import {
  blobs,
  COMMIT,
  cacheDir,
  ggufs,
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

afterEach(() => {
  links.refused = false;
});

useHub();

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
