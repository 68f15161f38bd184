'use strict';
/**
 * The calls of native/bench/kernel_bench.cc, made from JavaScript. Each kernel has a function that makes the call for `rows`
 * and `cols`, on arguments of the same sizes and alignment. Routing has tokens as rows and experts as columns; slots,
 * positions and targets equal those of the C++ side.
 */

const TOP_K = 2;
const HEADS = 4;
const POSITIONS = 512;

/** Input and output of one size. */
const map = (name) => (k, a, rows, cols) => {
  const n = rows * cols;
  const [x, y] = [a.floats(n), a.zeros(n)];
  return () => k[name](x, 0, y, 0, n);
};

function softmaxForward(k, a, rows, cols) {
  const [x, y] = [a.floats(rows * cols), a.zeros(rows * cols)];
  return () => k.softmaxForward(x, 0, y, 0, rows, cols);
}

function softmaxBackward(k, a, rows, cols) {
  const n = rows * cols;
  const [y, dy, dx] = [a.floats(n), a.floats(n, 1), a.zeros(n)];
  return () => k.softmaxBackward(y, 0, dy, 0, dx, 0, rows, cols);
}

function rmsNormForward(k, a, rows, cols) {
  const n = rows * cols;
  const [x, gamma, y, invRms] = [a.floats(n), a.floats(cols, 1), a.zeros(n), a.zeros(rows)];
  return () => k.rmsNormForward(x, 0, cols, gamma, 0, y, 0, cols, invRms, 0, rows, cols, 1e-6);
}

function rmsNormBackward(k, a, rows, cols) {
  const n = rows * cols;
  const [x, g, dy] = [a.floats(n), a.floats(cols, 1), a.floats(n, 2)];
  const [inv, dx, dg] = [a.zeros(rows).fill(1), a.zeros(n), a.zeros(cols)];
  return () =>
    k.rmsNormBackward(x, 0, cols, g, 0, inv, 0, dy, 0, cols, dx, 0, cols, false, dg, 0, rows, cols);
}

function swigluForward(k, a, rows, cols) {
  const [gateUp, y] = [a.floats(2 * rows * cols), a.zeros(rows * cols)];
  return () => k.swigluForward(gateUp, 0, y, 0, rows, cols);
}

function swigluBackward(k, a, rows, cols) {
  const n = rows * cols;
  const [gateUp, dy, dGateUp] = [a.floats(2 * n), a.floats(n, 1), a.zeros(2 * n)];
  return () => k.swigluBackward(gateUp, 0, dy, 0, dGateUp, 0, rows, cols);
}

function rope(k, a, rows, cols) {
  const dim = cols / HEADS;
  const x = a.floats(rows * cols);
  const angles = a.zeros((POSITIONS * dim) / 2);
  const [cos, sin] = [angles.slice().fill(0.6), angles.slice().fill(0.8)];
  const positions = a.integers(rows, (i) => i % POSITIONS);
  return () => k.rope(x, 0, cols, cos, 0, sin, 0, POSITIONS, positions, 0, rows, HEADS, dim, false, false);
}

function routing(k, a, tokens, experts) {
  const none = () => 0;
  const r = {
    logits: a.floats(tokens * experts),
    probs: a.zeros(tokens * experts),
    lse: a.zeros(tokens),
    indices: a.integers(tokens * TOP_K, none),
    weights: a.zeros(tokens * TOP_K),
    starts: a.integers(experts + 1, none),
    slotToToken: a.integers(tokens * TOP_K, none),
    tokenToSlots: a.integers(tokens * TOP_K, none),
    means: a.zeros(experts),
  };
  const { logits, probs, lse, indices, weights, starts, slotToToken, tokenToSlots, means } = r;
  const route = () =>
    k.routeForward(
      logits,
      0,
      null,
      0,
      probs,
      0,
      lse,
      0,
      indices,
      0,
      weights,
      0,
      starts,
      0,
      slotToToken,
      0,
      tokenToSlots,
      0,
      means,
      0,
      tokens,
      experts,
      TOP_K,
      true,
    );
  return { ...r, route };
}

