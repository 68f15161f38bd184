'use strict';
/** Times every kernel at a large size, and computes its share of the rate that bounds it; and the small matmul by a transposed right side. */
const { getKernels } = require('../../dist/backend');
const { ARITHMETIC, arraysFor } = require('../lib/kernelCases');
const { matmulScenario } = require('../lib/matmulScenario');
const { normals } = require('../lib/normals');
const { peaks, streamBytes } = require('../lib/peaks');
const { STREAMS } = require('../lib/streamCases');

/** 'softmaxForward' -> 'kernels_softmax_forward' */
function idOf(name) {
  return `kernels_${name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
}

/** @returns {import('../lib/measure').Scenario} */
function kernelScenario(name, makeCase, bound) {
  return {
    id: idOf(name),
    params: { kernel: name, bound },
    tokens: null,
    mostTrials: 5,
    prepare() {
      const kernels = getKernels();
      const total = bound === 'bytes' ? streamBytes() : undefined;
      const { run, output, flops, bytes } = makeCase(kernels, arraysFor(kernels, normals), total);
      return {
        run,
        outputs: () => [output],
        extra: { known_flops: flops ?? null, known_bytes: bytes ?? null },
        derive: (result) => share(result.median_ns, bound, flops ?? bytes),
      };
    },
  };
}

function share(medianNs, bound, amount) {
  const rate = (amount / medianNs) * 1e9;
  const peak = peaks()[bound];
  const gflops = bound === 'flops' ? rate / 1e9 : null;
  return { gflops, bound, rate_per_sec: rate, peak_per_sec: peak, share_of_peak: rate / peak };
}

const scenariosFrom = (cases, bound) =>
  Object.entries(cases).map(([name, makeCase]) => kernelScenario(name, makeCase, bound));

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = [
  // The small matmul of the 22 scenarios with the right side as layers have it.
  matmulScenario('kernel_matmul_nt', 64, { transB: true }),
  ...scenariosFrom(ARITHMETIC, 'flops'),
  ...scenariosFrom(STREAMS, 'bytes'),
];

module.exports = { scenarios };
