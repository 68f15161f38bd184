'use strict';
/**
 * The kernels that pass over memory once, as KernelCases on arguments of `total` bytes together. `rows(n)` is the number of
 * rows in that, if each row has n bytes of arguments.
 */
const { COLS, EXPERTS, HEADS, TOP_K, VOCAB } = require('./kernelCases');

const FLOAT = 4;

/** Input and output of one size. */
function twoArrays(call) {
  return (k, { floats, zeros }, total) => {
    const n = total / (2 * FLOAT);
    const [x, y] = [floats(n), zeros(n)];
    return { run: () => call(k, x, y, n), output: y, bytes: 2 * FLOAT * n };
  };
}

const rowsFor = (total, bytesPerRow) => Math.floor(total / bytesPerRow);

/** Divides the work of kernels that compute far longer than they move data. */
const COMPUTING_PART = 1 / 16;

function softmaxBackward(k, { floats, zeros }, total) {
  const rows = rowsFor(total, 3 * FLOAT * COLS);
  const n = rows * COLS;
  const [y, dy, dx] = [floats(n), floats(n, 1), zeros(n)];
  return {
    run: () => k.softmaxBackward(y, 0, dy, 0, dx, 0, rows, COLS),
    output: dx,
    bytes: 3 * FLOAT * n,
  };
}

function rmsNormForward(k, { floats, zeros }, total) {
  const rows = rowsFor(total, 2 * FLOAT * COLS);
  const n = rows * COLS;
  const [x, gamma, y, invRms] = [floats(n), floats(COLS, 1), zeros(n), zeros(rows)];
  return {
    run: () => k.rmsNormForward(x, 0, COLS, gamma, 0, y, 0, COLS, invRms, 0, rows, COLS, 1e-6),
    output: y,
    bytes: 2 * FLOAT * n,
  };
}

function rmsNormBackward(k, { floats, zeros }, total) {
  const rows = rowsFor(total, 3 * FLOAT * COLS);
  const n = rows * COLS;
  const [x, gamma, invRms] = [floats(n), floats(COLS, 1), new Float32Array(rows).fill(1)];
  const [dy, dx, dGamma] = [floats(n, 2), zeros(n), zeros(COLS)];
  return {
    run: () =>
      k.rmsNormBackward(
        x,
        0,
        COLS,
        gamma,
        0,
        invRms,
        0,
        dy,
        0,
        COLS,
        dx,
        0,
        COLS,
        false,
        dGamma,
        0,
        rows,
        COLS,
      ),
    output: dx,
    bytes: 3 * FLOAT * n,
  };
}

function swigluForward(k, { floats, zeros }, total) {
  const rows = rowsFor(total, 3 * FLOAT * COLS);
  const [gateUp, y] = [floats(2 * rows * COLS), zeros(rows * COLS)];
  return {
    run: () => k.swigluForward(gateUp, 0, y, 0, rows, COLS),
    output: y,
    bytes: 3 * FLOAT * rows * COLS,
  };
}

function swigluBackward(k, { floats, zeros }, total) {
  const rows = rowsFor(total, 5 * FLOAT * COLS);
  const n = rows * COLS;
  const [gateUp, dy, dGateUp] = [floats(2 * n), floats(n, 1), zeros(2 * n)];
  return {
    run: () => k.swigluBackward(gateUp, 0, dy, 0, dGateUp, 0, rows, COLS),
    output: dGateUp,
    bytes: 5 * FLOAT * n,
  };
}

function rope(k, { floats, integers }, total) {
  const width = HEADS.query * HEADS.dim;
  const rows = rowsFor(total, FLOAT * width);
  const positions = 512;
  const angles = floats((positions * HEADS.dim) / 2);
  const [cos, sin] = [angles.map(Math.cos), angles.map(Math.sin)];
  const x = floats(rows * width);
  const at = integers(rows, (i) => i % positions);
  return {
    run: () =>
      k.rope(x, 0, width, cos, 0, sin, 0, positions, at, 0, rows, HEADS.query, HEADS.dim, false, false),
    output: x,
    bytes: 2 * FLOAT * rows * width,
  };
}

