import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import type { StoredMatrices } from '../../../src/backend/kernels/stored';
import {
  fitsRows,
  STORAGE_TYPE_NAMES,
  STORAGE_TYPES,
  type StorageType,
  storedBytes,
} from '../../../src/base/storageTypes';
import { widenInto } from '../../../src/base/storedBlocks';
import {
  Dice,
  everywhere,
  expectClose,
  expectSame,
  expectThrows,
  grid,
  hashBits,
  type Scene,
} from './harness';
import { initial, product, ROW_STARTS, SCALARS } from './matmul';

/** Activations that a product rounds have this many numbers in a block. */
const ROUNDED_BLOCK = 32;

/** Random blocks: any quotients, scales of a size that keeps products small. */
export function randomBlocks(dice: Dice, type: StorageType, count: number): Uint8Array {
  const { elements, bytes } = STORAGE_TYPES[type];
  const blocks = Uint8Array.from({ length: storedBytes(type, count) }, () => dice.int(256));
  const scales: Record<string, readonly number[]> = {
    q4_0: [0],
    q4_1: [0, 2],
    q5_0: [0],
    q5_1: [0, 2],
    q8_0: [0],
    q4_k: [0, 2],
    q5_k: [0, 2],
    q6_k: [208],
  };
  for (let block = 0; block < count / elements; block++) {
    const at = block * bytes;
    // float16 numbers of either sign, 2^-8 .. 2^-6, and subnormal ones among them.
    for (const scale of scales[type] ?? []) {
      blocks[at + scale + 1] = dice.int(8) === 0 ? dice.int(2) : (dice.int(2) << 7) | (0x1c + dice.int(8));
    }
  }
  if (elements > 1) return blocks;
  const view = new DataView(blocks.buffer);
  for (let i = 0; i < count; i++) {
    const value = 2 * dice.next() - 1;
    if (type === 'float32') view.setFloat32(4 * i, value, true);
    else if (type === 'bfloat16')
      view.setUint16(2 * i, (dice.int(2) << 15) | (0x3c00 + dice.int(0x180)), true);
    else view.setUint16(2 * i, (dice.int(2) << 15) | dice.int(0x3c00), true);
  }
  return blocks;
}

function widened(type: StorageType, blocks: Uint8Array, count: number): Float32Array {
  const out = new Float32Array(count);
  widenInto(type, blocks, 0, count, out, 0);
  return out;
}

/** `blocks` at an odd address, between guards. */
function misplaced(blocks: Uint8Array, before: number): Uint8Array {
  const bytes = new Uint8Array(before + blocks.length + 3).fill(0xa5);
  bytes.set(blocks, before);
  return bytes.subarray(before, before + blocks.length);
}

/** A matrix unit rounds both operands from so many rows on (native/stored.cc). */
const TILED_ROWS = 96;

/**
 * The most that rounding to 8 bits changes each of x [m, k]: of each block of 32 the number q of x = d q + e is the nearest integer, so
 * |e| <= d/2 with d = max |x| / 127. The quotient x / d is computed with an error below 127 * 2^-22, hence the factor.
 */
function errorsOf8Bits(x: Float64Array): Float64Array {
  return x.map((_, i) => {
    const from = i - (i % ROUNDED_BLOCK);
    const most = x
      .subarray(from, from + ROUNDED_BLOCK)
      .reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    return (most / 254) * 1.0001;
  });
}

/** The same for x and w rounded to bfloat16, each by a factor of 1 + e with |e| <= 2^-8, as an error of x alone. */
const errorsOfBfloat16 = (x: Float64Array) => x.map((value) => Math.abs(value) * (2 ** -7 + 2 ** -16));

/** Adds what such errors of x [m, k] may add to alpha * x W^T: sum |e| |w|. */
function addRounding(
  bounds: Float64Array,
  [m, n, k]: readonly number[],
  alpha: number,
  errors: Float64Array,
  w: Float32Array,
): void {
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) sum += errors[i * k + p] * Math.abs(w[j * k + p]);
      bounds[i * n + j] += Math.abs(alpha) * sum;
    }
  }
}

