'use strict';
const { formatTime } = require('../lib/progress');
const { idsOf, ratiosToFastest, warningsFor } = require('./load');
const { formatRatio } = require('./markdown');

/** Colours of the Okabe-Ito palette, which colour-blind readers can tell apart; the first is this library's. */
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#7f7f7f', '#a6761d'];

const AXIS_TITLES = {
  memory: 'Memory: batch and sequence',
  compiler: 'Kernels at small sizes',
  type_system: 'Dispatch: warm and cold',
  parallel: 'Independent runs side by side',
  scale: 'Hidden 256',
  decode: 'Decoding at batch 1',
  latency: 'Fixed costs',
  sampling: 'Choosing a token of 32,000',
  training: 'Training at hidden 512',
  kernels: 'Kernels at large sizes',
  overhead: 'Steps that are measured against their matmuls',
};

const CHART = { width: 860, right: 170, bar: 18, gap: 6 };
/** Room for the labels: it follows their length, within bounds. */
const LABEL = { perCharacter: 7.5, padding: 16, least: 90, most: 380 };

const STYLE = `
  body { font: 15px/1.5 system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; color: #24292f; background: #fff;
         max-width: 900px; margin: 32px auto; padding: 0 20px; }
  h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 4px; }
  h3 { font: 600 14px ui-monospace, 'DejaVu Sans Mono', monospace; margin: 18px 0 2px; }
  p { margin: 6px 0; } .note { color: #57606a; } .warning { background: #fff8c5; padding: 8px 12px; }
  .legend span { display: inline-block; margin-right: 20px; }
  .legend i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 2px; }
  table { border-collapse: collapse; font-size: 13px; margin-top: 10px; width: 100%; table-layout: fixed; }
  td, th { text-align: left; padding: 3px 14px 3px 0; border-bottom: 1px solid #d8dee4; vertical-align: top; overflow-wrap: anywhere; }
  svg { display: block; width: 100%; height: auto; }
`;

/**
 * Makes a self-contained page: each scenario has a bar for each file, with the middle half of its trials as a whisker.
 * @param {import('./load').Results[]} results
 */
function htmlReport(results) {
  const ids = idsOf(results);
  const axes = [...new Set(ids.map((id) => axisOf(results, id)))];
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8"><title>sgemoe benchmark</title>',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<style>${STYLE}</style></head><body>`,
    '<h1>Benchmark</h1>',
    '<p class="note">Median time of a run, shorter is better. The whisker spans the middle half of the trials; ' +
      'behind the time, how many times the fastest it is. Each scenario has a scale of its own, from zero.</p>',
    ...warningsFor(results).map((warning) => `<p class="warning">${escapeHtml(warning)}</p>`),
    legend(results),
    ...axes.flatMap((axis) => [
      `<h2>${escapeHtml(AXIS_TITLES[axis] ?? axis)}</h2>`,
      ...ids
        .filter((id) => axisOf(results, id) === axis)
        .map((id) => `<h3>${escapeHtml(id)}</h3>${chart(results, id)}`),
    ]),
    '<h2>Where the figures come from</h2>',
    originTable(results),
    '</body></html>',
    '',
  ].join('\n');
}

function axisOf(results, id) {
  return results.find(({ scenarios }) => scenarios.has(id)).scenarios.get(id).axis;
}

function legend(results) {
  const entries = results.map(
    ({ label }, i) => `<span><i style="background:${colourOf(i)}"></i>${escapeHtml(label)}</span>`,
  );
  return `<p class="legend">${entries.join('')}</p>`;
}

function colourOf(index) {
  return COLOURS[index % COLOURS.length];
}

/** Bars of one scenario, in the order of the files; a file without it has none. */
function chart(results, id) {
  const left = leftMargin(results);
  const ratios = ratiosToFastest(results, id);
  const bars = results
    .map(({ label, scenarios }, i) => ({
      label,
      figures: scenarios.get(id),
      ratio: ratios[i],
      colour: colourOf(i),
    }))
    .filter(({ figures }) => figures !== undefined);
  const longest = Math.max(...bars.map(({ figures }) => Math.max(figures.median, figures.q3)));
  const scale = (CHART.width - left - CHART.right) / longest;
  const height = bars.length * (CHART.bar + CHART.gap) + CHART.gap;
  const drawn = bars.map((bar, row) =>
    drawBar(bar, { left, y: CHART.gap + row * (CHART.bar + CHART.gap), scale, alone: bars.length === 1 }),
  );
  return (
    `<svg viewBox="0 0 ${CHART.width} ${height}" role="img" aria-label="${escapeHtml(id)}" font-size="13" fill="#24292f">` +
    `<line x1="${left}" y1="0" x2="${left}" y2="${height}" stroke="#8c959f"/>${drawn.join('')}</svg>`
  );
}

function leftMargin(results) {
  const longest = Math.max(...results.map(({ label }) => label.length));
  return Math.min(LABEL.most, Math.max(LABEL.least, longest * LABEL.perCharacter + LABEL.padding));
}

function drawBar({ label, figures, ratio, colour }, { left, y, scale, alone }) {
  const at = (ns) => round(left + ns * scale);
  const middle = y + CHART.bar / 2;
  const end = Math.max(at(figures.median), at(figures.q3));
  const value = formatTime(figures.median) + (alone ? '' : ` · ${formatRatio(ratio)}`);
  const tick = (ns) => `M${at(ns)} ${middle - 4}v8`;
  return [
    `<text x="${left - 10}" y="${middle + 4}" text-anchor="end">${escapeHtml(label)}</text>`,
    `<rect x="${left}" y="${y}" width="${round(figures.median * scale)}" height="${CHART.bar}" fill="${colour}" fill-opacity="0.85"/>`,
    `<path d="M${at(figures.q1)} ${middle}H${at(figures.q3)}${tick(figures.q1)}${tick(figures.q3)}" stroke="#24292f" fill="none"/>`,
    `<text x="${end + 10}" y="${middle + 4}">${value}</text>`,
  ].join('');
}

/** The files' metadata, key by key. */
function originTable(results) {
  const keys = [...new Set(results.flatMap(({ metadata }) => Object.keys(metadata)))];
  const row = (tag, cells) =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  const rows = keys.map((key) =>
    row('td', [key, ...results.map(({ metadata }) => String(metadata[key] ?? '-'))]),
  );
  return `<table>${row('th', ['', ...results.map(({ label }) => label)])}${rows.join('')}</table>`;
}

function round(value) {
  return Math.round(value * 10) / 10;
}

function escapeHtml(text) {
  const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return String(text).replaceAll(/[&<>"]/g, (character) => entities[character]);
}

module.exports = { htmlReport };
