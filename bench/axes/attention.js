'use strict';
/** Compares attention over a long sequence with the unblocked version: their times, in turn, and their temporary memory. */
const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { getKernels } = require('../../dist/backend');
const { DIM, HEADS, attentionArrays, blocked, unblocked } = require('../lib/attentionCases');
const { normals } = require('../lib/normals');
const { median } = require('../lib/stats');

const SEQ = 2048;
const PROBE = path.join(__dirname, '..', 'lib', 'attentionProbe.js');

/** Matmuls over the visible pairs: two forward, and five backward, which computes the scores again. */
const MATMULS = { forward: 2, backward: 5 };

function attentionCase(direction) {
  const kernels = getKernels();
  const arrays = attentionArrays(SEQ, (n, stream) => normals(kernels, n, { stream }));
  const ours = blocked(kernels, arrays);
  const theirs = unblocked(kernels, arrays);
  theirs.forward();
  ours.forward();
  return {
    run: ours[direction],
    baseline: theirs[direction],
    outputs: () => [direction === 'forward' ? arrays.out : arrays.dq],
    derive(result) {
      const unblockedNs = median(result.baseline_timings_ns);
      return {
        gflops: result.known_flops / result.median_ns,
        unblocked_median_ns: unblockedNs,
        times_faster: unblockedNs / result.median_ns,
        scratch_bytes: Number(execFileSync(process.execPath, [PROBE, direction, String(SEQ)])),
        unblocked_scratch_bytes: theirs.bytes[direction],
      };
    },
  };
}

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = ['forward', 'backward'].map((direction) => ({
  id: `attention_${direction}_2048`,
  params: { heads: HEADS, head_dim: DIM, seq: SEQ, batch: 1 },
  tokens: SEQ,
  mostTrials: 30,
  knownFlops: MATMULS[direction] * DIM * HEADS * SEQ * (SEQ + 1),
  prepare: () => attentionCase(direction),
}));

module.exports = { scenarios };
