import { expect } from 'vitest';

/** Unit roundoff of float32: the relative error of one correctly rounded operation. */
export const U = 2 ** -24;

/**
 * The one tolerance of the suite. A float32 sum of k products is off by k * U * sum |a||b| at worst and, as
 * rounding errors have random signs, by about sqrt(k) * U times it in practice. `magnitude` is that sum of
 * absolute values (of every term that cancels), so the bound holds however small the result is. SAFETY covers
 * the few further roundings of a kernel (an exp of 2 ulp, a division, a square root). The last term is for
 * results among the subnormals.
 */
const SAFETY = 8;
export function bound(k: number, magnitude: number): number {
  return SAFETY * U * Math.sqrt(Math.max(1, k)) * magnitude + 2 ** -126;
}

/** Fails with the worst element when some |got - want| exceeds its bound; NaN and infinities must agree. */
export function expectClose(
  label: string,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  bounds: ArrayLike<number> | number,
): void {
  if (got.length !== want.length) throw new Error(`${label}: ${got.length} elements, want ${want.length}`);
  let worst = -1;
  let worstRatio = 1;
  for (let i = 0; i < want.length; i++) {
    const limit = typeof bounds === 'number' ? bounds : bounds[i];
    const error = Object.is(got[i], want[i]) || got[i] === want[i] ? 0 : Math.abs(got[i] - want[i]);
    const ratio = error === 0 ? 0 : error / limit;
    if (ratio > worstRatio || Number.isNaN(ratio) || (Number.isNaN(limit) && error !== 0)) {
      worst = i;
      worstRatio = Number.isNaN(ratio) ? Number.POSITIVE_INFINITY : ratio;
    }
  }
  if (worst >= 0) {
    const limit = typeof bounds === 'number' ? bounds : bounds[worst];
    throw new Error(
      `${label}: worst element [${worst}] of ${want.length}: got ${got[worst]}, want ${want[worst]}, ` +
        `${worstRatio.toPrecision(3)} times the bound ${limit}`,
    );
  }
}

/** As expectClose, bit for bit. */
export function expectSame(label: string, got: ArrayLike<number>, want: ArrayLike<number>): void {
  expectClose(label, got, want, 0);
}

// ---------------------------------------------------------------- random values

/** A small generator for test data (mulberry32). */
export class Dice {
  constructor(private state: number) {}

