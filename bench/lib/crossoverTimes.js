'use strict';
const { median } = require('./stats');

/** @typedef {{ builtin: any, library: any, choice: any }} Ways kernels that multiply each in their way */

/** A trial is long enough for the clock and short enough for many trials; a shape has a limit for all of its trials. */
const SAMPLE_NS = 100e3;
const SHAPE_NS = 0.5e9;
const LEAST_TRIALS = 5;

/**
 * Times one shape in all ways, in turn, so that a slow moment of the machine slows all of them alike. Rates are medians; ratios
 * are medians of the ratios within a turn.
 * @param {Ways} ways
 * @param {import('./matmulShapes').Shape} shape
 * @param {number} trials
 */
function timeInTurn(ways, shape, trials) {
  const args = shape.makeArgs(ways.choice);
  const names = /** @type {(keyof Ways)[]} */ (Object.keys(ways));
  const runs = names.map((name) => () => ways[name][shape.kernel](...args));
  const longest = Math.max(...runs.map((run) => timeOne(run, 1) && timeOne(run, 1)));
  const inner = Math.ceil(SAMPLE_NS / longest);
  const affordable = Math.max(LEAST_TRIALS, Math.floor(SHAPE_NS / (names.length * inner * longest)));
  const count = Math.min(trials, affordable);
  /** @type {Record<keyof Ways, number[]>} */
  const times = { builtin: [], library: [], choice: [] };
  for (let trial = 0; trial < count; trial++) {
    const step = trial % 2 === 0 ? 1 : names.length - 1; // forwards, then backwards: each comes after each
    for (let i = 0; i < names.length; i++) {
      const way = (trial + i * step) % names.length;
      if (inner > 1) runs[way](); // caches as a former run of its own leaves them
      times[names[way]].push(timeOne(runs[way], inner));
    }
  }
  const faster = (way, other) => median(times[way].map((ns, i) => times[other][i] / ns));
  const rate = (way) => shape.flops / median(times[way]);
  return {
    id: shape.id,
    steps: shape.steps,
    trials: count,
    gflops: { builtin: rate('builtin'), library: rate('library'), choice: rate('choice') },
    builtin_over_library: faster('builtin', 'library'),
    choice_over_better: Math.min(faster('choice', 'builtin'), faster('choice', 'library')),
    choice_over_builtin: faster('choice', 'builtin'),
  };
}

/** Nanoseconds of a run. */
function timeOne(run, inner) {
  const began = process.hrtime.bigint();
  for (let i = 0; i < inner; i++) run();
  return Number(process.hrtime.bigint() - began) / inner;
}

module.exports = { timeInTurn };
