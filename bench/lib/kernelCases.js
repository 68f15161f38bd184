'use strict';
/**
 * One call of each kernel, with its arguments and the arithmetic or memory traffic that it needs at least. Bytes are those of
 * the arguments, each read or written once.
 *
 * @typedef {object} KernelCase
 * @property {() => void} run
 * @property {Float32Array} output
 * @property {number} [flops]
 * @property {number} [bytes]
 */

const ROWS = 512;
const HIDDEN = 512;
const FFN = 1024;
const EXPERTS = 8;
const TOP_K = 2;
const HEADS = { query: 8, kv: 2, dim: 64 };
/** Columns of the row-wise kernels. */
const COLS = 512;
const VOCAB = 8192;

/** Makes arrays and remembers nothing: `floats(n)` normal values, `zeros(n)`, `integers(n, f)` with f(i) at i. */
function arraysFor(kernels, normals) {
  return {
    floats: (n, stream = 0) => normals(kernels, n, { stream }),
    zeros: (n) => new Float32Array(n),
    integers: (n, f) => Int32Array.from({ length: n }, (_, i) => f(i)),
  };
}

// ---------------------------------------------------------------- bound by arithmetic: a layer's sizes at hidden 512

function sgemm(k, { floats, zeros }) {
  const [x, w, y] = [floats(ROWS * HIDDEN), floats(FFN * HIDDEN, 1), zeros(ROWS * FFN)];
  return {
    run: () => k.sgemm(false, true, ROWS, FFN, HIDDEN, 1, x, 0, HIDDEN, w, 0, HIDDEN, 0, y, 0, FFN),
    output: y,
    flops: 2 * ROWS * FFN * HIDDEN,
  };
}

function sgemmBatch(k, { floats, zeros }) {
  const [n, count] = [128, 32];
  const size = n * n;
  const [a, b, c] = [floats(count * size), floats(count * size, 1), zeros(count * size)];
  return {
    run: () => k.sgemmBatch(false, true, n, n, n, 1, a, 0, n, size, b, 0, n, size, 0, c, 0, n, size, count),
    output: c,
    flops: 2 * count * n ** 3,
  };
}

/** Rows of group g, as unequal as a router's: 2/3 to 4/3 of an equal share. */
function groupStarts(integers) {
  const share = ROWS / EXPERTS;
  const uneven = [1, 5 / 6, 4 / 3, 2 / 3, 7 / 6, 1, 5 / 6, 7 / 6];
  const starts = integers(EXPERTS + 1, () => 0);
  for (let g = 0; g < EXPERTS; g++) starts[g + 1] = Math.round(starts[g] + share * uneven[g]);
  starts[EXPERTS] = ROWS;
  return starts;
}

function sgemmGrouped(k, { floats, zeros, integers }) {
  const starts = groupStarts(integers);
  const size = FFN * HIDDEN;
  const [x, w, y] = [floats(ROWS * HIDDEN), floats(EXPERTS * size, 1), zeros(ROWS * FFN)];
  return {
    run: () =>
      k.sgemmGrouped(
        true,
        EXPERTS,
        starts,
        0,
        FFN,
        HIDDEN,
        1,
        x,
        0,
        HIDDEN,
        w,
        0,
        HIDDEN,
        size,
        0,
        y,
        0,
        FFN,
      ),
    output: y,
    flops: 2 * ROWS * FFN * HIDDEN,
  };
}

function sgemmGroupedTransA(k, { floats, zeros, integers }) {
  const starts = groupStarts(integers);
  const size = FFN * HIDDEN;
  const [dy, x, dw] = [floats(ROWS * FFN), floats(ROWS * HIDDEN, 1), zeros(EXPERTS * size)];
  return {
    run: () =>
      k.sgemmGroupedTransA(
        EXPERTS,
        starts,
        0,
        FFN,
        HIDDEN,
        1,
        dy,
        0,
        FFN,
        x,
        0,
        HIDDEN,
        0,
        dw,
        0,
        HIDDEN,
        size,
      ),
    output: dw,
    flops: 2 * ROWS * FFN * HIDDEN,
  };
}

function attention({ floats, zeros, integers }) {
  const { query, kv, dim } = HEADS;
  const sizes = { q: ROWS * query * dim, kv: ROWS * kv * dim };
  return {
    inputs: { q: floats(sizes.q), k: floats(sizes.kv, 1), v: floats(sizes.kv, 2) },
    out: zeros(sizes.q),
    lse: zeros(query * ROWS),
    starts: integers(1, () => 0),
    lengths: integers(1, () => ROWS),
    sizes,
    /** Visible query-key pairs of all heads. */
    pairs: (query * ROWS * (ROWS + 1)) / 2,
    ld: query * dim,
    ldKv: kv * dim,
    shape: [1, ROWS, query, kv, dim, 1 / Math.sqrt(dim)],
  };
}

function attentionForward(k, arrays) {
  const { inputs, out, lse, starts, lengths, pairs, ld, ldKv, shape } = attention(arrays);
  const { q, k: keys, v } = inputs;
  const matrices = [q, 0, ld, keys, 0, ldKv, 0, v, 0, ldKv, 0, out, 0, ld, lse, 0];
  return {
    run: () => k.attentionForward(...matrices, starts, 0, lengths, 0, ...shape),
    output: out,
    flops: 4 * HEADS.dim * pairs,
  };
}

function attentionBackward(k, arrays) {
  const { inputs, out, lse, starts, lengths, sizes, pairs, ld, ldKv, shape } = attention(arrays);
  const { q, k: keys, v } = inputs;
  const dOut = arrays.floats(sizes.q, 3);
  const [dq, dk, dv] = [arrays.zeros(sizes.q), arrays.zeros(sizes.kv), arrays.zeros(sizes.kv)];
  const matrices = [q, 0, ld, keys, 0, ldKv, 0, v, 0, ldKv, 0, out, 0, ld, lse, 0];
  const gradients = [dOut, 0, dq, 0, dk, 0, dv, 0];
  k.attentionForward(...matrices, starts, 0, lengths, 0, ...shape);
  return {
    run: () => k.attentionBackward(...matrices, ...gradients, starts, 0, lengths, 0, ...shape),
    output: dq,
    flops: 10 * HEADS.dim * pairs,
  };
}

const ARITHMETIC = {
  sgemm,
  sgemmBatch,
  sgemmGrouped,
  sgemmGroupedTransA,
  attentionForward,
  attentionBackward,
};

module.exports = { ARITHMETIC, COLS, EXPERTS, HEADS, TOP_K, VOCAB, arraysFor };
