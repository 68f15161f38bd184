import { describe, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { bound, Dice, everywhere, expectClose, grid, type Scene, stack } from './harness';
import { BOTH, expectGroups, initial, inner, outer, product, ROW_STARTS } from './matmul';

export function groupedMatmulConformance(kernels: () => Kernels): void {
  describe('sgemmGrouped', () => {
    function check(
      scene: Scene,
      dice: Dice,
      starts: number[],
      transB: boolean,
      n: number,
      k: number,
      alpha: number,
      beta: number,
    ): void {
      const groups = starts.length - 1;
      const label = `sgemmGrouped([${starts}], ${transB}, ${n}, ${k}, ${alpha}, ${beta}) ${scene.place.name}`;
      const first = starts[0],
        rows = starts[groups] - first;
      const [bRows, bCols] = transB ? [n, k] : [k, n];
      const lda = k + 3,
        ldb = bCols + 1,
        ldc = n + 2,
        strideB = bRows * ldb + 5;
      const rowStarts = scene.ints('rowStarts', starts);
      const a = scene.floats('a', dice.values(rows * k), grid(rows, k, lda, first));
      const b = scene.floats(
        'b',
        dice.values(groups * k * n),
        stack(groups, strideB, grid(bRows, bCols, ldb)),
      );
      const c = scene.floats('c', initial(dice, rows * n, beta), grid(rows, n, ldc, first));
      const [av, bv, cv] = [a.read(), b.read(), c.read()];
      kernels().sgemmGrouped(
        transB,
        groups,
        rowStarts.array,
        rowStarts.at,
        n,
        k,
        alpha,
        a.array,
        a.at,
        lda,
        b.array,
        b.at,
        ldb,
        strideB,
        beta,
        c.array,
        c.at,
        ldc,
      );
      expectGroups(label, starts, [transB, n, k], alpha, av, bv, beta, cv, c.read());
      scene.expectOnlyWritten(label, c);
    }

    for (const [name, starts] of Object.entries(ROW_STARTS)) {
      it(`multiplies the rows of each group: ${name}`, () => {
        for (const transB of BOTH) {
          everywhere(5, (scene, dice) => check(scene, dice, starts, transB, 7, 5, 1, 0));
          everywhere(6, (scene, dice) => check(scene, dice, starts, transB, 33, 16, -0.5, 1));
          everywhere(7, (scene, dice) => check(scene, dice, starts, transB, 3, 0, 1, 2));
        }
      });
    }

    it('multiplies long groups, an empty and a short one, more than a buffer holds', () => {
      const dice = new Dice(14),
        starts = [1, 301, 301, 302, 901],
        [n, k, groups] = [126, 2400, 4];
      for (const transB of BOTH) {
        const rows = dice.values(901),
          alongA = dice.values(k),
          b = new Float32Array(groups * n * k);
        const want = new Float64Array(901 * n),
          bounds = want.slice(),
          c = new Float32Array(901 * n);
        for (let g = 0; g < groups; g++) {
          const alongB = dice.values(k),
            cols = dice.values(n),
            { sum, magnitude } = inner(alongA, alongB);
          b.set(transB ? outer(cols, alongB) : outer(alongB, cols), g * n * k);
          const factors = outer(rows.subarray(starts[g], starts[g + 1]), cols);
          want.set(
            factors.map((factor) => factor * sum),
            starts[g] * n,
          );
          bounds.set(
            factors.map((factor) => bound(k, Math.abs(factor) * magnitude)),
            starts[g] * n,
          );
        }
        kernels().sgemmGrouped(
          transB,
          groups,
          new Int32Array(starts),
          0,
          n,
          k,
          1,
          Float32Array.from(outer(rows, alongA)),
          0,
          k,
          b,
          0,
          transB ? k : n,
          n * k,
          0,
          c,
          0,
          n,
        );
        expectClose(`sgemmGrouped(${transB})`, c, want, bounds);
      }
    });
  });

  describe('sgemmGroupedTransA', () => {
    function check(
      scene: Scene,
      dice: Dice,
      starts: number[],
      m: number,
      n: number,
      alpha: number,
      beta: number,
    ): void {
      const groups = starts.length - 1;
      const label = `sgemmGroupedTransA([${starts}], ${m}, ${n}, ${alpha}, ${beta}) ${scene.place.name}`;
      const first = starts[0],
        rows = starts[groups] - first;
      const lda = m + 1,
        ldb = n + 2,
        ldc = n + 3,
        strideC = m * ldc + 4;
      const rowStarts = scene.ints('rowStarts', starts);
      const a = scene.floats('a', dice.values(rows * m), grid(rows, m, lda, first));
      const b = scene.floats('b', dice.values(rows * n), grid(rows, n, ldb, first));
      const c = scene.floats(
        'c',
        initial(dice, groups * m * n, beta),
        stack(groups, strideC, grid(m, n, ldc)),
      );
      const [av, bv, cv] = [a.read(), b.read(), c.read()];
      kernels().sgemmGroupedTransA(
        groups,
        rowStarts.array,
        rowStarts.at,
        m,
        n,
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
        strideC,
      );
      const got = c.read();
      for (let g = 0; g < groups; g++) {
        const from = starts[g] - first,
          to = starts[g + 1] - first;
        const one = product(
          true,
          false,
          m,
          n,
          to - from,
          alpha,
          av.subarray(from * m, to * m),
          bv.subarray(from * n, to * n),
          beta,
          cv.subarray(g * m * n, (g + 1) * m * n),
        );
        expectClose(`${label} group ${g}`, got.subarray(g * m * n, (g + 1) * m * n), one.want, one.bounds);
      }
      scene.expectOnlyWritten(label, c);
    }

    for (const [name, starts] of Object.entries(ROW_STARTS)) {
      it(`multiplies over the rows of each group: ${name}`, () => {
        everywhere(8, (scene, dice) => check(scene, dice, starts, 5, 7, 1, 0));
        everywhere(9, (scene, dice) => check(scene, dice, starts, 17, 33, 0.5, 1));
      });
    }

    it('multiplies over long groups, an empty and a short one', () => {
      const dice = new Dice(15),
        starts = [1, 301, 301, 302, 901],
        [m, n, groups] = [520, 590, 4];
      const alongA = dice.values(901),
        alongB = dice.values(901);
      const rows = dice.values(m),
        cols = dice.values(n);
      const c = new Float32Array(groups * m * n),
        factors = outer(rows, cols);
      kernels().sgemmGroupedTransA(
        groups,
        new Int32Array(starts),
        0,
        m,
        n,
        1,
        Float32Array.from(outer(alongA, rows)),
        0,
        m,
        Float32Array.from(outer(alongB, cols)),
        0,
        n,
        0,
        c,
        0,
        n,
        m * n,
      );
      for (let g = 0; g < groups; g++) {
        const [from, to] = [starts[g], starts[g + 1]];
        const { sum, magnitude } = inner(alongA.subarray(from, to), alongB.subarray(from, to));
        expectClose(
          `group ${g}`,
          c.subarray(g * m * n, (g + 1) * m * n),
          factors.map((factor) => factor * sum),
          factors.map((factor) => bound(to - from, Math.abs(factor) * magnitude)),
        );
      }
    });
  });
}
