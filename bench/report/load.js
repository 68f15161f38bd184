'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { STANDARD_AXES, scenariosOf } = require('../axes');
const { UsageError, messageOf } = require('../lib/command');
const { median, summarise } = require('../lib/stats');

/**
 * What a result file says about one scenario.
 * @typedef {object} Figures
 * @property {string} axis
 * @property {number} median in ns
 * @property {number} q1
 * @property {number} q3
 * @property {number} trials
 * @property {number | null} peakRss in bytes
 * @property {number | null} stepOverFloor time over that of the matmuls alone; of the overhead axis only
 */

/**
 * @typedef {object} Results
 * @property {string} file
 * @property {string} label how tables and pictures call it
 * @property {Record<string, any>} metadata
 * @property {Map<string, Figures>} scenarios
 */

/**
 * Possible names of a file, the shortest first; the first one that no other file has is taken.
 * @type {((result: Results) => string)[]}
 */
const LABELS = [
  ({ metadata }) => metadata.language,
  ({ metadata }) => withDetails(metadata),
  ({ metadata, file }) => `${metadata.language} ${path.basename(file)}`,
  ({ metadata, file }) => `${metadata.language} ${file}`,
];

/**
 * Reads result files of any language.
 * @param {string[]} files
 * @returns {Results[]}
 * @throws UsageError for a file that can't be read or isn't one
 */
function loadResults(files) {
  const results = files.map(loadOne);
  for (const result of results) {
    const isUnique = (labelOf) => results.filter((other) => labelOf(other) === labelOf(result)).length === 1;
    result.label = (LABELS.find(isUnique) ?? LABELS[LABELS.length - 1])(result);
  }
  return results;
}

/** @returns {Results} */
function loadOne(file) {
  let content;
  try {
    content = JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    const reason = error instanceof SyntaxError ? 'is not JSON' : 'can not be read';
    throw new UsageError(`${file} ${reason}: ${messageOf(error)}`);
  }
  if (!Array.isArray(content?.scenarios) || typeof content.metadata?.language !== 'string') {
    throw new UsageError(
      `${file} is not a benchmark result: it needs metadata.language and a list of scenarios.`,
    );
  }
  const scenarios = new Map(content.scenarios.map((scenario) => [scenario.id, figuresOf(file, scenario)]));
  return { file, label: '', metadata: content.metadata, scenarios };
}

/** @returns {Figures} */
function figuresOf(file, scenario) {
  const { id, axis, timings_ns: timings, median_ns, iqr_ns = 0, memory, derived } = scenario ?? {};
  const hasTimings = Array.isArray(timings) && timings.length > 0 && timings.every(Number.isFinite);
  if (typeof id !== 'string' || !(hasTimings || Number.isFinite(median_ns))) {
    throw new UsageError(`${file}: scenario ${JSON.stringify(id)} needs an id, and timings_ns or median_ns.`);
  }
  const middle = median_ns ?? median(timings);
  const { q1, q3 } = hasTimings ? summarise(timings) : { q1: middle - iqr_ns / 2, q3: middle + iqr_ns / 2 };
  return {
    axis: axis ?? 'other',
    median: middle,
    q1,
    q3,
    trials: hasTimings ? timings.length : (scenario.trial_runs ?? 0),
    peakRss: memory?.peak_rss_bytes ?? null,
    stepOverFloor: derived?.step_over_floor ?? null,
  };
}

/**
 * 'typescript openblas 2 threads'
 * @param {any} metadata
 */
function withDetails({ language, backend, threads }) {
  return [language, backend, threads && `${threads} thread${threads === 1 ? '' : 's'}`]
    .filter(Boolean)
    .join(' ');
}

/**
 * The ids of all files: first the 22 of every language in their order, then all others.
 * @param {Results[]} results
 */
function idsOf(results) {
  const standard = STANDARD_AXES.flatMap(scenariosOf).map(({ id }) => id);
  const all = new Set([...standard, ...results.flatMap(({ scenarios }) => [...scenarios.keys()])]);
  return [...all].filter((id) => results.some(({ scenarios }) => scenarios.has(id)));
}

/**
 * The ratio of each file's time to the fastest file's; null where the scenario is missing.
 * @param {Results[]} results
 * @param {string} id
 */
function ratiosToFastest(results, id) {
  const medians = results.map(({ scenarios }) => scenarios.get(id)?.median ?? null);
  const fastest = Math.min(...medians.filter((value) => value !== null));
  return medians.map((value) => (value === null ? null : value / fastest));
}

/** Sentences that say why files don't compare well. */
function warningsFor(results) {
  const differs = (key) => new Set(results.map(({ metadata }) => metadata[key])).size > 1;
  const warnings = [];
  if (differs('cpu_model')) {
    warnings.push('These results come from different machines: the times do not compare.');
  }
  if (differs('n_trials') || differs('n_warmup')) {
    warnings.push('The numbers of trials or warmups differ.');
  }
  return warnings;
}

module.exports = { idsOf, loadResults, ratiosToFastest, warningsFor };
