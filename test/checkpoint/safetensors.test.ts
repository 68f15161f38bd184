import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/base/errors';
import { SgemoeError } from '../../src/base/errors';
import {
  type Dtype,
  readSafetensorsHeader,
  SafetensorsFile,
  type TensorSource,
  writeSafetensors,
} from '../../src/checkpoint/safetensors';
import { expectError } from '../helpers/expectError';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sgemoe-safetensors-'));
  path = join(folder, 'file.safetensors');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A file with this header text (or bytes), this many bytes of data, and this length field. */
function fileBytes(header: string | Uint8Array, dataBytes: number, length?: bigint): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

const tensor = (shape: unknown, offsets: unknown, dtype: unknown = 'F32') => ({
  dtype,
  shape,
  data_offsets: offsets,
});

async function readAll(): Promise<Map<string, TensorSource>> {
  const file = await SafetensorsFile.open(path);
  try {
    const all = new Map<string, TensorSource>();
    for (const { name, dtype, shape } of file.tensors.values()) {
      all.set(name, { name, dtype, shape, data: await file.read(name) });
    }
    return all;
  } finally {
    await file.close();
  }
}

describe('a file that lies', () => {
  const HEADER = 'SGEMOE_CHECKPOINT_HEADER';
  const OFFSETS = 'SGEMOE_CHECKPOINT_OFFSETS';
  const TRUNCATED = 'SGEMOE_CHECKPOINT_TRUNCATED';
  const DTYPE = 'SGEMOE_CHECKPOINT_DTYPE';
  const one = JSON.stringify({ a: tensor([2], [0, 8]) });
  const invalidUtf8 = Uint8Array.from(
    [...'{"'].map((c) => c.charCodeAt(0)).concat(0xff, 0x22, 0x3a, 0x31, 0x7d),
  );

  const cases: [string, Uint8Array, ErrorCode, RegExp][] = [
    ['is empty', new Uint8Array(0), TRUNCATED, /has 0 bytes, too few for the header length/],
    ['ends inside the header length', new Uint8Array(7), TRUNCATED, /has 7 bytes/],
    ['has a header of length 0', fileBytes('', 0), HEADER, /header length is 0/],
    ['has a header of 2^60 bytes', fileBytes(one, 8, 2n ** 60n), HEADER, /1152921504606846976 bytes, above/],
    ['has a header of 2^64 - 1 bytes', fileBytes(one, 8, 2n ** 64n - 1n), HEADER, /18446744073709551615/],
    ['has a header above the limit', fileBytes(one, 8, 100_000_001n), HEADER, /limit of 100000000/],
    [
      'has a header longer than the file',
      fileBytes(one, 0, 99_999_999n),
      TRUNCATED,
      /header should have 99999999/,
    ],
    ['has a header that is not JSON', fileBytes('{"a":', 0), HEADER, /not JSON in UTF-8/],
    ['has a header cut short', fileBytes(one, 8, 20n), HEADER, /not JSON in UTF-8/],
    ['has a header with a byte order mark', fileBytes('\ufeff{}', 0), HEADER, /not JSON in UTF-8/],
    ['has a header padded with zeros', fileBytes('{}\0\0', 0), HEADER, /not JSON in UTF-8/],
    ['has a header that is not UTF-8', fileBytes(invalidUtf8, 0), HEADER, /not JSON in UTF-8/],
    ['has a list for a header', fileBytes('[]', 0), HEADER, /not a JSON object/],
    ['has null for a header', fileBytes('null', 0), HEADER, /not a JSON object/],
    ['has a name twice', fileBytes(`{"a":1,${one.slice(1)}`, 8), HEADER, /key "a" twice/],
    ['has a name twice, once escaped', fileBytes(`{"\\u0061":1,${one.slice(1)}`, 8), HEADER, /key "a" twice/],
    [
      'has a field twice',
      fileBytes('{"a":{"dtype":"F32","shape":[9],"shape":[2],"data_offsets":[0,8]}}', 8),
      HEADER,
      /key "shape" twice/,
    ],
    [
      'has a number for an entry',
      fileBytes('{"a":5}', 0),
      HEADER,
      /entry of tensor "a" is not a JSON object/,
    ],
    ['has null for an entry', fileBytes('{"a":null}', 0), HEADER, /entry of tensor "a"/],
    ['has a list for an entry', fileBytes('{"a":[]}', 0), HEADER, /entry of tensor "a"/],
    [
      'has no dtype',
      fileBytes('{"a":{"shape":[2],"data_offsets":[0,8]}}', 8),
      HEADER,
      /tensor "a" has no dtype/,
    ],
    ['has a number for a dtype', headed({ a: tensor([2], [0, 8], 32) }, 8), HEADER, /no dtype/],
    ['has an unknown dtype', headed({ a: tensor([2], [0, 8], 'Q4') }, 8), DTYPE, /tensor "a" .*dtype "Q4"/],
    [
      'has a dtype named like a method',
      headed({ a: tensor([2], [0, 8], 'toString') }, 8),
      DTYPE,
      /"toString"/,
    ],
    [
      'has no shape',
      fileBytes('{"a":{"dtype":"F32","data_offsets":[0,8]}}', 8),
      HEADER,
      /shape of tensor "a"/,
    ],
    ['has a string for a shape', headed({ a: tensor('2', [0, 8]) }, 8), HEADER, /shape of tensor "a"/],
    ['has a negative dimension', headed({ a: tensor([-2, -1], [0, 8]) }, 8), HEADER, /shape of tensor "a"/],
    ['has a fractional dimension', headed({ a: tensor([0.5, 4], [0, 8]) }, 8), HEADER, /shape of tensor "a"/],
    [
      'has a dimension of 2^53',
      headed({ a: tensor([2 ** 53, 0], [0, 0]) }, 0),
      HEADER,
      /shape of tensor "a"/,
    ],
    ['has a string dimension', headed({ a: tensor(['2'], [0, 8]) }, 8), HEADER, /shape of tensor "a"/],
    ['has a shape that overflows', headed({ a: tensor([2 ** 30, 2 ** 30], [0, 8]) }, 8), HEADER, /overflows/],
    ['has bytes that overflow', headed({ a: tensor([2 ** 52], [0, 8], 'F64') }, 8), HEADER, /overflows/],
    [
      'has no offsets',
      fileBytes('{"a":{"dtype":"F32","shape":[2]}}', 8),
      HEADER,
      /data_offsets of tensor "a"/,
    ],
    ['has one offset', headed({ a: tensor([2], [8]) }, 8), HEADER, /data_offsets of tensor "a"/],
    ['has three offsets', headed({ a: tensor([2], [0, 8, 8]) }, 8), HEADER, /data_offsets of tensor "a"/],
    ['has a negative offset', headed({ a: tensor([2], [-8, 0]) }, 8), HEADER, /data_offsets of tensor "a"/],
    [
      'has a fractional offset',
      headed({ a: tensor([2], [0.5, 8.5]) }, 9),
      HEADER,
      /data_offsets of tensor "a"/,
    ],
    ['has an offset of 2^53', headed({ a: tensor([2], [2 ** 53, 2 ** 53]) }, 8), HEADER, /data_offsets/],
    [
      'has swapped offsets',
      headed({ a: tensor([2], [8, 0]) }, 8),
      OFFSETS,
      /tensor "a": F32 \[2\] takes 8 bytes/,
    ],
    ['has offsets too short', headed({ a: tensor([2], [0, 4]) }, 4), OFFSETS, /its offsets are \[0, 4\]/],
    ['has offsets too long', headed({ a: tensor([2], [0, 12]) }, 12), OFFSETS, /its offsets are \[0, 12\]/],
    [
      'has overlapping tensors',
      headed({ a: tensor([2], [0, 8]), b: tensor([2], [4, 12]) }, 12),
      OFFSETS,
      /tensor "b" overlaps .* starts at 4, expected 8/,
    ],
    [
      'has two tensors at one place',
      headed({ a: tensor([2], [0, 8]), b: tensor([2], [0, 8]) }, 8),
      OFFSETS,
      /overlaps/,
    ],
    [
      'has an empty tensor inside another',
      headed({ a: tensor([2], [0, 8]), b: tensor([0], [4, 4]) }, 8),
      OFFSETS,
      /tensor "b" overlaps/,
    ],
    [
      'has a hole between tensors',
      headed({ a: tensor([1], [0, 4]), b: tensor([1], [8, 12]) }, 12),
      OFFSETS,
      /tensor "b" leaves a hole before it: it starts at 8, expected 4/,
    ],
    ['has a hole at the start', headed({ a: tensor([1], [4, 8]) }, 8), OFFSETS, /hole before it/],
    ['has offsets far outside', headed({ a: tensor([1], [2 ** 50, 2 ** 50 + 4]) }, 4), OFFSETS, /hole/],
    [
      'ends inside the data',
      headed({ a: tensor([1], [0, 4]), b: tensor([2], [4, 12]) }, 11),
      TRUNCATED,
      /data of tensor "b"/,
    ],
    [
      'promises petabytes',
      headed({ a: tensor([2 ** 49], [0, 2 ** 51]) }, 8),
      TRUNCATED,
      /data of tensor "a"/,
    ],
    [
      'promises the largest size',
      headed({ a: tensor([2 ** 53 - 1], [0, 2 ** 53 - 1], 'U8') }, 8),
      TRUNCATED,
      /tensor "a"/,
    ],
    [
      'has bytes at the end',
      headed({ a: tensor([1], [0, 4]) }, 5),
      OFFSETS,
      /1 bytes at the end belong to no tensor/,
    ],
    ['has data but no tensors', headed({}, 4), OFFSETS, /4 bytes at the end/],
    ['has a list for metadata', headed({ __metadata__: [] }, 0), HEADER, /__metadata__ is not a JSON object/],
    [
      'has a number in the metadata',
      headed({ __metadata__: { step: 5 } }, 0),
      HEADER,
      /entry "step" is not a string/,
    ],
  ];

  function headed(header: object, dataBytes: number): Uint8Array {
    return fileBytes(JSON.stringify(header), dataBytes);
  }

  it.each(cases)('%s', async (_, bytes, code, message) => {
    await writeFile(path, bytes);
    const error = await expectError(code, message, () => SafetensorsFile.open(path));
    expect(error.message).toContain(path);
  });

  it('is deeply nested', async () => {
    await writeFile(path, fileBytes(`{"a":${'['.repeat(200_000)}${']'.repeat(200_000)}}`, 0));
    await expectError(HEADER, /entry of tensor "a"/, () => SafetensorsFile.open(path));
  });

  it('has a name with control characters, which a message shows escaped and cut', async () => {
    await writeFile(path, headed({ [`\u001b[2J${'x'.repeat(5000)}`]: 5 }, 0));
    const error = await expectError(HEADER, /tensor "\\u001b\[2Jx+\.\.\."/, () => SafetensorsFile.open(path));
    expect(error.message.length).toBeLessThan(folder.length + 300);
  });
});

