import { type FileHandle, open } from 'node:fs/promises';
import { convertInto } from '../base/dtype';
import { SgemoeError } from '../base/errors';
import { fileStamp, type StampedFile } from '../base/fileStamp';
import { type StorageType, storedBytes } from '../base/storageTypes';
import { gitLfsPointer, MAX_POINTER_BYTES, openRegularFile } from './regularFile';
import { checkpointWriteError } from './replaceFiles';
import {
  arrayType,
  checkHeaderLength,
  corrupt,
  type Dtype,
  elementCount,
  isDtype,
  LENGTH_BYTES,
  MAX_HEADER_BYTES,
  METADATA_KEY,
  parseHeader,
  quoteName,
  type SafetensorsHeader,
  type TensorArray,
  type TensorInfo,
} from './safetensorsHeader';

import type { StoredSpan, TensorReader } from './tensorReader';

export type { Dtype, SafetensorsHeader, TensorArray, TensorInfo } from './safetensorsHeader';

/** Bytes of one read or write; Node takes fewer than 2^31 a call. */
const MAX_IO_BYTES = 2 ** 30;
const HALF_CHUNK_ELEMENTS = 2 ** 16;

/** What the dtypes that store matrices are called outside of safetensors. */
const STORAGE: Partial<Record<Dtype, StorageType>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' };

/** What is read of a file: one that is open, or bytes that came another way. */
export interface ReadableFile {
  stat(): Promise<{ readonly size: number }>;
  read(target: Uint8Array, at: number, length: number, position: number): Promise<{ bytesRead: number }>;
  close(): Promise<void>;
}

/**
 * An open safetensors file. Opening checks the whole header: lengths, types, shapes, offsets, and that the data cover
 * the rest of the file exactly. Tensor data are read only when asked for. Close it with `close()` or declare it with
 * `await using`.
 *
 * The format is little-endian, and so is every platform this package supports; data are not swapped.
 */
export class SafetensorsFile implements SafetensorsHeader, TensorReader {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;

  private constructor(
    readonly path: string,
    private readonly handle: ReadableFile,
    header: SafetensorsHeader,
    /** null for a file in memory. */
    private readonly file: StampedFile | null,
  ) {
    this.tensors = header.tensors;
    this.metadata = header.metadata;
  }

  /**
   * @throws SgemoeError SGEMOE_CHECKPOINT_NOT_FOUND when there is no such file or it can't be opened;
   * SGEMOE_CHECKPOINT_TRUNCATED, _HEADER, _OFFSETS or _DTYPE for what is wrong inside.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await openWeightFile(path);
    return SafetensorsFile.of(path, handle, async () => fileStamp(await handle.stat({ bigint: true })));
  }

  /** A file in memory, such as one that was fetched; `path` names it in messages. Throws as `open` for what is wrong inside. */
  static fromBytes(path: string, bytes: Uint8Array): Promise<SafetensorsFile> {
    return SafetensorsFile.of(path, {
      stat: async () => ({ size: bytes.length }),
      read: async (target, at, length, position) => {
        const part = bytes.subarray(position, position + length);
        target.set(part, at);
        return { bytesRead: part.length };
      },
      close: async () => {},
    });
  }

  private static async of(
    path: string,
    handle: ReadableFile,
    stamp?: () => Promise<string>,
  ): Promise<SafetensorsFile> {
    try {
      const file = stamp === undefined ? null : { path, stamp: await stamp() };
      return new SafetensorsFile(path, handle, await readHeader(path, handle), file);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** The header entry of a tensor. @throws SgemoeError SGEMOE_CHECKPOINT_MISSING_TENSOR if the file has no such tensor. */
  info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info !== undefined) return info;
    throw corrupt('SGEMOE_CHECKPOINT_MISSING_TENSOR', this.path, `there is no tensor ${quoteName(name)}`);
  }

