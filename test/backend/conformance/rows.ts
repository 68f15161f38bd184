import { describe, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { bound, Dice, everywhere, expectClose, expectSame, grid } from './harness';

const INF = Number.POSITIVE_INFINITY;
const NAN = Number.NaN;
const SHAPES: readonly (readonly number[])[] = [
  [0, 5],
  [5, 0],
  [1, 1],
  [3, 1],
  [2, 2],
  [5, 3],
  [3, 7],
  [2, 15],
  [3, 16],
  [2, 17],
  [3, 31],
  [1, 33],
  [4, 100],
];

/** softmax of one row by its definition. */
function softmax(row: ArrayLike<number>): number[] {
  const values = Array.from(row);
  const max = values.reduce((most, v) => Math.max(most, v), -INF);
  const exps = values.map((v) => Math.exp(v - max));
  const sum = exps.reduce((total, e) => total + e, 0);
  return exps.map((e) => e / sum);
}

function rowsOf(values: Float64Array, rows: number, cols: number): Float64Array[] {
  return Array.from({ length: rows }, (_, r) => values.subarray(r * cols, (r + 1) * cols));
}

export function rowConformance(kernels: () => Kernels): void {
  describe('softmax', () => {
    it('forward normalises each row, in place too', () => {
      for (const [rows, cols] of SHAPES) {
        everywhere(rows * 7 + cols, (scene, dice) => {
          const x = scene.floats('x', dice.values(rows * cols, 12));
          const y = scene.output('y', rows * cols);
          const input = rowsOf(x.read(), rows, cols);
          const want = input.flatMap((row) => softmax(row));
          // x - max is rounded once, which exp turns into a relative error of U * |x - max|.
          const bounds = input.flatMap((row) => {
            const max = Math.max(...row);
            return softmax(row).map((p, c) => bound(1, p * (2 + (max - row[c]))));
          });
          kernels().softmaxForward(x.array, x.at, y.array, y.at, rows, cols);
          expectClose(`softmax [${rows},${cols}]`, y.read(), want, bounds);
          scene.expectOnlyWritten('softmaxForward', y);
          kernels().softmaxForward(x.array, x.at, x.array, x.at, rows, cols);
          expectSame('softmaxForward in place', x.read(), y.read());
        });
      }
    });

    const NANS = (n: number): number[] => Array.from({ length: n }, () => NAN);
    const SPECIALS: readonly (readonly [string, number[], number[]])[] = [
      ['-inf entries give 0', [0, -INF, 0, -INF], [0.5, 0, 0.5, 0]],
      ['a row of nothing but -inf gives zeros', [-INF, -INF, -INF, -INF], [0, 0, 0, 0]],
      ['a NaN makes its row NaN', [1, NAN, 2, 3], NANS(4)],
      ['a NaN among -inf makes its row NaN', [-INF, NAN, -INF, -INF], NANS(4)],
      ['a NaN before larger values makes its row NaN', [NAN, 1, 2, 3], NANS(4)],
      ['+inf makes its row NaN', [1, INF, 2, -INF], NANS(4)],
      ['huge values do not overflow', [3e38, 3e38, -3e38, -3e38], [0.5, 0.5, 0, 0]],
      ['far apart values underflow to 0', [1e4, 0, -1e4, 1e4], [0.5, 0, 0, 0.5]],
      ['all equal, very negative', [-1e30, -1e30, -1e30, -1e30], [0.25, 0.25, 0.25, 0.25]],
    ];
    for (const [name, row, want] of SPECIALS) {
      it(`forward: ${name}`, () => {
        // The row is tried at several widths and lanes; the rows around it are unaffected.
        for (const width of [4, 5, 16, 19, 40]) {
          for (const shift of [0, width - 4]) {
            const pad = new Array<number>(width).fill(-INF);
            const padWant = new Array<number>(width).fill(want.some(Number.isNaN) ? NAN : 0);
            pad.splice(shift, 4, ...row);
            padWant.splice(shift, 4, ...want);
            const usual = Array.from({ length: width }, () => 1);
            const x = new Float32Array([...usual, ...pad, ...usual]);
            kernels().softmaxForward(x, 0, x, 0, 3, width);
            expectClose(`${name}, width ${width}`, x.subarray(width, 2 * width), padWant, 1e-6);
            expectClose('neighbours', [x[0], x[3 * width - 1]], [1 / width, 1 / width], 1e-6);
          }
        }
      });
    }

    it('backward is y * (dy - sum y*dy), in place of dy too', () => {
      for (const [rows, cols] of SHAPES) {
        everywhere(rows * 5 + cols, (scene, dice) => {
          const probs = rowsOf(dice.values(rows * cols, 3), rows, cols).flatMap((row) => softmax(row));
          const y = scene.floats('y', probs),
            dy = scene.floats('dy', dice.values(rows * cols));
          const dx = scene.output('dx', rows * cols);
          const [yv, dv] = [y.read(), dy.read()];
          const want = new Float64Array(rows * cols),
            bounds = want.slice();
          for (let r = 0; r < rows; r++) {
            // Column c of the Jacobian is y_c * (delta - y).
            let size = 0;
            for (let c = 0; c < cols; c++) size += Math.abs(yv[r * cols + c] * dv[r * cols + c]);
            for (let c = 0; c < cols; c++) {
              for (let i = 0; i < cols; i++) {
                const jacobian = yv[r * cols + c] * ((i === c ? 1 : 0) - yv[r * cols + i]);
                want[r * cols + c] += jacobian * dv[r * cols + i];
              }
              bounds[r * cols + c] = bound(cols, yv[r * cols + c] * (Math.abs(dv[r * cols + c]) + size));
            }
          }
          kernels().softmaxBackward(y.array, y.at, dy.array, dy.at, dx.array, dx.at, rows, cols);
          expectClose(`softmaxBackward [${rows},${cols}]`, dx.read(), want, bounds);
          scene.expectOnlyWritten('softmaxBackward', dx);
          kernels().softmaxBackward(y.array, y.at, dy.array, dy.at, dy.array, dy.at, rows, cols);
          expectSame('softmaxBackward in place', dy.read(), dx.read());
        });
      }
    });
  });

  describe('rmsNorm', () => {
    const EPS = 1e-6;
    const invRmsOf = (row: Float64Array): number =>
      1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / row.length + EPS);

    it('forward scales each row to unit mean square, in place too', () => {
      for (const [rows, cols] of SHAPES) {
        for (const padding of [0, 3]) {
          everywhere(rows * 3 + cols, (scene, dice) => {
            const ldx = cols + padding,
              ldy = cols + 2 * padding;
            const x = scene.floats('x', dice.values(rows * cols, 2), grid(rows, cols, ldx));
            const gamma = scene.floats('gamma', dice.values(cols));
            const y = scene.output('y', grid(rows, cols, ldy));
            const invRms = scene.output('invRms', cols === 0 ? 0 : rows);
            const call = (out: typeof y, ld: number): void =>
              kernels().rmsNormForward(
                x.array,
                x.at,
                ldx,
                gamma.array,
                gamma.at,
                out.array,
                out.at,
                ld,
                invRms.array,
                invRms.at,
                cols === 0 ? 0 : rows,
                cols,
                EPS,
              );
            const input = rowsOf(x.read(), rows, cols),
              g = gamma.read();
            const scales = cols === 0 ? [] : input.map(invRmsOf);
            const want = input.flatMap((row, r) => [...row].map((v, c) => g[c] * v * scales[r]));
            call(y, ldy);
            expectClose(
              `rmsNorm [${rows},${cols}]`,
              y.read(),
              want,
              want.map((w) => bound(cols, Math.abs(w))),
            );
            expectClose(
              'invRms',
              invRms.read(),
              scales,
              scales.map((s) => bound(cols, s)),
            );
            scene.expectOnlyWritten('rmsNormForward', y, invRms);
            call(x, ldx);
            expectSame('rmsNormForward in place', x.read(), y.read());
          });
        }
      }
    });

    it('forward of a zero row is zeros and 1/sqrt(eps)', () => {
      const x = new Float32Array(17),
        invRms = new Float32Array(1);
      kernels().rmsNormForward(x, 0, 17, new Float32Array(17).fill(2), 0, x, 0, 17, invRms, 0, 1, 17, EPS);
      expectSame('y', x, new Float32Array(17));
      expectClose('invRms', invRms, [1000], bound(1, 1000));
    });

    it('forward of large values does not overflow where their squares fit', () => {
      const x = new Float32Array(20).fill(1e18),
        invRms = new Float32Array(1);
      kernels().rmsNormForward(x, 0, 20, new Float32Array(20).fill(1), 0, x, 0, 20, invRms, 0, 1, 20, EPS);
      expectClose('y', x, new Float32Array(20).fill(1), 1e-6);
    });

    for (const accumulate of [false, true]) {
      const how = accumulate ? 'added to' : 'written to';
      it(`backward is the full Jacobian, ${how} dx; dGamma adds up`, () => {
        for (const [rows, cols] of SHAPES) {
          everywhere(rows * 11 + cols, (scene, dice) => {
            const ldx = cols + 1,
              lddy = cols + 2,
              lddx = cols + 3;
            const x = scene.floats('x', dice.values(rows * cols, 2), grid(rows, cols, ldx));
            const gamma = scene.floats('gamma', dice.values(cols));
            const input = rowsOf(x.read(), rows, cols),
              g = gamma.read();
            const invRms = scene.floats('invRms', cols === 0 ? new Float64Array(rows) : input.map(invRmsOf));
            const dy = scene.floats('dy', dice.values(rows * cols), grid(rows, cols, lddy));
            const dx = accumulate
              ? scene.floats('dx', dice.values(rows * cols), grid(rows, cols, lddx))
              : scene.output('dx', grid(rows, cols, lddx));
            const dGamma = scene.floats('dGamma', dice.values(cols));
            const [old, oldGamma, d, s] = [dx.read(), dGamma.read(), dy.read(), invRms.read()];
            const want = new Float64Array(rows * cols),
              size = want.slice();
            const wantGamma = oldGamma.slice(),
              sizeGamma = oldGamma.map(Math.abs);
            for (let r = 0; r < rows; r++) {
              for (let c = 0; c < cols; c++) {
                const at = r * cols + c;
                // d y_i / d x_c = gamma_i * (s * [i = c] - s^3 * x_i * x_c / cols)
                for (let i = 0; i < cols; i++) {
                  const upstream = d[r * cols + i] * g[i];
                  const jacobian = (s[r] ** 3 * input[r][i] * input[r][c]) / cols;
                  want[at] += upstream * ((i === c ? s[r] : 0) - jacobian);
                  size[at] += Math.abs(upstream) * ((i === c ? s[r] : 0) + Math.abs(jacobian));
                }
                wantGamma[c] += d[at] * input[r][c] * s[r];
                sizeGamma[c] += Math.abs(d[at] * input[r][c] * s[r]);
                if (accumulate) {
                  want[at] += old[at];
                  size[at] += Math.abs(old[at]);
                }
              }
            }
            kernels().rmsNormBackward(
              x.array,
              x.at,
              ldx,
              gamma.array,
              gamma.at,
              invRms.array,
              invRms.at,
              dy.array,
              dy.at,
              lddy,
              dx.array,
              dx.at,
              lddx,
              accumulate,
              dGamma.array,
              dGamma.at,
              rows,
              cols,
            );
            expectClose(
              `rmsNormBackward dx [${rows},${cols}]`,
              dx.read(),
              want,
              size.map((m) => bound(cols, m)),
            );
            expectClose(
              'dGamma',
              dGamma.read(),
              wantGamma,
              sizeGamma.map((m) => bound(rows, m)),
            );
            scene.expectOnlyWritten('rmsNormBackward', dx, dGamma);
          });
        }
      });
    }

    it('backward may write dx over dy', () => {
      const dice = new Dice(3);
      const rows = 5,
        cols = 37;
      const x = Float32Array.from(dice.values(rows * cols)),
        gamma = Float32Array.from(dice.values(cols));
      const invRms = Float32Array.from(dice.values(rows)),
        dy = Float32Array.from(dice.values(rows * cols));
      const apart = new Float32Array(rows * cols),
        dGamma = new Float32Array(cols);
      const again = new Float32Array(cols);
      const k = kernels();
      k.rmsNormBackward(
        x,
        0,
        cols,
        gamma,
        0,
        invRms,
        0,
        dy,
        0,
        cols,
        apart,
        0,
        cols,
        false,
        dGamma,
        0,
        rows,
        cols,
      );
      k.rmsNormBackward(
        x,
        0,
        cols,
        gamma,
        0,
        invRms,
        0,
        dy,
        0,
        cols,
        dy,
        0,
        cols,
        false,
        again,
        0,
        rows,
        cols,
      );
      expectSame('dx', dy, apart);
      expectSame('dGamma', again, dGamma);
    });
  });
}
