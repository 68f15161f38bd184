'use strict';
/** Times of several cases that take turns, so that what disturbs the machine disturbs all of them. */
const { performance } = require('node:perf_hooks');

/**
 * The least time of each case in nanoseconds, over runs in turn for `seconds` a case. On one thread it is processor time, which
 * other work on the machine disturbs less.
 */
function minima(cases, seconds, threads) {
  const nsOf = threads === 1 ? processorNs : wallNs;
  const best = cases.map(() => Number.POSITIVE_INFINITY);
  const end = performance.now() + 1000 * seconds * cases.length;
  for (let round = 0; round < 5 || performance.now() < end; round++) {
    for (const [i, { run }] of cases.entries()) best[i] = Math.min(best[i], nsOf(run));
  }
  return best;
}

function wallNs(run) {
  const start = performance.now();
  run();
  return 1e6 * (performance.now() - start);
}

function processorNs(run) {
  const start = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(start);
  return 1000 * (user + system);
}

module.exports = { minima };
