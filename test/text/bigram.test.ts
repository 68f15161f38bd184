import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bigramConditionalEntropy } from '../../src/text/bigram';

it('agrees with a case computed by hand', () => {
  // train = a a b a c: pairs aa ab ba ac; c(a) = 3, t(a) = 3, c(b) = 1, t(b) = 1, c(c) = 0.
  // p(a) = (3+1)/(5+3) = 1/2, p(b) = p(c) = (1+1)/8 = 1/4.
  // p(b|a) = (1 + 3/4) / 6 = 7/24; p(b|b) = (0 + 1/4) / 2 = 1/8; p(c|b) = 1/8; p(a|c) = p(a) = 1/2.
  const entropy = bigramConditionalEntropy([0, 0, 1, 0, 2], [0, 1, 1, 2, 0], 3);
  expect(entropy).toBeCloseTo(-(Math.log(7 / 24) + 2 * Math.log(1 / 8) + Math.log(1 / 2)) / 4, 12);
});

it('approaches zero where the previous token decides, and log 2 where it tells nothing', () => {
  const cycle = Array.from({ length: 3000 }, (_, i) => i % 3);
  expect(bigramConditionalEntropy(cycle, cycle, 3)).toBeLessThan(0.002);
  let state = 1;
  const coin = Array.from({ length: 20_000 }, () => {
    state = (state * 48271) % 2147483647;
    return state > 1073741823 ? 1 : 0;
  });
  expect(bigramConditionalEntropy(coin.slice(0, 10_000), coin.slice(10_000), 2)).toBeCloseTo(Math.LN2, 2);
});

it('gives probabilities that sum to one over the next token', () => {
  const tokens = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 30 });
  fc.assert(
    fc.property(tokens, fc.integer({ min: 0, max: 4 }), (train, previous) => {
      let sum = 0;
      for (let next = 0; next < 5; next++)
        sum += Math.exp(-bigramConditionalEntropy(train, [previous, next], 5));
      expect(sum).toBeCloseTo(1, 12);
    }),
  );
});

it('takes large vocabularies without a table of all pairs', () => {
  expect(bigramConditionalEntropy([0, 199_999], [0, 199_999], 200_000)).toBeCloseTo(
    -Math.log((1 + 2 / 200_002) / 2),
    12,
  );
});

it('refuses too little text and tokens outside the vocabulary', () => {
  expect(() => bigramConditionalEntropy([0, 1], [0], 2)).toThrow(
    /^validation must have at least 2 tokens, got 1$/,
  );
  expect(() => bigramConditionalEntropy([0, 2], [0, 1], 2)).toThrow(
    /^train\[1\] must be an integer in \[0, 2\), got 2$/,
  );
  expect(() => bigramConditionalEntropy([0], [0, -1], 2)).toThrow(/^validation\[1\]/);
});
