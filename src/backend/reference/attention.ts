import { type Area, extent, matrix, reads, repeated, requireApart, writes } from './areas';
import { type Definitions, requireIndices, requireLd, requireNonNegative } from './checks';
import { rowMax, shiftedExp } from './rows';
import { Scratch } from './scratch';

const scoreScratch = new Scratch();
const sumScratch = new Scratch();
const keyGradScratch = new Scratch();
const valueGradScratch = new Scratch();

/** The area of a key or value array that the sequences of a batch read. */
export function cacheArea(
  kvLengths: Int32Array,
  kvLengthsOffset: number,
  batch: number,
  batchStride: number,
  ld: number,
  cols: number,
): Area {
  let rows = 0,
    end = 0;
  for (let b = 0; b < batch; b++) {
    const length = kvLengths[kvLengthsOffset + b];
    const one = extent(length, cols, ld);
    if (one > 0) end = Math.max(end, b * batchStride + one);
    rows = Math.max(rows, length);
  }
  return { ...repeated(batch, matrix(rows, cols, ld), batchStride), end };
}

/** Checks that query heads share key-value heads evenly. */
export function requireHeads(kernel: string, nHeads: number, nKvHeads: number): void {
  if (nHeads === 0 || nHeads % nKvHeads === 0) return;
  throw new RangeError(`${kernel}: nHeads must be a multiple of nKvHeads, ${nKvHeads}, got ${nHeads}`);
}

/** A matrix of the arguments: row r begins at element at + r ld. */
interface Rows {
  readonly data: Float32Array;
  readonly at: number;
  readonly ld: number;
}

/** Keys or values; those of sequence b begin at element at + b stride. */
interface Cache extends Rows {
  readonly stride: number;
}

/** What a call of either attention kernel is about; kernels/attention.ts has the shapes. */
export interface Call {
  readonly name: string;
  readonly q: Rows;
  readonly k: Cache;
  readonly v: Cache;
  readonly out: Rows;
  readonly lse: Float32Array;
  readonly lseAt: number;
  readonly queryStarts: Int32Array;
  readonly queryStartsAt: number;
  readonly kvLengths: Int32Array;
  readonly kvLengthsAt: number;
  readonly batch: number;
  readonly queryLen: number;
  readonly nHeads: number;
  readonly nKvHeads: number;
  readonly headDim: number;
  readonly scale: number;
}

/** Gradients of a call; each has the rows of its matrix. */
interface Gradients {
  readonly dOut: Rows;
  readonly dq: Rows;
  readonly dk: Cache;
  readonly dv: Cache;
}

/** Checks head counts and leading dimensions. */
function requireShapes({ name, q, k, v, out, nHeads, nKvHeads, headDim }: Call): void {
  requireHeads(name, nHeads, nKvHeads);
  requireLd(name, 'ldq', q.ld, nHeads * headDim);
  requireLd(name, 'ldk', k.ld, nKvHeads * headDim);
  requireLd(name, 'ldv', v.ld, nKvHeads * headDim);
  requireLd(name, 'ldo', out.ld, nHeads * headDim);
}

/** Checks the starts and lengths, and then what k and v need by them. Returns the areas of k and v. */
function readSequences(call: Call): { keys: Area; values: Area } {
  const { name, k, v, queryStarts, queryStartsAt, kvLengths, kvLengthsAt, batch, nKvHeads, headDim } = call;
  reads(name, 'queryStarts', queryStarts, queryStartsAt, batch);
  reads(name, 'kvLengths', kvLengths, kvLengthsAt, batch);
  requireNonNegative(name, 'queryStarts', queryStarts, queryStartsAt, batch);
  requireNonNegative(name, 'kvLengths', kvLengths, kvLengthsAt, batch);
  const cols = nKvHeads * headDim;
  const keys = cacheArea(kvLengths, kvLengthsAt, batch, k.stride, k.ld, cols);
  const values = cacheArea(kvLengths, kvLengthsAt, batch, v.stride, v.ld, cols);
  reads(name, 'k', k.data, k.at, keys);
  reads(name, 'v', v.data, v.at, values);
  return { keys, values };
}

function kvLengthOf({ kvLengths, kvLengthsAt }: Call, b: number): number {
  return kvLengths[kvLengthsAt + b];
}

/** The number of keys that query i of sequence b sees. */
function keysOf(call: Call, b: number, i: number): number {
  return Math.min(call.queryStarts[call.queryStartsAt + b] + i + 1, kvLengthOf(call, b));
}

