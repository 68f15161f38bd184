import { type Axis, niceAxis } from './axis';
import type { Bin } from './series';

/** The data of a run's chart. */
export interface ChartData {
  title: string;
  subtitle: string;
  /** Tokens of a step, for the axis. */
  tokensPerStep: number;
  /** Cross-entropy of the training batches, one value a bin. */
  train: readonly Bin[];
  validation: readonly { step: number; loss: number }[];
  /** Losses to compare with, drawn as dashed lines. */
  references?: readonly LossReference[] | undefined;
  /** Shares of all layers' experts, layer by layer. */
  load: readonly Bin[];
  expertsPerLayer: readonly number[];
}

export interface LossReference {
  label: string;
  /** Nats per token. */
  loss: number;
}

const WIDTH = 960;
const LEFT = 76;
const RIGHT = 24;
const LOSS_TOP = 92;
const LOSS_HEIGHT = 320;
const LOAD_GAP = 84;
const LAYER_GAP = 8;
const BOTTOM = 60;

const INK = '#24292f';
const FAINT = '#d8dee4';
const TRAIN = '#8fb4dc';
const VALIDATION = '#c2410c';
const REFERENCE = '#57606a';

/** Colours from no tokens over an equal share (the middle) to at least twice an equal share. */
const LOAD_COLOURS = [
  '#8c510a',
  '#bf812d',
  '#dfc27d',
  '#f1e4c4',
  '#f4f4f4',
  '#c9e8e4',
  '#80cdc1',
  '#35978f',
  '#01665e',
];
const EQUAL_LEVEL = (LOAD_COLOURS.length - 1) / 2;

/**
 * The chart of a run as SVG: losses over steps and, below on the same axis, the load of each layer's experts, if any has
 * some.
 */
export function renderChart(data: ChartData): string {
  const x = stepAxis(data);
  const loadTop = LOSS_TOP + LOSS_HEIGHT + LOAD_GAP;
  const mixtures = data.expertsPerLayer.filter((experts) => experts > 0);
  const loadHeight = mixtures.reduce((sum, n) => sum + n * rowHeight(n) + LAYER_GAP, 0);
  const lossBottom = LOSS_TOP + LOSS_HEIGHT;
  const isDense = data.expertsPerLayer.length > 0 && mixtures.length === 0;
  const height = (isDense ? lossBottom : loadTop + loadHeight) + BOTTOM;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" ` +
      `font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="13" fill="${INK}">`,
    `<title>${escapeXml(data.title)}</title>`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    text(LEFT, 30, data.title, 'font-size="18" font-weight="600"'),
    text(LEFT, 50, data.subtitle, `fill="${REFERENCE}"`),
    ...lossPanel(data, x),
    ...(isDense ? stepTicks(x, LOSS_TOP, lossBottom) : loadPanel(data, x, loadTop)),
    text(
      (LEFT + WIDTH - RIGHT) / 2,
      height - 14,
      `step (${withCommas(data.tokensPerStep)} tokens each)`,
      'text-anchor="middle"',
    ),
    '</svg>',
    '',
  ].join('\n');
}

// ---------------------------------------------------------------- losses

function lossPanel(data: ChartData, x: Axis): string[] {
  const { train, validation, references = [] } = data;
  const losses = [
    ...train.map((bin) => bin.mean[0]),
    ...validation.map((point) => point.loss),
    ...references.map((reference) => reference.loss),
  ];
  const bottom = LOSS_TOP + LOSS_HEIGHT;
  const [low, high] = losses.length === 0 ? [0, 1] : [Math.min(...losses), Math.max(...losses)];
  const y = niceAxis(low, high, bottom, LOSS_TOP);
  const trainPoints = train.map((bin) => ({ step: middle(bin), loss: bin.mean[0] }));
  return [
    ...y.ticks.flatMap((tick) => [
      line(LEFT, y.at(tick), WIDTH - RIGHT, y.at(tick), FAINT),
      text(LEFT - 10, y.at(tick) + 4, y.label(tick), 'text-anchor="end"'),
    ]),
    ...stepTicks(x, LOSS_TOP, bottom),
    `<text transform="translate(22 ${(LOSS_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">loss (nats per token)</text>`,
    ...references.flatMap((reference) => [
      line(LEFT, y.at(reference.loss), WIDTH - RIGHT, y.at(reference.loss), REFERENCE, '6 4'),
      text(
        WIDTH - RIGHT - 6,
        y.at(reference.loss) - 6,
        `${reference.label} ${reference.loss.toFixed(3)}`,
        `text-anchor="end" fill="${REFERENCE}"`,
      ),
    ]),
    polyline(trainPoints, x, y, TRAIN, 1.5),
    polyline(validation, x, y, VALIDATION, 2),
    ...validation.map(
      ({ step, loss }) =>
        `<circle cx="${round(x.at(step))}" cy="${round(y.at(loss))}" r="2.5" fill="${VALIDATION}"/>`,
    ),
    ...lossLegend(data),
  ];
}

