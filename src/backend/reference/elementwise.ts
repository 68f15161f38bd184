import { SQUARES_BLOCK } from '../kernels/training';
import { reads, requireApart, writes } from './areas';
import type { Definitions } from './checks';

type ElementwiseKernel =
  | 'exp'
  | 'silu'
  | 'swigluForward'
  | 'swigluBackward'
  | 'sumSquares'
  | 'scale'
  | 'axpy'
  | 'adamw';

/** x * sigmoid(x); at -inf, where the product would be NaN, its limit 0. */
function siluOf(x: number): number {
  return x === Number.NEGATIVE_INFINITY ? 0 : x / (1 + Math.exp(-x));
}

export const elementwise: Definitions<ElementwiseKernel> = {
  exp: {
    signature: 'x:floats xOffset y:floats yOffset n',
    run(x, xOffset, y, yOffset, n) {
      reads('exp', 'x', x, xOffset, n);
      writes('exp', 'y', y, yOffset, n);
      requireApart('exp', 'y', 'x');
      for (let i = 0; i < n; i++) y[yOffset + i] = Math.exp(x[xOffset + i]);
    },
  },

  silu: {
    signature: 'x:floats xOffset y:floats yOffset n',
    run(x, xOffset, y, yOffset, n) {
      reads('silu', 'x', x, xOffset, n);
      writes('silu', 'y', y, yOffset, n);
      requireApart('silu', 'y', 'x');
      for (let i = 0; i < n; i++) y[yOffset + i] = siluOf(x[xOffset + i]);
    },
  },

  swigluForward: {
    signature: 'gateUp:floats gateUpOffset y:floats yOffset rows ffn',
    run(gateUp, gateUpOffset, y, yOffset, rows, ffn) {
      reads('swigluForward', 'gateUp', gateUp, gateUpOffset, rows * 2 * ffn);
      writes('swigluForward', 'y', y, yOffset, rows * ffn);
      if (ffn === 0) return;
      requireApart('swigluForward');
      for (let r = 0; r < rows; r++) {
        const gate = gateUpOffset + r * 2 * ffn;
        const up = gate + ffn;
        const to = yOffset + r * ffn;
        for (let f = 0; f < ffn; f++) y[to + f] = siluOf(gateUp[gate + f]) * gateUp[up + f];
      }
    },
  },

  swigluBackward: {
    signature: 'gateUp:floats gateUpOffset dy:floats dyOffset dGateUp:floats dGateUpOffset rows ffn',
    run(gateUp, gateUpOffset, dy, dyOffset, dGateUp, dGateUpOffset, rows, ffn) {
      reads('swigluBackward', 'gateUp', gateUp, gateUpOffset, rows * 2 * ffn);
      reads('swigluBackward', 'dy', dy, dyOffset, rows * ffn);
      writes('swigluBackward', 'dGateUp', dGateUp, dGateUpOffset, rows * 2 * ffn);
      if (ffn === 0) return;
      requireApart('swigluBackward', 'dGateUp', 'gateUp');
      for (let r = 0; r < rows; r++) {
        const from = gateUpOffset + r * 2 * ffn;
        const to = dGateUpOffset + r * 2 * ffn;
        const upstream = dyOffset + r * ffn;
        for (let f = 0; f < ffn; f++) {
          const gate = gateUp[from + f],
            up = gateUp[from + ffn + f],
            g = dy[upstream + f];
          const s = 1 / (1 + Math.exp(-gate));
          dGateUp[to + f] = g * up * s * (1 + gate * (1 - s));
          dGateUp[to + ffn + f] = g * siluOf(gate);
        }
      }
    },
  },

  sumSquares: {
    signature: 'x:floats xOffset n',
    run(x, xOffset, n) {
      reads('sumSquares', 'x', x, xOffset, n);
      let sum = 0;
      for (let block = 0; block < n; block += SQUARES_BLOCK) {
        const end = xOffset + Math.min(n, block + SQUARES_BLOCK);
        let ofBlock = 0;
        for (let i = xOffset + block; i < end; i++) ofBlock += x[i] * x[i];
        sum += ofBlock;
      }
      return sum;
    },
  },

  scale: {
    signature: 'x:floats xOffset n factor:real',
    run(x, xOffset, n, factor) {
      writes('scale', 'x', x, xOffset, n);
      for (let i = 0; i < n; i++) x[xOffset + i] *= factor;
    },
  },

  axpy: {
    signature: 'n alpha:real x:floats xOffset y:floats yOffset',
    run(n, alpha, x, xOffset, y, yOffset) {
      reads('axpy', 'x', x, xOffset, n);
      writes('axpy', 'y', y, yOffset, n);
      requireApart('axpy');
      for (let i = 0; i < n; i++) y[yOffset + i] += alpha * x[xOffset + i];
    },
  },

  adamw: {
    signature: `param:floats paramOffset grad:floats gradOffset m:floats mOffset v:floats vOffset n
      lr:real beta1:real beta2:real eps:real weightDecay:real biasCorrection1:real biasCorrection2:real
      gradScale:real`,
    run(
      param,
      paramOffset,
      grad,
      gradOffset,
      m,
      mOffset,
      v,
      vOffset,
      n,
      lr,
      beta1,
      beta2,
      eps,
      weightDecay,
      biasCorrection1,
      biasCorrection2,
      gradScale,
    ) {
      writes('adamw', 'param', param, paramOffset, n);
      reads('adamw', 'grad', grad, gradOffset, n);
      writes('adamw', 'm', m, mOffset, n);
      writes('adamw', 'v', v, vOffset, n);
      requireApart('adamw');
      for (let i = 0; i < n; i++) {
        const g = gradScale * grad[gradOffset + i];
        const mean = beta1 * m[mOffset + i] + (1 - beta1) * g;
        const square = beta2 * v[vOffset + i] + (1 - beta2) * g * g;
        m[mOffset + i] = mean;
        v[vOffset + i] = square;
        const step = mean / biasCorrection1 / (Math.sqrt(square / biasCorrection2) + eps);
        const w = param[paramOffset + i];
        param[paramOffset + i] = w - lr * (weightDecay * w + step);
      }
    },
  },
};
