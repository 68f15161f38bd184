/** A curve of losses that grows, on a canvas. */

const MARGIN = { left: 44, right: 8, top: 8, bottom: 22 };
/** Most points of a curve; of more steps, neighbours are replaced by their mean. */
const MOST_POINTS = 500;

export class Chart {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    /** @type {number[]} */
    this.losses = [];
  }

  clear() {
    this.losses = [];
    this.draw();
  }

  /** @param {number} loss */
  add(loss) {
    this.losses.push(loss);
  }

  draw() {
    const { canvas } = this;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    const style = getComputedStyle(document.documentElement);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    context.clearRect(0, 0, canvas.width, canvas.height);
    const points = thinned(this.losses);
    const top = Math.max(1, Math.ceil(Math.max(0, ...points)));
    const width = canvas.width - MARGIN.left - MARGIN.right;
    const height = canvas.height - MARGIN.top - MARGIN.bottom;
    const y = (/** @type {number} */ loss) => MARGIN.top + height * (1 - loss / top);
    context.font = '13px system-ui, sans-serif';
    context.fillStyle = colour('--muted');
    context.strokeStyle = colour('--line');
    for (let line = 0; line <= 4; line++) {
      const loss = (top * line) / 4;
      context.beginPath();
      context.moveTo(MARGIN.left, y(loss));
      context.lineTo(MARGIN.left + width, y(loss));
      context.stroke();
      context.fillText(loss.toFixed(2), 4, y(loss) + 4);
    }
    context.fillText(`${this.losses.length} steps`, MARGIN.left, canvas.height - 4);
    if (points.length < 2) return;
    context.strokeStyle = colour('--accent');
    context.lineWidth = 2;
    context.beginPath();
    points.forEach((loss, i) => {
      context.lineTo(MARGIN.left + (width * i) / (points.length - 1), y(loss));
    });
    context.stroke();
    context.lineWidth = 1;
  }
}

/** At most MOST_POINTS means of neighbours. @param {number[]} losses */
function thinned(losses) {
  const size = Math.ceil(losses.length / MOST_POINTS);
  if (size <= 1) return losses;
  return Array.from({ length: Math.ceil(losses.length / size) }, (_, i) => {
    const part = losses.slice(i * size, (i + 1) * size);
    return part.reduce((sum, loss) => sum + loss, 0) / part.length;
  });
}
