import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { Dice, everywhere, expectClose, flat, grid, type Scene, stack } from './harness';
import { expectGroups, initial, product, ROW_STARTS, SCALARS } from './matmul';

/** Products by packed weights, against the same definition as those by plain ones. */
export function packedConformance(kernels: () => Kernels): void {
  /** Whether the backend packs: one that sends every matmul to a library says 0, and packing is an error. */
  const packs = (): boolean => kernels().packedSize(16, 16) > 0;

  /** Packs `groups` matrices [n, k] with gaps between rows and matrices. */
  function pack(
    scene: Scene,
    dice: Dice,
    groups: number,
    n: number,
    k: number,
  ): { weights: Float64Array; array: Float32Array; at: number } {
    const size = kernels().packedSize(n, k);
    const ldb = k + 2,
      strideB = n * ldb + 3;
    const b = scene.floats('b', dice.values(groups * n * k), stack(groups, strideB, grid(n, k, ldb)));
    const packed = scene.floats('packed', new Float64Array(groups * size), flat(groups * size));
    const weights = b.read();
    kernels().packWeights(b.array, b.at, ldb, strideB, groups, n, k, packed.array, packed.at);
    scene.expectOnlyWritten(`packWeights(${groups}, ${n}, ${k}) ${scene.place.name}`, packed);
    return { weights, array: packed.array, at: packed.at };
  }

  function check(
    scene: Scene,
    dice: Dice,
    m: number,
    n: number,
    k: number,
    alpha: number,
    beta: number,
  ): void {
    const label = `sgemmPacked(${m}, ${n}, ${k}, ${alpha}, ${beta}) ${scene.place.name}`;
    const packed = pack(scene, dice, 1, n, k);
    const lda = k + 1,
      ldc = n + 3;
    const a = scene.floats('a', dice.values(m * k), grid(m, k, lda));
    const c = scene.floats('c', initial(dice, m * n, beta), grid(m, n, ldc));
    const { want, bounds } = product(false, true, m, n, k, alpha, a.read(), packed.weights, beta, c.read());
    kernels().sgemmPacked(
      m,
      n,
      k,
      alpha,
      a.array,
      a.at,
      lda,
      packed.array,
      packed.at,
      beta,
      c.array,
      c.at,
      ldc,
    );
    expectClose(label, c.read(), want, bounds);
  }

  describe('packed weights', () => {
    it('take a multiple of 16 elements, at least as many as the matrix, none when it is empty', () => {
      for (const [n, k] of [
        [1, 1],
        [4, 64],
        [17, 3],
        [96, 64],
        [1000, 64],
        [33, 100],
      ]) {
        const size = kernels().packedSize(n, k);
        expect(size % 16).toBe(0);
        if (packs()) expect(size).toBeGreaterThanOrEqual(n * k);
        else expect(size).toBe(0);
      }
      expect(kernels().packedSize(0, 64)).toBe(0);
      expect(kernels().packedSize(64, 0)).toBe(0);
    });

    it('multiply at awkward sizes', () => {
      if (!packs()) return;
      const dice = new Dice(21);
      const rows = [0, 1, 2, 3, 4, 5, 8, 13, 14, 15, 29, 57],
        cols = [0, 1, 4, 7, 15, 16, 17, 33, 48, 65];
      for (let trial = 0; trial < 120; trial++) {
        const [alpha, beta] = SCALARS[trial % SCALARS.length];
        const [m, n, k] = [rows[dice.int(rows.length)], cols[dice.int(cols.length)], dice.int(40)];
        everywhere(trial, (scene) => check(scene, dice, m, n, k, alpha, beta));
      }
    });

    it('multiply over several panels, tiles and blocks of depth', () => {
      if (!packs()) return;
      const shapes = [
        [1, 1030, 500],
        [3, 70, 1100],
        [300, 40, 33],
        [520, 65, 17],
        [64, 130, 900],
      ];
      for (const [index, [m, n, k]] of shapes.entries()) {
        everywhere(index, (scene, dice) => check(scene, dice, m, n, k, 1, index % 2));
      }
    });

    for (const [name, starts] of Object.entries(ROW_STARTS)) {
      it(`multiply the rows of each group: ${name}`, () => {
        if (!packs()) return;
        everywhere(31, (scene, dice) => checkGrouped(scene, dice, starts, 7, 5, 1, 0));
        everywhere(32, (scene, dice) => checkGrouped(scene, dice, starts, 49, 16, -0.5, 1));
        everywhere(33, (scene, dice) => checkGrouped(scene, dice, starts, 3, 0, 1, 2));
      });
    }
  });

  function checkGrouped(
    scene: Scene,
    dice: Dice,
    starts: number[],
    n: number,
    k: number,
    alpha: number,
    beta: number,
  ): void {
    const groups = starts.length - 1,
      first = starts[0],
      rows = starts[groups] - first;
    const label = `sgemmGroupedPacked([${starts}], ${n}, ${k}, ${alpha}, ${beta}) ${scene.place.name}`;
    const packed = pack(scene, dice, groups, n, k);
    const lda = k + 3,
      ldc = n + 2;
    const rowStarts = scene.ints('rowStarts', starts);
    const a = scene.floats('a', dice.values(rows * k), grid(rows, k, lda, first));
    const c = scene.floats('c', initial(dice, rows * n, beta), grid(rows, n, ldc, first));
    const [av, cv] = [a.read(), c.read()];
    kernels().sgemmGroupedPacked(
      groups,
      rowStarts.array,
      rowStarts.at,
      n,
      k,
      alpha,
      a.array,
      a.at,
      lda,
      packed.array,
      packed.at,
      beta,
      c.array,
      c.at,
      ldc,
    );
    expectGroups(label, starts, [true, n, k], alpha, av, packed.weights, beta, cv, c.read());
  }
}
