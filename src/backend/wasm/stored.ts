import { STORAGE_TYPE_NAMES, type StorageType, storedBytes } from '../../base/storageTypes';
import type { StoredMatrices } from '../kernels/stored';
import type { Memory } from './api';
import type { WasmHeap } from './heap';

/** The module's function that makes its object of stored matrices at an address; `parts` is the address of their addresses. */
export type MakeStored = (
  at: number,
  type: number,
  rows: number,
  cols: number,
  rowBytes: number,
  count: number,
  parts: number,
) => void;

interface Maker {
  /** Bytes that the object takes. */
  readonly bytes: number;
  readonly make: MakeStored;
}

interface Checked extends StoredMatrices {
  readonly parts: readonly Uint8Array[];
}

/**
 * Matrices in the module's memory. One block of it holds the module's object, the addresses of the parts, and copies of the
 * parts that lie outside; the other parts stay where they are. The creator of this object frees the block at `address` once
 * the object is unreachable.
 */
export class WasmStored implements StoredMatrices {
  readonly type: StorageType;
  readonly rows: number;
  readonly cols: number;
  readonly count: number;
  readonly address: number;
  /** Parts that lie in the module's memory: their arrays keep their places. */
  private readonly kept: readonly Uint8Array[];

  constructor(
    { type, rows, cols, count, parts }: Checked,
    readonly memory: Memory,
    heap: WasmHeap,
    isOwn: (buffer: ArrayBufferLike) => boolean,
    { bytes: objectBytes, make }: Maker,
  ) {
    this.type = type;
    this.rows = rows;
    this.cols = cols;
    this.count = count;
    this.kept = parts.filter(({ buffer }) => isOwn(buffer));
    const rowBytes = storedBytes(type, cols);
    const partBytes = count === 0 ? 0 : rows * rowBytes;
    const listBytes = Math.ceil((4 * count) / ALIGNMENT) * ALIGNMENT;
    const head = Math.ceil(objectBytes / ALIGNMENT) * ALIGNMENT;
    const copyBytes = Math.ceil(partBytes / ALIGNMENT) * ALIGNMENT;
    this.address = heap.allocate(head + listBytes + (count - this.kept.length) * copyBytes);
    const list = new Uint32Array(memory.buffer, this.address + head, count);
    let copyAt = this.address + head + listBytes;
    for (const [i, part] of parts.entries()) {
      if (isOwn(part.buffer)) {
        list[i] = part.byteOffset;
        continue;
      }
      new Uint8Array(memory.buffer, copyAt, partBytes).set(part.subarray(0, partBytes));
      list[i] = copyAt;
      copyAt += copyBytes;
    }
    make(this.address, STORAGE_TYPE_NAMES.indexOf(type), rows, cols, rowBytes, count, this.address + head);
  }
}

const ALIGNMENT = 64;