  /**
   * Reads a tensor into `destination`, which must have its number of elements and the array type of its dtype
   * (Float32Array for F32, BigInt64Array for I64, Uint16Array with the bits of F16 and BF16, ...). A Float32Array
   * also takes F16 and BF16, which are converted exactly.
   * @throws RangeError for another length; SgemoeError SGEMOE_CHECKPOINT_DTYPE for another type,
   * SGEMOE_CHECKPOINT_MISSING_TENSOR, or SGEMOE_CHECKPOINT_TRUNCATED when the file has shrunk since it was
   * opened.
   */
  async readInto(name: string, destination: TensorArray): Promise<void> {
    const info = this.info(name);
    if (destination.length !== info.elements) {
      const what = `destination of tensor ${quoteName(name)}`;
      throw new RangeError(`${what} must have ${info.elements} elements, got ${destination.length}`);
    }
    await this.readPartInto(name, 0, destination);
  }

  /**
   * Reads the tensor's elements [start, start + destination.length) as `readInto` does.
   * @throws RangeError for elements outside the tensor; the errors of `readInto`.
   */
  async readPartInto(name: string, start: number, destination: TensorArray): Promise<void> {
    const info = this.info(name);
    if (!Number.isSafeInteger(start) || start < 0 || start + destination.length > info.elements) {
      const what = `elements of tensor ${quoteName(name)}`;
      throw new RangeError(
        `${what} must be in [0, ${info.elements}), got ${start} .. ${start + destination.length}`,
      );
    }
    if (destination instanceof arrayType(info.dtype)) {
      await this.readBytes(info, bytesOf(destination), start * destination.BYTES_PER_ELEMENT);
    } else if (destination instanceof Float32Array && isHalf(info.dtype)) {
      await this.readHalves(info, info.dtype, start, destination);
    } else {
      const what = `tensor ${quoteName(name)} is ${info.dtype} and can not be read into a`;
      throw corrupt('SGEMOE_CHECKPOINT_DTYPE', this.path, `${what} ${destination.constructor.name}`);
    }
  }

  /** Reads a tensor into a new array of its dtype's type. Throws as `readInto`. */
  async read(name: string): Promise<TensorArray> {
    const info = this.info(name);
    const destination = new (arrayType(info.dtype))(info.elements);
    await this.readInto(name, destination);
    return destination;
  }

  /** Where a tensor lies; null for a file in memory. */
  range(name: string): Omit<StoredSpan, 'type' | 'neighbours'> | null {
    const { byteOffset: offset, byteLength: bytes } = this.info(name);
    return this.file && { file: this.file, offset, bytes };
  }

  span(name: string, start: number, elements: number): StoredSpan | null {
    const { dtype, byteOffset } = this.info(name);
    const type = STORAGE[dtype];
    const { file } = this;
    if (type === undefined || file === null) return null;
    const [offset, bytes] = [byteOffset + storedBytes(type, start), storedBytes(type, elements)];
    return { file, offset, bytes, type, neighbours: false };
  }

  close(): Promise<void> {
    return this.handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async readHalves(
    info: TensorInfo,
    dtype: 'F16' | 'BF16',
    start: number,
    destination: Float32Array,
  ): Promise<void> {
    const from = dtype === 'F16' ? 'float16' : 'bfloat16';
    const { length } = destination;
    const bits = new Uint16Array(Math.min(length, HALF_CHUNK_ELEMENTS));
    for (let done = 0; done < length; done += HALF_CHUNK_ELEMENTS) {
      const chunk = bits.subarray(0, Math.min(HALF_CHUNK_ELEMENTS, length - done));
      await this.readBytes(info, bytesOf(chunk), 2 * (start + done));
      convertInto(chunk, from, destination.subarray(done, done + chunk.length), 'float32');
    }
  }

  private async readBytes(info: TensorInfo, target: Uint8Array, offset: number): Promise<void> {
    const read = await readFully(this.path, this.handle, target, info.byteOffset + offset);
    if (read === target.length) return;
    const where = `the file ends inside the data of tensor ${quoteName(info.name)}`;
    throw corrupt('SGEMOE_CHECKPOINT_TRUNCATED', this.path, `${where}; it has shrunk since it was opened`);
  }
}

/** Reads and checks the header of a file. Throws as `SafetensorsFile.open`. */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  const file = await SafetensorsFile.open(path);
  await file.close();
  return { tensors: file.tensors, metadata: file.metadata };
}

/**
 * A tensor to write. `data` has the array type of the dtype; it may be shared memory.
 */