describe('a file that can not be opened', () => {
  const NOT_FOUND = 'SGEMOE_CHECKPOINT_NOT_FOUND';

  it('is named', async () => {
    const missing = join(folder, 'missing.safetensors');
    const error = await expectError(NOT_FOUND, /missing\.safetensors: there is no such file/, () =>
      readSafetensorsHeader(missing),
    );
    expect((error.cause as NodeJS.ErrnoException).code).toBe('ENOENT');
    await expectError(NOT_FOUND, /not a regular file/, () => SafetensorsFile.open(folder));
  });

  it.skipIf(process.platform === 'win32')('is a pipe that nobody writes to', async () => {
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    await expectError(NOT_FOUND, /not a regular file/, () => SafetensorsFile.open(join(folder, 'pipe')));
  });
});

describe('a valid file', () => {
  it('may have names of prototype members, no tensors, padding, and fields to come', async () => {
    const entry = JSON.stringify(tensor([1], [0, 4])).replace('}', ',"later":{"x":1}}');
    await writeFile(path, fileBytes(`{"__proto__":${entry},"__metadata__":{"__proto__":"p"}}   \n`, 4));
    const header = await readSafetensorsHeader(path);
    expect([...header.tensors.keys()]).toEqual(['__proto__']);
    expect([...header.metadata]).toEqual([['__proto__', 'p']]);
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
    await writeFile(path, fileBytes('{}', 0));
    expect((await readSafetensorsHeader(path)).tensors.size).toBe(0);
  });

  it('may list tensors in any order and have empty ones at any border', async () => {
    const header = {
      c: tensor([0, 3], [8, 8]),
      b: tensor([1], [4, 8]),
      e: tensor([0], [0, 0]),
      a: tensor([], [0, 4]),
    };
    await writeFile(path, fileBytes(JSON.stringify(header), 8));
    const { tensors } = await readSafetensorsHeader(path);
    expect([...tensors.keys()]).toEqual(['e', 'a', 'b', 'c']);
  });

  it('converts F16 and BF16 exactly, in chunks, or gives their bits', async () => {
    const bits = Uint16Array.from({ length: 65_536 + 3 }, (_, i) => i);
    await writeSafetensors(path, [
      { name: 'half', dtype: 'F16', shape: [bits.length], data: bits },
      { name: 'brain', dtype: 'BF16', shape: [bits.length], data: bits },
    ]);
    const file = await SafetensorsFile.open(path);
    const half = new Float32Array(bits.length);
    const brain = new Float32Array(bits.length);
    await file.readInto('half', half);
    await file.readInto('brain', brain);
    const raw = await file.read('half');
    await file.close();
    expect(raw).toEqual(bits);
    const known: [number, number][] = [
      [0x3c00, 1],
      [0xc000, -2],
      [0x7bff, 65504],
      [1, 2 ** -24],
      [0x7c00, Infinity],
    ];
    for (const [index, value] of known) expect(half[index]).toBe(value);
    expect([half[0x7e00], half[65_536 + 1]]).toEqual([Number.NaN, 2 ** -24]);
    const words = new Uint32Array(brain.buffer);
    const finite = (index: number): boolean => (index & 0x7f80) !== 0x7f80;
    expect(words.every((word, i) => !finite(bits[i]) || word === bits[i] * 65_536)).toBe(true);
    expect([brain[0x3f80], brain[0xc000], brain[65_536 + 1]]).toEqual([1, -2, brain[1]]);
  });

  it('reads into shared memory and views, and only there', async () => {
    await writeSafetensors(path, [{ name: 'a', dtype: 'F32', shape: [3], data: Float32Array.of(1, 2, 3) }]);
    const memory = new Float32Array(new SharedArrayBuffer(40)).fill(9);
    const file = await SafetensorsFile.open(path);
    await file.readInto('a', memory.subarray(5, 8));
    await file.close();
    expect([...memory]).toEqual([9, 9, 9, 9, 9, 1, 2, 3, 9, 9]);
  });

  it('refuses destinations that do not fit, and unknown names', async () => {
    await writeSafetensors(path, [{ name: 'a', dtype: 'I64', shape: [2], data: BigInt64Array.of(1n, 2n) }]);
    const file = await SafetensorsFile.open(path);
    await expectError(
      'SGEMOE_CHECKPOINT_DTYPE',
      /tensor "a" is I64 and can not be read into a Float32Array/,
      () => file.readInto('a', new Float32Array(2)),
    );
    await expect(file.readInto('a', new BigInt64Array(3))).rejects.toThrow(
      new RangeError('destination of tensor "a" must have 2 elements, got 3'),
    );
    await expectError('SGEMOE_CHECKPOINT_MISSING_TENSOR', /no tensor "toString"/, () =>
      file.read('toString'),
    );
    await truncate(path, 20);
    await expectError('SGEMOE_CHECKPOINT_TRUNCATED', /tensor "a"; it has shrunk/, () => file.read('a'));
    await file.close();
  });
});

