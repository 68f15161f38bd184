'use strict';
/** Times single kernels at fixed small sizes, called as the layers call them: on existing arrays. */
const { getKernels } = require('../../dist/backend');
const { matmulScenario } = require('../lib/matmulScenario');
const { normals } = require('../lib/normals');

const MATMUL_SIZE = 64;
const SOFTMAX_SIZE = 1000;
const NORM = { batch: 2, seq: 32, hidden: 64 };

function softmaxCase() {
  const kernels = getKernels();
  const x = normals(kernels, SOFTMAX_SIZE);
  const y = new Float32Array(SOFTMAX_SIZE);
  return {
    run: () => kernels.softmaxForward(x, 0, y, 0, 1, SOFTMAX_SIZE),
    outputs: () => [y],
  };
}

function rmsNormCase() {
  const kernels = getKernels();
  const { hidden: cols } = NORM;
  const rows = NORM.batch * NORM.seq;
  const x = normals(kernels, rows * cols);
  const gamma = new Float32Array(cols).fill(1);
  const y = new Float32Array(rows * cols);
  const invRms = new Float32Array(rows);
  return {
    run: () => kernels.rmsNormForward(x, 0, cols, gamma, 0, y, 0, cols, invRms, 0, rows, cols, 1e-6),
    outputs: () => [y, invRms],
  };
}

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = [
  // C = A B, as in the other languages; the layers' A B^T is beyond the 22.
  matmulScenario('kernel_matmul', MATMUL_SIZE, { transB: false }),
  {
    id: 'kernel_softmax',
    params: { batch: 1, n: SOFTMAX_SIZE },
    tokens: null,
    innerIterations: 1000,
    // Each element takes a comparison, a subtraction, an exponential, an addition and a multiplication.
    knownFlops: 5 * SOFTMAX_SIZE,
    prepare: softmaxCase,
  },
  {
    id: 'kernel_rmsnorm',
    params: { batch: NORM.batch, seq_len: NORM.seq, hidden_dim: NORM.hidden },
    tokens: null,
    innerIterations: 1000,
    // Each element takes a square, an addition and two multiplications.
    knownFlops: 4 * NORM.batch * NORM.seq * NORM.hidden,
    prepare: rmsNormCase,
  },
];

module.exports = { scenarios };