export interface TensorSource {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: TensorArray;
}

/** A tensor under its public name, row-major. `data` may be a view into a larger or shared buffer. */
export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export function asF32(tensors: Iterable<NamedTensor>): TensorSource[] {
  return Array.from(tensors, ({ name, shape, data }) => ({ name, shape, data, dtype: 'F32' }));
}

/**
 * Writes a safetensors file and flushes it to the disk. Data go from the given arrays to the file without a copy,
 * larger element types first and otherwise in the given order, so that every tensor is aligned to its elements. A
 * failure may leave a partial file; `saveCheckpoint` is atomic.
 * @throws TypeError, RangeError when names repeat, or shape, dtype and data don't fit; nothing is written then.
 * SgemoeError SGEMOE_CHECKPOINT_WRITE when the file can't be written.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorSource>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const content = encodeSafetensors(tensors, metadata);
  try {
    const handle = await open(path, 'w');
    try {
      await writeChunks(handle, content);
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw checkpointWriteError(`${path} could not be written`, cause);
  }
}

/**
 * The bytes of a safetensors file, in pieces: header first, then views of the tensors' own memory.
 * @throws TypeError, RangeError as `writeSafetensors`.
 */
export function encodeSafetensors(
  tensors: Iterable<TensorSource>,
  metadata: Readonly<Record<string, string>>,
): Uint8Array[] {
  const sources = [...tensors];
  sources.forEach(checkSource);
  checkUnique(sources);
  sources.sort((a, b) => b.data.BYTES_PER_ELEMENT - a.data.BYTES_PER_ELEMENT);
  return [headerOf(sources, metadata), ...sources.map(({ data }) => bytesOf(data))];
}

