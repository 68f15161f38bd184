import type { FileHandle } from 'node:fs/promises';
import { fileStamp, type StampedFile } from '../../base/fileStamp';
import { fitsRows, storedBytes } from '../../base/storageTypes';
import { widenBlocks } from '../../base/storedBlocks';
import { openWeightFile, readFully, refusePointer } from '../safetensors';
import { corrupt, quoteName } from '../safetensorsHeader';
import type { StoredSpan } from '../tensorReader';
import { layoutOf } from './blockTypes';
import {
  type GgufHeader,
  type GgufTensor,
  type GgufValue,
  MAX_GGUF_HEADER_BYTES,
  parseGgufHeader,
} from './header';

/** Bytes of the first try to read a header; it is doubled until the header fits. */
const FIRST_BYTES = 2 ** 20;
/** Numbers widened at a time: a multiple of every block. */
const CHUNK_ELEMENTS = 2 ** 16;

/** Whether a path is taken for a GGUF file: by its name, which llama.cpp's tools demand as well. */
export function isGgufPath(path: string): boolean {
  return /\.gguf$/i.test(path);
}

/** An open GGUF file. Opening checks the whole header; tensors are read, and widened to float32, when asked for. */
export class GgufFile implements GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;

  private constructor(
    readonly path: string,
    private readonly handle: FileHandle,
    header: GgufHeader,
    private readonly file: StampedFile,
  ) {
    ({ version: this.version, metadata: this.metadata, tensors: this.tensors } = header);
  }

  /**
   * @throws SgemoeError SGEMOE_CHECKPOINT_NOT_FOUND when there is no such file or it can't be opened;
   * SGEMOE_CHECKPOINT_TRUNCATED, _HEADER, _OFFSETS or _DTYPE for what is wrong inside.
   */
  static async open(path: string): Promise<GgufFile> {
    const handle = await openWeightFile(path);
    try {
      const stamp = fileStamp(await handle.stat({ bigint: true }));
      return new GgufFile(path, handle, await readHeader(path, handle), { path, stamp });
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * Reads the tensor's elements [start, start + destination.length) as float32, a chunk at a time.
   * @throws RangeError for elements outside the tensor; SgemoeError SGEMOE_CHECKPOINT_TRUNCATED when the file has shrunk
   * since it was opened.
   */
  async readPartInto(tensor: GgufTensor, start: number, destination: Float32Array): Promise<void> {
    const end = start + destination.length;
    if (!Number.isSafeInteger(start) || start < 0 || end > tensor.elements) {
      const what = `elements of tensor ${quoteName(tensor.name)}`;
      throw new RangeError(`${what} must be in [0, ${tensor.elements}), got ${start} .. ${end}`);
    }
    const block = layoutOf(tensor.type);
    const numbers = new Float32Array(
      Math.min(CHUNK_ELEMENTS, Math.ceil(destination.length / block.elements + 1) * block.elements),
    );
    const bytes = new Uint8Array((numbers.length / block.elements) * block.bytes);
    for (let at = start; at < end; ) {
      const first = Math.floor(at / block.elements);
      const blocks = Math.min(numbers.length / block.elements, Math.ceil(end / block.elements) - first);
      const chunk = bytes.subarray(0, blocks * block.bytes);
      await this.#readBytes(tensor, chunk, first * block.bytes);
      const widened = numbers.subarray(0, blocks * block.elements);
      widenBlocks(block.storage, chunk, widened);
      const skipped = at - first * block.elements;
      const taken = Math.min(widened.length - skipped, end - at);
      destination.set(widened.subarray(skipped, skipped + taken), at - start);
      at += taken;
    }
  }

  /** Where elements of a tensor lie; null if they cut a block. */
  span(
    { type, byteOffset }: GgufTensor,
    start: number,
    elements: number,
    neighbours: boolean,
  ): StoredSpan | null {
    const { storage } = layoutOf(type);
    if (!fitsRows(storage, start) || !fitsRows(storage, elements)) return null;
    const [offset, bytes] = [byteOffset + storedBytes(storage, start), storedBytes(storage, elements)];
    return { file: this.file, offset, bytes, type: storage, neighbours };
  }

  close(): Promise<void> {
    return this.handle.close();
  }

  async #readBytes(tensor: GgufTensor, target: Uint8Array, offset: number): Promise<void> {
    if ((await readFully(this.path, this.handle, target, tensor.byteOffset + offset)) === target.length)
      return;
    const where = `the file ends inside the data of tensor ${quoteName(tensor.name)}`;
    throw corrupt('SGEMOE_CHECKPOINT_TRUNCATED', this.path, `${where}; it has shrunk since it was opened`);
  }
}

async function readHeader(path: string, handle: FileHandle): Promise<GgufHeader> {
  const { size } = await handle.stat();
  await refusePointer(path, handle, size);
  for (let length = FIRST_BYTES; ; length *= 2) {
    const bytes = new Uint8Array(Math.min(length, size));
    if ((await readFully(path, handle, bytes, 0)) < bytes.length)
      throw corrupt('SGEMOE_CHECKPOINT_TRUNCATED', path, 'the file ends inside its header');
    const header = parseGgufHeader(path, bytes, size);
    if (header !== null) return header;
    if (length >= MAX_GGUF_HEADER_BYTES) {
      const what = `the header is longer than ${MAX_GGUF_HEADER_BYTES} bytes, the most that is read`;
      throw corrupt('SGEMOE_CHECKPOINT_HEADER', path, what);
    }
  }
}