/** scores[j] = scale * q . k_j for j in [0, keys). */
function scoreKeys(call: Call, qAt: number, kAt: number, keys: number, scores: Float64Array): void {
  const { q, k, headDim, scale } = call;
  for (let j = 0; j < keys; j++) {
    const key = kAt + j * k.ld;
    let dot = 0;
    for (let d = 0; d < headDim; d++) dot += q.data[qAt + d] * k.data[key + d];
    scores[j] = scale * dot;
  }
}

/**
 * One query row: out = the mean of the first `keys` values, weighted by the softmax of their scores. Returns log sum
 * exp.
 */
function attendRow(call: Call, vAt: number, outAt: number, keys: number, scores: Float64Array): number {
  const { v, out, headDim } = call;
  const max = rowMax(scores, 0, keys);
  const sum = shiftedExp(scores, 0, keys, max, scores);
  const mean = sumScratch.zeros(headDim);
  for (let j = 0; j < keys; j++) {
    const value = vAt + j * v.ld;
    const weight = scores[j];
    for (let d = 0; d < headDim; d++) mean[d] += weight * v.data[value + d];
  }
  for (let d = 0; d < headDim; d++) out.data[outAt + d] = sum === 0 ? 0 : mean[d] / sum;
  return max === Number.NEGATIVE_INFINITY ? max : max + Math.log(sum);
}

/** All query rows of head h of sequence b. */
export function attendHead(call: Call, b: number, h: number): void {
  const { q, k, v, out, lse, lseAt, queryLen, nHeads, nKvHeads, headDim } = call;
  const scores = scoreScratch.take(kvLengthOf(call, b));
  const kvHead = Math.floor(h / (nHeads / nKvHeads)) * headDim;
  const kAt = k.at + b * k.stride + kvHead;
  const vAt = v.at + b * v.stride + kvHead;
  for (let i = 0; i < queryLen; i++) {
    const row = b * queryLen + i;
    const keys = keysOf(call, b, i);
    scoreKeys(call, q.at + row * q.ld + h * headDim, kAt, keys, scores);
    const outAt = out.at + row * out.ld + h * headDim;
    lse[lseAt + (b * nHeads + h) * queryLen + i] = attendRow(call, vAt, outAt, keys, scores);
  }
}

/** The query rows of all heads that read key-value head `kvHead` of sequence b, and its dk and dv. */
function attendHeadBackward(call: Call, gradients: Gradients, b: number, kvHead: number): void {
  const { q, k, v, out, lse, lseAt, queryLen, nHeads, nKvHeads, headDim } = call;
  const { dk, dv } = gradients;
  const kvLength = kvLengthOf(call, b);
  const scores = scoreScratch.take(kvLength);
  const keyGrads = keyGradScratch.zeros(kvLength * headDim);
  const valueGrads = valueGradScratch.zeros(kvLength * headDim);
  const kAt = b * k.stride + kvHead * headDim;
  const vAt = b * v.stride + kvHead * headDim;
  const group = nHeads / nKvHeads;
  for (let h = kvHead * group; h < (kvHead + 1) * group; h++) {
    for (let i = 0; i < queryLen; i++) {
      const row = b * queryLen + i;
      const at = { q: row * q.ld + h * headDim, k: kAt, v: vAt, out: row * out.ld + h * headDim };
      const keys = keysOf(call, b, i);
      scoreKeys(call, q.at + at.q, k.at + kAt, keys, scores);
      turnIntoProbabilities(scores, keys, lse[lseAt + (b * nHeads + h) * queryLen + i]);
      attendRowBackward(call, gradients, at, keys, scores, keyGrads, valueGrads);
    }
  }
  storeRows(dk, kAt, keyGrads, kvLength, headDim);
  storeRows(dv, vAt, valueGrads, kvLength, headDim);
}

/** scores[j] = exp(scores[j] - lse); 0 where lse = -inf: every score is -inf then, and the forward gave zeros. */
function turnIntoProbabilities(scores: Float64Array, keys: number, lse: number): void {
  for (let j = 0; j < keys; j++) {
    scores[j] = lse === Number.NEGATIVE_INFINITY ? 0 : Math.exp(scores[j] - lse);
  }
}

