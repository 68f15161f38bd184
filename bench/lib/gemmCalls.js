'use strict';
/**
 * The matmuls of a forward or a train step, without anything else: recorded from one run of a model, then repeated with
 * the same arguments on the same arrays. Attention multiplies inside its kernel; its products are listed as batched
 * calls, one for each sequence, kv head and block of query rows, over the keys that the block sees.
 */

/** The list cuts query rows in its own way, whatever the kernel does: causal for long sequences, one call for short ones. */
const BLOCK_ROWS = 64;

/** @typedef {{ kernel: string, args: any[], flops: number }} GemmCall */

/** Positions of the sizes and row starts in the argument lists of kernels.ts. */
const GEMM = {
  sgemm: ([, , m, n, k]) => 2 * m * n * k,
  sgemmBatch: (args) => 2 * args[2] * args[3] * args[4] * args[args.length - 1],
  sgemmGrouped: ([, groups, starts, at, n, k]) => 2 * (starts[at + groups] - starts[at]) * n * k,
  sgemmGroupedTransA: ([groups, starts, at, m, n]) => 2 * (starts[at + groups] - starts[at]) * m * n,
  sgemmPacked: ([m, n, k]) => 2 * m * n * k,
  sgemmGroupedPacked: ([groups, starts, at, n, k]) => 2 * (starts[at + groups] - starts[at]) * n * k,
};
const ROW_STARTS_ARGUMENT = { sgemmGrouped: 2, sgemmGroupedTransA: 1, sgemmGroupedPacked: 1 };

/**
 * Kernels that record the matmuls and, separately, the optimizer's updates, while `recording` is on.
 * @param {any} kernels
 */
function recordingKernels(kernels) {
  const recorder = {
    recording: false,
    /** @type {GemmCall[]} */
    calls: [],
    /** @type {GemmCall[]} */
    updates: [],
    kernels: { ...kernels },
  };
  const unknown = Object.keys(kernels).find((name) => name.startsWith('sgemm') && !(name in GEMM));
  if (unknown !== undefined) throw new Error(`gemmCalls.js doesn't know the arithmetic of ${unknown}`);
  // A product over 0 columns only zeroes a gradient: it isn't counted as a matmul.
  const note = (calls) =>
    recorder.recording && recorder.calls.push(...calls.filter(({ flops }) => flops > 0));
  for (const kernel of Object.keys(GEMM)) {
    recorder.kernels[kernel] = (...args) => {
      note([gemmCall(kernel, args)]);
      kernels[kernel](...args);
    };
  }
  recorder.kernels.adamw = (...args) => {
    if (recorder.recording) recorder.updates.push({ kernel: 'adamw', args, flops: 0 });
    kernels.adamw(...args);
  };
  for (const [kernel, productsOf] of Object.entries({
    attentionForward: forwardProducts,
    attentionBackward: backwardProducts,
  })) {
    recorder.kernels[kernel] = (...args) => {
      note(attentionCalls(args, productsOf));
      kernels[kernel](...args);
    };
  }
  return recorder;
}

/** Copies the row starts, since layers share their array. */
function gemmCall(kernel, args) {
  const at = ROW_STARTS_ARGUMENT[kernel]; // undefined for kernels without row starts
  const kept = [...args];
  if (at !== undefined) kept[at] = args[at].slice();
  return { kernel, args: kept, flops: GEMM[kernel](args) };
}

/** Returns a function that makes the calls again. */
function replay(kernels, calls) {
  const bound = calls.map(({ kernel, args }) => [kernels[kernel], args]);
  return () => {
    for (let i = 0; i < bound.length; i++) bound[i][0].apply(undefined, bound[i][1]);
  };
}

// ---------------------------------------------------------------- attention

/** A matrix argument: array, offset, leading dimension, and the distance between two heads of a group. */
const matrix = (array, offset, ld, stride) => ({ array, offset, ld, stride });

function attentionCalls(args, productsOf) {
  const [q, qAt, ldq, k, kAt, ldk, kBatch, v, vAt, ldv, vBatch, out, outAt, ldo] = args;
  const [starts, startsAt, lengths, lengthsAt, batch, queryLen, nHeads, nKvHeads, headDim] = args.slice(-10);
  const group = nHeads / nKvHeads;
  const calls = [];
  for (let b = 0; b < batch; b++) {
    for (let kvHead = 0; kvHead < nKvHeads; kvHead++) {
      for (let begin = 0; begin < queryLen; begin += BLOCK_ROWS) {
        const rows = Math.min(BLOCK_ROWS, queryLen - begin);
        const cols = Math.min(starts[startsAt + b] + begin + rows, lengths[lengthsAt + b]);
        const row = b * queryLen + begin;
        const head = kvHead * group * headDim;
        const keys = kvHead * headDim;
        calls.push(
          ...productsOf({
            group,
            rows,
            cols,
            headDim,
            q: matrix(q, qAt + row * ldq + head, ldq, headDim),
            k: matrix(k, kAt + b * kBatch + keys, ldk, 0),
            v: matrix(v, vAt + b * vBatch + keys, ldv, 0),
            out: matrix(out, outAt + row * ldo + head, ldo, headDim),
          }),
        );
      }
    }
  }
  return calls;
}

/** S = Q K^T, O = P V. */
function forwardProducts({ group, rows, cols, headDim: d, q, k, v, out }) {
  const scores = scratch(group, rows, cols);
  return [
    batched(false, true, rows, cols, d, q, k, scores, group),
    batched(false, false, rows, d, cols, scores, v, out, group),
  ];
}

/** S = Q K^T, dP = dO V^T, dV = P^T dO, dK = dS^T Q, dQ = dS K. */
function backwardProducts({ group, rows, cols, headDim: d, q, k, v, out }) {
  const [scores, dScores] = [scratch(group, rows, cols), scratch(group, rows, cols)];
  const [dk, dv, dq] = [scratch(group, cols, d), scratch(group, cols, d), scratch(group, rows, d)];
  return [
    batched(false, true, rows, cols, d, q, k, scores, group),
    batched(false, true, rows, cols, d, out, v, dScores, group),
    batched(true, false, cols, d, rows, scores, out, dv, group, 1),
    batched(true, false, cols, d, rows, dScores, q, dk, group, 1),
    batched(false, false, rows, d, cols, dScores, k, dq, group),
  ];
}

function scratch(group, rows, cols) {
  return matrix(new Float32Array(group * rows * cols), 0, cols, rows * cols);
}

function batched(transA, transB, m, n, k, a, b, c, group, beta = 0) {
  return gemmCall('sgemmBatch', [
    transA,
    transB,
    m,
    n,
    k,
    1,
    a.array,
    a.offset,
    a.ld,
    a.stride,
    b.array,
    b.offset,
    b.ld,
    b.stride,
    beta,
    c.array,
    c.offset,
    c.ld,
    c.stride,
    group,
  ]);
}

module.exports = { recordingKernels, replay };
