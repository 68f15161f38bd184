import { describe, expect, test } from 'vitest';
import { getKernels } from '../../src/backend';
import { elementsOf, matrixOf } from '../../src/memory/matrixView';
import { matmul, matmulTransA, matmulTransB } from '../../src/memory/operations/matmul';
import { rmsNorm } from '../../src/memory/operations/rows';
import { Planner, Workspace } from '../../src/memory/workspace';

const kernels = getKernels();
const matrix = (rows: number, cols: number, from = 1) =>
  matrixOf(
    Float32Array.from({ length: rows * cols }, (_, i) => from + i),
    rows,
    cols,
  );

describe('a matrix in a workspace', () => {
  test('lies where the planner put it, behind what was planned before, on a 64-byte boundary', () => {
    const workspace = new Workspace(kernels);
    const planner = new Planner(workspace);
    const [a, b] = [planner.floats(3, 5), planner.floats(2)];
    expect([a.at, a.rows, a.cols, a.ld, a.size]).toEqual([0, 3, 5, 5, 15]);
    expect([b.at, b.rows, b.cols, b.ld, b.size]).toEqual([16, 2, 1, 1, 2]);
    expect(planner.behind().floats(1).at).toBe(32);
    expect(planner.ints(4, 2).at).toBe(0);
    expect(planner.ints(1).at).toBe(16);
    expect([planner.floatCount, planner.intCount]).toEqual([32, 32]);
  });

  test('is in the new array once the workspace has grown, of every plan', () => {
    const workspace = new Workspace(kernels);
    const small = new Planner(workspace);
    const [floats, ints] = [small.floats(2, 2), small.ints(3)];
    const part = floats.columns(1, 1);
    workspace.ensure(small);
    const before = [floats.data, ints.data];
    const large = new Planner(workspace);
    large.floats(1000);
    large.ints(1000);
    workspace.ensure(large);
    expect(workspace.floats.length).toBeGreaterThanOrEqual(1000);
    expect([floats.data, part.data, ints.data]).toEqual([workspace.floats, workspace.floats, workspace.ints]);
    expect(floats.data).not.toBe(before[0]);
    expect(ints.data).not.toBe(before[1]);
    workspace.ensure(small);
    expect(floats.data).toBe(workspace.floats);
  });

  test('has columns and rows that are matrices of the same memory', () => {
    const all = matrix(3, 4);
    const part = all.slice(1, 2).columns(1, 3).columns(1, 2).slice(1, 1);
    expect([part.at, part.rows, part.cols, part.ld]).toEqual([10, 1, 2, 4]);
    part.data[part.at] = 99;
    expect(all.data[10]).toBe(99);
    expect(Array.from(elementsOf(all.slice(2, 1)))).toEqual([9, 10, 99, 12]);
  });
});

describe('products of matrices', () => {
  // [[1,2],[3,4],[5,6]] in columns 1 .. 3 of four, so that the leading dimension matters.
  const a = () => {
    const wide = matrixOf(Float32Array.from([9, 1, 2, 9, 9, 3, 4, 9, 9, 5, 6, 9]), 3, 4);
    return wide.columns(1, 2);
  };

  test('take the leading dimensions, alpha and beta of the views', () => {
    const out = matrix(3, 3, 0);
    matmul(kernels, a(), matrix(2, 3), out, 2, 1);
    expect(Array.from(out.data)).toEqual([18, 25, 32, 41, 56, 71, 64, 87, 110]);
    const square = matrix(2, 2);
    matmulTransA(kernels, a(), a(), square);
    expect(Array.from(square.data)).toEqual([35, 44, 44, 56]);
    const outer = matrixOf(new Float32Array(9), 3, 3);
    matmulTransB(kernels, a(), a(), outer);
    expect(Array.from(outer.data)).toEqual([5, 11, 17, 11, 25, 39, 17, 39, 61]);
  });

  test('of matrices that do not fit are refused', () => {
    const differ = /inner dimensions differ: 2 and 3/;
    expect(() => matmul(kernels, matrix(3, 2), matrix(3, 3), matrix(3, 3))).toThrow(differ);
    expect(() => matmulTransA(kernels, matrix(2, 3), matrix(3, 3), matrix(3, 3))).toThrow(differ);
    expect(() => matmulTransB(kernels, matrix(3, 2), matrix(3, 3), matrix(3, 3))).toThrow(differ);
  });
});

test.each([1, 5])('RMSNorm norms every piece of a row by itself, %i rows', (rows) => {
  const gamma = matrixOf(Float32Array.from([1, 2]), 1, 2);
  const x = matrix(rows, 6);
  const y = matrixOf(new Float32Array(rows * 6), rows, 6);
  rmsNorm(kernels, x, gamma, y, matrixOf(new Float32Array(rows * 3), rows, 3), 0);
  for (let i = 0; i < rows * 6; i += 2) {
    const [p, q] = [x.data[i], x.data[i + 1]];
    const rms = Math.sqrt((p * p + q * q) / 2);
    expect(y.data[i]).toBeCloseTo(p / rms, 6);
    expect(y.data[i + 1]).toBeCloseTo((2 * q) / rms, 6);
  }
});