describe('writeSafetensors', () => {
  const arrays: Record<Dtype, (bytes: Uint8Array<ArrayBuffer>) => TensorSource['data']> = {
    F64: (b) => new Float64Array(b.buffer),
    F32: (b) => new Float32Array(b.buffer),
    F16: (b) => new Uint16Array(b.buffer),
    BF16: (b) => new Uint16Array(b.buffer),
    F8_E4M3: (b) => b,
    F8_E5M2: (b) => b,
    I64: (b) => new BigInt64Array(b.buffer),
    I32: (b) => new Int32Array(b.buffer),
    I16: (b) => new Int16Array(b.buffer),
    I8: (b) => new Int8Array(b.buffer),
    U64: (b) => new BigUint64Array(b.buffer),
    U32: (b) => new Uint32Array(b.buffer),
    U16: (b) => new Uint16Array(b.buffer),
    U8: (b) => b,
    BOOL: (b) => b,
  };
  const bytesOf = ({ buffer, byteOffset, byteLength }: TensorSource['data']): Uint8Array =>
    new Uint8Array(buffer, byteOffset, byteLength);

  const names = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('__proto__', 'constructor', '1', '"\\\n'),
  );
  const source: fc.Arbitrary<TensorSource> = fc
    .record({
      name: names.filter((name) => name !== '__metadata__'),
      dtype: fc.constantFrom(...(Object.keys(arrays) as Dtype[])),
      shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
      fill: fc.nat(255),
    })
    .map(({ name, dtype, shape, fill }) => {
      const elements = shape.reduce((product, dim) => product * dim, 1);
      const size = arrays[dtype](new Uint8Array(8)).BYTES_PER_ELEMENT;
      const bytes = Uint8Array.from({ length: elements * size }, (_, i) => (i * 37 + fill) & 255);
      return { name, dtype, shape, data: arrays[dtype](bytes) };
    });
  const metadata = fc.dictionary(names, fc.string({ unit: 'binary' }));

  it('gives back what it was given: names, dtypes, shapes, bytes, metadata', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(source, { selector: (t) => t.name }),
        metadata,
        async (tensors, pairs) => {
          await writeSafetensors(path, tensors, pairs);
          const again = await readAll();
          expect(again.size).toBe(tensors.length);
          for (const { name, dtype, shape, data } of tensors) {
            const found = again.get(name)!;
            expect([found.dtype, found.shape]).toEqual([dtype, shape]);
            expect(bytesOf(found.data)).toEqual(bytesOf(data));
          }
          expect([...(await readSafetensorsHeader(path)).metadata]).toEqual(Object.entries(pairs));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('pads the header to 8 bytes and aligns every tensor to its elements', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(source, { selector: (t) => t.name }), async (tensors) => {
        await writeSafetensors(path, tensors);
        const bytes = await readFile(path);
        expect(bytes.readBigUInt64LE(0) % 8n).toBe(0n);
        expect(String.fromCharCode(bytes[8])).toBe('{');
        const header = await readSafetensorsHeader(path);
        for (const { name, data } of tensors) {
          expect(header.tensors.get(name)!.byteOffset % data.BYTES_PER_ELEMENT).toBe(0);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('refuses tensors that do not fit before it touches the file', async () => {
    await writeFile(path, 'kept');
    const good: TensorSource = { name: 'a', dtype: 'F32', shape: [2], data: new Float32Array(2) };
    const bad: [Partial<TensorSource>, new () => Error, RegExp][] = [
      [{ name: '__metadata__' }, TypeError, /tensor name must be/],
      [{ name: '\ud800' }, TypeError, /well-formed/],
      [{ dtype: 'F31' as Dtype }, TypeError, /dtype of tensor "b" must be one of/],
      [{ data: new Float64Array(2) }, TypeError, /must be a Float32Array for F32/],
      [{ shape: [3] }, RangeError, /shape of tensor "b" must hold 2 elements, got \[3\]/],
      [{ shape: [-1, -2] }, RangeError, /shape of tensor "b"/],
      [{ name: 'a' }, RangeError, /got "a" twice/],
    ];
    for (const [change, type, message] of bad) {
      const attempt = writeSafetensors(path, [good, { ...good, name: 'b', ...change }]);
      await expect(attempt).rejects.toThrow(type);
      await expect(attempt).rejects.toThrow(message);
    }
    const numbers = { step: 5 } as unknown as Record<string, string>;
    await expect(writeSafetensors(path, [good], numbers)).rejects.toThrow(
      'metadata["step"] must be a string',
    );
    expect(await readFile(path, 'utf8')).toBe('kept');
  });

  it('says why a file can not be written', async () => {
    const nowhere = join(folder, 'no', 'where.safetensors');
    const error = await expectError('SGEMOE_CHECKPOINT_WRITE', /could not be written: .*ENOENT/, () =>
      writeSafetensors(nowhere, []),
    );
    expect((error.cause as NodeJS.ErrnoException).code).toBe('ENOENT');
  });

  it.skipIf(process.platform !== 'linux')('says that the disk is full', async () => {
    const tensors: TensorSource[] = [{ name: 'a', dtype: 'U8', shape: [9], data: new Uint8Array(9) }];
    await expectError('SGEMOE_CHECKPOINT_WRITE', /no space left on the device \(ENOSPC\)/, () =>
      writeSafetensors('/dev/full', tensors),
    );
  });
});

it('either loads a damaged file or throws a SgemoeError, whatever bytes change', async () => {
  const original = await readFile('test/fixtures/gqa/model.safetensors');
  const headerEnd = 8 + Number(original.readBigUInt64LE(0));
  const position = fc.oneof(fc.nat(15), fc.nat(headerEnd - 1), fc.nat(original.length - 1));
  const byte = fc.oneof(
    fc.nat(255),
    fc.constantFrom(...[...'0123456789-.,:[]{}" \\e'].map((c) => c.charCodeAt(0))),
  );
  const edits = fc.array(fc.tuple(position, byte), { minLength: 1, maxLength: 4 });
  const length = fc.oneof(fc.constant(original.length), fc.nat(original.length + 100));
  let loaded = 0;
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(edits, length, async (changes, size) => {
      const bytes = new Uint8Array(size);
      bytes.set(original.subarray(0, size));
      for (const [at, value] of changes) if (at < size) bytes[at] = value;
      await writeFile(path, bytes);
      try {
        await readAll();
        loaded++;
      } catch (error) {
        expect(error).toBeInstanceOf(SgemoeError);
        expect((error as SgemoeError).code).toMatch(/^SGEMOE_CHECKPOINT_/);
        refused++;
      }
    }),
    { numRuns: 1000 },
  );
  expect(loaded).toBeGreaterThan(20);
  expect(refused).toBeGreaterThan(100);
});