/** One query row of the backward: writes its dq, adds to keyGrads and valueGrads [keys, headDim]. */
function attendRowBackward(
  { q, k, v, out, headDim, scale }: Call,
  { dOut, dq }: Gradients,
  at: { readonly q: number; readonly k: number; readonly v: number; readonly out: number },
  keys: number,
  probabilities: Float64Array,
  keyGrads: Float64Array,
  valueGrads: Float64Array,
): void {
  const [qAt, outAt, dOutAt] = [q.at + at.q, out.at + at.out, dOut.at + at.out];
  let outDot = 0;
  for (let d = 0; d < headDim; d++) outDot += dOut.data[dOutAt + d] * out.data[outAt + d];
  const queryGrad = sumScratch.zeros(headDim);
  for (let j = 0; j < keys; j++) {
    const p = probabilities[j];
    const key = k.at + at.k + j * k.ld;
    const value = v.at + at.v + j * v.ld;
    const grad = j * headDim;
    let dp = 0;
    for (let d = 0; d < headDim; d++) dp += dOut.data[dOutAt + d] * v.data[value + d];
    const ds = scale * p * (dp - outDot);
    for (let d = 0; d < headDim; d++) {
      queryGrad[d] += ds * k.data[key + d];
      keyGrads[grad + d] += ds * q.data[qAt + d];
      valueGrads[grad + d] += p * dOut.data[dOutAt + d];
    }
  }
  for (let d = 0; d < headDim; d++) dq.data[dq.at + at.q + d] = queryGrad[d];
}

/** The rows of dst, from element at + `from` on, = sums [rows, cols]. */
function storeRows(dst: Rows, from: number, sums: Float64Array, rows: number, cols: number): void {
  for (let j = 0; j < rows; j++) {
    const row = dst.at + from + j * dst.ld;
    for (let d = 0; d < cols; d++) dst.data[row + d] = sums[j * cols + d];
  }
}

/** Rotates the pairs (i step, i step + apart) of one head by angles given as cos and sin, from elements `cosAt` and `sinAt` on. */
function rotateHead(
  x: Float32Array,
  head: number,
  pairs: number,
  step: number,
  apart: number,
  cos: Float32Array,
  cosAt: number,
  sin: Float32Array,
  sinAt: number,
  inverse: boolean,
): void {
  for (let i = 0; i < pairs; i++) {
    const first = head + i * step;
    const second = first + apart;
    const [a, b] = [x[first], x[second]];
    const c = cos[cosAt + i];
    const s = inverse ? -sin[sinAt + i] : sin[sinAt + i];
    x[first] = a * c - b * s;
    x[second] = a * s + b * c;
  }
}

