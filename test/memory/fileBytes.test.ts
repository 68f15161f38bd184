import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, test } from 'vitest';
import { getKernels } from '../../src/backend';
import type { KernelMemory } from '../../src/backend/kernelMemory';
import { createReferenceKernels } from '../../src/backend/reference';
import { fileStamp } from '../../src/base/fileStamp';
import { FileBytes } from '../../src/memory/fileBytes';
import { expectError } from '../helpers/expectError';

const folder = mkdtempSync(join(tmpdir(), 'sgemoe-bytes-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PAGE = 2 ** 16; // a multiple of every system's page
const maps = getKernels().memory.mapFile !== undefined;
/** Whether the system lets a mapped file shrink. */
const shrinks = maps && process.platform !== 'win32';

let files = 0;
/** A file in which byte i is i * 7 + i / 256. */
function makeFile(bytes: number): { path: string; stamp: string; content: Uint8Array } {
  const path = join(folder, `file-${files++}`);
  const content = Uint8Array.from({ length: bytes }, (_, i) => i * 7 + (i >> 8));
  writeFileSync(path, content);
  return { path, content, stamp: fileStamp(statSync(path, { bigint: true })) };
}

const RANGES = [
  { offset: 3 * PAGE - 1, bytes: 5 },
  { offset: 1, bytes: 2 * PAGE },
  { offset: 7, bytes: 0 },
  { offset: 2, bytes: 3 },
];

const memories: [string, KernelMemory][] = [
  ['this backend', getKernels().memory],
  ['a backend that maps nothing', createReferenceKernels().memory],
  ['a host without external buffers', { ...getKernels().memory, mapFile: () => null }],
  [
    'a file system that maps nothing',
    {
      ...getKernels().memory,
      mapFile: () => {
        throw new Error('mmap failed');
      },
    },
  ],
];

describe.each(memories)('FileBytes with %s', (name, memory) => {
  test('has the bytes of every range, at any offset', () => {
    const file = makeFile(4 * PAGE);
    const bytes = FileBytes.open(memory, file, RANGES);
    expect(bytes.mapped).toBe(name === 'this backend' && maps);
    expect(bytes.byteLength).toBe(2 * PAGE + 8);
    bytes.parts.forEach((part, i) => {
      const { offset, bytes: length } = RANGES[i];
      expect(Buffer.compare(part, file.content.subarray(offset, offset + length)), `range ${i}`).toBe(0);
    });
    bytes.requireUnchanged();
  });

  test('never writes to the file', () => {
    const file = makeFile(PAGE);
    FileBytes.open(memory, file, [{ offset: 0, bytes: PAGE }]).parts[0].fill(0);
    expect(Buffer.compare(readFileSync(file.path), file.content)).toBe(0);
  });

  test('refuses a file that is not the one whose header was read', async () => {
    const file = makeFile(PAGE);
    writeFileSync(file.path, new Uint8Array(2 * PAGE));
    const open = () => FileBytes.open(memory, file, [{ offset: 0, bytes: PAGE }]);
    await expectError('SGEMOE_CHECKPOINT_CHANGED', /has changed since its header was read/, open);
  });

  test('refuses a range outside the file, and a file that is gone', async () => {
    const file = makeFile(100);
    for (const range of [
      { offset: 90, bytes: 11 },
      { offset: -1, bytes: 2 },
    ]) {
      expect(() => FileBytes.open(memory, file, [range])).toThrow(RangeError);
    }
    rmSync(file.path);
    const open = () => FileBytes.open(memory, file, [{ offset: 0, bytes: 10 }]);
    await expectError('SGEMOE_CHECKPOINT_NOT_FOUND', /reading failed/, open);
  });
});

test('large pages are asked for where matrices of 4 MiB and more lie, as one where these follow each other', () => {
  const MIB = 2 ** 20;
  const path = join(folder, 'large');
  writeFileSync(path, '');
  truncateSync(path, 32 * MIB);
  let asked: number[] = [];
  const memory: KernelMemory = {
    ...getKernels().memory,
    mapFile: (_path, _ranges, regions) => {
      asked = [...regions];
      return null;
    },
  };
  FileBytes.open(memory, { path, stamp: fileStamp(statSync(path, { bigint: true })) }, [
    { offset: 4 * MIB + 100, bytes: 4 * MIB },
    { offset: 0, bytes: 4 * MIB },
    { offset: 9 * MIB, bytes: 4 * MIB - 1 },
    { offset: 20 * MIB, bytes: 5 * MIB },
  ]);
  expect(asked).toEqual([0, 8 * MIB + 100, 20 * MIB, 5 * MIB]);
});

describe.runIf(shrinks)('a mapped file', () => {
  const open = (pages: number) => {
    const file = makeFile(pages * PAGE);
    const bytes = FileBytes.open(getKernels().memory, file, [{ offset: 0, bytes: pages * PAGE }]);
    return { file, bytes };
  };

  // Of 128 pages it has 8 MiB, for which Linux is asked for large pages.
  test.each([8, 128])(
    'of %i pages that is truncated reads as zeros behind its end, in every thread, and is then refused',
    async (pages) => {
      const { file, bytes } = open(pages);
      const [all] = bytes.parts;
      all[2] = 1; // in this thread's copy of the page
      expect(all[(pages - 2) * PAGE]).toBe(file.content[(pages - 2) * PAGE]);
      truncateSync(file.path, PAGE);
      expect(all[0]).toBe(file.content[0]);
      expect(all[2]).toBe(1);
      for (const at of [pages * PAGE - 1, 3 * PAGE, 5 * PAGE]) expect(all[at]).toBe(0);
      const floats = new Float32Array(all.buffer, 0, (pages * PAGE) / 4);
      expect(getKernels().sumSquares(floats, PAGE, PAGE)).toBe(0); // threads of the pool
      await expectError('SGEMOE_CHECKPOINT_CHANGED', /was shortened, or a part of it/, () =>
        bytes.requireUnchanged(),
      );
    },
  );

  test('that is truncated is refused even if nothing behind the end was read', async () => {
    const { file, bytes } = open(2);
    truncateSync(file.path, PAGE);
    await expectError('SGEMOE_CHECKPOINT_CHANGED', /was changed while/, () => bytes.requireUnchanged());
  });

  test('that is written to is refused', async () => {
    const { file, bytes } = open(1);
    writeFileSync(file.path, new Uint8Array(PAGE), { flag: 'r+' });
    await expectError('SGEMOE_CHECKPOINT_CHANGED', /was changed while/, () => bytes.requireUnchanged());
  });

  test('that is deleted or replaced stays what it was', () => {
    const { file, bytes } = open(2);
    rmSync(file.path);
    writeFileSync(file.path, 'another file');
    expect(Buffer.compare(bytes.parts[0], file.content)).toBe(0);
    bytes.requireUnchanged();
  });

  test.runIf(process.platform === 'linux')('is unmapped when its last view is collected', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const isMapped = (path: string) => readFileSync('/proc/self/maps', 'utf8').includes(path);
    let view: Uint8Array | null = null;
    const path = (() => {
      const { file, bytes } = open(3);
      view = bytes.parts[0].subarray(5, 6);
      return file.path;
    })();
    const settle = async () => {
      collect();
      await new Promise((done) => setTimeout(done, 20));
    };
    await settle();
    expect(isMapped(path)).toBe(true);
    expect(view![0]).toBe(35);
    view = null;
    for (let tries = 0; tries < 50 && isMapped(path); tries++) await settle();
    expect(isMapped(path)).toBe(false);
  });
});

test.runIf(maps)('the addon refuses what is no mapping and no range', async () => {
  const script = `
    const { workerData, parentPort } = require('node:worker_threads');
    const loaded = { exports: {} };
    process.dlopen(loaded, workerData.addon);
    const { mapFile, mappingState, create } = loaded.exports;
    const none = new Float64Array(0);
    const message = (action) => { try { return String(action()); } catch (error) { return error.name + ' ' + error.message; } };
    parentPort.postMessage([
      () => mapFile(7, none, none),
      () => mapFile(workerData.path, [0, 1], none),
      () => mapFile(workerData.path, none),
      () => mapFile(workerData.path, Float64Array.of(0, NaN), none),
      () => mapFile(workerData.path, Float64Array.of(0.5, 1), none),
      () => mapFile(workerData.path, Float64Array.of(2 ** 60, 1), none),
      () => mapFile(workerData.path, none, Float64Array.of(9, 2)),
      () => mapFile(workerData.path + '-none', none, none),
      () => mappingState({}),
      () => mappingState(create),
      () => new Uint8Array(mapFile(workerData.path, Float64Array.of(1, 2), Float64Array.of(1, 2))[2]),
    ].map(message));`;
  const { path, content } = makeFile(10);
  const worker = new Worker(script, { eval: true, workerData: { path, addon: getKernels().info.addonPath } });
  const messages = await new Promise<string[]>((done, fail) => worker.on('message', done).on('error', fail));
  const outside = 'RangeError mapFile: range 0 must lie in the file of 10 bytes';
  expect(messages).toEqual([
    'TypeError mapFile: path must be a string',
    'TypeError mapFile: ranges must be a Float64Array',
    'TypeError mapFile: regions must be a Float64Array',
    outside,
    outside,
    outside,
    outside,
    expect.stringMatching(/^Error open failed: No such file/),
    'TypeError mappingState: handle must come from mapFile',
    'TypeError mappingState: handle must come from mapFile',
    `${content[1]},${content[2]}`,
  ]);
});
