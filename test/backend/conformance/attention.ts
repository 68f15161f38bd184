import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import {
  bound,
  Dice,
  everywhere,
  expectClose,
  expectSame,
  grid,
  type Layout,
  PLACEMENTS,
  Scene,
} from './harness';

export interface Shape {
  readonly batch: number;
  readonly queryLen: number;
  readonly nHeads: number;
  readonly nKvHeads: number;
  readonly headDim: number;
  readonly starts: number[];
  readonly kvLengths: number[];
  /** Size of q and k: larger ones make the softmax sharp. */
  readonly sharpness?: number;
}

export const plain = (
  batch: number,
  length: number,
  nHeads: number,
  nKvHeads: number,
  headDim: number,
): Shape => ({
  batch,
  queryLen: length,
  nHeads,
  nKvHeads,
  headDim,
  starts: new Array<number>(batch).fill(0),
  kvLengths: new Array<number>(batch).fill(length),
});

export const CASES: Record<string, Shape> = {
  'one query': plain(1, 1, 1, 1, 2),
  'every head its own keys': plain(2, 5, 3, 3, 4),
  'grouped heads': plain(2, 7, 6, 2, 8),
  'one key head for all': plain(1, 9, 4, 1, 16),
  'odd sizes': plain(3, 17, 3, 1, 5),
  'head dim 1': plain(1, 4, 2, 2, 1),
  'a sharp softmax': { ...plain(1, 33, 2, 1, 16), sharpness: 12 },
  'several blocks of keys and queries': plain(1, 130, 2, 1, 16),
  'several blocks, grouped, batched': plain(2, 67, 4, 2, 33),
  'queries behind a cache': { ...plain(2, 5, 4, 2, 8), starts: [3, 11], kvLengths: [8, 16] },
  'one query behind a cache': { ...plain(3, 1, 4, 1, 16), starts: [0, 40, 129], kvLengths: [1, 41, 130] },
  'fewer keys than the queries could see': { ...plain(2, 9, 2, 1, 8), kvLengths: [4, 9] },
  'more keys than any query sees': { ...plain(2, 4, 2, 1, 8), kvLengths: [9, 7] },
  'no visible key': { ...plain(3, 4, 2, 2, 8), kvLengths: [0, 4, 0] },
  'no sequence': plain(0, 4, 2, 2, 8),
  'no query': { ...plain(2, 0, 2, 2, 8), kvLengths: [0, 0] },
};

/** Large enough that the keys, and the queries' gradients, are cut into parts whose results are joined. */
export const LONG: Record<string, Shape> = {
  'one query behind a long cache': { ...plain(2, 1, 4, 2, 16), starts: [1299, 80], kvLengths: [1300, 81] },
  'one query of many heads behind a long cache': {
    ...plain(1, 1, 9, 1, 20),
    starts: [1100],
    kvLengths: [1101],
  },
  'several queries behind a long cache': { ...plain(2, 3, 2, 1, 8), starts: [600, 10], kvLengths: [603, 13] },
  'a long sequence': { ...plain(1, 530, 2, 1, 18), sharpness: 3 },
  'a long sequence, whose gradients have many parts': plain(1, 1100, 1, 1, 8),
};

const EXTRA = { q: 3, k: 5, v: 1, out: 2, kBatch: 7, vBatch: 4 };

/** Rows 0 .. kvLengths[b] of each sequence: what a key or value array must hold and a gradient must write. */
function cacheLayout(shape: Shape, cols: number, ld: number, batchStride: number): Layout {
  return shape.kvLengths.flatMap((length, b) => grid(length, cols, ld).map((at) => b * batchStride + at));
}

/** The arguments of a call, with rows and sequences apart from each other. */
export function setUp(scene: Scene, dice: Dice, shape: Shape) {
  const { batch, queryLen, nHeads, nKvHeads, headDim, sharpness = 1 } = shape;
  const cols = nHeads * headDim,
    kvCols = nKvHeads * headDim,
    rows = batch * queryLen;
  const ldq = cols + EXTRA.q,
    ldk = kvCols + EXTRA.k,
    ldv = kvCols + EXTRA.v,
    ldo = cols + EXTRA.out;
  const longest = Math.max(0, ...shape.kvLengths);
  const kBatchStride = longest * ldk + EXTRA.kBatch,
    vBatchStride = longest * ldv + EXTRA.vBatch;
  const kLayout = cacheLayout(shape, kvCols, ldk, kBatchStride);
  const vLayout = cacheLayout(shape, kvCols, ldv, vBatchStride);
  const qLayout = grid(rows, cols, ldq),
    outLayout = grid(rows, cols, ldo);
  return {
    ldq,
    ldk,
    ldv,
    ldo,
    kBatchStride,
    vBatchStride,
    kLayout,
    vLayout,
    qLayout,
    outLayout,
    scale: Math.fround(1 / Math.sqrt(headDim)),
    q: scene.floats('q', dice.values(qLayout.length, sharpness), qLayout),
    k: scene.floats('k', dice.values(kLayout.length, sharpness), kLayout),
    v: scene.floats('v', dice.values(vLayout.length), vLayout),
    queryStarts: scene.ints('queryStarts', shape.starts),
    kvLengths: scene.ints('kvLengths', shape.kvLengths),
  };
}

