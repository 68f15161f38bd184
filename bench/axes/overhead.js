'use strict';
/**
 * Measures the cost of a step beyond its matmuls: its time over that of the same list of matmul calls alone; for a train
 * step also over that list plus the optimizer's pass.
 */
const { getKernels } = require('../../dist/backend');
const { recordingKernels, replay } = require('../lib/gemmCalls');
const { WORK, configOf, modelParams, pack } = require('../lib/models');
const { median } = require('../lib/stats');

const CASES = [
  { id: 'overhead_forward_64', work: 'forward', model: 'tiny', batch: 2, seq: 32 },
  { id: 'overhead_forward_64_out', work: 'forwardInto', model: 'tiny', batch: 2, seq: 32 },
  { id: 'overhead_train_64', work: 'train', model: 'tiny', batch: 2, seq: 8 },
  { id: 'overhead_forward_64_frozen', work: 'forward', model: 'tiny', batch: 2, seq: 32, frozen: true },
  { id: 'overhead_forward_256', work: 'forward', model: 'small', batch: 2, seq: 32 },
  { id: 'overhead_forward_256_frozen', work: 'forward', model: 'small', batch: 2, seq: 32, frozen: true },
  { id: 'overhead_train_256', work: 'train', model: 'small', batch: 2, seq: 8 },
];

/** Runs of the list with the update after it; they follow the timed trials. */
const UPDATE_RUNS = 30;

function overheadCase({ work, model, batch, seq, frozen = false }) {
  const config = configOf(model);
  const kernels = getKernels();
  const recorder = recordingKernels(kernels);
  // One model only lends its arrays to the floor. The other is timed, on kernels that record nothing.
  const recorded = WORK[work](config, batch, seq, recorder.kernels);
  const subject = WORK[work](config, batch, seq, kernels);
  if (frozen) for (const each of [recorded, subject]) pack(each.model);
  recorded.run();
  recorder.recording = true;
  recorded.run();
  const { calls, updates } = recorder;
  const flops = calls.reduce((sum, call) => sum + call.flops, 0);
  const matmuls = replay(kernels, calls);
  return {
    ...subject,
    baseline: matmuls,
    derive(result) {
      const floor = median(result.baseline_timings_ns);
      return {
        floor_median_ns: floor,
        floor_calls: calls.length,
        floor_flops: flops,
        floor_gflops: flops / floor,
        step_over_floor: result.median_ns / floor,
        ...(updates.length > 0 && overUpdate(result, floor, matmuls, replay(kernels, updates))),
      };
    },
  };
}

/** The update is timed after the matmuls, so that it finds the caches as in a step. */
function overUpdate(result, floor, matmuls, update) {
  const timings = Array.from({ length: UPDATE_RUNS }, () => {
    matmuls();
    const start = process.hrtime.bigint();
    update();
    return Number(process.hrtime.bigint() - start);
  });
  const adamw = median(timings);
  return { adamw_median_ns: adamw, step_over_floor_and_adamw: result.median_ns / (floor + adamw) };
}

/** @type {import('../lib/measure').Scenario[]} */
const scenarios = CASES.map((what) => ({
  id: what.id,
  params: modelParams(what.model, configOf(what.model), what.batch, what.seq),
  tokens: what.batch * what.seq,
  prepare: () => overheadCase(what),
}));

module.exports = { scenarios };
