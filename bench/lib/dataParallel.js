'use strict';

const BYTES = 4;

/** Bytes that a rank sends in a step, at least: half to sum the gradients in parts, half to hand out the parts. */
function leastSentBytes(parameters, ranks) {
  return (2 * BYTES * parameters * (ranks - 1)) / ranks;
}

/**
 * The efficiency of data-parallel training on paper: a rank's time alone over its time among the others. The sums hide behind the
 * backward, two thirds of the time alone, as far as it lasts; what is handed out waits for the clipping norm.
 * @param {{ computeS: number, sentBytes: number, gbitPerSecond: number }} step of a rank, which sends as much as it receives
 */
function efficiencyOnPaper({ computeS, sentBytes, gbitPerSecond }) {
  const wireS = (8 * sentBytes) / (gbitPerSecond * 1e9);
  const shownS = Math.max(0, wireS / 2 - (2 / 3) * computeS) + wireS / 2;
  return computeS / (computeS + shownS);
}

module.exports = { efficiencyOnPaper, leastSentBytes };