/** Arguments of a routing with as many tokens as fit. */
function routing({ floats, zeros, integers }, tokens) {
  const none = () => 0;
  return {
    logits: floats(tokens * EXPERTS),
    probs: zeros(tokens * EXPERTS),
    lse: zeros(tokens),
    indices: integers(tokens * TOP_K, none),
    weights: zeros(tokens * TOP_K),
    starts: integers(EXPERTS + 1, none),
    slotToToken: integers(tokens * TOP_K, none),
    tokenToSlots: integers(tokens * TOP_K, none),
    means: zeros(EXPERTS),
  };
}

/** Bytes of a token: logits, probabilities and log-sum-exp; choice, weight and the two tables of slots. */
const ROUTE_BYTES = FLOAT * (2 * EXPERTS + 1 + 4 * TOP_K);

function route(k, r, tokens) {
  k.routeForward(
    r.logits,
    0,
    null,
    0,
    r.probs,
    0,
    r.lse,
    0,
    r.indices,
    0,
    r.weights,
    0,
    r.starts,
    0,
    r.slotToToken,
    0,
    r.tokenToSlots,
    0,
    r.means,
    0,
    tokens,
    EXPERTS,
    TOP_K,
    true,
  );
}

function routeForward(k, arrays, total) {
  const tokens = rowsFor(total * COMPUTING_PART, ROUTE_BYTES);
  const r = routing(arrays, tokens);
  return { run: () => route(k, r, tokens), output: r.probs, bytes: ROUTE_BYTES * tokens };
}

function routeBackward(k, arrays, total) {
  const bytesPerToken = FLOAT * (2 * EXPERTS + 1 + 3 * TOP_K);
  const tokens = rowsFor(total * COMPUTING_PART, ROUTE_BYTES);
  const r = routing(arrays, tokens);
  const [dWeights, dLogits] = [arrays.floats(tokens * TOP_K, 1), r.logits];
  route(k, r, tokens);
  return {
    run: () =>
      k.routeBackward(
        r.probs,
        0,
        r.lse,
        0,
        r.indices,
        0,
        r.weights,
        0,
        dWeights,
        0,
        r.starts,
        0,
        dLogits,
        0,
        tokens,
        EXPERTS,
        TOP_K,
        true,
        1e-6,
        1e-6,
      ),
    output: dLogits,
    bytes: bytesPerToken * tokens,
  };
}

/** A permutation of n places that jumps about as a sort by expert does: token t's choice j to slot j*n/K + t. */
function slotsOf(integers, tokens) {
  return integers(tokens * TOP_K, (i) => (i % TOP_K) * tokens + Math.floor(i / TOP_K));
}

function gatherRows(k, { floats, zeros, integers }, total) {
  const rows = rowsFor(total, 2 * FLOAT * COLS);
  const [src, dst] = [floats(rows * COLS), zeros(rows * COLS)];
  const indices = integers(rows, (i) => rows - 1 - i);
  return {
    run: () => k.gatherRows(src, 0, rows, indices, 0, dst, 0, rows, COLS),
    output: dst,
    bytes: 2 * FLOAT * rows * COLS,
  };
}

function scatterAddRows(k, { floats, zeros, integers }, total) {
  const tokens = rowsFor(total, (TOP_K + 1) * FLOAT * COLS);
  const rows = tokens * TOP_K;
  const [x, y, weights] = [floats(rows * COLS), zeros(tokens * COLS), floats(rows, 1)];
  const slots = slotsOf(integers, tokens);
  return {
    run: () => k.scatterAddRows(x, 0, rows, slots, 0, weights, 0, y, 0, tokens, TOP_K, COLS),
    output: y,
    bytes: (TOP_K + 2) * FLOAT * tokens * COLS,
  };
}