/** What a header says of a tensor. */
export interface TensorHead {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** A tensor whose bytes are produced in pieces, on demand. */
export interface StreamedTensor extends TensorHead {
  chunks(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/** The bytes of a safetensors file whose tensors are produced on demand. Names must differ. */
export async function* streamSafetensors(
  tensors: readonly StreamedTensor[],
  metadata: Readonly<Record<string, string>>,
): AsyncGenerator<Uint8Array> {
  yield headerOf(tensors, metadata);
  for (const tensor of tensors) yield* tensor.chunks();
}

/** Tensors whose data come into a file in a way of their own. */
export interface PlacedTensors {
  readonly tensors: readonly TensorHead[];
  /** Writes an empty file whose path this is: the header, and behind it the data of all. */
  write(handle: FileHandle, path: string, header: Uint8Array): Promise<void>;
}

/** Writes a safetensors file of such tensors. Names must differ. */
export function writePlaced(
  { tensors, write }: PlacedTensors,
  metadata: Readonly<Record<string, string>>,
  handle: FileHandle,
  path: string,
): Promise<void> {
  return write(handle, path, headerOf(tensors, metadata));
}

function headerOf(tensors: readonly TensorHead[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const entries: string[] = [];
  if (Object.keys(metadata).length > 0) entries.push(encodeMetadata(metadata));
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    const end = offset + elementCount(shape) * arrayType(dtype).BYTES_PER_ELEMENT;
    const entry = { dtype, shape, data_offsets: [offset, end] };
    entries.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
    offset = end;
  }
  return encodeHeader(`{${entries.join(',')}}`);
}

/** Writes pieces one after another, from a position of the file on, or from the handle's. */
export async function writeChunks(
  handle: FileHandle,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  position: number | null = null,
): Promise<void> {
  let next = position;
  for await (const chunk of chunks) {
    for (let done = 0; done < chunk.length; ) {
      const length = Math.min(MAX_IO_BYTES, chunk.length - done);
      const { bytesWritten } = await handle.write(chunk, done, length, next);
      done += bytesWritten;
      if (next !== null) next += bytesWritten;
    }
  }
}

function encodeHeader(json: string): Uint8Array {
  const text = new TextEncoder().encode(json);
  const padded = Math.ceil(text.length / 8) * 8;
  if (padded > MAX_HEADER_BYTES) {
    throw new RangeError(`the header must have at most ${MAX_HEADER_BYTES} bytes, got ${padded}`);
  }
  const bytes = new Uint8Array(LENGTH_BYTES + padded).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(text, LENGTH_BYTES);
  return bytes;
}

function encodeMetadata(metadata: Readonly<Record<string, string>>): string {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string')
      throw new TypeError(`metadata[${quoteName(key)}] must be a string, got ${typeof value}`);
  }
  return `${JSON.stringify(METADATA_KEY)}:${JSON.stringify(metadata)}`;
}

function checkSource({ name, dtype, shape, data }: TensorSource): void {
  if (typeof name !== 'string' || name === METADATA_KEY || /\p{Surrogate}/u.test(name)) {
    throw new TypeError(
      `tensor name must be a well-formed string other than ${METADATA_KEY}, got ${String(name)}`,
    );
  }
  const tensor = `tensor ${quoteName(name)}`;
  if (!isDtype(dtype))
    throw new TypeError(`dtype of ${tensor} must be one of safetensors', got ${String(dtype)}`);
  if (!(data instanceof arrayType(dtype))) {
    throw new TypeError(`data of ${tensor} must be a ${arrayType(dtype).name} for ${dtype}`);
  }
  const dimsValid = shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0);
  if (!dimsValid || elementCount(shape) !== data.length) {
    throw new RangeError(`shape of ${tensor} must hold ${data.length} elements, got [${shape.join(', ')}]`);
  }
}

function checkUnique(sources: readonly TensorSource[]): void {
  const names = new Set<string>();
  for (const { name } of sources) {
    if (names.has(name)) throw new RangeError(`tensor names must differ, got ${quoteName(name)} twice`);
    names.add(name);
  }
}

/** @throws SgemoeError SGEMOE_CHECKPOINT_NOT_FOUND */
export async function openWeightFile(path: string): Promise<FileHandle> {
  try {
    return await openRegularFile(path);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const text = code === 'ENOENT' ? 'there is no such file' : `the file can not be opened: ${message}`;
    throw corrupt('SGEMOE_CHECKPOINT_NOT_FOUND', path, text, cause);
  }
}

async function readHeader(path: string, handle: ReadableFile): Promise<SafetensorsHeader> {
  const { size } = await handle.stat();
  await refusePointer(path, handle, size);
  const lengthBytes = new Uint8Array(LENGTH_BYTES);
  if ((await readFully(path, handle, lengthBytes, 0)) < LENGTH_BYTES) {
    const what = `the file has ${size} bytes, too few for the header length`;
    throw corrupt('SGEMOE_CHECKPOINT_TRUNCATED', path, what);
  }
  const length = new DataView(lengthBytes.buffer).getBigUint64(0, true);
  const header = new Uint8Array(checkHeaderLength(path, length, size));
  if ((await readFully(path, handle, header, LENGTH_BYTES)) < header.length) {
    throw corrupt('SGEMOE_CHECKPOINT_TRUNCATED', path, 'the file ends inside its header');
  }
  return parseHeader(path, header, size);
}

/** @throws SgemoeError SGEMOE_CHECKPOINT_HEADER for a git-lfs pointer, which a clone without git-lfs has in place of the file. */
export async function refusePointer(path: string, handle: ReadableFile, size: number): Promise<void> {
  if (size > MAX_POINTER_BYTES) return;
  const bytes = new Uint8Array(size);
  await readFully(path, handle, bytes, 0);
  const what = gitLfsPointer(new TextDecoder().decode(bytes));
  if (what !== null) throw corrupt('SGEMOE_CHECKPOINT_HEADER', path, what);
}

/** The number of bytes read, which is smaller than asked for only at the end of the file. */
export async function readFully(
  path: string,
  handle: ReadableFile,
  target: Uint8Array,
  position: number,
): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const length = Math.min(MAX_IO_BYTES, target.length - done);
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(target, done, length, position + done));
    } catch (cause) {
      const what = `reading failed: ${(cause as Error).message}`;
      throw new SgemoeError('SGEMOE_CHECKPOINT_NOT_FOUND', `${path}: ${what}`, { cause });
    }
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** A view of an array's bytes. */
export function bytesOf(data: TensorArray): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function isHalf(dtype: Dtype): dtype is 'F16' | 'BF16' {
  return dtype === 'F16' || dtype === 'BF16';
}