type Arguments = ReturnType<typeof setUp>;

/** Visits every query row, with the number of keys it sees and the places of its vectors in the compact arrays. */
function eachQuery(
  shape: Shape,
  visit: (row: { lse: number; q: number; keys: number; key: (j: number) => number }) => void,
): void {
  const { batch, queryLen, nHeads, nKvHeads, headDim } = shape;
  let firstKeyRow = 0;
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < nHeads; h++) {
      for (let i = 0; i < queryLen; i++) {
        const first = firstKeyRow;
        const kvHead = Math.floor((h * nKvHeads) / nHeads);
        visit({
          lse: (b * nHeads + h) * queryLen + i,
          q: ((b * queryLen + i) * nHeads + h) * headDim,
          keys: Math.min(shape.kvLengths[b], shape.starts[b] + i + 1),
          key: (j) => ((first + j) * nKvHeads + kvHead) * headDim,
        });
      }
    }
    firstKeyRow += shape.kvLengths[b];
  }
}

function dot(
  a: Float64Array,
  aAt: number,
  b: Float64Array,
  bAt: number,
  n: number,
  absolute = false,
): number {
  let sum = 0;
  for (let d = 0; d < n; d++) sum += absolute ? Math.abs(a[aAt + d] * b[bAt + d]) : a[aAt + d] * b[bAt + d];
  return sum;
}

/** Attention by its definition, with bounds, from the compact arrays of `args`. */
export function naiveForward(shape: Shape, args: Arguments) {
  const { headDim } = shape;
  const { scale } = args;
  const [q, k, v] = [args.q.read(), args.k.read(), args.v.read()];
  const out = new Float64Array(q.length),
    outBounds = out.slice();
  const lse = new Float64Array(shape.batch * shape.nHeads * shape.queryLen),
    lseBounds = lse.slice();
  // How far rounding can move a score; the probabilities inherit it as a relative error.
  const fuzz = lse.slice();
  eachQuery(shape, (row) => {
    const scores = Array.from({ length: row.keys }, (_, j) => scale * dot(q, row.q, k, row.key(j), headDim));
    const max = Math.max(...scores);
    const sum = scores.reduce((total, s) => total + Math.exp(s - max), 0);
    lse[row.lse] = row.keys === 0 ? Number.NEGATIVE_INFINITY : max + Math.log(sum);
    for (let j = 0; j < row.keys; j++) {
      fuzz[row.lse] = Math.max(fuzz[row.lse], scale * dot(q, row.q, k, row.key(j), headDim, true));
    }
    lseBounds[row.lse] = bound(headDim, 2 + fuzz[row.lse]);
    for (let d = 0; d < headDim; d++) {
      let size = 0;
      for (let j = 0; j < row.keys; j++) {
        const term = Math.exp(scores[j] - lse[row.lse]) * v[row.key(j) + d];
        out[row.q + d] += term;
        size += Math.abs(term);
      }
      outBounds[row.q + d] = bound(headDim + row.keys, size * (2 + fuzz[row.lse]));
    }
  });
  return { out, outBounds, lse, lseBounds, fuzz };
}

