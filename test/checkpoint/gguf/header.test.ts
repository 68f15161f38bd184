import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../../src/base/errors';
import { SgemoeError } from '../../../src/base/errors';
import { GgufFile } from '../../../src/checkpoint/gguf/ggufFile';
import { parseGgufHeader } from '../../../src/checkpoint/gguf/header';
import { expectError } from '../../helpers/expectError';
import { type GgufContent, ggufBytes, join, text, u32, u64, type Value } from '../../helpers/ggufWriter';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(joinPath(tmpdir(), 'sgemoe-gguf-'));
  path = joinPath(folder, 'file.gguf');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const magic = new TextEncoder().encode('GGUF');
const one = { name: 'a', shape: [2], data: Float32Array.of(1, 2) };
const raw = (...bytes: Uint8Array[]): Value => ({ type: 'raw', bytes: join(...bytes) });
const withValue = (value: Value): GgufContent => ({ metadata: [['key', value]] });
const ALL = 2n ** 64n - 1n;
const huge = new Uint8Array(new BigUint64Array([ALL]).buffer);
const tensorInfo = (...parts: Uint8Array[]) =>
  join(magic, u32(3), u64(1), u64(0), ...parts, new Uint8Array(64));

const HEADER = 'SGEMOE_CHECKPOINT_HEADER';
const OFFSETS = 'SGEMOE_CHECKPOINT_OFFSETS';
const TRUNCATED = 'SGEMOE_CHECKPOINT_TRUNCATED';
const DTYPE = 'SGEMOE_CHECKPOINT_DTYPE';

const LIES: Record<string, [ErrorCode, Uint8Array, RegExp]> = {
  'an empty file': [TRUNCATED, new Uint8Array(0), /ends inside its header/],
  'another magic': [
    HEADER,
    join(new TextEncoder().encode('GGML'), u32(3), u64(0), u64(0)),
    /begin with "GGUF"/,
  ],
  'version 1': [HEADER, ggufBytes({ version: 1 }), /version of GGUF is 1/],
  'version 4': [HEADER, ggufBytes({ version: 4 }), /version of GGUF is 4/],
  'a big-endian file': [HEADER, ggufBytes({ version: 0x03000000 }), /big-endian/],
  'more tensors than the file can hold': [
    TRUNCATED,
    join(magic, u32(3), huge, u64(0)),
    /tensors are promised/,
  ],
  'more metadata than the file can hold': [TRUNCATED, join(magic, u32(3), u64(0), huge), /metadata entries/],
  'a key longer than the file': [
    TRUNCATED,
    join(magic, u32(3), u64(0), u64(1), huge, new Uint8Array(20)),
    /bytes of a metadata key/,
  ],
  'a key that is not UTF-8': [
    HEADER,
    join(magic, u32(3), u64(0), u64(1), u64(1), Uint8Array.of(0xff), new Uint8Array(20)),
    /metadata key is not UTF-8/,
  ],
  'a key twice': [
    HEADER,
    ggufBytes({
      metadata: [
        ['k', { type: 'u32', value: 1 }],
        ['k', { type: 'u32', value: 2 }],
      ],
    }),
    /"k" stands there twice/,
  ],
  'an unknown value type': [HEADER, ggufBytes(withValue(raw(u32(13), u64(0)))), /unknown value type 13/],
  'a truth value of 2': [HEADER, ggufBytes(withValue({ type: 'bool', value: 2 })), /truth value/],
  'a string longer than the file': [TRUNCATED, ggufBytes(withValue(raw(u32(8), huge))), /bytes of the value/],
  'an array of an unknown type': [
    HEADER,
    ggufBytes(withValue(raw(u32(9), u32(77), u64(0)))),
    /unknown value type 77/,
  ],
  'an array longer than the file': [
    TRUNCATED,
    ggufBytes(withValue(raw(u32(9), u32(4), huge))),
    /elements of "key"/,
  ],
  'arrays nested without end': [
    HEADER,
    ggufBytes(
      withValue(raw(u32(9), ...Array.from({ length: 9 }, () => join(u32(9), u64(1))), new Uint8Array(99))),
    ),
    /nests arrays/,
  ],
  'an alignment of 12': [
    HEADER,
    ggufBytes({ metadata: [['general.alignment', { type: 'u32', value: 12 }]] }),
    /power of two/,
  ],
  'an alignment that is a text': [
    HEADER,
    ggufBytes({ metadata: [['general.alignment', { type: 'string', value: '32' }]] }),
    /got string/,
  ],
  'a tensor twice': [HEADER, ggufBytes({ tensors: [one, one] }), /"a" stands there twice/],
  'five dimensions': [HEADER, ggufBytes({ tensors: [{ ...one, shape: [1, 1, 1, 1, 2] }] }), /5 dimensions/],
  'a dimension of 0': [HEADER, ggufBytes({ tensors: [{ ...one, shape: [0] }] }), /impossible/],
  'a shape that overflows': [
    HEADER,
    ggufBytes({ tensors: [{ ...one, shape: [2 ** 40, 2 ** 40] }] }),
    /impossible/,
  ],
  'a dimension of 2^64 - 1': [HEADER, tensorInfo(text('a'), u32(1), huge, u32(0), u64(0)), /impossible/],
  'a tensor type that is not read': [
    DTYPE,
    ggufBytes({ tensors: [{ ...one, type: 23 }] }),
    /of type IQ4_XS; read are F32/,
  ],
  'a tensor type that nobody knows': [
    DTYPE,
    ggufBytes({ tensors: [{ ...one, type: 999 }] }),
    /of type number 999/,
  ],
  'rows that blocks do not divide': [HEADER, ggufBytes({ tensors: [{ ...one, type: 2 }] }), /blocks of 32/],
  'tensors that overlap': [
    OFFSETS,
    ggufBytes({ tensors: [one, { ...one, name: 'b', offset: 0 }] }),
    /overlaps/,
  ],
  'a hole between tensors': [
    OFFSETS,
    ggufBytes({ tensors: [one, { ...one, name: 'b', offset: 64 }] }),
    /hole/,
  ],
  'an offset that is not aligned': [OFFSETS, ggufBytes({ tensors: [{ ...one, offset: 8 }] }), /hole/],
  'an offset of 2^64 - 1': [OFFSETS, tensorInfo(text('a'), u32(1), u64(2), u32(0), huge), /hole/],
  'data that end early': [
    TRUNCATED,
    ggufBytes({ tensors: [{ ...one, shape: [64] }] }),
    /ends inside the data of tensor "a"/,
  ],
  'bytes that belong to no tensor': [
    OFFSETS,
    join(ggufBytes({ tensors: [one] }), new Uint8Array(32)),
    /belong to no tensor/,
  ],
};

