'use strict';

/** The q-quantile of sorted values, linearly interpolated between neighbours (as NumPy's default). */
function quantile(sorted, q) {
  const at = (sorted.length - 1) * q;
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

/** @param {readonly number[]} values at least one */
function median(values) {
  return quantile(sort(values), 0.5);
}

/**
 * Quartiles and ends of a sample.
 * @param {readonly number[]} values at least one
 */
function summarise(values) {
  const sorted = sort(values);
  const [q1, q3] = [quantile(sorted, 0.25), quantile(sorted, 0.75)];
  return {
    min: sorted[0],
    q1,
    median: quantile(sorted, 0.5),
    q3,
    p95: quantile(sorted, 0.95),
    max: sorted[sorted.length - 1],
  };
}

/** @param {readonly number[]} values */
function sort(values) {
  return [...values].sort((a, b) => a - b);
}

module.exports = { median, quantile, sort, summarise };
