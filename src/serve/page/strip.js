/** The heat strip: one column for each token, one row for each expert of each layer that has some, coloured by gate weight. */
import { element, visible } from './dom.js';

/** @typedef {import('./api.js').Token} Token */

/** Initial number of columns of a canvas; it doubles when they are full. */
const FIRST_COLUMNS = 256;
/** The lightest shade of a chosen expert, so that a small gate weight doesn't look like an expert that wasn't chosen. */
const LEAST_SHADE = 0.15;

export class Strip {
  /**
   * @param {{ layers: number[], experts: number, describe: (index: number) => string }} shape layers: those with experts;
   * describe: a token in words
   * @param {(index: number) => void} onChoose called with the token that is pointed at
   */
  constructor({ layers, experts, describe }, onChoose) {
    /** @type {Token[]} */
    this.tokens = [];
    this.layers = layers;
    this.experts = experts;
    /** Columns of each canvas. */
    this.width = FIRST_COLUMNS;
    this.describe = describe;
    this.onChoose = onChoose;
    /** The token that was pointed at; -1 before the first. */
    this.chosen = -1;
    this.canvases = layers.map(() => layerCanvas(FIRST_COLUMNS, experts));
    this.names = element('div', 'names');
    this.marker = element('div', 'marker');
    this.marker.hidden = true;
    const rows = this.canvases.map((canvas) => element('div', 'row', canvas));
    this.columns = element('div', 'columns', this.names, ...rows, this.marker);
    this.scroller = element('div', 'scroller', this.columns);
    const labels = this.canvases.map((canvas, i) => {
      const label = element('span', 'row', `layer ${layers[i]}`);
      label.style.height = canvas.style.height;
      return label;
    });
    this.element = element('div', 'strip', element('div', 'layers', ...labels), this.scroller);
    this.listen();
  }

  listen() {
    const { scroller } = this;
    scroller.tabIndex = 0;
    scroller.setAttribute('role', 'slider');
    scroller.setAttribute('aria-label', 'Token');
    scroller.setAttribute('aria-valuemin', '1');
    this.columns.addEventListener('pointermove', (event) => this.choose(this.columnAt(event.clientX)));
    this.columns.addEventListener('pointerdown', (event) => this.choose(this.columnAt(event.clientX)));
    scroller.addEventListener('focus', () => {
      if (this.chosen < 0) this.choose(this.tokens.length - 1);
    });
    scroller.addEventListener('keydown', (event) => this.moveByKey(event));
  }

  /** Draws new tokens. @param {Token[]} tokens */
  add(tokens) {
    const first = this.tokens.length;
    this.tokens.push(...tokens);
    const count = this.tokens.length;
    this.names.append(...tokens.map((token) => nameOf(token)));
    this.columns.style.setProperty('--columns', String(count));
    if (count > this.width) {
      this.width = 2 ** Math.ceil(Math.log2(count));
      for (const canvas of this.canvases) setColumns(canvas, this.width);
      this.draw(0);
    } else this.draw(first);
    this.scroller.setAttribute('aria-valuemax', String(count));
  }

  /** Shows the newest token. */
  follow() {
    this.scroller.scrollLeft = this.scroller.scrollWidth;
    this.tell(this.tokens.length - 1);
  }

  /** Draws the columns from this one on; all of them when the colours have changed. @param {number} from */
  draw(from) {
    const count = this.tokens.length - from;
    if (count <= 0) return;
    const [none, low, high] = ['--gate-none', '--gate-low', '--gate-high'].map(themeColour);
    const chosen = (/** @type {number} */ weight) =>
      mix(low, high, LEAST_SHADE + (1 - LEAST_SHADE) * Math.min(1, Math.max(0, weight)));
    this.canvases.forEach((canvas, i) => {
      const layer = this.layers[i];
      const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
      const image = context.createImageData(count, this.experts);
      for (let at = 0; at < image.data.length; at += 4) image.data.set(none, at);
      for (let column = 0; column < count; column++) {
        const { experts, weights } = this.tokens[from + column];
        experts[layer].forEach((expert, k) => {
          image.data.set(chosen(weights[layer][k]), 4 * (expert * count + column));
        });
      }
      context.putImageData(image, from, 0);
    });
  }

  /** @param {number} clientX */
  columnAt(clientX) {
    const { left, width } = this.columns.getBoundingClientRect();
    return Math.floor(((clientX - left) / width) * this.tokens.length);
  }

  /** Marks a token and announces it. @param {number} index clamped to the tokens that exist */
  choose(index) {
    if (this.tokens.length === 0) return;
    this.chosen = Math.min(this.tokens.length - 1, Math.max(0, index));
    this.marker.hidden = false;
    this.columns.style.setProperty('--chosen', String(this.chosen));
    this.tell(this.chosen);
    this.onChoose(this.chosen);
  }

  /** Scrolls to the chosen token if it isn't visible. */
  reveal() {
    const { offsetLeft, offsetWidth } = this.marker;
    const { scrollLeft, clientWidth } = this.scroller;
    const seen = offsetLeft >= scrollLeft && offsetLeft + offsetWidth <= scrollLeft + clientWidth;
    if (!seen) this.scroller.scrollLeft = offsetLeft - clientWidth / 2;
  }

  /** Sets what assistive technology says of the slider. @param {number} index */
  tell(index) {
    this.scroller.setAttribute('aria-valuenow', String(index + 1));
    this.scroller.setAttribute('aria-valuetext', this.describe(index));
  }

  /** Arrow keys move by one token, Page keys by ten, Home and End to the ends. @param {KeyboardEvent} event */
  moveByKey(event) {
    const { chosen } = this;
    const last = this.tokens.length - 1;
    /** @type {Record<string, number>} */
    const targets = {
      ArrowLeft: chosen - 1,
      ArrowDown: chosen - 1,
      ArrowRight: chosen + 1,
      ArrowUp: chosen + 1,
      PageDown: chosen - 10,
      PageUp: chosen + 10,
      Home: 0,
      End: last,
    };
    if (!Object.hasOwn(targets, event.key)) return;
    event.preventDefault();
    this.choose(targets[event.key]);
    this.reveal();
  }
}

/** @param {Token} token */
function nameOf({ text }) {
  return element('span', 'name', visible(text));
}

/** A canvas with one pixel a cell; the style enlarges it. @param {number} columns @param {number} experts */
function layerCanvas(columns, experts) {
  const canvas = document.createElement('canvas');
  setColumns(canvas, columns);
  canvas.height = experts;
  const row = experts <= 8 ? 7 : experts <= 16 ? 5 : experts <= 64 ? 3 : 2;
  // The canvas is at least as high as the layer's label.
  canvas.style.height = `${Math.max(18, experts * row)}px`;
  return canvas;
}

/** Resizes and clears a canvas. @param {HTMLCanvasElement} canvas @param {number} columns */
function setColumns(canvas, columns) {
  canvas.width = columns;
  canvas.style.width = `calc(${columns} * var(--column))`;
}

/** '#0a1b2c' in a custom property of the page -> [10, 27, 44, 255] @param {string} name */
function themeColour(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [...[1, 3, 5].map((start) => Number.parseInt(hex.slice(start, start + 2), 16)), 255];
}

/** @param {number[]} from @param {number[]} to @param {number} part */
function mix(from, to, part) {
  return from.map((channel, i) => Math.round(channel + part * (to[i] - channel)));
}
