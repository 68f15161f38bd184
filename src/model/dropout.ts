import { counterRandom } from '../base/counterRandom';
import type { MatrixView } from '../memory/matrixView';

/** Dropout of a model's adapters (Srivastava et al. 2014), as all of them share it. */
export interface Dropout {
  /** Share of the elements that become 0, in [0, 1); the others are divided by 1 - rate. */
  readonly rate: number;
  readonly seed: number;
  /** Whether the pass that runs is one of a training. */
  isOn: boolean;
  /** Number of the pass: the same number drops the same elements, so a resumed training makes the same steps. */
  pass: number;
}

/** y = x with dropout, by what (seed, pass, index of the adapter, element) decide. y has adjacent rows. */
export function dropped(dropout: Dropout, index: number, x: MatrixView, y: MatrixView): void {
  const { key, least, factor } = drawsOf(dropout, index);
  for (let r = 0; r < x.rows; r++) {
    const [from, to, first] = [x.at + r * x.ld, y.at + r * y.ld, r * x.cols];
    for (let c = 0; c < x.cols; c++) {
      y.data[to + c] = counterRandom(key, first + c) >= least ? x.data[from + c] * factor : 0;
    }
  }
}

/** dx += dy where `dropped` kept the element, with its factor. */
export function droppedBack(dropout: Dropout, index: number, dy: MatrixView, dx: MatrixView): void {
  const { key, least, factor } = drawsOf(dropout, index);
  for (let r = 0; r < dy.rows; r++) {
    const [from, to, first] = [dy.at + r * dy.ld, dx.at + r * dx.ld, r * dy.cols];
    for (let c = 0; c < dy.cols; c++) {
      if (counterRandom(key, first + c) >= least) dx.data[to + c] += dy.data[from + c] * factor;
    }
  }
}

function drawsOf(
  { rate, seed, pass }: Dropout,
  index: number,
): { key: number; least: number; factor: number } {
  const key = [Math.floor(seed / 2 ** 32), pass, index].reduce(counterRandom, seed % 2 ** 32);
  return { key, least: rate * 2 ** 32, factor: 1 / (1 - rate) };
}
