import type { Memory } from './api';
import type { WasmHeap } from './heap';
import { WasmStored } from './stored';

/** The values equal the constants of native/wasm/node_api.h. */
const NULL = 1;
const BOOLEAN = 2;
const NUMBER = 3;
const STRING = 4;
const EXTERNAL = 8;
const UINT8 = 17;
const INT32 = 21;
const FLOAT32 = 23;
const DATA_VIEW = 32;
const KINDS: Readonly<Record<string, number>> = {
  undefined: 0,
  boolean: 2,
  number: 3,
  string: STRING,
  symbol: 5,
  object: 6,
  function: 7,
  bigint: 9,
};
const VIEW_KINDS: Readonly<Record<string, number>> = {
  Int8Array: 16,
  Uint8Array: UINT8,
  Uint8ClampedArray: 18,
  Int16Array: 19,
  Uint16Array: 20,
  Int32Array: INT32,
  Uint32Array: 22,
  Float32Array: FLOAT32,
  Float64Array: 24,
  BigInt64Array: 25,
  BigUint64Array: 26,
};

/** Doubles of an argument: kind, value, length. */
const STRIDE = 3;
export const MAX_ARGUMENTS = 40;
/** Bytes for a call's string, which follows the arguments. The only strings are names of types. */
const TEXT_BYTES = 64;
const BLOCK_BYTES = MAX_ARGUMENTS * STRIDE * Float64Array.BYTES_PER_ELEMENT;
export const ARGUMENT_BYTES = BLOCK_BYTES + TEXT_BYTES;

type View = Float32Array | Int32Array | Uint8Array;

/** Bytes [begin, end) of an outside buffer, which a call sees at `at`. */
interface Copy {
  readonly buffer: ArrayBufferLike;
  begin: number;
  end: number;
  at: number;
}

/** An outside array: the number of its argument, and the first byte that is read of it. */
interface Outside {
  readonly argument: number;
  readonly view: View;
  readonly begin: number;
}

/**
 * Writes the arguments of a call into the module's memory. Arrays in that memory are passed by their address. Other arrays
 * are copied in from their offset on, and what the call has written is copied out again. Copies of arrays that share a
 * buffer keep their distance, since the checks for overlaps compare addresses.
 */
export class WasmArguments {
  readonly #block: Float64Array;
  readonly #text: Uint8Array;
  readonly #outside: Outside[] = [];
  #copies: Copy[] = [];
  #staging = { at: 0, bytes: 0 };

  /** @param at where the arguments are written, ARGUMENT_BYTES. @param isOwn whether a buffer is the module's memory. */
  constructor(
    private readonly memory: Memory,
    private readonly heap: WasmHeap,
    at: number,
    private readonly isOwn: (buffer: ArrayBufferLike) => boolean,
  ) {
    this.#block = new Float64Array(memory.buffer, at, MAX_ARGUMENTS * STRIDE);
    this.#text = new Uint8Array(memory.buffer, at + BLOCK_BYTES, TEXT_BYTES);
  }

  /** @throws SgemoeError SGEMOE_MEMORY if there is no room for the copies. */
  write(values: readonly unknown[]): void {
    const block = this.#block;
    const count = Math.min(values.length, MAX_ARGUMENTS);
    for (let i = 0, at = 0; i < count; i++, at += STRIDE) {
      const value = values[i];
      if (typeof value === 'number') {
        block[at] = NUMBER;
        block[at + 1] = value;
      } else if (typeof value === 'boolean') {
        block[at] = BOOLEAN;
        block[at + 1] = value ? 1 : 0;
      } else if (ArrayBuffer.isView(value)) {
        this.#writeView(i, value, values[i + 1]);
      } else if (typeof value === 'string') {
        this.#writeText(at, value);
      } else if (value instanceof WasmStored && value.memory === this.memory) {
        block[at] = EXTERNAL;
        block[at + 1] = value.address;
      } else {
        block[at] = value === null ? NULL : (KINDS[typeof value] ?? KINDS.object);
      }
    }
    if (this.#outside.length > 0) this.#copyIn();
  }

  /** Writes the string, cut to the room for it, which is more than any name of a type takes. */
  #writeText(at: number, value: string): void {
    const text = this.#text;
    const length = Math.min(value.length, text.length);
    for (let i = 0; i < length; i++) text[i] = value.charCodeAt(i);
    this.#block[at] = STRING;
    this.#block[at + 1] = text.byteOffset;
    this.#block[at + 2] = length;
  }

