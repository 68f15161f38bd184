import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type CheckpointContent,
  loadCheckpoint,
  loadTensorsInto,
  type NamedTensor,
  saveCheckpoint,
} from '../../src/checkpoint/checkpoint';
import { SafetensorsFile, type TensorSource, writeSafetensors } from '../../src/checkpoint/safetensors';
import { expectError } from '../helpers/expectError';

let folder: string;
let dir: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sgemoe-checkpoint-'));
  dir = join(folder, 'run');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A checkpoint whose three files all tell its version. */
function content(version: number, elements = 6): CheckpointContent {
  const data = new Float32Array(elements).fill(version);
  const tensors: NamedTensor[] = [{ name: 'w', shape: [elements / 2, 2], data }];
  return { config: { version }, tokenizer: { version }, tensors, metadata: { version: String(version) } };
}

async function versions(): Promise<unknown[]> {
  const { config, tokenizer, tensors } = await loadCheckpoint(dir);
  try {
    const [weight] = await tensors.read('w');
    return [config.version, tokenizer?.version, weight, Number(tensors.metadata.get('version'))];
  } finally {
    await tensors.close();
  }
}

describe('saveCheckpoint', () => {
  it('writes what loadCheckpoint reads, into a folder made for it', async () => {
    dir = join(folder, 'not', 'yet', 'there');
    await saveCheckpoint(dir, content(1));
    expect((await readdir(dir)).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    expect(await versions()).toEqual([1, 1, 1, 1]);
    expect(await readFile(join(dir, 'config.json'), 'utf8')).toBe('{\n  "version": 1\n}\n');
  });

  it('replaces its own files and leaves the others of the folder alone', async () => {
    await saveCheckpoint(dir, content(1));
    await writeFile(join(dir, 'metrics.jsonl'), 'kept');
    await mkdir(join(dir, 'samples'));
    await saveCheckpoint(dir, content(2));
    expect(await versions()).toEqual([2, 2, 2, 2]);
    expect(await readFile(join(dir, 'metrics.jsonl'), 'utf8')).toBe('kept');
    expect((await readdir(dir)).sort()).toEqual([
      'config.json',
      'metrics.jsonl',
      'model.safetensors',
      'samples',
      'tokenizer.json',
    ]);
  });

  it('keeps the tokenizer that is there when none is given', async () => {
    await saveCheckpoint(dir, content(1));
    await saveCheckpoint(dir, { ...content(2), tokenizer: undefined });
    expect(await versions()).toEqual([2, 1, 2, 2]);
  });

  it('writes views into shared memory without their surroundings', async () => {
    const shared = new Float32Array(new SharedArrayBuffer(64)).map((_, i) => i);
    const tensors = [
      { name: 'b', shape: [2, 2], data: shared.subarray(9, 13) },
      { name: 'a', shape: [], data: shared.subarray(3, 4) },
    ];
    await saveCheckpoint(dir, { config: {}, tensors });
    const loaded = await loadCheckpoint(dir);
    expect(loaded.tokenizer).toBeNull();
    expect(await loaded.tensors.read('b')).toEqual(Float32Array.of(9, 10, 11, 12));
    expect(await loaded.tensors.read('a')).toEqual(Float32Array.of(3));
    await loaded.tensors.close();
  });

  it('refuses tensors that do not fit before it touches the folder', async () => {
    const bad = [{ name: 'w', shape: [7], data: new Float32Array(6) }];
    await expect(saveCheckpoint(dir, { config: {}, tensors: bad })).rejects.toThrow(RangeError);
    expect(await readdir(folder)).toEqual([]);
  });

  it('says why it can not write, and keeps what was there', async () => {
    await writeFile(dir, 'a file');
    const error = await expectError(
      'SGEMOE_CHECKPOINT_WRITE',
      /run could not be written, .* untouched: .*EEXIST/,
      () => saveCheckpoint(dir, content(1)),
    );
    expect((error.cause as NodeJS.ErrnoException).code).toBe('EEXIST');
    expect(await readFile(dir, 'utf8')).toBe('a file');
  });

  it('takes simultaneous saves to one folder one after the other', async () => {
    await Promise.all([1, 2, 3, 4].map((version) => saveCheckpoint(dir, content(version))));
    expect(await versions()).toEqual([4, 4, 4, 4]);
    expect(await readdir(dir)).toHaveLength(3);
  });

  /** A reader that saves overtake again and again is told so. */
  function refusedAsTooBusy(error: Error): [null] {
    expect(error.message).toMatch(/being replaced again and again/);
    return [null];
  }

  it('never shows a reader the files of two checkpoints', async () => {
    await saveCheckpoint(dir, content(0));
    const seen = new Set<unknown>();
    let saving = true;
    const saves = (async () => {
      // On, until the reader has seen several: a slow disk may let it through only between two of them.
      for (let version = 1; saving && (version <= 40 || seen.size < 2); version++)
        await saveCheckpoint(dir, content(version));
      saving = false;
    })();
    try {
      while (saving) {
        const found = await versions().catch(refusedAsTooBusy);
        expect(new Set(found).size, found.join()).toBe(1);
        if (found[0] !== null) seen.add(found[0]);
      }
    } finally {
      saving = false;
      await saves;
    }
    expect(seen.size).toBeGreaterThan(1);
  });
});

describe('loadCheckpoint', () => {
  it('says which file or folder is missing', async () => {
    const code = 'SGEMOE_CHECKPOINT_NOT_FOUND';
    await expectError(code, /run: there is no such checkpoint folder/, () => loadCheckpoint(dir));
    await mkdir(dir);
    await expectError(code, /run: there is no config\.json in this folder/, () => loadCheckpoint(dir));
    await cp('test/fixtures/micro/config.json', join(dir, 'config.json'));
    await expectError(code, /model\.safetensors: there is no such file/, () => loadCheckpoint(dir));
    const file = join(dir, 'config.json');
    await expectError(code, /no such checkpoint folder/, () => loadCheckpoint(file));
  });

  it.each(['{', '[]', 'null', '5', ''])('refuses a config or tokenizer that is %j', async (text) => {
    await saveCheckpoint(dir, content(1));
    await writeFile(join(dir, 'tokenizer.json'), text);
    await expectError('SGEMOE_TOKENIZER_INVALID', /tokenizer\.json/, () => loadCheckpoint(dir));
    await writeFile(join(dir, 'config.json'), text);
    await expectError('SGEMOE_CONFIG_INVALID', /config\.json/, () => loadCheckpoint(dir));
  });
});

describe('loadTensorsInto', () => {
  const f32 = (name: string, shape: number[], value: number): TensorSource => ({
    name,
    dtype: 'F32',
    shape,
    data: new Float32Array(shape.reduce((product, dim) => product * dim, 1)).fill(value),
  });
  const wanted = (name: string, shape: number[]): NamedTensor => ({
    ...f32(name, shape, -7),
    data: f32(name, shape, -7).data as Float32Array,
  });

  async function load(stored: TensorSource[], expected: NamedTensor[]): Promise<void> {
    const path = join(folder, 'file.safetensors');
    await writeSafetensors(path, stored);
    const file = await SafetensorsFile.open(path);
    try {
      await loadTensorsInto(file, expected);
    } finally {
      await file.close();
    }
  }

  it('fills every tensor, half precision converted', async () => {
    const expected = [wanted('a', [2, 3]), wanted('h', [2]), wanted('b', [1])];
    await load(
      [
        f32('a', [2, 3], 5),
        { name: 'b', dtype: 'BF16', shape: [1], data: Uint16Array.of(0x3fc0) },
        { name: 'h', dtype: 'F16', shape: [2], data: Uint16Array.of(0x3c00, 0xc000) },
      ],
      expected,
    );
    expect(expected.map(({ data }) => [...data])).toEqual([[5, 5, 5, 5, 5, 5], [1, -2], [1.5]]);
  });

  const int64: TensorSource = { name: 'b', dtype: 'I64', shape: [2], data: new BigInt64Array(2) };
  it.each([
    ['MISSING_TENSOR', [f32('a', [2], 1)], /needs tensor "b", which the file does not hold/],
    ['MISSING_TENSOR', [], /needs tensors "a", "b"/],
    [
      'EXTRA_TENSOR',
      ['a', 'b', 'c', 'd', 'e', 'f'].map((n) => f32(n, [2], 1)),
      /holds tensors "c", "d", "e" and 1 more/,
    ],
    [
      'SHAPE',
      [f32('a', [2], 1), f32('b', [1, 2], 1)],
      /tensor "b" has shape \[1, 2\] in the file, \[2\] in the model/,
    ],
    [
      'SHAPE',
      [f32('a', [2], 1), f32('b', [3], 1)],
      /tensor "b" has shape \[3\] in the file, \[2\] in the model/,
    ],
    ['DTYPE', [f32('a', [2], 1), int64], /tensor "b" is I64, must be F32, F16 or BF16/],
  ] as const)('throws %s and writes nothing', async (code, stored, message) => {
    const expected = [wanted('a', [2]), wanted('b', [2])];
    await expectError(`SGEMOE_CHECKPOINT_${code}`, message, () => load([...stored], expected));
    for (const { data } of expected) expect([...data]).toEqual([-7, -7]);
  });
});

describe.skipIf(process.platform !== 'linux')('a folder in which nothing can be made', () => {
  // Node's own recursive mkdir never returns in this case.
  it('fails at once, with the reason', async () => {
    const content = { config: {}, tensors: [] };
    await expectError('SGEMOE_CHECKPOINT_WRITE', /proc/, () => saveCheckpoint('/proc/sgemoe/run', content));
  });
});
