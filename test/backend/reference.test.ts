import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../src/backend/kernels';
import { createReferenceKernels } from '../../src/backend/reference';
import { conformance } from './conformance';
import { readSignatures } from './conformance/contract';
import { Dice, expectClose, expectThrows } from './conformance/harness';

conformance('reference', () => createReferenceKernels());

const k: Kernels = createReferenceKernels({ floatType: 'float64' });

/** The float64 form takes Float64Arrays where the interface says Float32Array. */
type F = Float32Array;
const real = (values: ArrayLike<number>): F => Float64Array.from(values) as unknown as F;
const zeros = (n: number): F => new Float64Array(n) as unknown as F;

const STEP = 1e-5;

/**
 * Central differences of sum(upstream * forward(x)) with respect to each x. Their error is about STEP^2 times
 * the third derivative plus 2^-52 / STEP times the value: below 1e-8 of the largest element for the functions
 * here.
 */
function differences(x: F, forward: () => F, upstream: F): Float64Array {
  const value = (): number => {
    const y = forward();
    let sum = 0;
    for (let i = 0; i < y.length; i++) sum += y[i] * upstream[i];
    return sum;
  };
  return Float64Array.from(x, (at, i) => {
    x[i] = at + STEP;
    const above = value();
    x[i] = at - STEP;
    const below = value();
    x[i] = at;
    return (above - below) / (2 * STEP);
  });
}

function expectGradient(label: string, got: F, want: Float64Array): void {
  const largest = want.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3);
  expectClose(label, got, want, 1e-7 * largest);
}

describe('reference kernels', () => {
  it('are the kernels of the contract, each with its parameters', () => {
    const names = readSignatures().map(({ kernel }) => kernel);
    const own = Object.keys(k).filter((name) => typeof k[name as keyof Kernels] === 'function');
    expect(own.sort()).toEqual([...names].sort());
  });

  it('say what they are: one thread, no library, and the notes they were given', () => {
    const { info } = createReferenceKernels({ notes: ['No compiler.'] });
    expect(info).toMatchObject({
      backend: 'reference',
      request: 'reference',
      blas: null,
      instructionSet: 'none',
      threads: 1,
      addonPath: null,
      notes: ['No compiler.'],
    });
    expect(createReferenceKernels().info.notes).toEqual([]);
  });

  it('need no padding', () => {
    expect(createReferenceKernels().alignmentPadding(new Float32Array(new ArrayBuffer(64), 4))).toBe(0);
  });

  it('name Float64Array in the float64 form, and refuse Float32Array', () => {
    expect(k.floatType).toBe('float64');
    expectThrows(
      'exp',
      () => k.exp(new Float32Array(1), 0, zeros(1), 0, 1),
      TypeError,
      /^exp: x must be a Float64Array, got Float32Array$/,
    );
  });

  it('round nothing in the float64 form', () => {
    const y = zeros(1);
    k.exp(real([0.1]), 0, y, 0, 1);
    expect(y[0]).toBe(Math.exp(0.1));
    const c = zeros(1);
    k.sgemm(false, false, 1, 1, 2, 1, real([1, 1e-12]), 0, 2, real([1, 1]), 0, 1, 0, c, 0, 1);
    expect(c[0]).toBe(1 + 1e-12);
  });

  it('take arrays of another realm', () => {
    const { runInNewContext } = require('node:vm') as typeof import('node:vm');
    const foreign = runInNewContext('new Float32Array([3, 4])') as Float32Array;
    expect(createReferenceKernels().sumSquares(foreign, 0, 2)).toBe(25);
  });
});

