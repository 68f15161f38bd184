import { type Area, extent, matrix, reads, repeated, requireApart, writes } from './areas';
import { type Definitions, requireIndices, requireLd, requireNonNegative } from './checks';
import { rowMax, shiftedExp } from './rows';
import { Scratch } from './scratch';

const scoreScratch = new Scratch();
const sumScratch = new Scratch();
const keyGradScratch = new Scratch();
const valueGradScratch = new Scratch();

/** The area of a key or value array that the sequences of a batch read. */
function cacheArea(
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
function requireHeads(kernel: string, nHeads: number, nKvHeads: number): void {
  if (nHeads === 0 || nHeads % nKvHeads === 0) return;
  throw new RangeError(`${kernel}: nHeads must be a multiple of nKvHeads, ${nKvHeads}, got ${nHeads}`);
}

/** scores[j] = scale * q . k_j for j in [0, keys). */
function scoreKeys(
  q: Float32Array,
  qAt: number,
  k: Float32Array,
  kAt: number,
  ldk: number,
  keys: number,
  headDim: number,
  scale: number,
  scores: Float64Array,
): void {
  for (let j = 0; j < keys; j++) {
    const key = kAt + j * ldk;
    let dot = 0;
    for (let d = 0; d < headDim; d++) dot += q[qAt + d] * k[key + d];
    scores[j] = scale * dot;
  }
}

/**
 * One query row: out = the mean of the first `keys` values, weighted by the softmax of their scores. Returns log sum
 * exp.
 */
function attendRow(
  v: Float32Array,
  vAt: number,
  ldv: number,
  keys: number,
  headDim: number,
  scores: Float64Array,
  out: Float32Array,
  outAt: number,
): number {
  const max = rowMax(scores, 0, keys);
  const sum = shiftedExp(scores, 0, keys, max, scores);
  const mean = sumScratch.zeros(headDim);
  for (let j = 0; j < keys; j++) {
    const value = vAt + j * ldv;
    const weight = scores[j];
    for (let d = 0; d < headDim; d++) mean[d] += weight * v[value + d];
  }
  for (let d = 0; d < headDim; d++) out[outAt + d] = sum === 0 ? 0 : mean[d] / sum;
  return max === Number.NEGATIVE_INFINITY ? max : max + Math.log(sum);
}

export const attention: Definitions<'rope' | 'attentionForward' | 'attentionBackward'> = {
  rope: {
    signature: `x:floats xOffset ldx cos:floats cosOffset sin:floats sinOffset maxPositions
      positions:ints positionsOffset rows nHeads headDim inverse:flag`,
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
      inverse,
    ) {
      if (headDim % 2 !== 0) throw new RangeError(`rope: headDim must be even, got ${headDim}`);
      const pairs = headDim / 2;
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
          for (let i = 0; i < pairs; i++) {
            const a = x[head + 2 * i],
              b = x[head + 2 * i + 1];
            const c = cos[cosOffset + angle + i];
            const s = inverse ? -sin[sinOffset + angle + i] : sin[sinOffset + angle + i];
            x[head + 2 * i] = a * c - b * s;
            x[head + 2 * i + 1] = a * s + b * c;
          }
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
      const name = 'attentionForward';
      const cols = nHeads * headDim,
        kvCols = nKvHeads * headDim,
        rows = batch * queryLen;
      requireHeads(name, nHeads, nKvHeads);
      requireLd(name, 'ldq', ldq, cols);
      requireLd(name, 'ldk', ldk, kvCols);
      requireLd(name, 'ldv', ldv, kvCols);
      requireLd(name, 'ldo', ldo, cols);
      reads(name, 'q', q, qOffset, matrix(rows, cols, ldq));
      writes(name, 'out', out, outOffset, matrix(rows, cols, ldo));
      writes(name, 'lse', lse, lseOffset, rows * nHeads);
      reads(name, 'queryStarts', queryStarts, queryStartsOffset, batch);
      reads(name, 'kvLengths', kvLengths, kvLengthsOffset, batch);
      requireNonNegative(name, 'queryStarts', queryStarts, queryStartsOffset, batch);
      requireNonNegative(name, 'kvLengths', kvLengths, kvLengthsOffset, batch);
      // The needed parts of k and v depend on the contents of kvLengths, so they are checked last.
      const keyArea = cacheArea(kvLengths, kvLengthsOffset, batch, kBatchStride, ldk, kvCols);
      const valueArea = cacheArea(kvLengths, kvLengthsOffset, batch, vBatchStride, ldv, kvCols);
      reads(name, 'k', k, kOffset, keyArea);
      reads(name, 'v', v, vOffset, valueArea);
      if (cols === 0) return;
      requireApart(name);
      const group = nHeads / nKvHeads;
      for (let b = 0; b < batch; b++) {
        const kvLength = kvLengths[kvLengthsOffset + b];
        const scores = scoreScratch.take(kvLength);
        for (let h = 0; h < nHeads; h++) {
          const kvHead = Math.floor(h / group) * headDim;
          const kAt = kOffset + b * kBatchStride + kvHead;
          const vAt = vOffset + b * vBatchStride + kvHead;
          for (let i = 0; i < queryLen; i++) {
            const row = b * queryLen + i;
            const keys = Math.min(queryStarts[queryStartsOffset + b] + i + 1, kvLength);
            scoreKeys(q, qOffset + row * ldq + h * headDim, k, kAt, ldk, keys, headDim, scale, scores);
            lse[lseOffset + (b * nHeads + h) * queryLen + i] = attendRow(
              v,
              vAt,
              ldv,
              keys,
              headDim,
              scores,
              out,
              outOffset + row * ldo + h * headDim,
            );
          }
        }
      }
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
      const name = 'attentionBackward';
      const cols = nHeads * headDim,
        kvCols = nKvHeads * headDim,
        rows = batch * queryLen;
      requireHeads(name, nHeads, nKvHeads);
      requireLd(name, 'ldq', ldq, cols);
      requireLd(name, 'ldk', ldk, kvCols);
      requireLd(name, 'ldv', ldv, kvCols);
      requireLd(name, 'ldo', ldo, cols);
      reads(name, 'q', q, qOffset, matrix(rows, cols, ldq));
      reads(name, 'out', out, outOffset, matrix(rows, cols, ldo));
      reads(name, 'lse', lse, lseOffset, rows * nHeads);
      reads(name, 'dOut', dOut, dOutOffset, matrix(rows, cols, ldo));
      writes(name, 'dq', dq, dqOffset, matrix(rows, cols, ldq));
      reads(name, 'queryStarts', queryStarts, queryStartsOffset, batch);
      reads(name, 'kvLengths', kvLengths, kvLengthsOffset, batch);
      requireNonNegative(name, 'queryStarts', queryStarts, queryStartsOffset, batch);
      requireNonNegative(name, 'kvLengths', kvLengths, kvLengthsOffset, batch);
      const keyArea = cacheArea(kvLengths, kvLengthsOffset, batch, kBatchStride, ldk, kvCols);
      const valueArea = cacheArea(kvLengths, kvLengthsOffset, batch, vBatchStride, ldv, kvCols);
      reads(name, 'k', k, kOffset, keyArea);
      reads(name, 'v', v, vOffset, valueArea);
      writes(name, 'dk', dk, dkOffset, keyArea);
      writes(name, 'dv', dv, dvOffset, valueArea);
      if (cols === 0 || rows === 0) return;
      requireApart(name);
      const group = nHeads / nKvHeads;
      for (let b = 0; b < batch; b++) {
        const kvLength = kvLengths[kvLengthsOffset + b];
        const scores = scoreScratch.take(kvLength);
        for (let kvHead = 0; kvHead < nKvHeads; kvHead++) {
          const kBase = b * kBatchStride + kvHead * headDim;
          const vBase = b * vBatchStride + kvHead * headDim;
          const keyGrads = keyGradScratch.zeros(kvLength * headDim);
          const valueGrads = valueGradScratch.zeros(kvLength * headDim);
          for (let h = kvHead * group; h < (kvHead + 1) * group; h++) {
            for (let i = 0; i < queryLen; i++) {
              const row = b * queryLen + i;
              const keys = Math.min(queryStarts[queryStartsOffset + b] + i + 1, kvLength);
              const qAt = row * ldq + h * headDim,
                outAt = row * ldo + h * headDim;
              scoreKeys(q, qOffset + qAt, k, kOffset + kBase, ldk, keys, headDim, scale, scores);
              backwardRow(
                q,
                qOffset + qAt,
                k,
                kOffset + kBase,
                ldk,
                v,
                vOffset + vBase,
                ldv,
                out,
                outOffset + outAt,
                lse[lseOffset + (b * nHeads + h) * queryLen + i],
                dOut,
                dOutOffset + outAt,
                dq,
                dqOffset + qAt,
                keys,
                headDim,
                scale,
                scores,
                keyGrads,
                valueGrads,
              );
            }
          }
          storeRows(dk, dkOffset + kBase, ldk, keyGrads, kvLength, headDim);
          storeRows(dv, dvOffset + vBase, ldv, valueGrads, kvLength, headDim);
        }
      }
    },
  },
};

