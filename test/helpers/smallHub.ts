/** A hub on loopback with one small model, and a cache of its own for each test. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { type HubOptions, MoETransformer } from '../../src';
import { FakeHub, sha256 } from './fakeHub';
import { SMALL } from './smallModel';

export const COMMIT = 'c0ffee'.padEnd(40, '0');
export const NAME = 'maker/small';
export const hub = new FakeHub();
export let cacheDir: string;
export let options: HubOptions;
export let notes: string[];
export let whole: Record<string, Buffer>;

/** Opens the hub for the tests of a file. Before each test it has the model, and the cache is empty. */
export function useHub(): void {
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
    rmSync(cacheDir, { recursive: true });
  });
}

export const repositoryFolder = () => join(cacheDir, 'models--maker--small');
export const blobs = () => readdirSync(join(repositoryFolder(), 'blobs')).sort();
export const weights = () => whole['model.safetensors'];
export const partial = () => join(repositoryFolder(), 'blobs', `${sha256(weights())}.sgemoe.incomplete`);
export const leavePartial = (bytes: Buffer) => {
  mkdirSync(join(repositoryFolder(), 'blobs'), { recursive: true });
  writeFileSync(partial(), bytes);
};
/** Files of equal content, for repositories whose weights don't matter. */
export const ggufs = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, Buffer.from(`GGUF ${name}`)]));
