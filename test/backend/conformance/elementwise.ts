import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { SQUARES_BLOCK } from '../../../src/backend/kernels/training';
import { bound, everywhere, expectClose, expectSame, grid, SIZES, U } from './harness';

const INF = Number.POSITIVE_INFINITY;
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** The spacing of float32 numbers at |x|. */
function ulp(x: number): number {
  return 2 ** Math.max(-149, Math.floor(Math.log2(Math.abs(x))) - 23);
}

/** Every `step`-th float32 in [0, limit], by bit pattern, with both signs. */
function sweep(limit: number, step: number): Float32Array {
  const last = new Uint32Array(new Float32Array([limit]).buffer)[0];
  const count = Math.floor(last / step) + 1;
  const bits = new Uint32Array(2 * count);
  for (let i = 0; i < count; i++) {
    bits[2 * i] = i * step;
    bits[2 * i + 1] = i * step + 0x80000000;
  }
  return new Float32Array(bits.buffer);
}

export function elementwiseConformance(kernels: () => Kernels): void {
  describe('exp', () => {
    it('is within 2 ulp over every 2,003rd float of [-104, 89]', () => {
      const x = sweep(104, 2003).filter((value) => value <= 89);
      const y = new Float32Array(x.length);
      kernels().exp(x, 0, y, 0, x.length);
      let worst = 0;
      let at = 0;
      for (let i = 0; i < x.length; i++) {
        const want = Math.exp(x[i]);
        // Infinity stands for 2^128, the number after the largest one.
        const got = y[i] === INF ? 2 ** 128 : y[i];
        const error = Math.abs(got - Math.min(want, 2 ** 128)) / ulp(Math.min(want, 2 ** 127));
        if (!(error <= worst)) {
          worst = error;
          at = i;
        }
      }
      expect(worst, `exp(${x[at]}) = ${y[at]}`).toBeLessThanOrEqual(2);
    });

    it('handles the ends: exp(-inf) = 0, exp(inf) = inf, NaN stays, exp(0) = 1', () => {
      const x = new Float32Array([-INF, INF, Number.NaN, 0, -0, -200, 200, -3e38, 3e38, 1e-40, -1e-40]);
      const y = new Float32Array(x.length);
      kernels().exp(x, 0, y, 0, x.length);
      expectClose('exp', y, [0, INF, Number.NaN, 1, 1, 0, INF, 0, INF, 1, 1], 0);
    });

    it('works at each size and in place', () => {
      for (const n of SIZES) {
        everywhere(n, (scene, dice) => {
          const x = scene.floats('x', dice.values(n, 20));
          const y = scene.output('y', n);
          const want = x.read().map(Math.exp);
          kernels().exp(x.array, x.at, y.array, y.at, n);
          expectClose(
            `exp n=${n}`,
            y.read(),
            want,
            want.map((w) => bound(1, w)),
          );
          scene.expectOnlyWritten(`exp n=${n}`, y);
          kernels().exp(x.array, x.at, x.array, x.at, n);
          expectSame(`exp in place n=${n}`, x.read(), y.read());
        });
      }
    });
  });

  describe('silu', () => {
    it('is x * sigmoid(x) at each size and in place', () => {
      for (const n of SIZES) {
        everywhere(n + 1, (scene, dice) => {
          const x = scene.floats('x', dice.values(n, 30));
          const y = scene.output('y', n);
          const want = x.read().map((v) => v * sigmoid(v));
          kernels().silu(x.array, x.at, y.array, y.at, n);
          expectClose(
            `silu n=${n}`,
            y.read(),
            want,
            want.map((w) => bound(1, Math.abs(w))),
          );
          scene.expectOnlyWritten(`silu n=${n}`, y);
          kernels().silu(x.array, x.at, x.array, x.at, n);
          expectSame(`silu in place n=${n}`, x.read(), y.read());
        });
      }
    });

    it('handles the ends: silu(-inf) = 0, silu(inf) = inf, NaN stays', () => {
      const x = new Float32Array([-INF, INF, Number.NaN, 0, -1000, 1000, -3e38, 3e38]);
      const y = new Float32Array(8);
      kernels().silu(x, 0, y, 0, 8);
      expectClose('silu', y, [0, INF, Number.NaN, 0, 0, 1000, 0, Math.fround(3e38)], 0);
    });
  });

  describe('swiglu', () => {
    const SHAPES = [
      [0, 4],
      [3, 0],
      [1, 1],
      [2, 3],
      [3, 15],
      [2, 16],
      [5, 17],
      [3, 33],
      [4, 64],
    ];

    it('forward is silu(gate) * up', () => {
      for (const [rows, ffn] of SHAPES) {
        everywhere(rows + ffn, (scene, dice) => {
          const gateUp = scene.floats('gateUp', dice.values(rows * 2 * ffn, 8));
          const y = scene.output('y', rows * ffn);
          const x = gateUp.read();
          const want = new Float64Array(rows * ffn);
          for (const [i, at] of grid(rows, ffn, 2 * ffn).entries()) {
            want[i] = x[at] * sigmoid(x[at]) * x[at + ffn];
          }
          kernels().swigluForward(gateUp.array, gateUp.at, y.array, y.at, rows, ffn);
          expectClose(
            `swiglu [${rows},${ffn}]`,
            y.read(),
            want,
            want.map((w) => bound(1, Math.abs(w))),
          );
          scene.expectOnlyWritten('swigluForward', y);
        });
      }
    });

    it('backward is the derivative, and may overwrite gateUp', () => {
      for (const [rows, ffn] of SHAPES) {
        everywhere(rows + ffn, (scene, dice) => {
          const gateUp = scene.floats('gateUp', dice.values(rows * 2 * ffn, 8));
          const dy = scene.floats('dy', dice.values(rows * ffn));
          const dGateUp = scene.output('dGateUp', rows * 2 * ffn);
          const x = gateUp.read(),
            d = dy.read();
          const want = new Float64Array(rows * 2 * ffn),
            bounds = want.slice();
          for (const [i, at] of grid(rows, ffn, 2 * ffn).entries()) {
            const gate = x[at],
              up = x[at + ffn],
              s = sigmoid(gate);
            // d(gate*s)/dgate = s + gate*s*(1-s)
            want[at] = d[i] * up * (s + gate * s * (1 - s));
            bounds[at] = bound(1, Math.abs(d[i] * up * s) * (1 + Math.abs(gate)));
            want[at + ffn] = d[i] * gate * s;
            bounds[at + ffn] = bound(1, Math.abs(want[at + ffn]));
          }
          const call = (out: typeof dGateUp): void =>
            kernels().swigluBackward(gateUp.array, gateUp.at, dy.array, dy.at, out.array, out.at, rows, ffn);
          call(dGateUp);
          expectClose(`swigluBackward [${rows},${ffn}]`, dGateUp.read(), want, bounds);
          scene.expectOnlyWritten('swigluBackward', dGateUp);
          call(gateUp);
          expectSame('swigluBackward in place', gateUp.read(), dGateUp.read());
        });
      }
    });

    it('backward stays finite where sigmoid saturates', () => {
      const gateUp = new Float32Array([-200, 200, -1e30, 1, 1, 1]);
      const out = new Float32Array(6);
      kernels().swigluBackward(gateUp, 0, new Float32Array([1, 1, 1]), 0, out, 0, 1, 3);
      expectClose('swigluBackward', out, [0, 1, 0, 0, 200, 0], 1e-30);
    });
  });

  describe('sumSquares', () => {
    it('adds up in float64, at each size', () => {
      for (const n of [...SIZES, 4097, 100_000]) {
        everywhere(n + 2, (scene, dice) => {
          const x = scene.floats('x', dice.values(n, 3));
          const want = x.read().reduce((sum, v) => sum + v * v, 0);
          const got = kernels().sumSquares(x.array, x.at, n);
          // Squares of float32 are exact in float64: n additions, each off by 2^-53 of the sum.
          expectClose(`sumSquares n=${n}`, [got], [want], 2 * n * 2 ** -53 * want);
          scene.expectOnlyWritten('sumSquares');
        });
      }
    });

    it('adds the sums of its blocks in their order, to the bit', () => {
      const n = 3 * SQUARES_BLOCK + 77;
      const x = Float32Array.from({ length: n }, (_, i) => Math.sin(i + 1) * 10 ** (i % 5));
      let want = 0;
      for (let at = 0; at < n; at += SQUARES_BLOCK) {
        want += kernels().sumSquares(x, at, Math.min(SQUARES_BLOCK, n - at));
      }
      expect(kernels().sumSquares(x, 0, n)).toBe(want);
    });

    it('keeps what float32 would lose: 2^24 + 1, and squares beyond its range', () => {
      expect(kernels().sumSquares(new Float32Array([4096, 1]), 0, 2)).toBe(2 ** 24 + 1);
      expect(kernels().sumSquares(new Float32Array([2 ** 100, 2 ** -30]), 0, 2)).toBe(2 ** 200);
    });

    it('shows NaN and infinity', () => {
      expect(kernels().sumSquares(new Float32Array(20).fill(1, 0, 19).fill(Number.NaN, 19), 0, 20)).toBeNaN();
      expect(kernels().sumSquares(new Float32Array(20).fill(-INF, 3, 4), 0, 20)).toBe(INF);
    });
  });

  it('scale multiplies, at each size', () => {
    for (const n of SIZES) {
      everywhere(n + 3, (scene, dice) => {
        const x = scene.floats('x', dice.values(n));
        const want = x.read().map((v) => v * 0.3);
        kernels().scale(x.array, x.at, n, 0.3);
        // The factor may be rounded to float32 first, then the product.
        expectClose(
          `scale n=${n}`,
          x.read(),
          want,
          want.map((w) => 2 * U * Math.abs(w)),
        );
        scene.expectOnlyWritten('scale', x);
      });
    }
  });

  it('axpy adds alpha * x, at each size', () => {
    for (const n of SIZES) {
      everywhere(n + 4, (scene, dice) => {
        const x = scene.floats('x', dice.values(n)),
          y = scene.floats('y', dice.values(n));
        const [xv, yv] = [x.read(), y.read()];
        kernels().axpy(n, -1.7, x.array, x.at, y.array, y.at);
        const want = yv.map((v, i) => v - 1.7 * xv[i]);
        expectClose(
          `axpy n=${n}`,
          y.read(),
          want,
          yv.map((v, i) => bound(1, Math.abs(v) + 1.7 * Math.abs(xv[i]))),
        );
        scene.expectOnlyWritten('axpy', y);
      });
    }
  });

  describe('adamw', () => {
    it('follows the formula over several steps, at each size', () => {
      const { lr, beta1, beta2, eps, weightDecay, gradScale } = {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weightDecay: 0.1,
        gradScale: 0.37,
      };
      for (const n of SIZES) {
        everywhere(n + 5, (scene, dice) => {
          const param = scene.floats('param', dice.values(n)),
            grad = scene.floats('grad', dice.values(n));
          const m = scene.floats('m', dice.values(n, 0.1));
          const v = scene.floats('v', dice.values(n, 0.1).map(Math.abs));
          for (const t of [1, 2, 1000]) {
            const [w, g, m0, v0] = [param.read(), grad.read(), m.read(), v.read()];
            const c1 = 1 - beta1 ** t,
              c2 = 1 - beta2 ** t;
            kernels().adamw(
              param.array,
              param.at,
              grad.array,
              grad.at,
              m.array,
              m.at,
              v.array,
              v.at,
              n,
              lr,
              beta1,
              beta2,
              eps,
              weightDecay,
              c1,
              c2,
              gradScale,
            );
            const wantM = m0.map((old, i) => beta1 * old + (1 - beta1) * gradScale * g[i]);
            const sizeM = m0.map(
              (old, i) => beta1 * Math.abs(old) + (1 - beta1) * gradScale * Math.abs(g[i]),
            );
            const wantV = v0.map((old, i) => beta2 * old + (1 - beta2) * (gradScale * g[i]) ** 2);
            const per = wantV.map((second) => lr / c1 / (Math.sqrt(second / c2) + eps));
            const want = w.map((old, i) => old - lr * weightDecay * old - per[i] * wantM[i]);
            expectClose(
              `adamw m n=${n}`,
              m.read(),
              wantM,
              sizeM.map((size) => bound(1, size)),
            );
            expectClose(
              `adamw v n=${n}`,
              v.read(),
              wantV,
              wantV.map((size) => bound(1, size)),
            );
            expectClose(
              `adamw param n=${n} t=${t}`,
              param.read(),
              want,
              w.map((old, i) => bound(1, Math.abs(old) + per[i] * sizeM[i])),
            );
          }
          scene.expectOnlyWritten('adamw', param, m, v);
        });
      }
    });

    it('leaves a parameter without gradient and decay as it is', () => {
      const param = new Float32Array(19).fill(0.7),
        zeros = (): Float32Array => new Float32Array(19);
      kernels().adamw(
        param,
        0,
        zeros(),
        0,
        zeros(),
        0,
        zeros(),
        0,
        19,
        1e-3,
        0.9,
        0.95,
        1e-8,
        0,
        0.1,
        0.05,
        1,
      );
      expectSame('adamw', param, new Float32Array(19).fill(0.7));
    });
  });
}
