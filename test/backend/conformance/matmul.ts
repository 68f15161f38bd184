import { describe, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { bound, Dice, everywhere, expectClose, grid, PLACEMENTS, Scene, stack } from './harness';

/** op(A) op(B) by its definition: want and the sum of |a||b|, from compact row-major matrices. */
export function product(
  transA: boolean,
  transB: boolean,
  m: number,
  n: number,
  k: number,
  alpha: number,
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  beta: number,
  c: ArrayLike<number>,
): Expected {
  const want = new Float64Array(m * n);
  const bounds = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      let magnitude = 0;
      for (let p = 0; p < k; p++) {
        const term = (transA ? a[p * m + i] : a[i * k + p]) * (transB ? b[j * k + p] : b[p * n + j]);
        sum += term;
        magnitude += Math.abs(term);
      }
      const old = beta === 0 ? 0 : beta * c[i * n + j];
      want[i * n + j] = alpha * sum + old;
      bounds[i * n + j] = bound(k, Math.abs(alpha) * magnitude + Math.abs(old));
    }
  }
  return { want, bounds };
}

/** Compares each group's rows of C with alpha A op(B_g) + beta C. All matrices are compact; the first row is rowStarts[0]. */
export function expectGroups(
  label: string,
  starts: readonly number[],
  [transB, n, k]: readonly [boolean, number, number],
  alpha: number,
  a: Float64Array,
  b: Float64Array,
  beta: number,
  c: Float64Array,
  got: Float64Array,
): void {
  for (let g = 0; g + 1 < starts.length; g++) {
    const from = starts[g] - starts[0],
      to = starts[g + 1] - starts[0];
    const { want, bounds } = product(
      false,
      transB,
      to - from,
      n,
      k,
      alpha,
      a.subarray(from * k, to * k),
      b.subarray(g * k * n, (g + 1) * k * n),
      beta,
      c.subarray(from * n, to * n),
    );
    expectClose(`${label} group ${g}`, got.subarray(from * n, to * n), want, bounds);
  }
}

/** alpha and beta. */
export const SCALARS: readonly (readonly number[])[] = [
  [1, 0],
  [1, 1],
  [-0.5, 2],
  [0, 0.5],
  [2.5, -1],
  [0, 0],
];
export const BOTH = [false, true];

/** x y^T, row-major, rounded to float32. */
export function outer(x: Float64Array, y: Float64Array): Float64Array {
  return new Float64Array(x.length * y.length).map((_, i) => {
    const row = Math.floor(i / y.length);
    return Math.fround(x[row] * y[i - row * y.length]);
  });
}

/** The inner product of x and y, and that of their magnitudes. */
export function inner(x: Float64Array, y: Float64Array): { sum: number; magnitude: number } {
  let sum = 0,
    magnitude = 0;
  for (let i = 0; i < x.length; i++) {
    sum += x[i] * y[i];
    magnitude += Math.abs(x[i] * y[i]);
  }
  return { sum, magnitude };
}

/** Initial C: NaN when beta = 0, since C must not be read then. */
export function initial(dice: Dice, n: number, beta: number): Float64Array {
  return beta === 0 ? new Float64Array(n).fill(Number.NaN) : dice.values(n);
}

export const ROW_STARTS: Record<string, number[]> = {
  'no group': [0],
  'no group, a start': [4],
  'no rows': [0, 0, 0, 0],
  'no rows, a start': [3, 3, 3],
  'empty groups': [0, 0, 3, 3, 10],
  'rows of one group only': [0, 0, 37, 37],
  'a first row above 0': [2, 2, 7, 9, 9],
  'uneven groups': [0, 1, 18, 20, 53],
  'many groups': Array.from({ length: 20 }, (_, g) => g * 3),
  'more groups than fit in one list': Array.from({ length: 150 }, (_, g) => g * 2),
};

interface Expected {
  want: Float64Array;
  bounds: Float64Array;
}

/** Compact matrices that sgemm multiplies, and what it should compute from their float32 values. */
interface Operands {
  a: Float64Array;
  b: Float64Array;
  expected(alpha: number, a: Float64Array, b: Float64Array, beta: number, c: Float64Array): Expected;
}

