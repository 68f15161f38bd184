/** @typedef {import('../reportData').LoadMap} LoadMap */

const FULL_SHARE = 65535;

/** The load of each layer's experts over the steps. @param {import('../reportData').RunReport} run @param {number} index */
function heatMap(run, index) {
  const load = /** @type {LoadMap} */ (run.load);
  const shares = sharesOf(load.shares);
  const readout = element('p', {
    className: 'readout',
    text: 'Point at a cell, or move with the arrow keys.',
  });
  readout.setAttribute('aria-live', 'polite');
  const marker = element('div', { className: 'marker' });
  const canvases = load.expertsPerLayer.map((experts) => layerCanvas(load.lastSteps.length, experts));
  const layers = canvases.flatMap((canvas, layer) => {
    // A dense layer has no experts.
    if (canvas.height === 0) return [];
    return [element('div', { className: 'layer' }, [element('span', { text: `layer ${layer}` }), canvas])];
  });
  const cells = element(
    'div',
    { className: 'cells', label: `Expert load of ${run.name}. Arrow keys move from cell to cell.` },
    [...layers, marker],
  );
  cells.tabIndex = 0;
  cells.setAttribute('role', 'group');
  const ends = element('div', { className: 'ends' }, [
    element('span', { text: `step ${count(load.firstSteps[0])}` }),
    element('span', { text: `step ${count(load.lastSteps.at(-1) ?? 0)}` }),
  ]);
  const name = element('figcaption', {}, [swatch(index), element('strong', { text: run.name })]);
  const made = element('figure', { className: 'heat' }, [name, cells, ends, readout]);
  const cellAt = pointer(load, shares, { canvases, marker, readout, cells });
  listen(cells, canvases, load, cellAt);
  const draw = () => {
    for (const [layer, canvas] of canvases.entries()) {
      if (canvas.height > 0) drawLayer(canvas, load, shares, layer);
    }
  };
  return { element: made, draw };
}

/** @param {string} base64 */
function sharesOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true) / FULL_SHARE);
}

/** @param {LoadMap} load @param {number} layer @param {number} expert @param {number} column */
function cellIndex({ expertsPerLayer }, layer, expert, column) {
  const rows = expertsPerLayer.reduce((sum, n) => sum + n, 0);
  const before = expertsPerLayer.slice(0, layer).reduce((sum, n) => sum + n, 0);
  return column * rows + before + expert;
}

/** A canvas with one pixel a cell; the style enlarges it. @param {number} columns @param {number} experts */
function layerCanvas(columns, experts) {
  const canvas = document.createElement('canvas');
  canvas.width = columns;
  canvas.height = experts;
  const row = experts <= 8 ? 14 : experts <= 16 ? 9 : experts <= 64 ? 5 : 3;
  canvas.style.height = `${experts * row}px`;
  return canvas;
}

/** @param {HTMLCanvasElement} canvas @param {LoadMap} load @param {Float32Array} shares @param {number} layer */
function drawLayer(canvas, load, shares, layer) {
  const { width, height } = canvas;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const image = context.createImageData(width, height);
  const palette = ['--load-none', '--load-even', '--load-double'].map((name) => rgbOf(themed(name)));
  for (let column = 0; column < width; column++) {
    for (let expert = 0; expert < height; expert++) {
      const even = shares[cellIndex(load, layer, expert, column)] * height;
      image.data.set(colourOf(even, palette), 4 * (expert * width + column));
    }
  }
  context.putImageData(image, 0, 0);
}

/**
 * A function from a share to a colour: none, an even share, at least twice an even share. @param {number} even @param
 * {number[][]} palette
 */
function colourOf(even, [none, middle, double]) {
  const [from, to, part] = even < 1 ? [none, middle, even] : [middle, double, Math.min(1, even - 1)];
  return [...from.map((channel, i) => Math.round(channel + part * (to[i] - channel))), 255];
}

/** '#0a1b2c' -> [10, 27, 44] @param {string} hex */
function rgbOf(hex) {
  return [1, 3, 5].map((start) => Number.parseInt(hex.slice(start, start + 2), 16));
}

/**
 * Returns a function that shows the value and the place of a cell.
 * @param {LoadMap} load @param {Float32Array} shares
 * @param {{ canvases: HTMLCanvasElement[], marker: HTMLElement, readout: HTMLElement, cells: HTMLElement }} parts
 */
function pointer(load, shares, { canvases, marker, readout, cells }) {
  return (/** @type {number} */ layer, /** @type {number} */ expert, /** @type {number} */ column) => {
    const share = shares[cellIndex(load, layer, expert, column)];
    const [first, last] = [load.firstSteps[column], load.lastSteps[column]];
    const steps = first === last ? `step ${count(first)}` : `steps ${count(first)} to ${count(last)}`;
    const even = share * load.expertsPerLayer[layer];
    readout.textContent = `layer ${layer}, expert ${expert}, ${steps}: ${(100 * share).toFixed(1)} % of the tokens, ${even.toFixed(2)} of an even share`;
    const box = canvases[layer].getBoundingClientRect();
    const frame = cells.getBoundingClientRect();
    const [width, height] = [box.width / load.lastSteps.length, box.height / load.expertsPerLayer[layer]];
    marker.style.left = `${box.left - frame.left + cells.scrollLeft + column * width}px`;
    marker.style.top = `${box.top - frame.top + cells.scrollTop + expert * height}px`;
    marker.style.width = `${width}px`;
    marker.style.height = `${height}px`;
    marker.style.visibility = 'visible';
  };
}

/**
 * @param {HTMLElement} cells @param {HTMLCanvasElement[]} canvases @param {LoadMap} load @param {(layer: number, expert:
 * number, column: number) => void} show
 */
function listen(cells, canvases, load, show) {
  const here = { row: 0, column: 0 };
  const rows = load.expertsPerLayer.flatMap((experts, layer) =>
    Array.from({ length: experts }, (_, expert) => ({ layer, expert })),
  );
  const go = (/** @type {number} */ row, /** @type {number} */ column) => {
    here.row = Math.min(rows.length - 1, Math.max(0, row));
    here.column = Math.min(load.lastSteps.length - 1, Math.max(0, column));
    show(rows[here.row].layer, rows[here.row].expert, here.column);
  };
  canvases.forEach((canvas, layer) => {
    canvas.addEventListener('pointermove', (event) => {
      const box = canvas.getBoundingClientRect();
      const expert = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
      const first = rows.findIndex((row) => row.layer === layer);
      const within = Math.min(canvas.height - 1, Math.max(0, expert));
      go(first + within, Math.floor(((event.clientX - box.left) / box.width) * canvas.width));
    });
  });
  cells.addEventListener('keydown', (event) => {
    const moves = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      Home: [0, -Infinity],
      End: [0, Infinity],
    };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (move === undefined) return;
    event.preventDefault();
    go(here.row + move[0], here.column + move[1]);
  });
}

/** @param {import('../reportData').RunReport[]} runs */
function heatSection(runs) {
  const made = section(
    'Expert load',
    'The share of the tokens that each expert gets, one row for each expert; time runs to the right.',
  );
  const scale = element('div', { className: 'scale' }, [
    element('span', { text: 'none' }),
    element('span', { className: 'ramp' }),
    element('span', { text: 'twice an even share, and more' }),
  ]);
  made.append(scale);
  const maps = runs.flatMap((run, i) => (run.load === null ? [] : [heatMap(run, i)]));
  made.append(...maps.map((map) => map.element));
  const draw = () => {
    for (const map of maps) map.draw();
  };
  return { element: made, draw, any: maps.length > 0 };
}
