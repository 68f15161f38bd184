import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { bound, Dice, everywhere, expectClose, expectSame, type Scene } from './harness';

const INF = Number.POSITIVE_INFINITY;
const IGNORE = -100;

function check(
  k: Kernels,
  scene: Scene,
  dice: Dice,
  rows: number,
  cols: number,
  size: number,
  gradScale: number,
  write: boolean,
): void {
  const label = `crossEntropy [${rows},${cols}] size ${size} ${scene.place.name}`;
  const logits = scene.floats('logits', dice.values(rows * cols, size));
  const ids = dice.ints(rows, cols);
  if (rows > 2) ids[1] = IGNORE;
  const targets = scene.ints('targets', ids),
    losses = scene.output('losses', rows);
  const x = logits.read();
  const wantLosses = new Float64Array(rows),
    lossBounds = wantLosses.slice();
  const want = new Float64Array(rows * cols),
    bounds = want.slice();
  for (let r = 0; r < rows; r++) {
    if (ids[r] === IGNORE) continue;
    const row = x.subarray(r * cols, (r + 1) * cols);
    const max = Math.max(...row);
    const lse = max + Math.log(row.reduce((sum, v) => sum + Math.exp(v - max), 0));
    wantLosses[r] = lse - row[ids[r]];
    lossBounds[r] = bound(cols, Math.abs(lse) + Math.abs(row[ids[r]]) + 1);
    for (let c = 0; c < cols; c++) {
      const p = Math.exp(row[c] - lse),
        hot = c === ids[r] ? 1 : 0;
      want[r * cols + c] = gradScale * (p - hot);
      bounds[r * cols + c] = bound(cols, gradScale * (p * (2 + (max - row[c])) + hot));
    }
  }
  const total = k.crossEntropy(
    logits.array,
    logits.at,
    targets.array,
    targets.at,
    losses.array,
    losses.at,
    rows,
    cols,
    IGNORE,
    gradScale,
    write,
  );
  expectClose(`${label} losses`, losses.read(), wantLosses, lossBounds);
  const sum = (values: Float64Array): number => values.reduce((a, b) => a + b, 0);
  expectClose(`${label} total`, [total], [sum(wantLosses)], sum(lossBounds) + 1e-30);
  if (write) expectClose(`${label} gradient`, logits.read(), want, bounds);
  if (write) scene.expectOnlyWritten(label, losses, logits);
  else scene.expectOnlyWritten(label, losses);
}

export function lossConformance(kernels: () => Kernels): void {
  describe('crossEntropy', () => {
    const shapes = [
      [0, 4],
      [1, 1],
      [1, 2],
      [3, 3],
      [4, 15],
      [3, 16],
      [5, 17],
      [3, 33],
      [4, 257],
      [70, 100],
    ];

    for (const write of [false, true]) {
      const then = write ? 'turns logits into their gradient' : 'leaves the logits';
      it(`gives losses and their sum, and ${then}`, () => {
        for (const [rows, cols] of shapes) {
          for (const size of [0.1, 5, 1e4]) {
            everywhere(rows + cols, (scene, dice) =>
              check(kernels(), scene, dice, rows, cols, size, 0.37, write),
            );
          }
        }
      });
    }

    it('is exactly 0 for an ignored row, whatever is in it', () => {
      const logits = new Float32Array([Number.NaN, 1, INF, 1, 2, 3]),
        losses = new Float32Array([9, 9]);
      const total = kernels().crossEntropy(
        logits,
        0,
        new Int32Array([2, -1]),
        0,
        losses,
        0,
        1,
        3,
        2,
        1,
        true,
      );
      expect(total).toBe(0);
      expectSame('losses', losses, [0, 9]);
      expectSame('gradient', logits, [0, 0, 0, 1, 2, 3]);
    });

    it('takes a target for ignored where ignoreIndex is also a class', () => {
      const logits = new Float32Array(8),
        losses = new Float32Array(2);
      const total = kernels().crossEntropy(
        logits,
        0,
        new Int32Array([0, 1]),
        0,
        losses,
        0,
        2,
        4,
        0,
        1,
        false,
      );
      expectClose('total', [total], [Math.log(4)], bound(4, 2));
      expect(losses[0]).toBe(0);
    });

    it('shows a NaN, and an infinite loss where the target is impossible', () => {
      const losses = new Float32Array(2);
      const logits = new Float32Array([0, Number.NaN, 1, 0, -INF, 1]);
      kernels().crossEntropy(logits, 0, new Int32Array([0, 1]), 0, losses, 0, 2, 3, IGNORE, 1, true);
      expectSame('losses', losses, [Number.NaN, INF]);
      expect([...logits.subarray(0, 3)].every(Number.isNaN)).toBe(true);
      const p = 1 / (1 + Math.exp(1));
      expectClose('gradient', logits.subarray(3), [p, -1, 1 - p], 1e-6);
    });

    it('does not depend on other rows', () => {
      const dice = new Dice(8);
      const row = [...dice.values(19, 3)];
      const together = new Float32Array([...row, ...dice.values(19, 3), ...row]);
      const losses = new Float32Array(3);
      kernels().crossEntropy(together, 0, new Int32Array([4, 5, 4]), 0, losses, 0, 3, 19, IGNORE, 1, true);
      expect(losses[0]).toBe(losses[2]);
      expectSame('gradient', together.subarray(0, 19), together.subarray(38));
    });
  });
}