  /** Uniform in [0, 1). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let z = this.state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer in [0, bound). */
  int(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** `n` float32 values in [-size, size). */
  values(n: number, size = 1): Float64Array {
    return Float64Array.from({ length: n }, () => Math.fround((2 * this.next() - 1) * size));
  }

  /** `n` integers in [0, bound). */
  ints(n: number, bound: number): Int32Array {
    return Int32Array.from({ length: n }, () => this.int(bound));
  }

  /** The integers 0..n-1 in random order. */
  permutation(n: number): Int32Array {
    const order = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.int(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}

// ---------------------------------------------------------------- memory with guards

/** Where an argument lies: elements before it, elements after it, the buffer's kind and first byte. */
export interface Placement {
  readonly name: string;
  readonly offset: number;
  readonly tail: number;
  readonly byteOffset: number;
  readonly shared: boolean;
}

/** The first one ends where the contract says that the argument ends, so that no kernel can ask for more. */
export const PLACEMENTS: readonly Placement[] = [
  { name: 'exact', offset: 0, tail: 0, byteOffset: 0, shared: false },
  { name: 'misaligned', offset: 3, tail: 5, byteOffset: 4, shared: false },
  { name: 'shared', offset: 17, tail: 19, byteOffset: 0, shared: true },
];

/** The elements of an argument, relative to its offset. */
export type Layout = readonly number[];

export function flat(n: number): Layout {
  return Array.from({ length: n }, (_, i) => i);
}

/** A [rows, cols] matrix with leading dimension ld, from row `first`. */
export function grid(rows: number, cols: number, ld: number, first = 0): Layout {
  return Array.from({ length: rows * cols }, (_, i) => (first + Math.floor(i / cols)) * ld + (i % cols));
}

/** `count` layouts, `stride` apart. */
export function stack(count: number, stride: number, one: Layout): Layout {
  return Array.from({ length: count }, (_, b) => one.map((at) => b * stride + at)).flat();
}

// A guard that is read turns results into NaN or something large; two kinds, so that one that is overwritten
// by something computed from guards shows as well.
const GUARD_NAN = 0x7fc12345;
const GUARD_FINITE = 0xc9712345;

/** One array argument of a call: its elements at `layout`, guards everywhere else. */
export class Slab<A extends Float32Array | Int32Array = Float32Array> {
  readonly at: number;
  private readonly bits: Uint32Array;
  private readonly before: Uint32Array;
  private readonly own: Uint8Array;

  constructor(
    readonly name: string,
    readonly array: A,
    place: Placement,
    readonly layout: Layout,
  ) {
    this.at = place.offset;
    this.bits = new Uint32Array(array.buffer);
    this.own = new Uint8Array(this.bits.length);
    for (const at of layout) this.own[array.byteOffset / 4 + this.at + at] = 1;
    for (let i = 0; i < this.bits.length; i++) {
      if (!this.own[i]) this.bits[i] = i % 2 === 0 ? GUARD_NAN : GUARD_FINITE;
    }
    this.before = this.bits.slice();
  }

  /** The elements, in the order of the layout. */
  read(): Float64Array {
    return Float64Array.from(this.layout, (at) => this.array[this.at + at]);
  }

  /** Fails when something else than the elements (or anything, for an input) has changed. */
  expectUntouched(label: string, isOutput: boolean): void {
    for (let i = 0; i < this.bits.length; i++) {
      if (this.bits[i] !== this.before[i] && !(isOutput && this.own[i])) {
        const at = i - this.array.byteOffset / 4 - this.at;
        const what = this.own[i] ? 'an input element' : 'a guard';
        throw new Error(`${label}: ${this.name} was written at ${at} from its offset, ${what}`);
      }
    }
  }
}

/** The arguments of one call, all at one placement. */
export class Scene {
  private readonly slabs: Slab<Float32Array | Int32Array>[] = [];

  constructor(readonly place: Placement) {}

  floats(name: string, values: ArrayLike<number>, layout = flat(values.length)): Slab<Float32Array> {
    const { buffer, length } = this.allocate(layout);
    const array = new Float32Array(buffer, this.place.byteOffset, length);
    return this.add(name, array, values, layout);
  }

  ints(name: string, values: ArrayLike<number>, layout = flat(values.length)): Slab<Int32Array> {
    const { buffer, length } = this.allocate(layout);
    return this.add(name, new Int32Array(buffer, this.place.byteOffset, length), values, layout);
  }

  /** An output, NaN all over: whatever isn't written shows. */
  output(name: string, layout: Layout | number): Slab<Float32Array> {
    const elements = typeof layout === 'number' ? flat(layout) : layout;
    return this.floats(name, new Float64Array(elements.length).fill(Number.NaN), elements);
  }

  /** Only the elements of `outputs` have changed. */
  expectOnlyWritten(label: string, ...outputs: Slab<Float32Array | Int32Array>[]): void {
    for (const slab of this.slabs) slab.expectUntouched(label, outputs.includes(slab));
  }

  private allocate(layout: Layout): { buffer: ArrayBuffer; length: number } {
    const { offset, tail, byteOffset, shared } = this.place;
    const end = layout.reduce((most, at) => Math.max(most, at + 1), 0);
    const length = offset + end + tail;
    const bytes = byteOffset + 4 * (length + tail);
    const buffer = shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
    return { buffer: buffer as ArrayBuffer, length };
  }

  private add<A extends Float32Array | Int32Array>(
    name: string,
    array: A,
    values: ArrayLike<number>,
    layout: Layout,
  ): Slab<A> {
    if (values.length !== layout.length) {
      throw new Error(`${name}: ${values.length} values for ${layout.length}`);
    }
    for (let i = 0; i < layout.length; i++) array[this.place.offset + layout[i]] = values[i];
    const slab = new Slab(name, array, this.place, layout);
    this.slabs.push(slab as unknown as Slab<Float32Array | Int32Array>);
    return slab;
  }
}

/** Runs `body` at every placement, with test data that depends on the seed alone. */
export function everywhere(seed: number, body: (scene: Scene, dice: Dice) => void): void {
  for (const place of PLACEMENTS) body(new Scene(place), new Dice(seed));
}

/** The sizes around which vector code goes wrong. */
export const SIZES: readonly number[] = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 100];

/** FNV-1a over 32-bit words: one number for a whole array of bits. */
export function hashBits(array: Float32Array): number {
  let hash = 0x811c9dc5;
  for (const word of new Uint32Array(array.buffer, array.byteOffset, array.length)) {
    hash = Math.imul(hash ^ word, 0x01000193);
  }
  return hash >>> 0;
}

/** `action` throws an error of this class whose message matches. */
export function expectThrows(
  label: string,
  action: () => unknown,
  type: ErrorConstructor,
  message: RegExp,
): void {
  let caught: unknown;
  try {
    action();
  } catch (error) {
    caught = error;
  }
  if (!(caught instanceof type)) throw new Error(`${label}: expected a ${type.name}, got ${String(caught)}`);
  expect(caught.message, label).toMatch(message);
}
