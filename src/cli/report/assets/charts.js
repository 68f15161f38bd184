/** @typedef {import('../reportData').Curve} Curve */
/** @typedef {{ label: string, colour: string, curve: Curve, kind: 'line' | 'thin' | 'points' }} Line */
/**
 * @typedef {{ title: string, unit: string, lines: () => Line[], wide?: boolean, zero?: boolean, log?: boolean }}
 * ChartOptions
 */

const CHART_HEIGHT = 240;
const WIDE_HEIGHT = 360;
/** The largest number of points that are marked; more would only thicken a line. */
const MOST_POINTS = 100;

/** A chart that can be drawn anew when the colours change. */
class Chart {
  /** @param {ChartOptions} options */
  constructor(options) {
    const { title, unit, wide = false } = options;
    this.options = options;
    /** @type {uPlot | null} */
    this.drawn = null;
    /** Labels of lines that are switched off. @type {Set<string>} */
    this.hidden = new Set();
    this.plot = element('div', {
      className: 'plot',
      label: `${title} over steps. Arrow keys move along the steps, Escape shows all.`,
    });
    this.plot.tabIndex = 0;
    this.plot.setAttribute('role', 'group');
    this.legend = element('div', { className: 'legend' });
    this.step = element('span', { className: 'step' });
    const caption = [element('strong', { text: title }), element('span', { className: 'unit', text: unit })];
    this.element = element('figure', { className: wide ? 'chart wide' : 'chart' }, [
      element('figcaption', {}, [...caption, this.step]),
      this.plot,
      this.legend,
    ]);
    this.plot.addEventListener('keydown', (event) => this.drawn && moveByKey(this.drawn, event));
    new ResizeObserver(() => this.drawn?.setSize(sizeOf(this.plot, wide))).observe(this.plot);
  }

  draw() {
    this.drawn?.destroy();
    const lines = this.options.lines();
    this.drawn = plotOf(this.plot, lines, this.options, (step) => this.tell(lines, step));
    this.legend.replaceChildren(...lines.map((line) => this.legendEntry(line)));
    for (const { label } of lines) this.show(label, !this.hidden.has(label));
    this.tell(lines, null);
  }

  /** @param {string} label @param {boolean} shown */
  show(label, shown) {
    this.drawn?.series.forEach((series, i) => {
      if (series.label === label) this.drawn?.setSeries(i, { show: shown });
    });
  }

  /** The values at a step, or the last ones. @param {Line[]} lines @param {number | null} step */
  tell(lines, step) {
    this.step.textContent = step === null ? '' : `step ${count(step)}`;
    this.legend.querySelectorAll('.value').forEach((value, i) => {
      value.textContent = valueAt(lines[i].curve, step);
    });
  }

  /** A button that switches its line. @param {Line} line */
  legendEntry({ label, colour, kind }) {
    const mark = element('span', { className: `mark ${kind}` });
    mark.style.color = colour;
    const parts = [mark, element('span', { text: label }), element('span', { className: 'value' })];
    const entry = element('button', { className: 'entry' }, parts);
    const tell = () => entry.setAttribute('aria-pressed', String(!this.hidden.has(label)));
    entry.addEventListener('click', () => {
      if (!this.hidden.delete(label)) this.hidden.add(label);
      this.show(label, !this.hidden.has(label));
      tell();
    });
    tell();
    return entry;
  }
}

/** @param {HTMLElement} place @param {boolean} wide */
function sizeOf(place, wide) {
  return { width: Math.max(200, place.clientWidth), height: wide ? WIDE_HEIGHT : CHART_HEIGHT };
}

/** The value at the first point from a step on, or the last one. @param {Curve} curve @param {number | null} step */
function valueAt({ steps, mean, range }, step) {
  const i = step === null ? steps.length - 1 : lowerBound(steps, step);
  const [low, high] = [number(range?.low[i]), number(range?.high[i])];
  const spread = low === high ? '' : ` (${low} to ${high})`;
  return `${number(mean[i])}${spread}`;
}