function scatterAddRowsBackward(k, { floats, zeros, integers }, total) {
  const tokens = rowsFor(total, (2 * TOP_K + 1) * FLOAT * COLS);
  const rows = tokens * TOP_K;
  const [dy, x, weights] = [floats(tokens * COLS), floats(rows * COLS, 1), floats(rows, 2)];
  const [dx, dWeights] = [zeros(rows * COLS), zeros(rows)];
  const slots = slotsOf(integers, tokens);
  return {
    run: () =>
      k.scatterAddRowsBackward(
        dy,
        0,
        x,
        0,
        rows,
        slots,
        0,
        weights,
        0,
        dx,
        0,
        dWeights,
        0,
        tokens,
        TOP_K,
        COLS,
      ),
    output: dx,
    bytes: (2 * TOP_K + 1) * FLOAT * tokens * COLS,
  };
}

function embeddingBackward(k, { floats, zeros, integers }, total) {
  const tokens = rowsFor(total, 2 * FLOAT * COLS);
  const [dy, table] = [floats(tokens * COLS), zeros(tokens * COLS)];
  const ids = integers(tokens, (i) => tokens - 1 - i);
  return {
    run: () => k.embeddingBackward(dy, 0, ids, 0, table, 0, tokens, tokens, COLS),
    output: table,
    bytes: 3 * FLOAT * tokens * COLS,
  };
}

function crossEntropy(k, { floats, zeros, integers }, total) {
  const rows = rowsFor(total, FLOAT * VOCAB);
  const [logits, losses] = [floats(rows * VOCAB), zeros(rows)];
  const targets = integers(rows, (i) => i % VOCAB);
  return {
    run: () => k.crossEntropy(logits, 0, targets, 0, losses, 0, rows, VOCAB, -100, 1 / rows, true),
    output: losses,
    bytes: 2 * FLOAT * rows * VOCAB,
  };
}

function sumSquares(k, { floats, zeros }, total) {
  const n = total / FLOAT;
  const [x, sum] = [floats(n), zeros(1)];
  const run = () => {
    sum[0] = k.sumSquares(x, 0, n);
  };
  return { run, output: sum, bytes: FLOAT * n };
}

function scale(k, { floats }, total) {
  const n = total / FLOAT;
  const x = floats(n);
  return { run: () => k.scale(x, 0, n, -1), output: x, bytes: 2 * FLOAT * n };
}

function axpy(k, { floats }, total) {
  const n = total / (2 * FLOAT);
  const [x, y] = [floats(n), floats(n, 1)];
  return { run: () => k.axpy(n, 1e-6, x, 0, y, 0), output: y, bytes: 3 * FLOAT * n };
}

function adamw(k, { floats, zeros }, total) {
  const n = total / (4 * FLOAT);
  const [param, grad, m, v] = [floats(n), floats(n, 1), zeros(n), zeros(n)];
  const [lr, beta1, beta2, eps, decay] = [1e-4, 0.9, 0.95, 1e-8, 0.1];
  const settings = [lr, beta1, beta2, eps, decay, 1 - beta1, 1 - beta2, 1];
  return {
    run: () => k.adamw(param, 0, grad, 0, m, 0, v, 0, n, ...settings),
    output: param,
    bytes: 7 * FLOAT * n,
  };
}

function randomNormal(k, { zeros }, total) {
  const n = (total * COMPUTING_PART) / FLOAT;
  const out = zeros(n);
  return { run: () => k.randomNormal(out, 0, n, 42, 0, 0, 1), output: out, bytes: FLOAT * n };
}

const STREAMS = {
  exp: twoArrays((k, x, y, n) => k.exp(x, 0, y, 0, n)),
  silu: twoArrays((k, x, y, n) => k.silu(x, 0, y, 0, n)),
  softmaxForward: twoArrays((k, x, y, n) => k.softmaxForward(x, 0, y, 0, n / COLS, COLS)),
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
  randomNormal,
};

module.exports = { STREAMS };