/** The gradients of sum(out * dOut), through the Jacobian of softmax, with bounds. */
function naiveBackward(
  shape: Shape,
  args: Arguments,
  lse: Float64Array,
  fuzz: Float64Array,
  dOut: Float64Array,
) {
  const { headDim } = shape;
  const { scale } = args;
  const [q, k, v] = [args.q.read(), args.k.read(), args.v.read()];
  const dq = new Float64Array(q.length),
    dk = new Float64Array(k.length),
    dv = new Float64Array(v.length);
  const size = { dq: dq.slice(), dk: dk.slice(), dv: dv.slice() };
  eachQuery(shape, (row) => {
    const p: number[] = [],
      dp: number[] = [],
      dpSize: number[] = [];
    for (let j = 0; j < row.keys; j++) {
      p.push(Math.exp(scale * dot(q, row.q, k, row.key(j), headDim) - lse[row.lse]));
      dp.push(dot(dOut, row.q, v, row.key(j), headDim));
      dpSize.push(dot(dOut, row.q, v, row.key(j), headDim, true));
    }
    const mean = p.reduce((sum, pj, j) => sum + pj * dp[j], 0);
    const meanSize = p.reduce((sum, pj, j) => sum + pj * dpSize[j], 0);
    const relative = 2 + fuzz[row.lse];
    for (let j = 0; j < row.keys; j++) {
      const ds = scale * p[j] * (dp[j] - mean);
      const dsSize = scale * p[j] * (dpSize[j] + meanSize) * relative;
      for (let d = 0; d < headDim; d++) {
        dq[row.q + d] += ds * k[row.key(j) + d];
        dk[row.key(j) + d] += ds * q[row.q + d];
        dv[row.key(j) + d] += p[j] * dOut[row.q + d];
        size.dq[row.q + d] += dsSize * Math.abs(k[row.key(j) + d]);
        size.dk[row.key(j) + d] += dsSize * Math.abs(q[row.q + d]);
        size.dv[row.key(j) + d] += p[j] * Math.abs(dOut[row.q + d]) * relative;
      }
    }
  });
  const depth = headDim + shape.queryLen + Math.max(0, ...shape.kvLengths);
  const bounds = (sizes: Float64Array): Float64Array => sizes.map((m) => bound(depth, m));
  return { dq, dk, dv, bounds: { dq: bounds(size.dq), dk: bounds(size.dk), dv: bounds(size.dv) } };
}

/** Makes keys and values [from, to) of the first sequence NaN. */
function poison({ k, v, ldk, ldv }: Arguments, shape: Shape, from: number, to: number): void {
  const cols = shape.nKvHeads * shape.headDim;
  for (let j = from; j < to; j++) {
    k.array.fill(Number.NaN, k.at + j * ldk, k.at + j * ldk + cols);
    v.array.fill(Number.NaN, v.at + j * ldv, v.at + j * ldv + cols);
  }
}

/** The first arguments of both kernels. */
function inputs({ q, k, v, ldq, ldk, ldv, kBatchStride, vBatchStride }: Arguments) {
  return [
    ...([q.array, q.at, ldq] as const),
    ...([k.array, k.at, ldk, kBatchStride] as const),
    ...([v.array, v.at, ldv, vBatchStride] as const),
  ] as const;
}

/** The last arguments of both kernels. */
function sizes({ batch, queryLen, nHeads, nKvHeads, headDim }: Shape, args: Arguments) {
  const { queryStarts, kvLengths, scale } = args;
  return [
    ...([queryStarts.array, queryStarts.at, kvLengths.array, kvLengths.at] as const),
    ...([batch, queryLen, nHeads, nKvHeads, headDim, scale] as const),
  ] as const;
}

function forward(
  kernels: Kernels,
  shape: Shape,
  args: Arguments,
  out: ReturnType<Scene['output']>,
  lse: ReturnType<Scene['output']>,
): void {
  const { ldo } = args;
  kernels.attentionForward(...inputs(args), out.array, out.at, ldo, lse.array, lse.at, ...sizes(shape, args));
}

function checkForward(kernels: Kernels, scene: Scene, dice: Dice, shape: Shape): void {
  const args = setUp(scene, dice, shape);
  const out = scene.output('out', args.outLayout);
  const lse = scene.output('lse', shape.batch * shape.nHeads * shape.queryLen);
  forward(kernels, shape, args, out, lse);
  const want = naiveForward(shape, args);
  expectClose(`out, ${scene.place.name}`, out.read(), want.out, want.outBounds);
  expectClose(`lse, ${scene.place.name}`, lse.read(), want.lse, want.lseBounds);
  scene.expectOnlyWritten(`attentionForward, ${scene.place.name}`, out, lse);
}