type Sizes = [transA: boolean, transB: boolean, m: number, n: number, k: number];

function anyOperands(dice: Dice, ...[transA, transB, m, n, k]: Sizes): Operands {
  return {
    a: dice.values(m * k),
    b: dice.values(k * n),
    expected: (alpha, a, b, beta, c) => product(transA, transB, m, n, k, alpha, a, b, beta, c),
  };
}

/** Operands of rank one: their product is known without multiplying at large sizes. */
function rankOneOperands(dice: Dice, ...[transA, transB, m, n, k]: Sizes): Operands {
  const rows = dice.values(m),
    alongA = dice.values(k),
    alongB = dice.values(k),
    cols = dice.values(n);
  const { sum, magnitude } = inner(alongA, alongB);
  const factors = outer(rows, cols);
  return {
    a: transA ? outer(alongA, rows) : outer(rows, alongA),
    b: transB ? outer(cols, alongB) : outer(alongB, cols),
    expected: (alpha, _a, _b, beta, c) => {
      const old = c.map((value) => (beta === 0 ? 0 : beta * value));
      return {
        want: factors.map((factor, i) => alpha * factor * sum + old[i]),
        bounds: factors.map((factor, i) => bound(k, Math.abs(alpha * factor) * magnitude + Math.abs(old[i]))),
      };
    },
  };
}