describe('finite differences in float64', () => {
  const dice = new Dice(17);
  const rows = 5;
  const cols = 7;
  const n = rows * cols;

  it('softmaxBackward', () => {
    const x = real(dice.values(n, 2)),
      y = zeros(n),
      dy = real(dice.values(n)),
      dx = zeros(n);
    const forward = (): F => {
      k.softmaxForward(x, 0, y, 0, rows, cols);
      return y;
    };
    const want = differences(x, forward, dy);
    forward();
    k.softmaxBackward(y, 0, dy, 0, dx, 0, rows, cols);
    expectGradient('dx', dx, want);
  });

  it('rmsNormBackward', () => {
    const x = real(dice.values(n, 2)),
      gamma = real(dice.values(cols)),
      y = zeros(n),
      invRms = zeros(rows);
    const dy = real(dice.values(n)),
      dx = zeros(n),
      dGamma = zeros(cols);
    const forward = (): F => {
      k.rmsNormForward(x, 0, cols, gamma, 0, y, 0, cols, invRms, 0, rows, cols, 1e-3);
      return y;
    };
    const wantX = differences(x, forward, dy),
      wantGamma = differences(gamma, forward, dy);
    forward();
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
      dx,
      0,
      cols,
      false,
      dGamma,
      0,
      rows,
      cols,
    );
    expectGradient('dx', dx, wantX);
    expectGradient('dGamma', dGamma, wantGamma);
  });

  it('swigluBackward', () => {
    const gateUp = real(dice.values(2 * n, 3)),
      y = zeros(n),
      dy = real(dice.values(n));
    const dGateUp = zeros(2 * n);
    const forward = (): F => {
      k.swigluForward(gateUp, 0, y, 0, rows, cols);
      return y;
    };
    k.swigluBackward(gateUp, 0, dy, 0, dGateUp, 0, rows, cols);
    expectGradient('dGateUp', dGateUp, differences(gateUp, forward, dy));
  });

  it.each([false, true])('rope with inverse, of halves: %s', (halves) => {
    const angles = dice.values(6, 3),
      positions = new Int32Array([2, 0]);
    const cos = real(angles.map(Math.cos)),
      sin = real(angles.map(Math.sin));
    const x = real(dice.values(16)),
      dx = real(dice.values(16)),
      dy = dx.slice();
    const forward = (): F => {
      const y = x.slice();
      k.rope(y, 0, 8, cos, 0, sin, 0, 3, positions, 0, 2, 2, 4, halves, false);
      return y;
    };
    k.rope(dx, 0, 8, cos, 0, sin, 0, 3, positions, 0, 2, 2, 4, halves, true);
    expectGradient('dx', dx, differences(x, forward, dy));
  });

  for (const [name, starts, kvLengths] of [
    ['without a cache', [0, 0], [4, 4]],
    ['behind a cache', [2, 0], [6, 3]],
  ] as const) {
    it(`attentionBackward, ${name}`, () => {
      const [batch, length, heads, kvHeads, dim] = [2, 4, 4, 2, 3];
      const total = batch * length * heads * dim,
        stride = 6 * kvHeads * dim,
        ld = kvHeads * dim;
      const q = real(dice.values(total)),
        key = real(dice.values(batch * stride));
      const value = real(dice.values(batch * stride));
      const out = zeros(total),
        lse = zeros(batch * heads * length),
        dOut = real(dice.values(total));
      const dq = zeros(total),
        dk = zeros(batch * stride),
        dv = zeros(batch * stride);
      const queryStarts = Int32Array.from(starts),
        lengths = Int32Array.from(kvLengths),
        ldq = heads * dim;
      const forward = (): F => {
        k.attentionForward(
          q,
          0,
          ldq,
          key,
          0,
          ld,
          stride,
          value,
          0,
          ld,
          stride,
          out,
          0,
          ldq,
          lse,
          0,
          queryStarts,
          0,
          lengths,
          0,
          batch,
          length,
          heads,
          kvHeads,
          dim,
          0.6,
        );
        return out;
      };
      const want = [q, key, value].map((x) => differences(x, forward, dOut));
      forward();
      k.attentionBackward(
        q,
        0,
        ldq,
        key,
        0,
        ld,
        stride,
        value,
        0,
        ld,
        stride,
        out,
        0,
        ldq,
        lse,
        0,
        dOut,
        0,
        dq,
        0,
        dk,
        0,
        dv,
        0,
        queryStarts,
        0,
        lengths,
        0,
        batch,
        length,
        heads,
        kvHeads,
        dim,
        0.6,
      );
      expectGradient('dq', dq, want[0]);
      expectGradient('dk', dk, want[1]);
      expectGradient('dv', dv, want[2]);
    });
  }

  for (const renormalise of [true, false]) {
    it(`routeBackward, renormalise ${renormalise}: gate weights, balance loss and z-loss`, () => {
      const [tokens, experts, topK] = [6, 5, 3];
      const auxScale = 0.03,
        zScale = 0.07;
      const logits = real(dice.values(tokens * experts, 2)),
        probs = zeros(tokens * experts);
      const lse = zeros(tokens);
      const weights = zeros(tokens * topK),
        means = zeros(experts);
      const dWeights = real(dice.values(tokens * topK));
      const ints = (size: number): Int32Array => new Int32Array(size);
      const indices = ints(tokens * topK),
        starts = ints(experts + 1);
      const forward = (): F => {
        k.routeForward(
          logits,
          0,
          null,
          0,
          probs,
          0,
          lse,
          0,
          indices,
          0,
          weights,
          0,
          starts,
          0,
          ints(tokens * topK),
          0,
          ints(tokens * topK),
          0,
          means,
          0,
          tokens,
          experts,
          topK,
          renormalise,
        );
        // sum dw*w + auxScale * sum_e count_e * sum_t p_te + zScale/2 * sum_t lse_t^2
        const balance = means.reduce((sum, mean, e) => sum + (starts[e + 1] - starts[e]) * mean * tokens, 0);
        const z = lse.reduce((sum, v) => sum + v * v, 0);
        return real([...weights, balance, z]);
      };
      const want = differences(logits, forward, real([...dWeights, auxScale, zScale / 2]));
      const dLogits = zeros(tokens * experts);
      forward();
      k.routeBackward(
        probs,
        0,
        lse,
        0,
        indices,
        0,
        weights,
        0,
        dWeights,
        0,
        starts,
        0,
        dLogits,
        0,
        tokens,
        experts,
        topK,
        renormalise,
        auxScale,
        zScale,
      );
      expectGradient('dLogits', dLogits, want);
    });
  }

  it('scatterAddRowsBackward', () => {
    const [tokens, topK] = [3, 2];
    const x = real(dice.values(6 * cols)),
      weights = real(dice.values(6)),
      slots = dice.permutation(6);
    const dy = real(dice.values(tokens * cols)),
      dx = zeros(6 * cols),
      dWeights = zeros(6);
    const forward = (): F => {
      const y = zeros(tokens * cols);
      k.scatterAddRows(x, 0, 6, slots, 0, weights, 0, y, 0, tokens, topK, cols);
      return y;
    };
    k.scatterAddRowsBackward(dy, 0, x, 0, 6, slots, 0, weights, 0, dx, 0, dWeights, 0, tokens, topK, cols);
    expectGradient('dx', dx, differences(x, forward, dy));
    expectGradient('dWeights', dWeights, differences(weights, forward, dy));
  });

  it('embeddingBackward', () => {
    const table = real(dice.values(4 * cols)),
      ids = new Int32Array([2, 0, 2, 2, 1]);
    const dTable = zeros(4 * cols);
    const dy = real(dice.values(n));
    const forward = (): F => {
      const y = zeros(n);
      k.gatherRows(table, 0, 4, ids, 0, y, 0, rows, cols);
      return y;
    };
    k.embeddingBackward(dy, 0, ids, 0, dTable, 0, 4, rows, cols);
    expectGradient('dTable', dTable, differences(table, forward, dy));
  });

  it('crossEntropy', () => {
    const logits = real(dice.values(n, 2)),
      targets = new Int32Array([0, 6, -100, 3, 3]);
    const forward = (): F =>
      real([k.crossEntropy(logits, 0, targets, 0, zeros(rows), 0, rows, cols, -100, 1, false)]);
    const want = differences(logits, forward, real([0.25]));
    k.crossEntropy(logits, 0, targets, 0, zeros(rows), 0, rows, cols, -100, 0.25, true);
    expectGradient('dLogits', logits, want);
  });
});
