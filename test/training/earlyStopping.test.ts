import { describe, expect, test } from 'vitest';
import { EarlyStopping } from '../../src';

/** Index of the loss that ends the training; -1 if none does. */
function endOf(losses: number[], options: { patience: number; minDelta?: number }): number {
  const stopping = new EarlyStopping(options);
  return losses.findIndex((loss) => stopping.add(loss));
}

describe('EarlyStopping', () => {
  test('counts evaluations without a lower loss in a row, from the best one', () => {
    expect(endOf([3, 2, 2.5, 1.9, 1.9, 1.95], { patience: 2 })).toBe(5);
    expect(endOf([3, 2, 2.5, 2.4, 1], { patience: 2 })).toBe(3);
    expect(endOf([3, 2, 1, 0], { patience: 1 })).toBe(-1);
    expect(endOf([1, 1], { patience: 1 })).toBe(1);
  });

  test('counts a loss as lower only when it fell by more than minDelta, also in several small steps', () => {
    expect(endOf([3, 2.95, 2.91], { patience: 2, minDelta: 0.1 })).toBe(2);
    expect(endOf([3, 2.95, 2.85, 2.8, 2.7], { patience: 2, minDelta: 0.1 })).toBe(-1);
  });

  test('does not take a loss that is not finite for an improvement', () => {
    expect(endOf([Number.NaN, Number.NaN], { patience: 2 })).toBe(1);
    expect(endOf([3, Number.POSITIVE_INFINITY, 2, Number.NaN, Number.NaN], { patience: 2 })).toBe(4);
  });

  test('goes on from a state that went through JSON', () => {
    for (const losses of [[], [2], [2, 3]]) {
      const first = new EarlyStopping({ patience: 3 });
      for (const loss of losses) first.add(loss);
      const second = new EarlyStopping({ patience: 3 });
      second.setState(JSON.parse(JSON.stringify(first.getState())));
      expect(second.getState()).toEqual(first.getState());
      const rest = [2.5, 2.5, 2.5, 2.5];
      expect(rest.map((loss) => second.add(loss))).toEqual(rest.map((loss) => first.add(loss)));
    }
    const done = new EarlyStopping({ patience: 1 });
    done.setState({ best: 1, waited: 1 });
    expect(done.isDue).toBe(true);
  });

  test('names impossible options', () => {
    expect(() => new EarlyStopping({ patience: 0 })).toThrow(/patience must be an integer >= 1, got 0/);
    expect(() => new EarlyStopping({ patience: 1, minDelta: -1 })).toThrow(/minDelta must be .* got -1/);
    expect(() => new EarlyStopping({ patience: 1, delta: 1 } as never)).toThrow(/unknown option 'delta'/);
    const stopping = new EarlyStopping({ patience: 1 });
    expect(() => stopping.setState({ best: '1' as never, waited: 0 })).toThrow(/best must be .* got 1/);
    expect(() => stopping.setState({ best: 1, waited: -1 })).toThrow(/waited must be an integer >= 0/);
  });
});
