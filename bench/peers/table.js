'use strict';
const { formatTime } = require('../lib/progress');
const { formatRatio } = require('../report/markdown');

const HEAD = ['scenario', 'precision', 'threads', 'ours', 'peer', 'its time', 'fastest / ours', 'bar'];
const LONGEST_SENTENCE = 200;

/**
 * Makes a row for each scenario and peer: the time of each of the peer's forms, or the sentence with which it failed, and the ratio of
 * the fastest to ours with the quartiles over the rounds.
 * @param {{ scenarios: any[] }} report
 */
function markdownTable({ scenarios }) {
  const align = HEAD.map((_, column) => ([2, 3].includes(column) ? '---:' : '---'));
  const rows = scenarios.flatMap(rowsOf);
  return `${[HEAD, align, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`;
}

function rowsOf(result) {
  const { id, params, members, figures } = result;
  const { ours, ...others } = members;
  const start = [id, params.precision ?? 'float32', ours.threads, formatTime(figures.ours.median_ns)];
  const peers = [...new Set(Object.values(others).map(({ peer }) => peer))];
  if (peers.length === 0) return [[...start, '-', '-', '-', '-']];
  return peers.map((peer) => [...start, ...peerCells(peer, result)]);
}

function peerCells(peer, { members, figures, failures, bars, params }) {
  const keys = Object.keys(members).filter((key) => members[key].peer === peer);
  const times = keys.map((key) => {
    const form = members[key].form ? `${members[key].form} ` : '';
    return figures[key]
      ? `${form}${formatTime(figures[key].median_ns)}`
      : `${form}failed: ${cellOf(failures[key])}`;
  });
  const { name = peer, version = '' } = members[keys.find((key) => figures[key]) ?? keys[0]];
  const start = [`${name} ${version}`.trim(), times.join(', ')];
  const ratios = keys.filter((key) => figures[key]).map((key) => figures[key].ratio);
  if (ratios.length === 0) return [...start, '-', '-'];
  const { median, q1, q3 } = ratios.reduce((a, b) => (b.median < a.median ? b : a));
  const bar = bars?.[peer]?.[params.precision];
  const goal = bar === undefined ? '-' : `${formatRatio(bar)}: ${median >= bar ? 'met' : 'missed'}`;
  return [...start, `${formatRatio(median)} (${formatRatio(q1)} to ${formatRatio(q3)})`, goal];
}

/** A sentence as a cell can have it. */
function cellOf(sentence) {
  const text = sentence.replace(/\s+/g, ' ').replaceAll('|', '\\|').trim();
  return text.length > LONGEST_SENTENCE ? `${text.slice(0, LONGEST_SENTENCE)} ...` : text;
}

module.exports = { markdownTable };
