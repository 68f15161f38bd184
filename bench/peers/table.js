'use strict';
const { formatTime } = require('../lib/progress');
const { formatRatio } = require('../report/markdown');

/**
 * Makes a row for each scenario: for each peer its time, and its ratio to ours with the quartiles over the rounds.
 * @param {{ members: Record<string, any>, scenarios: any[] }} report
 */
function markdownTable({ members, scenarios }) {
  const { ours, ...peers } = members;
  const head = ['scenario', 'threads', title(ours)];
  for (const peer of Object.values(peers)) head.push(title(peer), `${peer.name} / ours`);
  const rows = scenarios.map(({ id, figures }) => [
    id,
    ours.threads,
    formatTime(figures.ours.median_ns),
    ...Object.keys(peers).flatMap((key) => peerCells(figures[key])),
  ]);
  const align = head.map((_, column) => (column === 0 ? '---' : '---:'));
  return `${[head, align, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`;
}

function title({ name, version }) {
  return `${name} ${version}`;
}

function peerCells(figures) {
  if (figures === undefined) return ['-', '-'];
  const { median, q1, q3 } = figures.ratio;
  return [formatTime(figures.median_ns), `${formatRatio(median)} (${formatRatio(q1)} to ${formatRatio(q3)})`];
}

module.exports = { markdownTable };