/** `types`: those whose products are tested; the rest of the suite doesn't depend on them. */
export function storedConformance(
  kernels: () => Kernels,
  types: readonly StorageType[] = STORAGE_TYPE_NAMES,
): void {
  /** What the product must be, and how far from it. Block types only: sums of integers are allowed where the backend says so. */
  function expected(
    type: StorageType,
    m: number,
    n: number,
    k: number,
    alpha: number,
    x: Float64Array,
    w: Float32Array,
    beta: number,
    y: Float64Array,
  ): { want: Float64Array; bounds: Float64Array } {
    const made = product(false, true, m, n, k, alpha, x, w, beta, y);
    const rounds = STORAGE_TYPES[type].elements > 1 && !kernels().info.exactProducts;
    const hasUnit = ['amx', 'model'].includes(kernels().info.matrixUnit);
    const errorsOf = hasUnit && m >= TILED_ROWS ? errorsOfBfloat16 : errorsOf8Bits;
    if (rounds) addRounding(made.bounds, [m, n, k], alpha, errorsOf(x), w);
    return made;
  }

  function check(
    scene: Scene,
    dice: Dice,
    type: StorageType,
    sizes: readonly number[],
    scalars: readonly number[],
  ) {
    const [m, n, k] = sizes,
      [alpha, beta] = scalars;
    const label = `multiplyStored(${type}, ${m}, ${n}, ${k}, ${alpha}, ${beta}) ${scene.place.name}`;
    const blocks = randomBlocks(dice, type, n * k);
    const matrices = kernels().storedMatrices(type, n, k, [
      new Uint8Array(blocks.length),
      misplaced(blocks, 1),
    ]);
    const ldx = k + 1,
      ldy = n + 3;
    const x = scene.floats('x', dice.values(m * k), grid(m, k, ldx));
    const y = scene.floats('y', initial(dice, m * n, beta), grid(m, n, ldy));
    const { want, bounds } = expected(
      type,
      m,
      n,
      k,
      alpha,
      x.read(),
      widened(type, blocks, n * k),
      beta,
      y.read(),
    );
    kernels().multiplyStored(matrices, 1, m, alpha, x.array, x.at, ldx, beta, y.array, y.at, ldy);
    scene.expectOnlyWritten(label, y);
    expectClose(label, y.read(), want, bounds);
  }

  function checkGroups(
    scene: Scene,
    dice: Dice,
    type: StorageType,
    starts: readonly number[],
    n: number,
    k: number,
  ) {
    const groups = starts.length - 1,
      first = starts[0],
      rows = starts[groups] - first;
    const blocks = Array.from({ length: groups }, () => randomBlocks(dice, type, n * k));
    const matrices = kernels().storedMatrices(
      type,
      n,
      k,
      blocks.map((bytes, i) => misplaced(bytes, i)),
    );
    const ldx = k + 3,
      ldy = n + 2;
    const rowStarts = scene.ints('rowStarts', starts);
    const x = scene.floats('x', dice.values(rows * k), grid(rows, k, ldx, first));
    const y = scene.floats('y', initial(dice, rows * n, 0.5), grid(rows, n, ldy, first));
    const [xs, ys] = [x.read(), y.read()];
    const label = `multiplyStoredGroups(${type}, [${starts}], ${n}, ${k}) ${scene.place.name}`;
    kernels().multiplyStoredGroups(
      matrices,
      rowStarts.array,
      rowStarts.at,
      -0.5,
      x.array,
      x.at,
      ldx,
      0.5,
      y.array,
      y.at,
      ldy,
    );
    scene.expectOnlyWritten(label, y);
    const got = y.read();
    for (let g = 0; g < groups; g++) {
      const [from, to] = [starts[g] - first, starts[g + 1] - first];
      const w = widened(type, blocks[g], n * k);
      const part = xs.subarray(from * k, to * k);
      const { want, bounds } = expected(
        type,
        to - from,
        n,
        k,
        -0.5,
        part,
        w,
        0.5,
        ys.subarray(from * n, to * n),
      );
      expectClose(`${label} group ${g}`, got.subarray(from * n, to * n), want, bounds);
    }
  }

  describe('stored matrices', () => {
    for (const type of types) {
      const unit = STORAGE_TYPES[type].elements;
      const depths = unit === 1 ? [0, 1, 7, 16, 33, 100] : [0, unit, 2 * unit, 3 * unit, 5 * unit];

      it(`${type}: multiply at awkward sizes, from odd addresses`, () => {
        const dice = new Dice(51);
        const rows = [0, 1, 2, 3, 4, 5, 7, 8, 9, 17, 33],
          cols = [0, 1, 2, 3, 5, 8, 15, 16, 17, 40];
        for (let trial = 0; trial < 36; trial++) {
          const sizes = [
            rows[dice.int(rows.length)],
            cols[dice.int(cols.length)],
            depths[trial % depths.length],
          ];
          everywhere(trial, (scene) => check(scene, dice, type, sizes, SCALARS[trial % SCALARS.length]));
        }
      });

      it(`${type}: multiply over several tiles and chunks`, () => {
        const depth = unit === 256 ? 512 : 320;
        for (const [index, sizes] of [
          [1, 1030, depth],
          [3, 300, 2 * depth],
          [70, 150, depth],
          [300, 40, depth],
        ].entries()) {
          everywhere(index, (scene, dice) => check(scene, dice, type, sizes, [1, index % 2]));
        }
      });

      it(`${type}: multiply many rows`, () => {
        // Beyond the depth at which panels are cut, and with a rest behind it.
        const deep = unit === 1 ? 1037 : unit === 32 ? 2144 : 2304;
        for (const [index, sizes] of [
          [17, 33, deep],
          [64, 31, 2 * unit],
          [100, 37, 768],
          [195, 65, unit === 1 ? 1037 : 1280],
          [513, 66, 256],
        ].entries()) {
          everywhere(40 + index, (scene, dice) => check(scene, dice, type, sizes, [-0.5, (index % 2) * 2]));
        }
        everywhere(45, (scene, dice) =>
          checkGroups(scene, dice, type, [3, 20, 20, 21, 130, 340], 33, 2 * unit),
        );
      });

      it(`${type}: multiply the rows of each group`, () => {
        for (const [index, starts] of Object.values(ROW_STARTS).entries()) {
          everywhere(60 + index, (scene, dice) =>
            checkGroups(scene, dice, type, starts, 7, depths[index % 4]),
          );
          everywhere(70 + index, (scene, dice) => checkGroups(scene, dice, type, starts, 33, 2 * unit));
        }
      });

      it(`${type}: dequantize and gather rows, bit for bit`, () => {
        everywhere(80, (scene, dice) => {
          const [n, k] = [9, 3 * unit];
          const blocks = misplaced(randomBlocks(dice, type, n * k), 1);
          const want = widened(type, blocks, n * k);
          const out = scene.output('out', grid(n, k, k + 1));
          kernels().dequantize(type, n, k, blocks, 0, out.array, out.at, k + 1);
          expectSame(`dequantize ${type}`, out.read(), want);
          const picked = [8, 0, 3, 3, 1];
          const ids = scene.ints('ids', picked);
          const rows = scene.output('rows', grid(5, k, k + 2));
          const matrices = kernels().storedMatrices(type, n, k, [blocks]);
          kernels().gatherStored(matrices, 0, 5, ids.array, ids.at, rows.array, rows.at, k + 2);
          scene.expectOnlyWritten(`gatherStored ${type}`, out, rows);
          const expectedRows = picked.flatMap((id) => [...want.subarray(id * k, (id + 1) * k)]);
          expectSame(`gatherStored ${type}`, rows.read(), expectedRows);
        });
      });
    }

    it('take parts that are longer, and lie in one buffer or several', () => {
      const dice = new Dice(90);
      const blocks = randomBlocks(dice, 'q8_0', 2 * 3 * 32);
      const shared = new Uint8Array(new SharedArrayBuffer(blocks.length + 40));
      shared.set(blocks, 5);
      const half = blocks.length / 2;
      const parts = [shared.subarray(5 + half), shared.subarray(5), blocks.subarray(half), blocks];
      const matrices = kernels().storedMatrices('q8_0', 3, 32, parts);
      expect({ ...describeStored(matrices) }).toEqual({ type: 'q8_0', rows: 3, cols: 32, count: 4 });
      const rows = [0, 1, 2, 3].map((index) => {
        const out = new Float32Array(32);
        kernels().gatherStored(matrices, index, 1, Int32Array.of(2), 0, out, 0, 32);
        return hashBits(out);
      });
      expect(rows[0]).toBe(rows[2]);
      expect(rows[1]).toBe(rows[3]);
      expect(rows[0]).not.toBe(rows[1]);
    });

    it('let no NaN and no infinity of the activations pass for a number', () => {
      for (const type of STORAGE_TYPE_NAMES) {
        const k = 512;
        const ones = new Float32Array(k).fill(1);
        const bytes = new Uint8Array(storedBytes(type, k));
        kernels().quantize(type, 1, k, ones, 0, k, bytes, 0);
        const matrices = kernels().storedMatrices(type, 1, k, [bytes]);
        for (const [at, bad] of [
          [0, Number.NaN],
          [37, Number.NaN],
          [511, Number.POSITIVE_INFINITY],
        ] as const) {
          for (const rows of [3, 20, 200]) {
            const x = new Float32Array(rows * k).fill(0.5);
            x[k + at] = bad;
            const y = new Float32Array(rows);
            kernels().multiplyStored(matrices, 0, rows, 1, x, 0, k, 0, y, 0, 1);
            const finite = Array.from({ length: rows }, (_, row) => row !== 1);
            expect([...y].map(Number.isFinite), `${type} ${bad} at ${at}`).toEqual(finite);
          }
        }
      }
    });

    it('of no rows, columns or parts multiply to nothing, or to beta y', () => {
      const none = new Float32Array(0);
      const empty = kernels().storedMatrices('q4_k', 0, 512, [new Uint8Array(0)]);
      kernels().multiplyStored(empty, 0, 0, 1, none, 0, 512, 0, none, 0, 0);
      const flat = kernels().storedMatrices('q4_0', 2, 0, [new Uint8Array(0)]);
      const y = Float32Array.of(1, 2);
      kernels().multiplyStored(flat, 0, 1, 1, none, 0, 0, 3, y, 0, 2);
      expect([...y]).toEqual([3, 6]);
      const nothing = kernels().storedMatrices('float16', 2 ** 40, 2 ** 40, []);
      kernels().multiplyStoredGroups(nothing, Int32Array.of(7), 0, 1, none, 0, 2 ** 40, 0, none, 0, 2 ** 40);
      expect(nothing.count).toBe(0);
    });

    it('keep the bytes that nobody else holds', () => {
      const blocks = () => new Uint8Array(1 << 20).fill(1);
      const matrices = kernels().storedMatrices('bfloat16', 512, 1024, [blocks()]);
      for (let i = 0; i < 64; i++) blocks();
      const out = new Float32Array(1024);
      kernels().gatherStored(matrices, 0, 1, Int32Array.of(511), 0, out, 0, 1024);
      expect(new Uint32Array(out.buffer).every((bits) => bits === 0x01010000)).toBe(true);
    });

    it('refuse malformed arguments', () => {
      const k = kernels();
      const bytes = new Uint8Array(68);
      const make = (...list: unknown[]) => (k.storedMatrices as (...list: unknown[]) => unknown)(...list);
      const refused = (list: unknown[], type: ErrorConstructor, message: RegExp): void =>
        expectThrows(`storedMatrices(${list.map(String)})`, () => make(...list), type, message);
      refused([5, 2, 32, [bytes]], TypeError, /^storedMatrices: type must be a string, got number$/);
      refused(['q8_0', '2', 32, [bytes]], TypeError, /^storedMatrices: rows must be a number, got string$/);
      refused(['q8_0', 2, 32, bytes], TypeError, /^storedMatrices: parts must be an array, got Uint8Array$/);
      refused(
        ['q8_0', 2, 32, [bytes, null]],
        TypeError,
        /^storedMatrices: parts\[1\] must be a Uint8Array, got null$/,
      );
      refused(
        ['q8_0', 2, 32, [new Float32Array(17)]],
        TypeError,
        /^storedMatrices: parts\[0\] must be a Uint8Array, got Float32Array$/,
      );
      refused(
        ['q3_k', 2, 32, [bytes]],
        RangeError,
        /^storedMatrices: type must be one of float32, bfloat16, .*, q6_k, got 'q3_k'$/,
      );
      refused(
        ['q8_0', -1, 32, [bytes]],
        RangeError,
        /^storedMatrices: rows must be an integer >= 0, got -1$/,
      );
      refused(
        ['q8_0', 2, 33, [bytes]],
        RangeError,
        /^storedMatrices: cols must be a multiple of 32, got 33$/,
      );
      refused(
        ['q4_k', 1, 128, [bytes]],
        RangeError,
        /^storedMatrices: cols must be a multiple of 256, got 128$/,
      );
      refused(
        ['q8_0', 2, 32, [bytes, bytes.subarray(1)]],
        RangeError,
        /^storedMatrices: parts\[1\] is too short: needs 68 bytes, has 67$/,
      );
      for (const rows of [2 ** 40, 2 ** 52, Number.MAX_SAFE_INTEGER]) {
        refused(['q8_0', rows, 32, [bytes]], RangeError, /^storedMatrices: parts\[0\] is too short: needs /);
      }
      expect(make('q8_0', 2, 32, [bytes])).toBeTruthy();
    });

    it('refuse what only looks like them', () => {
      const real = kernels().storedMatrices('q8_0', 1, 32, [new Uint8Array(34)]);
      const [x, y] = [new Float32Array(32), new Float32Array(1)];
      for (const fake of [{ ...describeStored(real) }, new Map()]) {
        const call = () =>
          kernels().multiplyStored(fake as unknown as StoredMatrices, 0, 1, 1, x, 0, 32, 0, y, 0, 1);
        expect(call).toThrow(/^multiplyStored: matrices must be a StoredMatrices, got object$/);
      }
    });

    it('do not see bytes that were taken away', () => {
      const bytes = new Uint8Array(34);
      const matrices = kernels().storedMatrices('q8_0', 1, 32, [bytes, bytes]);
      if (kernels().info.backend === 'wasm') return; // it has its own copy
      structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
      const [x, y] = [new Float32Array(32), new Float32Array(1)];
      expect(() => kernels().multiplyStored(matrices, 1, 1, 1, x, 0, 32, 0, y, 0, 1)).toThrow(
        /^multiplyStored: the bytes of matrix 1 are gone$/,
      );
      expect(() =>
        kernels().multiplyStoredGroups(matrices, Int32Array.of(0, 0, 1), 0, 1, x, 0, 32, 0, y, 0, 1),
      ).toThrow(/^multiplyStoredGroups: the bytes of matrix 1 are gone$/);
    });

    it('must not lie where the product goes', () => {
      const buffer = new ArrayBuffer(256);
      const matrices = kernels().storedMatrices('float32', 2, 8, [new Uint8Array(buffer, 64, 64)]);
      if (kernels().info.backend === 'wasm') return; // it has its own copy
      const x = new Float32Array(8);
      for (const [at, meets] of [
        [14, false],
        [15, true],
        [31, true],
        [32, false],
      ] as const) {
        const y = new Float32Array(buffer);
        const plain = () => kernels().multiplyStored(matrices, 0, 1, 1, x, 0, 8, 0, y, at, 2);
        const grouped = () =>
          kernels().multiplyStoredGroups(matrices, Int32Array.of(0, 1), 0, 1, x, 0, 8, 0, y, at, 2);
        if (meets) {
          expect(plain).toThrow(/^multiplyStored: y must not overlap matrices$/);
          expect(grouped).toThrow(/^multiplyStoredGroups: y must not overlap matrices$/);
        } else {
          expect(plain).not.toThrow();
          expect(grouped).not.toThrow();
        }
      }
    });
  });
}

