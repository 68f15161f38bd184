import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { resolve, toNamespacedPath } from 'node:path';
import type { FileMapping, KernelMemory } from '../backend/kernelMemory';
import { SgemoeError } from '../base/errors';
import { fileStamp, type StampedFile } from '../base/fileStamp';
import { requireMemory } from '../base/requireMemory';

/** Bytes [offset, offset + bytes) of a file. */
export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}

/** Ranges of a file that lie close together share a buffer of at most these bytes: typed arrays on Node 20 end at 4 GiB. */
const MAX_BUFFER_BYTES = 2 ** 31;
/**
 * From this size on a matrix may have large pages. The system then reads some MB along with a page, which smaller experts
 * would pay for where memory is short.
 */
const LARGE_MATRIX_BYTES = 4 * 2 ** 20;
/** Large matrices that are closer than this have large pages in common. */
const REGION_GAP_BYTES = 2 ** 16;
/** Bytes of one read; Node takes fewer than 2^31 a call. */
const MAX_READ_BYTES = 2 ** 30;

/**
 * Ranges of a file as byte arrays, at any offsets. Where the backend can, the file is mapped: nothing is read until it is
 * used, all threads and processes share the pages, and the mapping ends when the last array is collected. Else the ranges
 * are read into shared memory.
 */
export class FileBytes {
  private constructor(
    readonly file: StampedFile,
    readonly ranges: readonly ByteRange[],
    /** The bytes of each range. Read only: a write to mapped bytes changes this thread's copy of the page. */
    readonly parts: readonly Uint8Array[],
    private readonly mapping: FileMapping | null,
  ) {}

  /**
   * @throws SgemoeError SGEMOE_CHECKPOINT_CHANGED unless the file still has its stamp; SGEMOE_CHECKPOINT_NOT_FOUND if it
   * can't be read; SGEMOE_MEMORY where it has to be read and there is no room; RangeError for a range outside the file.
   */
  static open(memory: KernelMemory, file: StampedFile, ranges: readonly ByteRange[]): FileBytes {
    const found = mapRanges(memory, file, ranges);
    if (found !== null) return new FileBytes(file, ranges, found.parts, found.mapping);
    return new FileBytes(file, ranges, readRanges(memory, file, ranges), null);
  }

  /** The same bytes, from parts that another thread has read. */
  static of(file: StampedFile, ranges: readonly ByteRange[], parts: readonly Uint8Array[]): FileBytes {
    return new FileBytes(file, ranges, parts, null);
  }

  get mapped(): boolean {
    return this.mapping !== null;
  }

  /** Bytes of all ranges. */
  get byteLength(): number {
    return totalBytes(this.ranges);
  }

  /**
   * Call it after the bytes were used and before a result leaves: what was read of a file that has changed meanwhile is
   * worthless. Costs a system call. @throws SgemoeError SGEMOE_CHECKPOINT_CHANGED
   */
  requireUnchanged(): void {
    const state = this.mapping?.state() ?? 'whole';
    if (state === 'whole') return;
    const what = state === 'lost' ? 'was shortened, or a part of it can not be read,' : 'was changed';
    throw changed(this.file.path, `the file ${what} while the model used it; load the model again`);
  }
}

function totalBytes(ranges: readonly ByteRange[]): number {
  return ranges.reduce((sum, { bytes }) => sum + bytes, 0);
}

function changed(path: string, what: string): SgemoeError {
  return new SgemoeError('SGEMOE_CHECKPOINT_CHANGED', `${path}: ${what}`);
}

function requireStamp({ path, stamp }: StampedFile, now: string): void {
  if (now !== stamp) throw changed(path, 'the file has changed since its header was read');
}

interface Mapped {
  readonly parts: readonly Uint8Array[];
  readonly mapping: FileMapping;
}

/** null where the file can't be mapped. */
function mapRanges(memory: KernelMemory, file: StampedFile, ranges: readonly ByteRange[]): Mapped | null {
  if (memory.mapFile === undefined) return null;
  const { windows, windowOf } = windowsOf(ranges);
  let mapping: FileMapping | null;
  try {
    mapping = memory.mapFile(
      toNamespacedPath(resolve(file.path)),
      pairsOf(windows),
      pairsOf(regionsOf(ranges)),
    );
  } catch (error) {
    if (!(error instanceof RangeError)) return null; // Some file systems map nothing.
    requireStamp(file, stampAt(file.path));
    throw error;
  }
  if (mapping === null) return null;
  const { buffers } = mapping;
  // After mapping: from now on the mapping itself notices changes.
  requireStamp(file, stampAt(file.path));
  const parts = ranges.map(({ offset, bytes }, i) => {
    const window = windowOf[i];
    return new Uint8Array(buffers[window], offset - windows[window].offset, bytes);
  });
  return { parts, mapping };
}