function checkBackward(kernels: Kernels, scene: Scene, dice: Dice, shape: Shape): void {
  const args = setUp(scene, dice, shape);
  const { ldo } = args;
  const want = naiveForward(shape, args);
  const out = scene.floats('out', want.out, args.outLayout),
    lse = scene.floats('lse', want.lse);
  const dOut = scene.floats('dOut', dice.values(args.outLayout.length), args.outLayout);
  const dq = scene.output('dq', args.qLayout);
  const dk = scene.output('dk', shape.queryLen === 0 ? [] : args.kLayout);
  const dv = scene.output('dv', shape.queryLen === 0 ? [] : args.vLayout);
  kernels.attentionBackward(
    ...inputs(args),
    out.array,
    out.at,
    ldo,
    lse.array,
    lse.at,
    dOut.array,
    dOut.at,
    dq.array,
    dq.at,
    dk.array,
    dk.at,
    dv.array,
    dv.at,
    ...sizes(shape, args),
  );
  const grads = naiveBackward(shape, args, want.lse, want.fuzz, dOut.read());
  expectClose(`dq, ${scene.place.name}`, dq.read(), grads.dq, grads.bounds.dq);
  expectClose(`dk, ${scene.place.name}`, dk.read(), grads.dk, grads.bounds.dk);
  expectClose(`dv, ${scene.place.name}`, dv.read(), grads.dv, grads.bounds.dv);
  scene.expectOnlyWritten(`attentionBackward, ${scene.place.name}`, dq, dk, dv);
}

export function attentionConformance(kernels: () => Kernels): void {
  describe('attention', () => {
    for (const [name, shape] of Object.entries(CASES)) {
      const { batch, queryLen } = shape;

      it(`forward: ${name}`, () => {
        everywhere(batch + queryLen, (scene, dice) => checkForward(kernels(), scene, dice, shape));
      });

      it(`backward: ${name}`, () => {
        everywhere(batch + queryLen + 1, (scene, dice) => checkBackward(kernels(), scene, dice, shape));
      });
    }

    for (const [name, shape] of Object.entries(LONG)) {
      it(`forward and backward: ${name}`, () => {
        checkForward(kernels(), new Scene(PLACEMENTS[1]), new Dice(3), shape);
        checkBackward(kernels(), new Scene(PLACEMENTS[1]), new Dice(4), shape);
      });
    }

    it('reads nothing of the keys that no query sees', () => {
      const shape = CASES['more keys than any query sees'];
      const scene = new Scene(PLACEMENTS[0]);
      const args = setUp(scene, new Dice(5), shape);
      poison(args, shape, shape.queryLen, shape.kvLengths[0]);
      const out = scene.output('out', args.outLayout);
      const lse = scene.output('lse', shape.batch * shape.nHeads * shape.queryLen);
      forward(kernels(), shape, args, out, lse);
      expect(out.read().some(Number.isNaN)).toBe(false);
      expect(lse.read().some(Number.isNaN)).toBe(false);
    });

    for (const [name, shape] of Object.entries({
      'grouped heads': plain(1, 40, 4, 2, 16),
      'several blocks': plain(1, 150, 1, 1, 8),
    })) {
      it(`keeps a NaN key and value from the queries before it: ${name}`, () => {
        const { queryLen, nHeads, headDim } = shape;
        for (const at of [0, 1, 13, queryLen - 1]) {
          const scene = new Scene(PLACEMENTS[0]);
          const args = setUp(scene, new Dice(7), shape);
          poison(args, shape, at, at + 1);
          const out = scene.output('out', args.outLayout),
            lse = scene.output('lse', nHeads * queryLen);
          forward(kernels(), shape, args, out, lse);
          const isNaNs = [...out.read()].map(Number.isNaN);
          const firstThatSees = at * nHeads * headDim;
          expect(isNaNs.slice(0, firstThatSees).includes(true)).toBe(false);
          expect(isNaNs.slice(firstThatSees).includes(false)).toBe(false);
          expect([...lse.read()].map(Number.isNaN)).toEqual(
            Array.from({ length: nHeads * queryLen }, (_, i) => i % queryLen >= at),
          );
        }
      });
    }

    it('may share its keys between sequences: a batch stride of 0', () => {
      const scene = new Scene(PLACEMENTS[1]),
        dice = new Dice(6);
      const q = scene.floats('q', [1, 2, 1, 2]),
        k = scene.floats('k', dice.values(6));
      const v = scene.floats('v', dice.values(6));
      const out = scene.output('out', 4),
        lse = scene.output('lse', 2);
      const starts = scene.ints('queryStarts', [2, 2]),
        lengths = scene.ints('kvLengths', [3, 3]);
      kernels().attentionForward(
        q.array,
        q.at,
        2,
        k.array,
        k.at,
        2,
        0,
        v.array,
        v.at,
        2,
        0,
        out.array,
        out.at,
        2,
        lse.array,
        lse.at,
        starts.array,
        starts.at,
        lengths.array,
        lengths.at,
        2,
        1,
        1,
        1,
        2,
        1,
      );
      const [a, b, c, d] = out.read();
      expectSame('second sequence', [c, d], [a, b]);
    });
  });
}