function describeStored({ type, rows, cols, count }: StoredMatrices) {
  return { type, rows, cols, count };
}

/** Numbers of many sizes, with blocks of zeros, of one value and with one large number among them. */
export function variedNumbers(dice: Dice, count: number): Float32Array {
  const x = new Float32Array(count);
  for (let from = 0; from < count; from += 32) {
    const kind = dice.int(8);
    const size = 2 ** (dice.int(16) - 10);
    for (let i = from; i < Math.min(count, from + 32); i++) {
      const normal = dice.next() + dice.next() + dice.next() - 1.5;
      x[i] = kind === 0 ? 0 : kind === 1 ? size : kind === 2 ? Math.abs(normal) * size : normal * size;
    }
    if (kind === 3) x[from] = 40 * size;
  }
  return x;
}

/** The same bytes as the plain TypeScript's, which a test of its own compares with Python's gguf. */
export function quantizeConformance(kernels: () => Kernels, reference: () => Kernels): void {
  it('quantize to the same bytes as the definition', () => {
    for (const type of STORAGE_TYPE_NAMES) {
      everywhere(95, (scene, dice) => {
        const [rows, cols] = [7, STORAGE_TYPES[type].elements === 1 ? 45 : 512];
        if (!fitsRows(type, cols)) throw new Error('cols');
        const x = scene.floats('x', variedNumbers(dice, rows * cols), grid(rows, cols, cols + 2));
        const bytes = new Uint8Array(rows * storedBytes(type, cols) + 3).fill(0xa5);
        const want = bytes.slice();
        kernels().quantize(type, rows, cols, x.array, x.at, cols + 2, bytes, 1);
        reference().quantize(type, rows, cols, x.array, x.at, cols + 2, want, 1);
        expect(Buffer.compare(bytes, want), `${type} ${scene.place.name}`).toBe(0);
        expect(bytes[0] === 0xa5 && bytes[bytes.length - 1] === 0xa5).toBe(true);
      });
    }
  });
}
