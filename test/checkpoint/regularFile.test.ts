/** Things that a folder may hold in place of a file: pipes, devices, pointers of git-lfs, files that fill the memory. */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  ByteTokenizer,
  type ErrorCode,
  loadCheckpoint,
  MoETransformer,
  readTokenizer,
  TextDataset,
} from '../../src';
import {
  MAX_CONFIG_BYTES,
  MAX_INDEX_BYTES,
  MAX_TEMPLATE_BYTES,
  MAX_TOKENIZER_BYTES,
  MAX_TOKENIZER_CONFIG_BYTES,
} from '../../src/checkpoint/regularFile';
import { expectError } from '../helpers/expectError';
import { hfDir } from '../helpers/hfFixture';
import { smallModel } from '../helpers/smallModel';

const newFolder = () => mkdtempSync(join(tmpdir(), 'regular-'));
const load = async (dir: string) => (await loadCheckpoint(dir)).tensors.close();

/** A checkpoint with every file that it may have; its weights in shards. */
async function checkpoint(): Promise<string> {
  const dir = newFolder();
  cpSync(hfDir('qwen2_moe'), dir, { recursive: true });
  writeFileSync(join(dir, 'tokenizer.json'), JSON.stringify(new ByteTokenizer().toJSON()));
  writeFileSync(join(dir, 'tokenizer_config.json'), '{}');
  writeFileSync(join(dir, 'chat_template.jinja'), 'x');
  return dir;
}

const INDEX = 'model.safetensors.index.json';
const FILES: [string, ErrorCode, number][] = [
  ['config.json', 'SGEMOE_CONFIG_INVALID', MAX_CONFIG_BYTES],
  ['generation_config.json', 'SGEMOE_CONFIG_INVALID', MAX_CONFIG_BYTES],
  ['tokenizer.json', 'SGEMOE_TOKENIZER_INVALID', MAX_TOKENIZER_BYTES],
  ['tokenizer_config.json', 'SGEMOE_TOKENIZER_INVALID', MAX_TOKENIZER_CONFIG_BYTES],
  ['chat_template.jinja', 'SGEMOE_TOKENIZER_INVALID', MAX_TEMPLATE_BYTES],
  [INDEX, 'SGEMOE_CHECKPOINT_NOT_FOUND', MAX_INDEX_BYTES],
];
const NOT_REGULAR = /it is not a regular file/;

describe.each(FILES)('%s', (name, code, maxBytes) => {
  test.skipIf(process.platform === 'win32')('a named pipe or a device is refused at once', async () => {
    const dir = await checkpoint();
    const path = join(dir, name);
    rmSync(path);
    execFileSync('mkfifo', [path]);
    await expectError(code, NOT_REGULAR, () => load(dir));
    rmSync(path);
    symlinkSync('/dev/zero', path);
    await expectError(code, NOT_REGULAR, () => load(dir));
  });

  test('more bytes than any tool writes are refused, unread', async () => {
    const dir = await checkpoint();
    truncateSync(join(dir, name), maxBytes + 1);
    const both = new RegExp(`it has ${maxBytes + 1} bytes, at most ${maxBytes} are read`);
    await expectError(code, both, () => load(dir));
  });

  test('a link to a file is followed, as caches of Hugging Face have them', async () => {
    const dir = await checkpoint();
    const elsewhere = join(newFolder(), 'blob');
    renameSync(join(dir, name), elsewhere);
    symlinkSync(elsewhere, join(dir, name));
    await load(dir);
  });
});

describe('JSON files', () => {
  const JSON_FILES = FILES.filter(([name]) => name.endsWith('.json'));

  test.each(JSON_FILES)('%s may begin with a byte order mark', async (name) => {
    const dir = await checkpoint();
    const plain = (await MoETransformer.load(dir)).parameter('model.norm.weight').data;
    const path = join(dir, name);
    writeFileSync(path, `\uFEFF${readFileSync(path, 'utf8')}`);
    expect((await MoETransformer.load(dir)).parameter('model.norm.weight').data).toEqual(plain);
    expect((await readTokenizer(dir)).vocabSize).toBe(256);
  });

  test.each(JSON_FILES)('%s may be a pointer of git-lfs, and the message says so', async (name, code) => {
    const dir = await checkpoint();
    writeFileSync(join(dir, name), pointer(1234));
    const index = name === INDEX ? 'SGEMOE_CHECKPOINT_INDEX' : code;
    await expectError(index, /git-lfs pointer, not the file of 1234 bytes itself; run `git lfs pull`/, () =>
      load(dir),
    );
  });
});

/** The pointer that a clone without git-lfs has in place of a file. */
function pointer(size: number): string {
  return `version https://git-lfs.github.com/spec/v1\noid sha256:${'4d7a'.repeat(16)}\nsize ${size}\n`;
}

describe('weights', () => {
  test('a pointer of git-lfs is reported, in one file and in a shard', async () => {
    const dir = newFolder();
    await smallModel().save(dir);
    writeFileSync(join(dir, 'model.safetensors'), pointer(99));
    const wanted = /safetensors: it is a git-lfs pointer, not the file of 99 bytes itself/;
    await expectError('SGEMOE_CHECKPOINT_HEADER', wanted, () => MoETransformer.load(dir));
    const sharded = await checkpoint();
    writeFileSync(join(sharded, 'model-00002-of-00003.safetensors'), pointer(99));
    await expectError('SGEMOE_CHECKPOINT_HEADER', wanted, () => MoETransformer.load(sharded));
  });

  test.skipIf(process.platform === 'win32')('a pipe or a device is refused', async () => {
    const dir = newFolder();
    await smallModel().save(dir);
    const path = join(dir, 'model.safetensors');
    rmSync(path);
    symlinkSync('/dev/zero', path);
    await expectError('SGEMOE_CHECKPOINT_NOT_FOUND', NOT_REGULAR, () => load(dir));
    rmSync(path);
    execFileSync('mkfifo', [path]);
    await expectError('SGEMOE_CHECKPOINT_NOT_FOUND', NOT_REGULAR, () => load(dir));
  });
});

describe.skipIf(process.platform === 'win32')('texts', () => {
  test('a pipe or a device is no training text, nor a tokenizer', async () => {
    const pipe = join(newFolder(), 'pipe');
    execFileSync('mkfifo', [pipe]);
    for (const path of [pipe, '/dev/zero']) {
      const wanted = /is neither a regular file nor a folder/;
      await expectError('SGEMOE_DATA_NOT_FOUND', wanted, () => TextDataset.fromPaths([path]));
      await expectError('SGEMOE_TOKENIZER_INVALID', NOT_REGULAR, () => readTokenizer(path));
    }
  });

  test('in a folder of texts it is skipped', async () => {
    const dir = newFolder();
    execFileSync('mkfifo', [join(dir, 'a.txt')]);
    writeFileSync(join(dir, 'b.txt'), 'some text '.repeat(100));
    const dataset = await TextDataset.fromPaths([dir]);
    expect(dataset.tokenizer.vocabSize).toBe(256);
  });
});