  #writeView(i: number, value: ArrayBufferView, offset: unknown): void {
    const block = this.#block;
    const at = i * STRIDE;
    const view = value as View;
    // Names are compared, since arrays of another realm aren't instances of this realm's classes.
    const kind = VIEW_KINDS[view[Symbol.toStringTag]] ?? DATA_VIEW;
    block[at] = kind;
    block[at + 1] = view.byteOffset;
    if (kind !== FLOAT32 && kind !== INT32 && kind !== UINT8) return;
    block[at + 2] = view.length;
    if (view.length === 0 || this.isOwn(view.buffer)) return;
    const within =
      typeof offset === 'number' && Number.isInteger(offset) && offset > 0 && offset < view.length;
    const begin = view.byteOffset + (within ? offset * view.BYTES_PER_ELEMENT : 0);
    this.#outside.push({ argument: i, view, begin });
  }

  /** Makes one copy of overlapping arrays, at the same distances. */
  #copyIn(): void {
    const outside = this.#outside;
    const copies: Copy[] = [];
    for (const { view, begin } of outside)
      merge(copies, { buffer: view.buffer, begin, end: endOf(view), at: 0 });
    let bytes = 0;
    for (const copy of copies) {
      copy.at = bytes + (copy.begin % 64);
      bytes = Math.ceil((copy.at + copy.end - copy.begin) / 64) * 64;
    }
    this.#reserve(bytes);
    for (const copy of copies) {
      copy.at += this.#staging.at;
      this.#bytes(copy.at, copy.end - copy.begin).set(
        new Uint8Array(copy.buffer, copy.begin, copy.end - copy.begin),
      );
    }
    for (const { argument, view, begin } of outside) {
      const copy = copies.find(
        (each) => each.buffer === view.buffer && each.begin <= begin && begin < each.end,
      );
      // The array's first element may lie before what was copied: its address then counts modulo 2^32.
      if (copy) this.#block[argument * STRIDE + 1] = (copy.at + view.byteOffset - copy.begin) >>> 0;
    }
    this.#copies = copies;
    outside.length = 0;
  }

  /** Grows to what a call needs; what calls usually take is kept afterwards. */
  #reserve(bytes: number): void {
    if (bytes <= this.#staging.bytes) return;
    if (this.#staging.bytes > 0) this.heap.release(this.#staging.at);
    this.#staging = { at: 0, bytes: 0 };
    this.#staging = { at: this.heap.allocate(bytes), bytes };
  }

  /** Whether a call has copies in use. */
  get hasCopies(): boolean {
    return this.#copies.length > 0;
  }

  /** Copies bytes [begin, end) of the module's memory, which the call has written, back to their arrays. */
  copyOut(begin: number, end: number): void {
    for (const copy of this.#copies) {
      const from = Math.max(begin, copy.at);
      const to = Math.min(end, copy.at + copy.end - copy.begin);
      if (from >= to) continue;
      new Uint8Array(copy.buffer, copy.begin + from - copy.at, to - from).set(this.#bytes(from, to - from));
    }
  }

  /** Call it after the call has ended, or if it couldn't begin. */
  clear(): void {
    this.#outside.length = 0;
    if (this.#copies.length > 0) this.#copies = [];
    if (this.#staging.bytes <= KEPT_BYTES) return;
    this.heap.release(this.#staging.at);
    this.#staging = { at: 0, bytes: 0 };
  }

  #bytes(at: number, length: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, at, length);
  }
}

/** Room for copies that stays reserved between calls. */
const KEPT_BYTES = 32 << 20;

function endOf(view: View): number {
  return view.byteOffset + view.byteLength;
}

/** Adds a copy, joined with those of the same buffer that it overlaps. */
function merge(copies: Copy[], added: Copy): void {
  for (let i = copies.length - 1; i >= 0; i--) {
    const each = copies[i];
    if (each.buffer !== added.buffer || each.begin >= added.end || added.begin >= each.end) continue;
    added.begin = Math.min(added.begin, each.begin);
    added.end = Math.max(added.end, each.end);
    copies.splice(i, 1);
  }
  copies.push(added);
}