function routeForward(k, a, rows, cols) {
  return routing(k, a, rows, cols).route;
}

function routeBackward(k, a, rows, cols) {
  const { probs, lse, indices: ids, weights: w, starts, route } = routing(k, a, rows, cols);
  route();
  const [dW, dx] = [a.floats(rows * TOP_K, 1), a.zeros(rows * cols)];
  const z = 1e-6;
  return () =>
    k.routeBackward(probs, 0, lse, 0, ids, 0, w, 0, dW, 0, starts, 0, dx, 0, rows, cols, TOP_K, true, z, z);
}

function gatherRows(k, a, rows, cols) {
  const [src, dst] = [a.floats(rows * cols), a.zeros(rows * cols)];
  const indices = a.integers(rows, (i) => rows - 1 - i);
  return () => k.gatherRows(src, 0, rows, indices, 0, dst, 0, rows, cols);
}

const slotsOf = (a, tokens) =>
  a.integers(tokens * TOP_K, (i) => (i % TOP_K) * tokens + Math.floor(i / TOP_K));

function scatterAddRows(k, a, rows, cols) {
  const slotRows = rows * TOP_K;
  const [x, weights, y] = [a.floats(slotRows * cols), a.floats(slotRows, 1), a.zeros(rows * cols)];
  const slots = slotsOf(a, rows);
  return () => k.scatterAddRows(x, 0, slotRows, slots, 0, weights, 0, y, 0, rows, TOP_K, cols);
}

function scatterAddRowsBackward(k, a, rows, cols) {
  const n = rows * TOP_K;
  const [dy, x, weights] = [a.floats(rows * cols), a.floats(n * cols, 1), a.floats(n, 2)];
  const [dx, dWeights, slots] = [a.zeros(n * cols), a.zeros(n), slotsOf(a, rows)];
  return () =>
    k.scatterAddRowsBackward(dy, 0, x, 0, n, slots, 0, weights, 0, dx, 0, dWeights, 0, rows, TOP_K, cols);
}

function embeddingBackward(k, a, rows, cols) {
  const [dy, table] = [a.floats(rows * cols), a.zeros(rows * cols)];
  const ids = a.integers(rows, (i) => rows - 1 - i);
  return () => k.embeddingBackward(dy, 0, ids, 0, table, 0, rows, rows, cols);
}

function crossEntropy(k, a, rows, cols) {
  const [logits, losses] = [a.floats(rows * cols), a.zeros(rows)];
  const targets = a.integers(rows, (i) => i % cols);
  return () => k.crossEntropy(logits, 0, targets, 0, losses, 0, rows, cols, -100, 1, true);
}

function sumSquares(k, a, rows, cols) {
  const x = a.floats(rows * cols);
  return () => k.sumSquares(x, 0, rows * cols);
}

function scale(k, a, rows, cols) {
  const x = a.floats(rows * cols);
  return () => k.scale(x, 0, rows * cols, -1);
}

function axpy(k, a, rows, cols) {
  const [x, y] = [a.floats(rows * cols), a.floats(rows * cols, 1)];
  return () => k.axpy(rows * cols, 1e-6, x, 0, y, 0);
}

function adamw(k, a, rows, cols) {
  const n = rows * cols;
  const [param, grad, m, v] = [a.floats(n), a.floats(n, 1), a.zeros(n), a.zeros(n)];
  return () => k.adamw(param, 0, grad, 0, m, 0, v, 0, n, 1e-4, 0.9, 0.95, 1e-8, 0.1, 0.1, 0.05, 1);
}

const BOUNDARY_CASES = {
  exp: map('exp'),
  silu: map('silu'),
  softmaxForward,
  softmaxBackward,
  rmsNormForward,
  rmsNormBackward,
  swigluForward,
  swigluBackward,
  rope,
  routeForward,
  routeBackward,
  gatherRows,
  scatterAddRows,
  scatterAddRowsBackward,
  embeddingBackward,
  crossEntropy,
  sumSquares,
  scale,
  axpy,
  adamw,
};

module.exports = { BOUNDARY_CASES };