export const attention: Definitions<'rope' | 'attentionForward' | 'attentionBackward'> = {
  rope: {
    signature: `x:floats xOffset ldx cos:floats cosOffset sin:floats sinOffset maxPositions
      positions:ints positionsOffset rows nHeads headDim halves:flag inverse:flag`,
    run(
      x,
      xOffset,
      ldx,
      cos,
      cosOffset,
      sin,
      sinOffset,
      maxPositions,
      positions,
      positionsOffset,
      rows,
      nHeads,
      headDim,
      halves,
      inverse,
    ) {
      if (headDim % 2 !== 0) throw new RangeError(`rope: headDim must be even, got ${headDim}`);
      const pairs = headDim / 2;
      const [step, apart] = halves ? [1, pairs] : [2, 1];
      const cols = nHeads * headDim;
      requireLd('rope', 'ldx', ldx, cols);
      writes('rope', 'x', x, xOffset, matrix(rows, cols, ldx));
      reads('rope', 'cos', cos, cosOffset, maxPositions * pairs);
      reads('rope', 'sin', sin, sinOffset, maxPositions * pairs);
      reads('rope', 'positions', positions, positionsOffset, rows);
      requireIndices('rope', 'positions', positions, positionsOffset, rows, maxPositions);
      if (cols === 0) return;
      requireApart('rope');
      for (let r = 0; r < rows; r++) {
        const angle = positions[positionsOffset + r] * pairs;
        for (let h = 0; h < nHeads; h++) {
          const head = xOffset + r * ldx + h * headDim;
          rotateHead(x, head, pairs, step, apart, cos, cosOffset + angle, sin, sinOffset + angle, inverse);
        }
      }
    },
  },

  attentionForward: {
    signature: `q:floats qOffset ldq k:floats kOffset ldk kBatchStride v:floats vOffset ldv vBatchStride
      out:floats outOffset ldo lse:floats lseOffset queryStarts:ints queryStartsOffset
      kvLengths:ints kvLengthsOffset batch queryLen nHeads nKvHeads headDim scale:real`,
    run(
      q,
      qOffset,
      ldq,
      k,
      kOffset,
      ldk,
      kBatchStride,
      v,
      vOffset,
      ldv,
      vBatchStride,
      out,
      outOffset,
      ldo,
      lse,
      lseOffset,
      queryStarts,
      queryStartsOffset,
      kvLengths,
      kvLengthsOffset,
      batch,
      queryLen,
      nHeads,
      nKvHeads,
      headDim,
      scale,
    ) {
      const call: Call = {
        name: 'attentionForward',
        q: { data: q, at: qOffset, ld: ldq },
        k: { data: k, at: kOffset, ld: ldk, stride: kBatchStride },
        v: { data: v, at: vOffset, ld: ldv, stride: vBatchStride },
        out: { data: out, at: outOffset, ld: ldo },
        lse,
        lseAt: lseOffset,
        queryStarts,
        queryStartsAt: queryStartsOffset,
        kvLengths,
        kvLengthsAt: kvLengthsOffset,
        batch,
        queryLen,
        nHeads,
        nKvHeads,
        headDim,
        scale,
      };
      forward(call);
    },
  },

  attentionBackward: {
    signature: `q:floats qOffset ldq k:floats kOffset ldk kBatchStride v:floats vOffset ldv vBatchStride
      out:floats outOffset ldo lse:floats lseOffset dOut:floats dOutOffset dq:floats dqOffset
      dk:floats dkOffset dv:floats dvOffset queryStarts:ints queryStartsOffset
      kvLengths:ints kvLengthsOffset batch queryLen nHeads nKvHeads headDim scale:real`,
    run(
      q,
      qOffset,
      ldq,
      k,
      kOffset,
      ldk,
      kBatchStride,
      v,
      vOffset,
      ldv,
      vBatchStride,
      out,
      outOffset,
      ldo,
      lse,
      lseOffset,
      dOut,
      dOutOffset,
      dq,
      dqOffset,
      dk,
      dkOffset,
      dv,
      dvOffset,
      queryStarts,
      queryStartsOffset,
      kvLengths,
      kvLengthsOffset,
      batch,
      queryLen,
      nHeads,
      nKvHeads,
      headDim,
      scale,
    ) {
      const call: Call = {
        name: 'attentionBackward',
        q: { data: q, at: qOffset, ld: ldq },
        k: { data: k, at: kOffset, ld: ldk, stride: kBatchStride },
        v: { data: v, at: vOffset, ld: ldv, stride: vBatchStride },
        out: { data: out, at: outOffset, ld: ldo },
        lse,
        lseAt: lseOffset,
        queryStarts,
        queryStartsAt: queryStartsOffset,
        kvLengths,
        kvLengthsAt: kvLengthsOffset,
        batch,
        queryLen,
        nHeads,
        nKvHeads,
        headDim,
        scale,
      };
      backward(call, {
        dOut: { data: dOut, at: dOutOffset, ld: ldo },
        dq: { data: dq, at: dqOffset, ld: ldq },
        dk: { data: dk, at: dkOffset, ld: ldk, stride: kBatchStride },
        dv: { data: dv, at: dvOffset, ld: ldv, stride: vBatchStride },
      });
    },
  },
};

function forward(call: Call): void {
  const { name, q, out, lse, lseAt, batch, queryLen, nHeads, headDim } = call;
  const rows = batch * queryLen;
  const cols = nHeads * headDim;
  requireShapes(call);
  reads(name, 'q', q.data, q.at, matrix(rows, cols, q.ld));
  writes(name, 'out', out.data, out.at, matrix(rows, cols, out.ld));
  writes(name, 'lse', lse, lseAt, rows * nHeads);
  readSequences(call);
  if (cols === 0) return;
  requireApart(name);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < nHeads; h++) attendHead(call, b, h);
  }
}

function backward(call: Call, gradients: Gradients): void {
  const { name, q, out, lse, lseAt, batch, queryLen, nHeads, nKvHeads, headDim } = call;
  const { dOut, dq, dk, dv } = gradients;
  const rows = batch * queryLen;
  const cols = nHeads * headDim;
  requireShapes(call);
  reads(name, 'q', q.data, q.at, matrix(rows, cols, q.ld));
  reads(name, 'out', out.data, out.at, matrix(rows, cols, out.ld));
  reads(name, 'lse', lse, lseAt, rows * nHeads);
  reads(name, 'dOut', dOut.data, dOut.at, matrix(rows, cols, dOut.ld));
  writes(name, 'dq', dq.data, dq.at, matrix(rows, cols, dq.ld));
  const { keys, values } = readSequences(call);
  writes(name, 'dk', dk.data, dk.at, keys);
  writes(name, 'dv', dv.data, dv.at, values);
  if (cols === 0 || rows === 0) return;
  requireApart(name);
  for (let b = 0; b < batch; b++) {
    for (let kvHead = 0; kvHead < nKvHeads; kvHead++) attendHeadBackward(call, gradients, b, kvHead);
  }
}