describe('a GGUF file that lies', () => {
  for (const [what, [code, bytes, message]] of Object.entries(LIES)) {
    it(`is refused for ${what}`, async () => {
      await writeFile(path, bytes);
      await expectError(code, message, () => GgufFile.open(path));
    });
  }

  it('is refused when it is missing, a folder, or a named pipe', async () => {
    await expectError('SGEMOE_CHECKPOINT_NOT_FOUND', /no such file/, () =>
      GgufFile.open(joinPath(folder, 'none.gguf')),
    );
    await expectError('SGEMOE_CHECKPOINT_NOT_FOUND', /not a regular file/, () => GgufFile.open(folder));
    if (process.platform === 'win32') return;
    const pipe = joinPath(folder, 'pipe.gguf');
    execFileSync('mkfifo', [pipe]);
    await expectError('SGEMOE_CHECKPOINT_NOT_FOUND', /not a regular file/, () => GgufFile.open(pipe));
  });

  it('is refused with advice when it is a git-lfs pointer', async () => {
    await writeFile(path, 'version https://git-lfs.github.com/spec/v1\nsize 77\n');
    await expectError(HEADER, /git lfs pull/, () => GgufFile.open(path));
  });

  it('ends in a coded error when it shrinks after it was opened', async () => {
    await writeFile(path, ggufBytes({ tensors: [one] }));
    const file = await GgufFile.open(path);
    await truncate(path, 100);
    await truncate(path, 64);
    const reading = file.readPartInto(file.tensors.get('a')!, 0, new Float32Array(2));
    await expectError(TRUNCATED, /has shrunk/, () => reading);
    await file.close();
  });
});

const RICH = ggufBytes({
  metadata: [
    ['general.architecture', { type: 'string', value: 'llama' }],
    ['u64', { type: 'u64', value: 2 ** 40 }],
    ['yes', { type: 'bool', value: 1 }],
    ['half', { type: 'f32', value: 0.5 }],
    ['words', { type: 'array', of: 'string', values: ['a', 'ß', ''] }],
    ['numbers', { type: 'array', of: 'u32', values: [1, 2 ** 32 - 1] }],
    ['nested', raw(u32(9), u32(9), u64(2), u32(4), u64(1), u32(7), u32(4), u64(0))],
  ],
  tensors: [one, { name: 'b', shape: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) }],
});

it('reads values of every kind, and tensors with their slowest axis first', async () => {
  await writeFile(path, RICH);
  await using file = await opened();
  expect(Object.fromEntries(file.metadata)).toEqual({
    'general.architecture': 'llama',
    u64: 2 ** 40,
    yes: true,
    half: 0.5,
    words: ['a', 'ß', ''],
    numbers: Uint32Array.of(1, 2 ** 32 - 1),
    nested: [Uint32Array.of(7), new Uint32Array(0)],
  });
  expect(file.tensors.get('b')).toMatchObject({ type: 'F32', shape: [3, 2], elements: 6, byteLength: 24 });
  const part = new Float32Array(3);
  await file.readPartInto(file.tensors.get('b')!, 2, part);
  expect([...part]).toEqual([3, 4, 5]);
  await expect(file.readPartInto(file.tensors.get('b')!, 4, part)).rejects.toThrow(RangeError);
});

async function opened() {
  const file = await GgufFile.open(path);
  return Object.assign(file, { [Symbol.asyncDispose]: () => file.close() });
}

it('reads a header longer than its first try', async () => {
  const words = Array.from({ length: 200_000 }, (_, i) => `word${i}`);
  await writeFile(
    path,
    ggufBytes({ metadata: [['words', { type: 'array', of: 'string', values: words }]], tensors: [one] }),
  );
  await using file = await opened();
  expect(file.metadata.get('words')).toEqual(words);
});

it('ends in a coded error or a valid reading, whatever bytes are changed', () => {
  const change = fc.record({ at: fc.nat(RICH.length - 1), byte: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), fc.nat(RICH.length), (changes, cut) => {
      const bytes = RICH.slice(0, cut < 200 ? RICH.length : cut);
      for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte;
      try {
        const header = parseGgufHeader('file', bytes, bytes.length)!;
        for (const { byteOffset, byteLength } of header.tensors.values())
          expect(byteOffset + byteLength).toBeLessThanOrEqual(bytes.length);
      } catch (error) {
        expect(error).toBeInstanceOf(SgemoeError);
      }
    }),
    { numRuns: 5000 },
  );
});
