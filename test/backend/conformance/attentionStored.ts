import { describe, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { type StorageType, storedBytes } from '../../../src/base/storageTypes';
import { widenInto } from '../../../src/base/storedBlocks';
import { CASES, LONG, naiveForward, plain, type Shape, setUp } from './attention';
import { type Dice, everywhere, expectClose, expectSame, type Scene, type Slab } from './harness';

/** Head dims of whole blocks of 32; few and many queries, and many heads for a key. */
const BLOCKS: Record<string, Shape> = {
  'one query behind a cache': { ...plain(3, 1, 4, 2, 64), starts: [0, 40, 129], kvLengths: [1, 41, 130] },
  'one query of nine heads': { ...plain(1, 1, 9, 1, 32), starts: [150], kvLengths: [151] },
  'one query behind a long cache': { ...plain(2, 1, 3, 1, 96), starts: [1299, 80], kvLengths: [1300, 81] },
  'one query of several key heads behind long caches': {
    ...plain(2, 1, 6, 3, 32),
    starts: [1299, 620],
    kvLengths: [1300, 621],
  },
  'several queries behind a cache': { ...plain(2, 5, 4, 2, 32), starts: [3, 70], kvLengths: [8, 75] },
  'a prompt': plain(2, 150, 4, 2, 32),
  'no visible key': { ...plain(3, 4, 2, 2, 32), kvLengths: [0, 4, 0] },
};

/** Of 48 numbers some are left over beside pairs of vectors. */
const FLOATS: Record<string, Shape> = {
  ...CASES,
  ...LONG,
  'one query, 48 numbers a head': { ...plain(2, 1, 4, 4, 48), starts: [90, 3], kvLengths: [91, 4] },
  'one query of two heads for each key': {
    ...plain(2, 1, 4, 2, 16),
    starts: [700, 66],
    kvLengths: [701, 67],
  },
};

const GUARD = 0xa5;

/** The rows of keys or values as bytes between guards; the floats of `slab` become what these bytes stand for. */
function store(
  kernels: Kernels,
  type: StorageType,
  shape: Shape,
  slab: Slab,
  ld: number,
  batchStride: number,
  at: number,
) {
  const cols = shape.nKvHeads * shape.headDim;
  const rowBytes = storedBytes(type, cols);
  const ldBytes = rowBytes + 5;
  const stride = Math.max(0, ...shape.kvLengths) * ldBytes + 7;
  const bytes = new Uint8Array(at + shape.batch * stride + 3).fill(GUARD);
  const wide = new Float32Array(cols);
  shape.kvLengths.forEach((length, b) => {
    for (let j = 0; j < length; j++) {
      const [from, to] = [slab.at + b * batchStride + j * ld, at + b * stride + j * ldBytes];
      kernels.quantize(type, 1, cols, slab.array, from, cols, bytes, to);
      widenInto(type, bytes, to, cols, wide, 0);
      slab.array.set(wide, from);
    }
  });
  return { bytes, at, ld: ldBytes, stride };
}

/** Stored attention against attention by its definition over the dequantised keys and values: the same bounds. */
function check(kernels: Kernels, scene: Scene, dice: Dice, type: StorageType, shape: Shape): void {
  const { batch, queryLen, nHeads, nKvHeads, headDim } = shape;
  const args = setUp(scene, dice, shape);
  const k = store(kernels, type, shape, args.k, args.ldk, args.kBatchStride, scene.place.offset);
  const v = store(kernels, type, shape, args.v, args.ldv, args.vBatchStride, 2 * scene.place.offset + 1);
  const [kBefore, vBefore] = [k.bytes.slice(), v.bytes.slice()];
  const want = naiveForward(shape, args);
  const out = scene.output('out', args.outLayout);
  const lse = scene.output('lse', batch * nHeads * queryLen);
  const { q, queryStarts, kvLengths } = args;
  kernels.attentionForwardStored(
    q.array,
    q.at,
    args.ldq,
    type,
    k.bytes,
    k.at,
    k.ld,
    k.stride,
    v.bytes,
    v.at,
    v.ld,
    v.stride,
    out.array,
    out.at,
    args.ldo,
    lse.array,
    lse.at,
    queryStarts.array,
    queryStarts.at,
    kvLengths.array,
    kvLengths.at,
    batch,
    queryLen,
    nHeads,
    nKvHeads,
    headDim,
    args.scale,
  );
  expectClose(`out, ${type}, ${scene.place.name}`, out.read(), want.out, want.outBounds);
  expectClose(`lse, ${type}, ${scene.place.name}`, lse.read(), want.lse, want.lseBounds);
  expectSame('keys stay', k.bytes, kBefore);
  expectSame('values stay', v.bytes, vBefore);
  out.expectUntouched('out', true);
  lse.expectUntouched('lse', true);
}

export function attentionStoredConformance(kernels: () => Kernels): void {
  describe('attention over stored keys and values', () => {
    for (const type of ['float32', 'bfloat16', 'float16'] as const) {
      it(`${type}: every shape of float attention, from odd addresses`, () => {
        for (const shape of Object.values(FLOATS)) {
          everywhere(31, (scene, dice) => check(kernels(), scene, dice, type, shape));
        }
      });
    }

    for (const type of ['q8_0', 'q4_0', 'q5_1', 'float16'] as const) {
      for (const [name, shape] of Object.entries(BLOCKS)) {
        it(`${type}: ${name}`, () => {
          everywhere(32, (scene, dice) => check(kernels(), scene, dice, type, shape));
        });
      }
    }
  });
}
