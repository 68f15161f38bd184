'use strict';
/** What a step costs beyond its matmuls: its time over that of the same list of matmul calls and nothing else. */
const { getKernels } = require('../../dist/backend');
const { recordingKernels, replay } = require('../lib/gemmCalls');
const { WORK, configOf, modelParams } = require('../lib/models');
const { median } = require('../lib/stats');

const CASES = [
  { id: 'overhead_forward_64', work: 'forward', model: 'tiny', batch: 2, seq: 32 },
  { id: 'overhead_train_64', work: 'train', model: 'tiny', batch: 2, seq: 8 },
  { id: 'overhead_forward_256', work: 'forward', model: 'small', batch: 2, seq: 32 },
  { id: 'overhead_train_256', work: 'train', model: 'small', batch: 2, seq: 8 },
];

function overheadCase({ work, model, batch, seq }) {
  const config = configOf(model);
  const kernels = getKernels();
  const recorder = recordingKernels(kernels);
  // One model only lends its arrays to the floor; the other is timed, on kernels that nothing listens to.
  const recorded = WORK[work](config, batch, seq, recorder.kernels);
  recorded.run();
  recorder.recording = true;
  recorded.run();
  const { calls } = recorder;
  const flops = calls.reduce((sum, call) => sum + call.flops, 0);
  return {
    ...WORK[work](config, batch, seq, kernels),
    baseline: replay(kernels, calls),
    derive(result) {
      const floor = median(result.baseline_timings_ns);
      return {
        floor_median_ns: floor,
        floor_calls: calls.length,
        floor_flops: flops,
        floor_gflops: flops / floor,
        step_over_floor: result.median_ns / floor,
      };
    },
  };
}

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = CASES.map((what) => ({
  id: what.id,
  params: modelParams(what.model, configOf(what.model), what.batch, what.seq),
  tokens: what.batch * what.seq,
  prepare: () => overheadCase(what),
}));

module.exports = { scenarios };
