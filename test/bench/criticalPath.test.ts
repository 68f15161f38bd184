import { describe, expect, test } from 'vitest';
import { longestOf, pathOf, regionsOf } from '../../bench/lib/criticalPath';

describe('critical path', () => {
  test('the last thread is done when its chunks and those that it took from others are', () => {
    expect(longestOf([1, 1, 1, 1], 2)).toBe(2);
    expect(longestOf([1, 1, 1, 1], 64)).toBe(1);
    expect(longestOf([1, 2, 3], 1)).toBe(6);
    // The second thread takes the rest of the first one's range, from its end.
    expect(longestOf([10, 1, 1, 1, 1, 1], 2)).toBe(10);
    expect(longestOf([4, 4, 4, 1, 1, 1], 2)).toBe(8);
  });

  test('a step is what lies outside of regions, the hand-overs and the longest thread of each', () => {
    const step = { begin: 100, end: 50_100 };
    const regions = [
      { begin: 50, work: 1e6, chunks: [1e6] }, // of the step before
      { begin: 200, work: 1e6, chunks: [10_000, 10_000] },
      { begin: 30_000, work: 1e3, chunks: [500, 500] }, // too small to be shared
      { begin: 40_000, work: 1e6, chunks: [1_000, 2_000, 3_000, 4_000] },
    ];
    expect(pathOf(step, regions, 1)).toEqual({
      regions: 2,
      outside: 20_000,
      handOver: 0,
      longest: 30_000,
      total: 50_000,
    });
    const two = pathOf(step, regions, 2);
    expect(two.outside).toBe(20_000);
    expect(two.longest).toBe(10_000 + 7_000);
    expect(two.handOver).toBe(2 * 660);
    expect(two.total).toBe(two.outside + two.longest + two.handOver);
    expect(pathOf(step, regions, 64).longest).toBe(10_000 + 4_000);
  });

  test('a log is read region by region, and one that was cut off is told', () => {
    const log = Float64Array.of(5, 1e6, 2, 30, 40, 90, 2e6, 1, 7);
    expect(regionsOf(log)).toEqual([
      { begin: 5, work: 1e6, chunks: [30, 40] },
      { begin: 90, work: 2e6, chunks: [7] },
    ]);
    expect(() => regionsOf(log.subarray(0, 8))).toThrow('ends within a region');
  });
});
