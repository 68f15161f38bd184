import { describe, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { bound, type Dice, everywhere, expectClose, grid, type Scene } from './harness';

/** Rows, heads and numbers of a head. */
type Shape = readonly [rows: number, nHeads: number, headDim: number];

export function ropeConformance(kernels: () => Kernels): void {
  describe('rope', () => {
    const shapes: readonly Shape[] = [
      [0, 1, 4],
      [3, 0, 4],
      [2, 1, 0],
      [1, 1, 2],
      [3, 3, 2],
      [3, 2, 6],
      [2, 3, 6],
      [5, 3, 16],
      [4, 2, 34],
      [2, 5, 64],
      [2, 1, 130],
    ];

    /** Heads in rows that lie apart, with angles and positions. */
    function heads(scene: Scene, dice: Dice, [rows, nHeads, headDim]: Shape) {
      const [cols, maxPositions] = [nHeads * headDim, 11];
      const angles = dice.values((maxPositions * headDim) / 2, 4);
      const x = scene.floats('x', dice.values(rows * cols), grid(rows, cols, cols + 3));
      const cos = scene.floats('cos', angles.map(Math.cos));
      const sin = scene.floats('sin', angles.map(Math.sin));
      const positions = scene.ints('positions', dice.ints(rows, maxPositions));
      const turn = (halves: boolean, inverse: boolean) =>
        kernels().rope(
          x.array,
          x.at,
          cols + 3,
          cos.array,
          cos.at,
          sin.array,
          sin.at,
          maxPositions,
          positions.array,
          positions.at,
          rows,
          nHeads,
          headDim,
          halves,
          inverse,
        );
      return { x, cos, sin, positions, turn };
    }

    function check(scene: Scene, dice: Dice, shape: Shape, halves: boolean, inverse: boolean): void {
      const [rows, nHeads, headDim] = shape;
      const pairs = headDim / 2;
      const { x, cos, sin, positions, turn } = heads(scene, dice, shape);
      const [xv, c, s, p] = [x.read(), cos.read(), sin.read(), positions.read()];
      const want = new Float64Array(xv.length),
        bounds = want.slice();
      for (let pair = 0; pair < (rows * nHeads * headDim) / 2; pair++) {
        const i = pair % pairs;
        const head = 2 * (pair - i);
        const [first, second] = halves ? [head + i, head + i + pairs] : [head + 2 * i, head + 2 * i + 1];
        const angle = p[Math.floor(head / (nHeads * headDim))] * pairs + i;
        const way = inverse ? -s[angle] : s[angle];
        want[first] = xv[first] * c[angle] - xv[second] * way;
        want[second] = xv[first] * way + xv[second] * c[angle];
        bounds[first] = bounds[second] = bound(1, Math.abs(xv[first]) + Math.abs(xv[second]));
      }
      turn(halves, inverse);
      expectClose(`rope [${shape}]`, x.read(), want, bounds);
      scene.expectOnlyWritten('rope', x);
    }

    for (const halves of [false, true]) {
      const what = halves ? 'pair of halves' : 'interleaved pair';
      for (const inverse of [false, true]) {
        it(`turns each ${what} ${inverse ? 'back' : 'by its angle'}`, () => {
          for (const shape of shapes) {
            everywhere(shape[0] + shape[2], (scene, dice) => check(scene, dice, shape, halves, inverse));
          }
        });
      }

      it(`turned and turned back, each ${what} is what it was`, () => {
        for (const shape of shapes) {
          everywhere(shape[1] + shape[2], (scene, dice) => {
            const { x, turn } = heads(scene, dice, shape);
            const before = Float64Array.from(x.read());
            turn(halves, false);
            turn(halves, true);
            const pairs = shape[2] / 2;
            // Two sums of two products, of numbers up to sqrt(2) as large in the second; cos^2 + sin^2 is 1 within two roundings.
            const bounds = before.map((value, at) => {
              const i = at % shape[2];
              const other = halves ? (i < pairs ? at + pairs : at - pairs) : at % 2 === 0 ? at + 1 : at - 1;
              return bound(6, Math.abs(value) + Math.abs(before[other]));
            });
            expectClose(`rope [${shape}]`, x.read(), before, bounds);
          });
        }
      });
    }
  });
}
