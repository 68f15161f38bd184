'use strict';
const { getKernels } = require('../../dist/backend');
const { normals } = require('./normals');

function matmulCase(n, transB) {
  const kernels = getKernels();
  const [a, b, c] = [
    normals(kernels, n * n),
    normals(kernels, n * n, { stream: 1 }),
    new Float32Array(n * n),
  ];
  return {
    run: () => kernels.sgemm(false, transB, n, n, n, 1, a, 0, n, b, 0, n, 0, c, 0, n),
    outputs: () => [c],
  };
}

/**
 * C = A B, or A B^T, of square matrices on existing arrays.
 * @returns {import('./measure').Scenario}
 */
function matmulScenario(id, n, { transB }) {
  return {
    id,
    params: { batch: 1, m: n, n, k: n, trans_b: transB },
    tokens: null,
    innerIterations: 200,
    knownFlops: 2 * n ** 3,
    gflops: true,
    prepare: () => matmulCase(n, transB),
  };
}

module.exports = { matmulScenario };