/** Where large matrices lie behind each other. Between them, large pages must not end. */
function regionsOf(ranges: readonly ByteRange[]): readonly ByteRange[] {
  const large = ranges.filter(({ bytes }) => bytes >= LARGE_MATRIX_BYTES);
  return joined(large, (last, next) => next.offset - (last.offset + last.bytes) < REGION_GAP_BYTES).joints;
}

function pairsOf(ranges: readonly ByteRange[]): Float64Array {
  return Float64Array.from(ranges.flatMap(({ offset, bytes }) => [offset, bytes]));
}

function stampAt(path: string): string {
  try {
    return fileStamp(statSync(path, { bigint: true }));
  } catch (cause) {
    throw notReadable(path, cause);
  }
}

function notReadable(path: string, cause: unknown): SgemoeError {
  const what = `${path}: reading failed: ${(cause as Error).message}`;
  return new SgemoeError('SGEMOE_CHECKPOINT_NOT_FOUND', what, { cause });
}

/** Joins neighbouring ranges into few windows of the file; windowOf gives each range's. */
function windowsOf(ranges: readonly ByteRange[]): { windows: readonly ByteRange[]; windowOf: number[] } {
  const { joints, jointOf } = joined(
    ranges,
    (last, next) => next.offset + next.bytes - last.offset <= MAX_BUFFER_BYTES,
  );
  return { windows: joints, windowOf: jointOf };
}

/** Ranges in the order of the file, each one joined to those before it that `joins` accepts; jointOf gives each range's. */
function joined(ranges: readonly ByteRange[], joins: (last: ByteRange, next: ByteRange) => boolean) {
  const order = ranges.map((_, i) => i).sort((a, b) => ranges[a].offset - ranges[b].offset);
  const joints: { offset: number; bytes: number }[] = [];
  const jointOf = new Array<number>(ranges.length);
  for (const i of order) {
    const { offset, bytes } = ranges[i];
    const last = joints.at(-1);
    if (last !== undefined && joins(last, ranges[i])) {
      last.bytes = Math.max(last.bytes, offset + bytes - last.offset);
    } else {
      joints.push({ offset, bytes });
    }
    jointOf[i] = joints.length - 1;
  }
  return { joints, jointOf };
}

function readRanges(memory: KernelMemory, file: StampedFile, ranges: readonly ByteRange[]): Uint8Array[] {
  requireMemory(`Reading ${file.path}`, { weights: totalBytes(ranges) }, memory.available);
  const Buffer = typeof SharedArrayBuffer === 'function' ? SharedArrayBuffer : ArrayBuffer;
  const parts = ranges.map(({ bytes }) => new Uint8Array(new Buffer(bytes)));
  let descriptor: number | null = null;
  try {
    descriptor = openSync(file.path, 'r');
    const size = fstatSync(descriptor).size;
    ranges.forEach(({ offset, bytes }, i) => {
      if (offset < 0 || offset + bytes > size)
        throw new RangeError(`range ${i} must lie in the file of ${size} bytes`);
      readFully(descriptor as number, parts[i], offset);
    });
    requireStamp(file, fileStamp(fstatSync(descriptor, { bigint: true })));
  } catch (cause) {
    if (cause instanceof SgemoeError || cause instanceof RangeError) throw cause;
    throw notReadable(file.path, cause);
  } finally {
    if (descriptor !== null) closeSync(descriptor);
  }
  return parts;
}

/** Stops at the end of the file: the caller compares the file's stamp afterwards. */
function readFully(descriptor: number, target: Uint8Array, offset: number): void {
  for (let done = 0; done < target.length; ) {
    const read = readSync(
      descriptor,
      target,
      done,
      Math.min(MAX_READ_BYTES, target.length - done),
      offset + done,
    );
    if (read === 0) return;
    done += read;
  }
}
