import { expect, test } from 'vitest';
import { shareOut } from '../../src/serve/engine/shares';

function sharesOf(ready: number[], budget: number, clients: string[] = []): number[] {
  const shares = new Int32Array(ready.length);
  const sequences = ready.map((count, i) => ({ ready: count, client: clients[i] ?? `client ${i}` }));
  shareOut(sequences, budget, shares);
  return [...shares];
}

test.each([
  ['nothing to share', [], 8, []],
  ['one token of each that writes', [1, 1, 1], 8, [1, 1, 1]],
  ['a whole prompt where there is room', [1, 6], 8, [1, 6]],
  ['one token of each where that fills it', [1, 1], 2, [1, 1]],
  ['of a long prompt what is left', [1, 100, 1], 8, [1, 6, 1]],
  ['one token of each when there is no more', [50, 60], 2, [1, 1]],
  ['a short prompt before a long one, which gets on too', [1000, 9], 20, [11, 9]],
  [
    'prompts of one length: the first ends early, the second gets half of its equal share',
    [12, 12],
    18,
    [12, 6],
  ],
])('a step takes %s', (_what, ready, budget, expected) => {
  expect(sharesOf(ready, budget)).toEqual(expected);
});

test('a step is full or takes everything, and leaves no one out', () => {
  for (let seed = 1; seed < 200; seed++) {
    const ready = Array.from({ length: 1 + (seed % 9) }, (_, i) => 1 + ((seed * 37 + i * i * 101) % 60));
    const budget = ready.length + ((seed * 13) % 50);
    const shares = sharesOf(ready, budget);
    const sum = shares.reduce((a, b) => a + b, 0);
    expect(sum).toBe(
      Math.min(
        budget,
        ready.reduce((a, b) => a + b, 0),
      ),
    );
    shares.forEach((share, i) => {
      expect(share).toBeGreaterThanOrEqual(1);
      expect(share).toBeLessThanOrEqual(ready[i]);
    });
  }
});

test('the prompts of a client have one equal share together', () => {
  const many = [1000, 1000, 1000, 1000];
  expect(sharesOf([...many, 1000], 85, ['a', 'a', 'a', 'a', 'b'])).toEqual([6, 6, 6, 6, 61]);
  expect(sharesOf([...many, 1000], 85)).toEqual([49, 9, 9, 9, 9]);
});
