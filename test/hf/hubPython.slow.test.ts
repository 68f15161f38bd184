/** Python's huggingface_hub and `pull` share a cache folder: what one has downloaded the other finds. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { pull } from '../../src';
import { FakeHub } from '../helpers/fakeHub';

const COMMIT = 'c0ffee'.padEnd(40, '0');
const NAME = 'maker/small';
const FILES = {
  'config.json': Buffer.from('{}'),
  'tokenizer.json': Buffer.from('{"type":"byte"}'),
  'model.safetensors': Buffer.alloc(300_000, 7),
};

const folder = mkdtempSync(join(tmpdir(), 'sgemoe hub python-'));
const packages = join(folder, 'packages');
const hub = new FakeHub();
let missing: string | undefined;
let caches = 0;
let cacheDir: string;

beforeAll(async () => {
  await hub.open();
  hub.repositories.set(NAME, { commit: COMMIT, files: FILES });
  try {
    execFileSync('python3', ['-m', 'pip', 'install', '--quiet', '--target', packages, 'huggingface_hub'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  } catch (error) {
    missing = `pip can't install huggingface_hub: ${(error as Error).message}`;
    if (process.env.CI !== undefined) throw new Error(missing);
  }
});
afterAll(async () => {
  await hub.close();
  rmSync(folder, { recursive: true });
});
beforeEach((context) => {
  if (missing !== undefined) context.skip(missing);
  cacheDir = join(folder, `cache ${caches++}`);
  hub.reset();
});

/** Runs a program with huggingface_hub; returns the lines that it prints. It must not block: the hub is in this process. */
async function python(program: string, env: Record<string, string> = {}): Promise<string[]> {
  const all = {
    PATH: process.env.PATH!,
    PYTHONPATH: packages,
    HF_HOME: folder,
    HF_HUB_CACHE: cacheDir,
    ...env,
  };
  const whole = `from huggingface_hub import hf_hub_download, snapshot_download\n${program}`;
  const { stdout } = await promisify(execFile)('python3', ['-c', whole], {
    env: { ...all, HF_ENDPOINT: hub.endpoint, HF_HUB_DISABLE_TELEMETRY: '1' },
  });
  return stdout.trim().split('\n');
}

const contents = () => hub.seen.filter(({ method, url }) => method === 'GET' && !url.startsWith('/api/'));
const all = Object.keys(FILES);

it('Python finds what pull has downloaded, offline and online', async () => {
  const path = await pull(NAME, { endpoint: hub.endpoint, cacheDir, token: null });
  const each = `for name in ${JSON.stringify(all)}: print(hf_hub_download('${NAME}', name))`;
  const snapshot = `print(snapshot_download('${NAME}'))`;
  const found = await python(`${each}\n${snapshot}`, { HF_HUB_OFFLINE: '1' });
  expect(found).toEqual([...all.map((name) => join(path, name)), path]);
  hub.reset();
  expect(await python(each)).toEqual(all.map((name) => join(path, name)));
  expect(hub.seen.length).toBeGreaterThan(0);
  expect(contents()).toEqual([]);
});

it('pull finds what Python has downloaded, offline and online', async () => {
  const paths = await python(`for name in ${JSON.stringify(all)}: print(hf_hub_download('${NAME}', name))`);
  expect(contents()).toHaveLength(3);
  const blobs = paths.map((path) => realpathSync(path));
  hub.reset();
  const options = { endpoint: hub.endpoint, cacheDir, token: null };
  const path = await pull(NAME, { ...options, offline: true });
  expect(await pull(NAME, options)).toBe(path);
  expect(all.map((name) => join(path, name))).toEqual(paths);
  expect(contents()).toEqual([]);
  expect(all.map((name) => realpathSync(join(path, name)))).toEqual(blobs);
  expect(readdirSync(join(path, '..', '..', 'blobs'))).toHaveLength(3);
});
