import { SgemoeError } from '../../base/errors';
import { formatBytes } from '../../base/formatBytes';
import type { Memory } from './api';

const PAGE_BYTES = 65536;
const ALIGNMENT = 64;
/** The memory grows by at least so many bytes, so that small arrays cost few calls. */
const MIN_GROWTH_BYTES = 1 << 20;

interface Block {
  at: number;
  bytes: number;
}

/**
 * Blocks of a WebAssembly memory that several threads may grow: what `grow` returns belongs to the caller alone, so each
 * thread hands out its own regions without a lock. Freed blocks join their neighbours and are taken before the memory
 * grows; it never shrinks.
 */
export class WasmHeap {
  /** Freed blocks by address, no two adjacent. */
  readonly #free: Block[] = [];
  /** The rest of the last growth: untouched zeros, which take no room in the machine yet. */
  #fresh: Block = { at: 0, bytes: 0 };
  readonly #sizes = new Map<number, number>();

  constructor(
    private readonly memory: Memory,
    private readonly maxBytes: number,
  ) {}

  /** Bytes that can still be handed out in one piece. */
  get largestBytes(): number {
    const room = this.maxBytes - this.memory.buffer.byteLength;
    return Math.max(room + this.#fresh.bytes, ...this.#free.map(({ bytes }) => bytes));
  }

  /** Bytes in use by this thread. */
  get usedBytes(): number {
    return [...this.#sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /**
   * The address of a zeroed block, 64-byte aligned.
   * @throws SgemoeError SGEMOE_MEMORY
   */
  allocate(bytes: number): number {
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    const block = this.#takeFreed(size) ?? this.#takeFresh(size);
    this.#sizes.set(block, size);
    return block;
  }

  /** Gives a block back. An address of no block is ignored. */
  release(at: number): void {
    const bytes = this.#sizes.get(at);
    if (bytes === undefined) return;
    this.#sizes.delete(at);
    this.#insert({ at, bytes });
  }

  /** The smallest freed block that is large enough. */
  #takeFreed(size: number): number | null {
    let best: Block | null = null;
    for (const block of this.#free) {
      if (block.bytes >= size && (best === null || block.bytes < best.bytes)) best = block;
    }
    if (best === null) return null;
    const { at } = best;
    new Uint8Array(this.memory.buffer, at, size).fill(0);
    best.at += size;
    best.bytes -= size;
    if (best.bytes === 0) this.#free.splice(this.#free.indexOf(best), 1);
    return at;
  }

  #takeFresh(size: number): number {
    if (this.#fresh.bytes < size) this.#grow(size);
    const { at } = this.#fresh;
    this.#fresh = { at: at + size, bytes: this.#fresh.bytes - size };
    return at;
  }

  #grow(size: number): void {
    const room = this.maxBytes - this.memory.buffer.byteLength;
    // If another thread has grown the memory in between, a new region starts, and the rest of the old one is freed.
    const wanted = Math.ceil(Math.max(size, Math.min(MIN_GROWTH_BYTES, room)) / PAGE_BYTES);
    let at: number;
    try {
      at = this.memory.grow(wanted) * PAGE_BYTES;
    } catch {
      throw outOfMemory(size, this.largestBytes, this.maxBytes);
    }
    const { at: oldAt, bytes } = this.#fresh;
    this.#fresh = { at, bytes: wanted * PAGE_BYTES };
    if (bytes === 0) return;
    if (oldAt + bytes === at) this.#fresh = { at: oldAt, bytes: bytes + wanted * PAGE_BYTES };
    else this.#insert({ at: oldAt, bytes });
  }

  #insert(block: Block): void {
    const free = this.#free;
    let i = 0;
    while (i < free.length && free[i].at < block.at) i++;
    free.splice(i, 0, block);
    if (i + 1 < free.length && block.at + block.bytes === free[i + 1].at) {
      block.bytes += free[i + 1].bytes;
      free.splice(i + 1, 1);
    }
    if (i > 0 && free[i - 1].at + free[i - 1].bytes === block.at) {
      free[i - 1].bytes += block.bytes;
      free.splice(i, 1);
    }
  }
}

function outOfMemory(bytes: number, largest: number, max: number): SgemoeError {
  return new SgemoeError(
    'SGEMOE_MEMORY',
    `WebAssembly has no ${formatBytes(bytes)} of memory left: at most ${formatBytes(largest)} in one piece, of ` +
      `${formatBytes(max)} that it addresses`,
  );
}