/** The first index whose step is at least this one. @param {number[]} steps @param {number} step */
function lowerBound(steps, step) {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * @param {HTMLElement} place @param {Line[]} lines @param {ChartOptions} options @param {(step: number | null) => void}
 * onStep
 */
function plotOf(place, lines, { wide = false, zero = false, log = false }, onStep) {
  const { data, series, bands } = tableOf(lines);
  const logarithmic = log && lines.every(({ curve }) => (curve.range?.low ?? curve.mean).every((y) => y > 0));
  /** @type {uPlot.Scale} */
  const y = logarithmic ? { distr: 3 } : { range: (_, low, high) => around(low, high, zero) };
  return new uPlot(
    {
      ...sizeOf(place, wide),
      series,
      bands,
      legend: { show: false },
      cursor: { y: false, sync: { key: 'steps', scales: ['x', null] } },
      scales: {
        x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
        y,
      },
      axes: [axis(34, tickLabel), axis(60, tickLabel)],
      hooks: {
        setCursor: [(u) => onStep(typeof u.cursor.idx === 'number' ? u.data[0][u.cursor.idx] : null)],
      },
    },
    data,
    place,
  );
}

/** All lines over the steps that any of them has. @param {Line[]} lines */
function tableOf(lines) {
  /** @type {uPlot.AlignedData[]} */
  const tables = [];
  /** @type {uPlot.Series[]} */
  const series = [{}];
  /** @type {uPlot.Band[]} */
  const bands = [];
  for (const { label, colour, curve, kind } of lines) {
    const { steps, mean, range } = curve;
    tables.push(range === null ? [steps, mean] : [steps, mean, range.high, range.low]);
    const points = { show: kind === 'points' && steps.length <= MOST_POINTS, size: 6, fill: colour };
    series.push({ label, stroke: colour, width: kind === 'thin' ? 1 : 2, points });
    if (range === null) continue;
    const edge = { label, stroke: 'transparent', width: 0, points: { show: false } };
    bands.push({ series: [series.length, series.length + 1], fill: `${colour.slice(0, 7)}4d` });
    series.push(edge, { ...edge });
  }
  const data = tables.length === 0 ? /** @type {uPlot.AlignedData} */ ([[]]) : uPlot.join(tables);
  return { data, series, bands };
}

/** @param {number} size @param {(tick: number) => string} tell @returns {uPlot.Axis} */
function axis(size, tell) {
  const line = { stroke: themed('--grid'), width: 1 };
  return {
    size,
    stroke: themed('--muted'),
    grid: line,
    ticks: line,
    values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : tell(tick))),
  };
}

/**
 * The ends of an axis: a little beyond the values. @param {number | null} low @param {number | null} high @param
 * {boolean} zero @returns {[number, number]}
 */
function around(low, high, zero) {
  if (low === null || high === null || (low === 0 && high === 0)) return [0, 1];
  const from = zero ? Math.min(0, low) : low;
  const margin = (high - from || Math.abs(high) || 1) * 0.06;
  return [zero && low >= 0 ? 0 : from - margin, high + margin];
}

/**
 * Arrows move the cursor from point to point, with Shift by a tenth; Home, End; Escape shows all steps. @param {uPlot} u
 * @param {KeyboardEvent} event
 */
function moveByKey(u, event) {
  const steps = u.data[0];
  const last = steps.length - 1;
  if (last < 0) return;
  if (event.key === 'Escape') {
    u.setScale('x', { min: steps[0], max: steps[last] });
    return;
  }
  const far = event.shiftKey ? Math.max(1, Math.round(last / 10)) : 1;
  const idx = u.cursor.idx ?? 0;
  const target = { ArrowLeft: idx - far, ArrowRight: idx + far, Home: 0, End: last }[event.key];
  if (target === undefined) return;
  event.preventDefault();
  const step = steps[Math.min(last, Math.max(0, target))];
  u.setCursor({ left: u.valToPos(step, 'x'), top: u.over.clientHeight / 2 });
}
