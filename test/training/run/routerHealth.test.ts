import { describe, expect, it } from 'vitest';
import { routerHealth, StarvationWatch, type StarvingExpert } from '../../../src/training/run/routerHealth';

describe('routerHealth', () => {
  it('is 1, 1, 0 for even shares and 0, E, E - 1 when one expert gets all', () => {
    const { loadEntropy, maxOverMean, deadExperts } = routerHealth([
      [0.25, 0.25, 0.25, 0.25],
      [0, 1, 0, 0],
      [0.5, 0.5, 0, 0],
    ]);
    expect(loadEntropy[0]).toBeCloseTo(1, 12);
    expect(loadEntropy[1]).toBe(0);
    expect(loadEntropy[2]).toBeCloseTo(0.5, 12);
    expect(maxOverMean).toEqual([1, 4, 2]);
    expect(deadExperts).toEqual([0, 3, 2]);
  });

  it('of a dense layer is null', () => {
    expect(routerHealth([[], [0.5, 0.5]])).toEqual({
      loadEntropy: [null, 1],
      maxOverMean: [null, 1],
      deadExperts: [null, 0],
    });
  });

  it('of a single expert is even', () => {
    expect(routerHealth([[1]])).toEqual({ loadEntropy: [1], maxOverMean: [1], deadExperts: [0] });
  });
});

describe('StarvationWatch', () => {
  const warnings = (steps: number, load: (step: number) => number[][]) => {
    const watch = new StarvationWatch();
    const told: [number, StarvingExpert][] = [];
    for (let step = 1; step <= steps; step++) {
      const starving = watch.add(load(step));
      if (starving !== null) told.push([step, starving]);
    }
    return told;
  };

  it('reports an expert without tokens once, after 100 steps', () => {
    const told = warnings(500, () => [
      [0.5, 0.5],
      [1, 0],
    ]);
    expect(told).toEqual([[100, { layer: 1, expert: 1, share: 0, evenShare: 0.5, windowSteps: 100 }]]);
  });

  it('does not report an expert that only sometimes gets none', () => {
    expect(warnings(500, (step) => [step % 2 === 0 ? [1, 0] : [0, 1]])).toEqual([]);
  });
});
