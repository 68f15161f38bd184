import { describe, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { Dice, everywhere, expectClose, grid, PLACEMENTS, Scene, stack } from './harness';
import { BOTH, expectGroups, initial, product, ROW_STARTS, SCALARS } from './matmul';

/** The nearest bfloat16 by its definition: of the two neighbours, the nearer one; of two as near, the even one. */
export function nearestBfloat16(x: number): number {
  if (!Number.isFinite(x) || x === 0) return x;
  const step = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(x))), -126) - 7);
  const steps = x / step;
  const below = Math.floor(steps);
  const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 !== 0);
  const nearest = (below + Number(up)) * step;
  return Math.abs(nearest) < 2 ** 128 ? nearest : nearest * Number.POSITIVE_INFINITY;
}

const rounded = (values: Float64Array): Float64Array => values.map(nearestBfloat16);

/**
 * Products of mixed precision against float64 products of operands rounded here: only the order of sums may differ.
 * @param isQuick whether the kernels are fast enough for a long depth.
 */
export function mixedConformance(kernels: () => Kernels, isQuick = true): void {
  describe('gemmBfloat16', () => {
    function check(
      scene: Scene,
      dice: Dice,
      [transA, transB, m, n, k]: readonly [boolean, boolean, number, number, number],
      [alpha, beta]: readonly number[],
      padding: number,
    ): void {
      const label = `gemmBfloat16(${transA}, ${transB}, ${m}, ${n}, ${k}, ${alpha}, ${beta}) ${scene.place.name}`;
      const [aRows, aCols] = transA ? [k, m] : [m, k];
      const [bRows, bCols] = transB ? [n, k] : [k, n];
      const [lda, ldb, ldc] = [aCols + padding, bCols + 2 * padding, n + 3 * padding];
      const a = scene.floats('a', dice.values(m * k), grid(aRows, aCols, lda));
      const b = scene.floats('b', dice.values(k * n), grid(bRows, bCols, ldb));
      const c = scene.floats('c', initial(dice, m * n, beta), grid(m, n, ldc));
      const [ra, rb] = [rounded(a.read()), rounded(b.read())];
      const { want, bounds } = product(transA, transB, m, n, k, alpha, ra, rb, beta, c.read());
      const scalars = [m, n, k, alpha] as const;
      const operands = [a.array, a.at, lda, b.array, b.at, ldb] as const;
      kernels().gemmBfloat16(transA, transB, ...scalars, ...operands, beta, c.array, c.at, ldc);
      expectClose(label, c.read(), want, bounds);
      scene.expectOnlyWritten(label, c);
    }

    it('multiplies rounded operands at awkward sizes, in all four transpositions', () => {
      const dice = new Dice(31);
      const sizes = [0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 48, 65];
      for (let trial = 0; trial < 120; trial++) {
        const [m, n, k] = [sizes[dice.int(15)], sizes[dice.int(15)], sizes[dice.int(15)]];
        const sizesOf = [(trial & 1) === 1, (trial & 2) === 2, m, n, k] as const;
        check(new Scene(PLACEMENTS[trial % 3]), dice, sizesOf, SCALARS[trial % SCALARS.length], trial % 4);
      }
    });

    it('multiplies rounded operands over several blocks of rows, columns and depth', () => {
      const dice = new Dice(32);
      for (const transA of BOTH) {
        for (const transB of BOTH) {
          const index = 2 * Number(transA) + Number(transB);
          const [m, n, k] = [
            [70, 65, 830],
            [200, 130, 40],
            [3, 260, 300],
            [129, 9, 270],
          ][index];
          check(new Scene(PLACEMENTS[index % 3]), dice, [transA, transB, m, n, k], SCALARS[index], index);
        }
      }
    });

    it.skipIf(!isQuick)('multiplies over a depth that no buffer holds at once', () => {
      const [m, n, k] = [40, 33, 70_000];
      const c = new Float32Array(m * n);
      const a = new Float32Array(m * k).fill(0.5 + 2 ** -12);
      const b = new Float32Array(n * k).fill(3 - 2 ** -11);
      kernels().gemmBfloat16(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, c, 0, n);
      expectClose('gemmBfloat16', c, new Float64Array(m * n).fill(1.5 * k), 0);
    });

    it('rounds each operand to the nearest bfloat16, ties to even, and keeps infinity and NaN', () => {
      const { POSITIVE_INFINITY: inf, NaN: nan } = Number;
      const cases = [
        [1 + 2 ** -8, 1], // a tie, down to the even one
        [1 + 3 * 2 ** -8, 1 + 2 ** -6], // a tie, up
        [1 + 2 ** -8 + 2 ** -23, 1 + 2 ** -7],
        [-(1 + 2 ** -8 - 2 ** -23), -1],
        [2 - 2 ** -8, 2], // into the next power of two
        [2 ** -126 * (1 + 2 ** -9), 2 ** -126],
        [-0, -0],
        [2 ** 127 * (2 - 2 ** -7), 2 ** 127 * (2 - 2 ** -7)], // the largest one
        [2 ** 127 * (2 - 2 ** -8), inf],
        [-(2 ** 127) * (2 - 2 ** -23), -inf],
        [inf, inf],
        [nan, nan],
      ];
      const values = Float32Array.from(cases, ([x]) => x);
      const want = cases.map(([, y]) => y);
      const n = values.length;
      const one = Float32Array.of(1);
      const [column, row] = [new Float32Array(n), new Float32Array(n)];
      kernels().gemmBfloat16(false, false, n, 1, 1, 1, values, 0, 1, one, 0, 1, 0, column, 0, 1);
      kernels().gemmBfloat16(false, false, 1, n, 1, 1, one, 0, 1, values, 0, n, 0, row, 0, n);
      expectClose('operand A', column, want, 0);
      expectClose('operand B', row, want, 0);
    });

    it('keeps NaN of every kind to its row, and alpha and beta as they are', () => {
      const [m, n, k] = [35, 34, 40];
      const a = new Float32Array(m * k).fill(1);
      const b = new Float32Array(k * n).fill(2);
      const c = new Float32Array(m * n).fill(1);
      const bits = new Uint32Array(a.buffer);
      bits[0] = 0x7fffffff; // rounding its bits as a number's would make -0 of it
      bits[2 * k] = 0x7f800001; // and infinity of this one
      bits[34 * k + 39] = 0xffffffff;
      const [alpha, beta] = [1 + 2 ** -20, 1 + 2 ** -21];
      kernels().gemmBfloat16(false, false, m, n, k, alpha, a, 0, k, b, 0, n, beta, c, 0, n);
      const want = Float64Array.from(c, (_, i) =>
        [0, 2, 34].includes(Math.floor(i / n)) ? Number.NaN : 2 * k * alpha + beta,
      );
      expectClose('gemmBfloat16', c, want, 2 ** -17);
    });

    it('gives what gemmBfloat16 of rounded operands gives, to the bit', () => {
      const dice = new Dice(33);
      const [m, n, k] = [50, 70, 90];
      const [a, b] = [dice.values(m * k), dice.values(k * n)];
      const [c, again] = [new Float32Array(m * n), new Float32Array(m * n)];
      const [fa, fb] = [Float32Array.from(a), Float32Array.from(b)];
      kernels().gemmBfloat16(false, false, m, n, k, 1, fa, 0, k, fb, 0, n, 0, c, 0, n);
      const [ra, rb] = [Float32Array.from(rounded(a)), Float32Array.from(rounded(b))];
      kernels().gemmBfloat16(false, false, m, n, k, 1, ra, 0, k, rb, 0, n, 0, again, 0, n);
      expectClose('gemmBfloat16', again, c, 0);
    });
  });

  describe('gemmBfloat16Grouped', () => {
    function check(scene: Scene, dice: Dice, starts: number[], transB: boolean, [n, k]: number[]): void {
      const groups = starts.length - 1;
      const label = `gemmBfloat16Grouped([${starts}], ${transB}, ${n}, ${k}) ${scene.place.name}`;
      const [first, rows] = [starts[0], starts[groups] - starts[0]];
      const [bRows, bCols] = transB ? [n, k] : [k, n];
      const [lda, ldb, ldc] = [k + 3, bCols + 1, n + 2];
      const strideB = bRows * ldb + 5;
      const rowStarts = scene.ints('rowStarts', starts);
      const a = scene.floats('a', dice.values(rows * k), grid(rows, k, lda, first));
      const b = scene.floats(
        'b',
        dice.values(groups * k * n),
        stack(groups, strideB, grid(bRows, bCols, ldb)),
      );
      const c = scene.floats('c', dice.values(rows * n), grid(rows, n, ldc, first));
      const [av, bv, cv] = [rounded(a.read()), rounded(b.read()), c.read()];
      const head = [transB, groups, rowStarts.array, rowStarts.at, n, k, -0.5] as const;
      const operands = [a.array, a.at, lda, b.array, b.at, ldb, strideB] as const;
      kernels().gemmBfloat16Grouped(...head, ...operands, 1, c.array, c.at, ldc);
      expectGroups(label, starts, [transB, n, k], -0.5, av, bv, 1, cv, c.read());
      scene.expectOnlyWritten(label, c);
    }

    for (const [name, starts] of Object.entries(ROW_STARTS)) {
      it(`multiplies the rounded rows of each group: ${name}`, () => {
        for (const transB of BOTH) {
          everywhere(34, (scene, dice) => check(scene, dice, starts, transB, [7, 5]));
          if (starts.length > 100) continue;
          everywhere(35, (scene, dice) => check(scene, dice, starts, transB, [33, 40]));
        }
      });
    }
  });

  describe('gemmBfloat16GroupedTransA', () => {
    function check(scene: Scene, dice: Dice, starts: number[], [m, n]: number[], beta: number): void {
      const groups = starts.length - 1;
      const label = `gemmBfloat16GroupedTransA([${starts}], ${m}, ${n}, ${beta}) ${scene.place.name}`;
      const [first, rows] = [starts[0], starts[groups] - starts[0]];
      const [lda, ldb, ldc] = [m + 1, n + 2, n + 3];
      const strideC = m * ldc + 4;
      const rowStarts = scene.ints('rowStarts', starts);
      const a = scene.floats('a', dice.values(rows * m), grid(rows, m, lda, first));
      const b = scene.floats('b', dice.values(rows * n), grid(rows, n, ldb, first));
      const c = scene.floats(
        'c',
        initial(dice, groups * m * n, beta),
        stack(groups, strideC, grid(m, n, ldc)),
      );
      const [av, bv, cv] = [rounded(a.read()), rounded(b.read()), c.read()];
      const head = [groups, rowStarts.array, rowStarts.at, m, n, 0.5] as const;
      const operands = [a.array, a.at, lda, b.array, b.at, ldb] as const;
      kernels().gemmBfloat16GroupedTransA(...head, ...operands, beta, c.array, c.at, ldc, strideC);
      const got = c.read();
      for (let g = 0; g < groups; g++) {
        const [from, to] = [starts[g] - first, starts[g + 1] - first];
        const part = (x: Float64Array): Float64Array => x.subarray(g * m * n, (g + 1) * m * n);
        const [ga, gb] = [av.subarray(from * m, to * m), bv.subarray(from * n, to * n)];
        const { want, bounds } = product(true, false, m, n, to - from, 0.5, ga, gb, beta, part(cv));
        expectClose(`${label} group ${g}`, part(got), want, bounds);
      }
      scene.expectOnlyWritten(label, c);
    }

    for (const [name, starts] of Object.entries(ROW_STARTS)) {
      it(`multiplies over the rounded rows of each group: ${name}`, () => {
        everywhere(36, (scene, dice) => check(scene, dice, starts, [5, 7], 0));
        everywhere(37, (scene, dice) => check(scene, dice, starts, [17, 33], 1));
      });
    }
  });
}
