/** Formats numbers and makes elements. Text only ever becomes text, never HTML. */

/**
 * @param {string} tag
 * @param {{ className?: string, text?: string, label?: string }} [options] label: what it is called aloud
 * @param {readonly (Node | string)[]} [children]
 */
function element(tag, { className, text, label } = {}, children = []) {
  const made = document.createElement(tag);
  if (className !== undefined) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (label !== undefined) made.setAttribute('aria-label', label);
  made.append(...children);
  return made;
}

/** @param {string} title @param {string} [note] */
function section(title, note) {
  const made = element('section', {}, [element('h2', { text: title })]);
  if (note !== undefined) made.append(element('p', { className: 'note', text: note }));
  return made;
}

/** 1234567 -> '1,234,567' @param {number} value */
function count(value) {
  return Math.round(value).toLocaleString('en-US');
}

/** Four significant digits, without an exponent where there is room. @param {number | null | undefined} value */
function number(value) {
  if (typeof value !== 'number' || !Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e7) return value.toExponential(3).replace(/\.?0*e\+?/, 'e');
  return value.toLocaleString('en-US', {
    maximumSignificantDigits: Math.max(4, Math.ceil(Math.log10(size))),
  });
}

/** For an axis: '150k', '0.002', '3e-4'. @param {number} value */
function tickLabel(value) {
  const size = Math.abs(value);
  if (size >= 10_000 && size < 1e6) return `${number(value / 1000)}k`;
  if (size >= 1e6 && size < 1e9) return `${number(value / 1e6)}M`;
  return number(value);
}

/** 3723 -> '1:02:03' @param {unknown} seconds */
function duration(seconds) {
  if (typeof seconds !== 'number' || !Number.isFinite(seconds)) return '–';
  const whole = Math.round(seconds);
  const two = (/** @type {number} */ part) => String(part % 60).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60);
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole)}` : `${minutes}:${two(whole)}`;
}

/** A property of a value that came from a file and may be anything. @param {unknown} value @param {string[]} path */
function at(value, ...path) {
  let here = value;
  for (const key of path) {
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, key)) return undefined;
    here = /** @type {Record<string, unknown>} */ (here)[key];
  }
  return here;
}

/** @param {unknown} value */
function numberAt(value, /** @type {string[]} */ ...path) {
  const found = at(value, ...path);
  return typeof found === 'number' ? found : undefined;
}

/** The value of a custom property of the page's style. @param {string} name */
function themed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The colour of a run, the same in all charts. @param {number} index */
function runColour(index) {
  return themed(`--run-${index % RUN_COLOURS}`);
}

const RUN_COLOURS = 8;

/** A square in a run's colour, kept in step with the theme. @param {number} index */
function swatch(index) {
  const made = element('span', { className: 'swatch' });
  made.style.background = `var(--run-${index % RUN_COLOURS})`;
  return made;
}
