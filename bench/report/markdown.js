'use strict';
const { formatTime } = require('../lib/progress');
const { idsOf, ratiosToFastest, warningsFor } = require('./load');

/**
 * Makes Markdown tables: medians with ratios to the fastest, peak memory, and the origin of the figures.
 * @param {import('./load').Results[]} results
 */
function markdownReport(results) {
  const ids = idsOf(results);
  return [
    ...warningsFor(results).flatMap((warning) => [`> ${warning}`, '']),
    'Median time of a run, and how many times the fastest that is:',
    '',
    ...table(results, ids, timeCell),
    '',
    'Peak resident memory of a process that runs the scenario alone:',
    '',
    ...table(results, ids, memoryCell),
    '',
    ...overheadSection(results, ids),
    ...originTable(results),
    '',
  ].join('\n');
}

function table(results, ids, cell) {
  const rows = ids.map((id) => {
    const ratios = ratiosToFastest(results, id);
    return [id, ...results.map(({ scenarios }, i) => cell(scenarios.get(id), ratios[i], results.length))];
  });
  return lines(['scenario', ...results.map(({ label }) => label)], rows);
}

function timeCell(figures, ratio, columns) {
  if (figures === undefined) return '-';
  return columns === 1 ? formatTime(figures.median) : `${formatTime(figures.median)} (${formatRatio(ratio)})`;
}

function memoryCell(figures) {
  return figures?.peakRss ? `${(figures.peakRss / 1e6).toFixed(1)} MB` : '-';
}

/** The table of the overhead axis; empty if no file has it. */
function overheadSection(results, ids) {
  const own = ids.filter((id) => results.some(({ scenarios }) => scenarios.get(id)?.stepOverFloor));
  if (own.length === 0) return [];
  return [
    'Time of a step over that of its matmul calls alone:',
    '',
    ...table(results, own, overheadCell),
    '',
  ];
}

function overheadCell(figures) {
  return figures?.stepOverFloor ? formatRatio(figures.stepOverFloor) : '-';
}

function originTable(results) {
  const keys = [
    'language_version',
    'timestamp',
    'cpu_model',
    'os',
    'backend',
    'blas',
    'instruction_set',
    'threads',
    'node',
    'git_commit',
    'n_warmup',
    'n_trials',
    'load_average',
  ];
  const known = keys.filter((key) => results.some(({ metadata }) => metadata[key] !== undefined));
  const rows = known.map((key) => [key, ...results.map(({ metadata }) => formatValue(metadata[key]))]);
  return lines(['', ...results.map(({ label }) => label)], rows);
}

function formatValue(value) {
  if (typeof value === 'number') return String(Math.round(value * 100) / 100);
  return String(value ?? '-').replaceAll('|', '\\|');
}

function lines(head, rows) {
  const align = ['---', ...head.slice(1).map(() => '---:')];
  return [head, align, ...rows].map((cells) => `| ${cells.join(' | ')} |`);
}

/** 1 -> '1.00x', 12.34 -> '12.3x' */
function formatRatio(ratio) {
  return `${ratio.toFixed(ratio < 10 ? 2 : 1)}x`;
}

module.exports = { formatRatio, markdownReport };
