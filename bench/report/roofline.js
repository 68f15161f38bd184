'use strict';
const fs = require('node:fs');
const { UsageError, messageOf } = require('../lib/command');

/**
 * @typedef {object} Kernel
 * @property {string} name
 * @property {'flops' | 'bytes'} bound
 * @property {number} rate a second
 * @property {number} peak a second
 */

const PANELS = [
  { bound: 'flops', title: 'Bound by arithmetic', unit: 'GFLOP/s', colour: '#0072b2' },
  { bound: 'bytes', title: 'Bound by memory', unit: 'GB/s', colour: '#009e73' },
];
const INK = '#24292f';
const FAINT = '#57606a';
const PEAK = '#d55e00';
/** Sizes in pixels. The bars of both panels have one scale: the share of the peak. */
const WIDTH = 860;
const LEFT = 220;
const BAR_WIDTH = 500;
const ROW = 20;
const BAR = 13;
const HEAD = 44;
const GAP = 18;

/**
 * The kernels of a result file of bench/run.js.
 * @returns {Kernel[]}
 * @throws UsageError when the file is something else
 */
function readKernels(file) {
  let content;
  try {
    content = JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UsageError(`${file} can not be read as JSON: ${messageOf(error)}`);
  }
  if (!Array.isArray(content?.scenarios)) throw new UsageError(`${file} is not a result of bench/run.js.`);
  return content.scenarios
    .filter(({ axis, derived }) => axis === 'kernels' && derived.rate_per_sec !== undefined)
    .map(({ params, derived }) => ({
      name: params.kernel,
      bound: params.bound,
      rate: derived.rate_per_sec,
      peak: derived.peak_per_sec,
    }));
}

/**
 * Draws a panel for each kind of peak, with a bar for each kernel, the fastest first. The line is the peak: the measured one, or
 * the fastest kernel if that beat it, since noise lowers both.
 * @param {Kernel[]} kernels
 */
function rooflineSvg(kernels) {
  let y = GAP;
  const parts = [];
  for (const panel of PANELS) {
    const own = kernels.filter(({ bound }) => bound === panel.bound);
    if (own.length === 0) continue;
    own.sort((a, b) => b.rate - a.rate);
    parts.push(drawPanel(panel, own, y));
    y += HEAD + own.length * ROW + GAP;
  }
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" ` +
    `font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="12" fill="${INK}">\n<title>Rate of each kernel beside the measured peak</title>\n` +
    `<rect width="${WIDTH}" height="${y}" fill="#fff"/>\n${parts.join('\n')}\n</svg>\n`
  );
}

function drawPanel({ title, unit, colour }, kernels, y) {
  const peak = Math.max(kernels[0].peak, kernels[0].rate);
  const top = y + HEAD;
  const bottom = top + kernels.length * ROW;
  const right = LEFT + BAR_WIDTH;
  return [
    `<text x="${LEFT}" y="${y + 12}" font-size="14" font-weight="600">${title}</text>`,
    `<text x="${right}" y="${y + 32}" text-anchor="middle" fill="${PEAK}">peak ${giga(peak)} ${unit}</text>`,
    ...kernels.map((kernel, row) => drawBar({ ...kernel, peak }, top + row * ROW, colour)),
    `<path d="M${LEFT} ${top}V${bottom}" stroke="${FAINT}"/>`,
    `<path d="M${right} ${top - 6}V${bottom}" stroke="${PEAK}" stroke-dasharray="4 3"/>`,
  ].join('\n');
}

function drawBar({ name, rate, peak }, y, colour) {
  const share = rate / peak;
  const length = (BAR_WIDTH * share).toFixed(1);
  const baseline = y + BAR - 2;
  return [
    `<text x="${LEFT - 8}" y="${baseline}" text-anchor="end">${name}</text>`,
    `<rect x="${LEFT}" y="${y}" width="${length}" height="${BAR}" fill="${colour}" fill-opacity="0.85"/>`,
    `<text x="${LEFT + BAR_WIDTH + 12}" y="${baseline}" fill="${FAINT}">${giga(rate)} · ${Math.round(100 * share)} %</text>`,
  ].join('');
}

/** Billions with three digits. */
function giga(rate) {
  return Number((rate / 1e9).toPrecision(3)).toString();
}

module.exports = { readKernels, rooflineSvg };