export function matmulConformance(kernels: () => Kernels): void {
  function checkSgemm(
    scene: Scene,
    dice: Dice,
    makeOperands: (dice: Dice, ...sizes: Sizes) => Operands,
    [transA, transB, m, n, k]: Sizes,
    alpha: number,
    beta: number,
    padding: number,
  ): void {
    const label = `sgemm(${transA}, ${transB}, ${m}, ${n}, ${k}, ${alpha}, ${beta}) ${scene.place.name}`;
    const operands = makeOperands(dice, transA, transB, m, n, k);
    const [aRows, aCols] = transA ? [k, m] : [m, k];
    const [bRows, bCols] = transB ? [n, k] : [k, n];
    const lda = aCols + padding,
      ldb = bCols + 2 * padding,
      ldc = n + 3 * padding;
    const a = scene.floats('a', operands.a, grid(aRows, aCols, lda));
    const b = scene.floats('b', operands.b, grid(bRows, bCols, ldb));
    const c = scene.floats('c', initial(dice, m * n, beta), grid(m, n, ldc));
    const { want, bounds } = operands.expected(alpha, a.read(), b.read(), beta, c.read());
    kernels().sgemm(
      transA,
      transB,
      m,
      n,
      k,
      alpha,
      a.array,
      a.at,
      lda,
      b.array,
      b.at,
      ldb,
      beta,
      c.array,
      c.at,
      ldc,
    );
    expectClose(label, c.read(), want, bounds);
    scene.expectOnlyWritten(label, c);
  }

  describe('sgemm', () => {
    it('multiplies at awkward sizes, in all four transpositions', () => {
      const dice = new Dice(1);
      const sizes = [0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 47, 48, 49];
      for (let trial = 0; trial < 240; trial++) {
        const [alpha, beta] = SCALARS[trial % SCALARS.length];
        const [m, n, k] = [sizes[dice.int(16)], sizes[dice.int(16)], sizes[dice.int(16)]];
        const scene = new Scene(PLACEMENTS[trial % 3]);
        const padding = trial % 5;
        checkSgemm(
          scene,
          dice,
          anyOperands,
          [(trial & 1) === 1, (trial & 2) === 2, m, n, k],
          alpha,
          beta,
          padding,
        );
      }
    });

    it('multiplies at each small size', () => {
      const dice = new Dice(2);
      for (let m = 0; m <= 4; m++) {
        for (let n = 0; n <= 4; n++) {
          for (let k = 0; k <= 4; k++) {
            const trial = m + 5 * n + 25 * k;
            const [alpha, beta] = SCALARS[trial % SCALARS.length];
            for (const transA of BOTH) {
              for (const transB of BOTH) {
                checkSgemm(
                  new Scene(PLACEMENTS[trial % 3]),
                  dice,
                  anyOperands,
                  [transA, transB, m, n, k],
                  alpha,
                  beta,
                  trial % 2,
                );
              }
            }
          }
        }
      }
    });

    it('multiplies over several blocks of rows, columns and depth', () => {
      const dice = new Dice(3);
      const shapes = [
        [130, 65, 300],
        [1, 700, 64],
        [300, 1, 129],
        [5, 9, 1100],
        [257, 260, 33],
        [64, 513, 70],
      ];
      for (const [index, [m, n, k]] of shapes.entries()) {
        for (const transA of BOTH) {
          for (const transB of BOTH) {
            checkSgemm(
              new Scene(PLACEMENTS[index % 3]),
              dice,
              anyOperands,
              [transA, transB, m, n, k],
              1,
              index % 2,
              index,
            );
          }
        }
      }
    });

    it('multiplies each small number of rows by weights stored [out, in]', () => {
      const dice = new Dice(10);
      const shapes = [
        [8, 16],
        [9, 48],
        [35, 32],
        [24, 272],
        [70, 64],
      ];
      for (let m = 1; m <= 17; m++) {
        for (const [index, [n, k]] of shapes.entries()) {
          const [alpha, beta] = SCALARS[(m + index) % 3];
          const scene = new Scene(PLACEMENTS[(m + index) % 3]);
          checkSgemm(scene, dice, anyOperands, [false, true, m, n, k], alpha, beta, index);
        }
      }
    });

    it('multiplies some rows by larger weights stored [out, in]', () => {
      const dice = new Dice(13);
      const shapes = [
        [512, 512],
        [50, 1400],
        [530, 301],
        [65, 1024],
      ];
      for (const [trial, m] of [5, 8, 12, 16, 17, 33, 64, 128, 129].entries()) {
        for (const [index, [n, k]] of shapes.entries()) {
          const [alpha, beta] = SCALARS[(trial + index) % 3];
          const scene = new Scene(PLACEMENTS[(trial + index) % 3]);
          checkSgemm(
            scene,
            dice,
            anyOperands,
            [false, true, m, n, k],
            alpha,
            beta,
            trial % 2 === 0 ? 0 : index,
          );
        }
      }
    });

    it('multiplies at sizes where packing both operands pays', () => {
      const dice = new Dice(12);
      for (const transA of BOTH) {
        for (const transB of BOTH) {
          const index = 2 * Number(transA) + Number(transB);
          const [m, n, k] = transA === transB ? [450, 389, 431] : [67, 1009, 1030];
          const [alpha, beta] = SCALARS[(index + 1) % 3];
          checkSgemm(
            new Scene(PLACEMENTS[index % 3]),
            dice,
            rankOneOperands,
            [transA, transB, m, n, k],
            alpha,
            beta,
            index,
          );
        }
      }
    });

    it('multiplies over a depth that no buffer holds at once', () => {
      const dice = new Dice(13);
      checkSgemm(new Scene(PLACEMENTS[0]), dice, rankOneOperands, [true, false, 71, 65, 33_000], 1, 1, 1);
      checkSgemm(new Scene(PLACEMENTS[1]), dice, rankOneOperands, [false, true, 65, 71, 33_000], 1, 0, 0);
    });

    it('keeps a NaN to its row and its column at large sizes', () => {
      const [m, n, k] = [390, 420, 430];
      const a = new Float32Array(m * k).fill(1),
        b = new Float32Array(n * k).fill(2);
      const c = new Float32Array(m * n),
        want = new Float64Array(m * n).fill(2 * k);
      a[m * k - 1] = Number.NaN;
      b[k] = Number.NaN;
      want.fill(Number.NaN, (m - 1) * n);
      for (let i = 0; i < m; i++) want[i * n + 1] = Number.NaN;
      kernels().sgemm(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, c, 0, n);
      expectClose('sgemm', c, want, 0);
    });

    it('is beta * C over k = 0, and zeros where beta = 0', () => {
      everywhere(4, (scene, dice) => {
        checkSgemm(scene, dice, anyOperands, [false, false, 3, 5, 0], 1, 2, 1);
        checkSgemm(new Scene(scene.place), dice, anyOperands, [false, true, 17, 3, 0], 1, 0, 1);
      });
    });

    it('passes NaN and infinity of its inputs on', () => {
      const a = new Float32Array([1, Number.NaN, 2, 3]);
      const b = new Float32Array([1, 0, 0, Number.POSITIVE_INFINITY]);
      const c = new Float32Array(4);
      kernels().sgemm(false, false, 2, 2, 2, 1, a, 0, 2, b, 0, 2, 0, c, 0, 2);
      const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
      expectClose('sgemm', c, [nan, nan, 2, inf], 0);
    });
  });

  describe('sgemmBatch', () => {
    function check(
      scene: Scene,
      dice: Dice,
      transA: boolean,
      transB: boolean,
      shape: readonly number[],
      shared: 'a' | 'b' | 'none',
      alpha: number,
      beta: number,
    ): void {
      const [batch, m, n, k] = shape;
      const label = `sgemmBatch(${transA}, ${transB}, [${shape}], shared ${shared}) ${scene.place.name}`;
      const [aRows, aCols] = transA ? [k, m] : [m, k];
      const [bRows, bCols] = transB ? [n, k] : [k, n];
      const lda = aCols + 1,
        ldb = bCols + 2,
        ldc = n + 3;
      const strideA = shared === 'a' ? 0 : aRows * lda + 2;
      const strideB = shared === 'b' ? 0 : bRows * ldb + 1;
      const strideC = m * ldc + 4;
      const countA = shared === 'a' ? Math.min(batch, 1) : batch;
      const countB = shared === 'b' ? Math.min(batch, 1) : batch;
      const a = scene.floats(
        'a',
        dice.values(countA * m * k),
        stack(countA, strideA, grid(aRows, aCols, lda)),
      );
      const b = scene.floats(
        'b',
        dice.values(countB * k * n),
        stack(countB, strideB, grid(bRows, bCols, ldb)),
      );
      const c = scene.floats('c', initial(dice, batch * m * n, beta), stack(batch, strideC, grid(m, n, ldc)));
      const [av, bv, cv] = [a.read(), b.read(), c.read()];
      kernels().sgemmBatch(
        transA,
        transB,
        m,
        n,
        k,
        alpha,
        a.array,
        a.at,
        lda,
        strideA,
        b.array,
        b.at,
        ldb,
        strideB,
        beta,
        c.array,
        c.at,
        ldc,
        strideC,
        batch,
      );
      const got = c.read();
      for (let i = 0; i < batch; i++) {
        const ai = shared === 'a' ? 0 : i,
          bi = shared === 'b' ? 0 : i;
        const one = product(
          transA,
          transB,
          m,
          n,
          k,
          alpha,
          av.subarray(ai * m * k, (ai + 1) * m * k),
          bv.subarray(bi * k * n, (bi + 1) * k * n),
          beta,
          cv.subarray(i * m * n, (i + 1) * m * n),
        );
        expectClose(`${label} matrix ${i}`, got.subarray(i * m * n, (i + 1) * m * n), one.want, one.bounds);
      }
      scene.expectOnlyWritten(label, c);
    }

    it('multiplies each pair, also one matrix with many', () => {
      const shapes = [
        [0, 3, 4, 5],
        [1, 2, 3, 4],
        [3, 0, 2, 2],
        [4, 5, 7, 0],
        [5, 7, 9, 3],
        [3, 17, 33, 16],
        [2, 1, 70, 40],
      ];
      for (const [index, shape] of shapes.entries()) {
        for (const transA of BOTH) {
          for (const transB of BOTH) {
            const shared = (['none', 'a', 'b'] as const)[(index + Number(transA)) % 3];
            const [alpha, beta] = SCALARS[index % SCALARS.length];
            everywhere(index, (scene, dice) =>
              check(scene, dice, transA, transB, shape, shared, alpha, beta),
            );
          }
        }
      }
    });
  });
}