/** One query row of the backward: writes its dq, adds to keyGrads and valueGrads [keys, headDim]. */
function backwardRow(
  q: Float32Array,
  qAt: number,
  k: Float32Array,
  kAt: number,
  ldk: number,
  v: Float32Array,
  vAt: number,
  ldv: number,
  out: Float32Array,
  outAt: number,
  lse: number,
  dOut: Float32Array,
  dOutAt: number,
  dq: Float32Array,
  dqAt: number,
  keys: number,
  headDim: number,
  scale: number,
  scores: Float64Array,
  keyGrads: Float64Array,
  valueGrads: Float64Array,
): void {
  let outDot = 0;
  for (let d = 0; d < headDim; d++) outDot += dOut[dOutAt + d] * out[outAt + d];
  const queryGrad = sumScratch.zeros(headDim);
  for (let j = 0; j < keys; j++) {
    const key = kAt + j * ldk,
      value = vAt + j * ldv,
      grad = j * headDim;
    // lse = -inf: every score is -inf, and the forward gave zeros.
    const p = lse === Number.NEGATIVE_INFINITY ? 0 : Math.exp(scores[j] - lse);
    let dp = 0;
    for (let d = 0; d < headDim; d++) dp += dOut[dOutAt + d] * v[value + d];
    const ds = scale * p * (dp - outDot);
    for (let d = 0; d < headDim; d++) {
      queryGrad[d] += ds * k[key + d];
      keyGrads[grad + d] += ds * q[qAt + d];
      valueGrads[grad + d] += p * dOut[dOutAt + d];
    }
  }
  for (let d = 0; d < headDim; d++) dq[dqAt + d] = queryGrad[d];
}

/** dst rows, `ld` apart, = sums [rows, cols]. */
function storeRows(
  dst: Float32Array,
  dstAt: number,
  ld: number,
  sums: Float64Array,
  rows: number,
  cols: number,
): void {
  for (let j = 0; j < rows; j++) {
    for (let d = 0; d < cols; d++) dst[dstAt + j * ld + d] = sums[j * cols + d];
  }
}
