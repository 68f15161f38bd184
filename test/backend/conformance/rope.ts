import { describe, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { bound, type Dice, everywhere, expectClose, grid, type Scene } from './harness';

export function ropeConformance(kernels: () => Kernels): void {
  describe('rope', () => {
    const shapes = [
      [0, 1, 4],
      [3, 0, 4],
      [2, 1, 0],
      [1, 1, 2],
      [3, 2, 6],
      [5, 3, 16],
      [4, 2, 34],
      [2, 5, 64],
    ];

    function check(
      scene: Scene,
      dice: Dice,
      rows: number,
      nHeads: number,
      headDim: number,
      inverse: boolean,
    ): void {
      const cols = nHeads * headDim,
        pairs = headDim / 2,
        maxPositions = 11;
      const angles = dice.values(maxPositions * pairs, 4);
      const ldx = cols + 3;
      const x = scene.floats('x', dice.values(rows * cols), grid(rows, cols, ldx));
      const cos = scene.floats('cos', angles.map(Math.cos)),
        sin = scene.floats('sin', angles.map(Math.sin));
      const positions = scene.ints('positions', dice.ints(rows, maxPositions));
      const [xv, c, s, p] = [x.read(), cos.read(), sin.read(), positions.read()];
      const want = new Float64Array(rows * cols),
        bounds = want.slice();
      for (let even = 0; even < rows * cols; even += 2) {
        const angle = p[Math.floor(even / cols)] * pairs + (even % headDim) / 2;
        const turn = inverse ? -s[angle] : s[angle];
        want[even] = xv[even] * c[angle] - xv[even + 1] * turn;
        want[even + 1] = xv[even] * turn + xv[even + 1] * c[angle];
        bounds[even] = bounds[even + 1] = bound(1, Math.abs(xv[even]) + Math.abs(xv[even + 1]));
      }
      kernels().rope(
        x.array,
        x.at,
        ldx,
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
        inverse,
      );
      expectClose(`rope [${rows},${nHeads},${headDim}]`, x.read(), want, bounds);
      scene.expectOnlyWritten('rope', x);
    }

    for (const inverse of [false, true]) {
      it(`turns each interleaved pair ${inverse ? 'back' : 'by its angle'}`, () => {
        for (const [rows, nHeads, headDim] of shapes) {
          everywhere(rows + headDim, (scene, dice) => check(scene, dice, rows, nHeads, headDim, inverse));
        }
      });
    }
  });
}