function lossLegend({ validation }: ChartData): string[] {
  const at = LOSS_TOP - 16;
  const legend = [
    line(LEFT, at - 4, LEFT + 26, at - 4, TRAIN, undefined, 2),
    text(LEFT + 34, at, 'training batches (mean)'),
  ];
  if (validation.length > 0) {
    legend.push(line(LEFT + 220, at - 4, LEFT + 246, at - 4, VALIDATION, undefined, 2));
    legend.push(text(LEFT + 254, at, 'validation'));
  }
  return legend;
}

function polyline(
  points: readonly { step: number; loss: number }[],
  x: Axis,
  y: Axis,
  colour: string,
  width: number,
): string {
  const path = points.map(({ step, loss }) => `${round(x.at(step))},${round(y.at(loss))}`).join(' ');
  return `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="${width}" stroke-linejoin="round"/>`;
}

// ---------------------------------------------------------------- expert load

function loadPanel({ load, expertsPerLayer }: ChartData, x: Axis, top: number): string[] {
  const paths = LOAD_COLOURS.map(() => '');
  const labels: string[] = [];
  let y = top;
  let column = 0;
  expertsPerLayer.forEach((experts, layer) => {
    if (experts === 0) return;
    const height = rowHeight(experts);
    labels.push(
      text(LEFT - 10, y + (experts * height) / 2 + 4, `layer ${layer}`, 'text-anchor="end"'),
      `<rect x="${LEFT}" y="${y}" width="${WIDTH - LEFT - RIGHT}" height="${experts * height}" fill="none" stroke="${FAINT}"/>`,
    );
    for (let expert = 0; expert < experts; expert++, column++, y += height) {
      for (const bin of load) {
        paths[loadLevel(bin.mean[column] * experts)] += cell(x, bin, y, height);
      }
    }
    y += LAYER_GAP;
  });
  return [
    text(LEFT, top - 14, 'expert load, one row for each expert'),
    ...loadLegend(top - 14),
    ...stepTicks(x, top, y - LAYER_GAP),
    ...paths.map((path, level) => (path === '' ? '' : `<path d="${path}" fill="${LOAD_COLOURS[level]}"/>`)),
    ...labels,
  ];
}

/** Level of a share relative to an equal one: 0 at none, EQUAL_LEVEL at 1, the last from 2 on. */
function loadLevel(relativeShare: number): number {
  return Math.min(LOAD_COLOURS.length - 1, Math.max(0, Math.round(relativeShare * EQUAL_LEVEL)));
}

function cell(x: Axis, bin: Bin, y: number, height: number): string {
  const left = x.at(bin.firstStep - 1);
  return `M${round(left)} ${y}h${round(x.at(bin.lastStep) - left)}v${height}h-${round(x.at(bin.lastStep) - left)}z`;
}

function loadLegend(baseline: number): string[] {
  const size = 14;
  const left = WIDTH - RIGHT - 72 - LOAD_COLOURS.length * size;
  return [
    text(left - 8, baseline, 'share of the tokens: none', 'text-anchor="end"'),
    ...LOAD_COLOURS.map(
      (colour, i) =>
        `<rect x="${left + i * size}" y="${baseline - 11}" width="${size}" height="${size}" fill="${colour}"/>`,
    ),
    text(left + (EQUAL_LEVEL + 0.5) * size, baseline - 16, 'equal', 'text-anchor="middle" font-size="11"'),
    text(WIDTH - RIGHT, baseline, '2 × equal', 'text-anchor="end"'),
  ];
}

function rowHeight(experts: number): number {
  if (experts <= 8) return 10;
  return experts <= 16 ? 6 : 3;
}

// ---------------------------------------------------------------- shared

function stepAxis({ train, validation }: ChartData): Axis {
  const last = Math.max(1, train.at(-1)?.lastStep ?? 0, validation.at(-1)?.step ?? 0);
  return niceAxis(0, last, LEFT, WIDTH - RIGHT, { exact: true, integers: true });
}

function stepTicks(x: Axis, top: number, bottom: number): string[] {
  return [
    line(LEFT, bottom, WIDTH - RIGHT, bottom, INK),
    ...x.ticks.flatMap((tick) => [
      line(x.at(tick), bottom, x.at(tick), bottom + 5, INK),
      text(x.at(tick), bottom + 20, withCommas(tick), 'text-anchor="middle"'),
      line(x.at(tick), top, x.at(tick), bottom, FAINT, '1 3'),
    ]),
  ];
}

/** 1234567 -> '1,234,567' */
function withCommas(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}

function middle({ firstStep, lastStep }: Bin): number {
  return (firstStep + lastStep) / 2;
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escapeXml(content)}</text>`;
}

function line(
  x1: number,
  y1: number,
  x2: number,
  y2: number,
  colour: string,
  dashes?: string,
  width = 1,
): string {
  const dash = dashes === undefined ? '' : ` stroke-dasharray="${dashes}"`;
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}" stroke-width="${width}"${dash}/>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escapeXml(content: string): string {
  const printable = content.replaceAll(/[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, '\uFFFD');
  return printable
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
