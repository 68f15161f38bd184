import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { bound, type Dice, everywhere, expectClose, expectSame, PLACEMENTS, Scene } from './harness';

const INF = Number.POSITIVE_INFINITY;
const NAN = Number.NaN;

interface RouteCase {
  readonly tokens: number;
  readonly nExperts: number;
  readonly topK: number;
  readonly renormalise: boolean;
  /** tokens * nExperts values; random by default. */
  readonly logits?: number[];
  readonly bias?: number[];
}

const CASES: Record<string, RouteCase> = {
  'two of four': { tokens: 9, nExperts: 4, topK: 2, renormalise: true },
  'without renormalisation': { tokens: 9, nExperts: 5, topK: 3, renormalise: false },
  'one of many': { tokens: 21, nExperts: 33, topK: 1, renormalise: true },
  'eight of 64': { tokens: 300, nExperts: 64, topK: 8, renormalise: true },
  'every expert': { tokens: 7, nExperts: 3, topK: 3, renormalise: true },
  'one expert': { tokens: 4, nExperts: 1, topK: 1, renormalise: true },
  'one expert, not renormalised': { tokens: 4, nExperts: 1, topK: 1, renormalise: false },
  'one token': { tokens: 1, nExperts: 17, topK: 4, renormalise: true },
  'no token': { tokens: 0, nExperts: 4, topK: 2, renormalise: true },
  'many tokens': { tokens: 1025, nExperts: 16, topK: 4, renormalise: true },
  'ties go to the lower index': {
    tokens: 4,
    nExperts: 4,
    topK: 2,
    renormalise: true,
    logits: [1, 1, 1, 1, /**/ 0, 2, 2, 2, /**/ 3, 0, 3, 0, /**/ -5, 1, -5, -5],
  },
  'a bias changes the choice, not the weights': {
    tokens: 2,
    nExperts: 4,
    topK: 2,
    renormalise: true,
    logits: [0.1, 0.2, 0.3, 0.4, /**/ 4, 3, 2, 1],
    bias: [2, 0, 0, 1],
  },
  'many tokens with a bias': {
    tokens: 139,
    nExperts: 16,
    topK: 4,
    renormalise: true,
    bias: Array.from({ length: 16 }, (_, e) => (((e * 7) % 5) - 2) / 16),
  },
  'many tokens with a bias, NaN for some': {
    tokens: 37,
    nExperts: 9,
    topK: 8,
    renormalise: false,
    bias: [0.1, NAN, -INF, 0, INF, -0.2, NAN, 0.3, -0.1],
  },
  'a bias that breaks ties': {
    tokens: 1,
    nExperts: 4,
    topK: 2,
    renormalise: false,
    logits: [1, 1, 1, 1],
    bias: [0, 0.25, 0, 0.5],
  },
  'an infinite or NaN bias': {
    tokens: 1,
    nExperts: 5,
    topK: 4,
    renormalise: true,
    logits: [1, 2, 3, 4, 0],
    bias: [NAN, 0, -INF, NAN, 0],
  },
  'a bias of -inf above NaN only': {
    tokens: 1,
    nExperts: 3,
    topK: 2,
    renormalise: true,
    logits: [1, 2, 3],
    bias: [NAN, NAN, -INF],
  },
  'a NaN logit': {
    tokens: 3,
    nExperts: 4,
    topK: 2,
    renormalise: true,
    logits: [1, 2, 3, 4, /**/ 1, NAN, 3, 4, /**/ 4, 3, 2, 1],
  },
  'a +inf logit': { tokens: 1, nExperts: 4, topK: 2, renormalise: true, logits: [1, INF, 3, 4] },
  '-inf logits': {
    tokens: 2,
    nExperts: 4,
    topK: 2,
    renormalise: true,
    logits: [-INF, 1, -INF, 0, /**/ -INF, -INF, 7, -INF],
  },
  'nothing but -inf logits: a sum of 0': {
    tokens: 1,
    nExperts: 3,
    topK: 2,
    renormalise: true,
    logits: [-INF, -INF, -INF],
  },
  'huge logits': { tokens: 1, nExperts: 3, topK: 2, renormalise: true, logits: [1e4, -1e4, 1e4 - 1] },
};

/** Random logits, no two of a row so close that rounding could change the choice. */
function spreadLogits(dice: Dice, tokens: number, nExperts: number): number[] {
  return Array.from({ length: tokens }, () =>
    [...dice.permutation(nExperts)].map((rank) => Math.fround((rank * 4) / nExperts + 0.03 * dice.next())),
  ).flat();
}

/** Routing by its definition. The given `probs` decide the choice, since near-ties depend on rounding. */
function naiveRoute(c: RouteCase, probs: Float64Array) {
  const { tokens, nExperts, topK, renormalise, bias } = c;
  const indices: number[] = [],
    weights: number[] = [];
  for (let t = 0; t < tokens; t++) {
    const row = [...probs.subarray(t * nExperts, (t + 1) * nExperts)];
    const scored = row.map((p, e) => ({ e, score: p + (bias ? bias[e] : 0) }));
    const rank = (score: number): number => (Number.isNaN(score) ? -1 : 0);
    scored.sort((x, y) => {
      if (rank(x.score) !== rank(y.score)) return rank(y.score) - rank(x.score);
      if (rank(x.score) === -1 || x.score === y.score) return x.e - y.e;
      return y.score - x.score;
    });
    const chosen = scored.slice(0, topK).map(({ e }) => e);
    const sum = chosen.reduce((total, e) => total + row[e], 0);
    indices.push(...chosen);
    weights.push(...chosen.map((e) => (!renormalise ? row[e] : sum === 0 ? 0 : row[e] / sum)));
  }
  const order = indices.map((_, a) => a).sort((x, y) => indices[x] - indices[y] || x - y);
  const slots = new Array<number>(order.length);
  for (const [slot, a] of order.entries()) slots[a] = slot;
  return {
    indices,
    weights,
    slots,
    slotToToken: order.map((a) => Math.floor(a / topK)),
    rowStarts: Array.from({ length: nExperts + 1 }, (_, e) => indices.filter((index) => index < e).length),
  };
}

/** Softmax and log-sum-exp of each row, with bounds. */
function naiveProbs(c: RouteCase, logits: Float64Array) {
  const probs = new Float64Array(logits.length),
    bounds = probs.slice(),
    lse = new Float64Array(c.tokens);
  for (let t = 0; t < c.tokens; t++) {
    const row = logits.subarray(t * c.nExperts, (t + 1) * c.nExperts);
    const max = Math.max(...row);
    const nothing = row.every((v) => v === -INF);
    const sum = row.reduce((total, v) => total + Math.exp(v - max), 0);
    lse[t] = nothing ? -INF : max + Math.log(sum);
    for (const [e, v] of row.entries()) {
      probs[t * c.nExperts + e] = nothing ? 0 : Math.exp(v - max) / sum;
      const distance = Number.isFinite(max - v) ? max - v : 0;
      bounds[t * c.nExperts + e] = bound(
        c.nExperts,
        (nothing ? 0 : Math.exp(v - max) / sum) * (2 + distance),
      );
    }
  }
  return { probs, bounds, lse };
}

export function routingConformance(kernels: () => Kernels): void {
  describe('routeForward', () => {
    for (const [name, c] of Object.entries(CASES)) {
      it(name, () => {
        const { tokens, nExperts, topK, renormalise } = c;
        everywhere(tokens + nExperts, (scene, dice) => {
          const label = scene.place.name;
          const logits = scene.floats('logits', c.logits ?? spreadLogits(dice, tokens, nExperts));
          const bias = c.bias ? scene.floats('bias', c.bias) : null;
          const probs = scene.output('probs', tokens * nExperts),
            lse = scene.output('lse', tokens);
          const fresh = (name: string, n: number) => scene.ints(name, new Int32Array(n).fill(-7));
          const indices = fresh('topkIndices', tokens * topK);
          const weights = scene.output('topkWeights', tokens * topK);
          const rowStarts = fresh('rowStarts', nExperts + 1);
          const slotToToken = fresh('slotToToken', tokens * topK);
          const tokenToSlots = fresh('tokenToSlots', tokens * topK);
          const means = scene.output('probMeans', nExperts);
          kernels().routeForward(
            logits.array,
            logits.at,
            bias ? bias.array : null,
            bias ? bias.at : 0,
            probs.array,
            probs.at,
            lse.array,
            lse.at,
            indices.array,
            indices.at,
            weights.array,
            weights.at,
            rowStarts.array,
            rowStarts.at,
            slotToToken.array,
            slotToToken.at,
            tokenToSlots.array,
            tokenToSlots.at,
            means.array,
            means.at,
            tokens,
            nExperts,
            topK,
            renormalise,
          );
          const got = probs.read();
          const wantProbs = naiveProbs(c, logits.read());
          expectClose(`${label} probs`, got, wantProbs.probs, wantProbs.bounds);
          expectClose(
            `${label} lse`,
            lse.read(),
            wantProbs.lse,
            wantProbs.lse.map((v) => bound(nExperts, Math.abs(v) + 1)),
          );
          const want = naiveRoute(c, c.logits ? got : wantProbs.probs);
          expectSame(`${label} topkIndices`, indices.read(), want.indices);
          const exact = naiveRoute(c, got);
          expectClose(
            `${label} topkWeights`,
            weights.read(),
            exact.weights,
            exact.weights.map((w) => bound(topK, w)),
          );
          expectSame(`${label} rowStarts`, rowStarts.read(), want.rowStarts);
          expectSame(`${label} slotToToken`, slotToToken.read(), want.slotToToken);
          expectSame(`${label} tokenToSlots`, tokenToSlots.read(), want.slots);
          const wantMeans = Array.from({ length: nExperts }, (_, e) =>
            tokens === 0 ? 0 : got.reduce((sum, p, i) => (i % nExperts === e ? sum + p : sum), 0) / tokens,
          );
          expectClose(
            `${label} probMeans`,
            means.read(),
            wantMeans,
            wantMeans.map((m) => bound(tokens, m)),
          );
          scene.expectOnlyWritten(
            label,
            probs,
            lse,
            indices,
            weights,
            rowStarts,
            slotToToken,
            tokenToSlots,
            means,
          );
        });
      });
    }

    it('chooses what the definition says for named cases', () => {
      const choose = (logits: number[], bias: number[] | null, topK: number): number[] => {
        const E = logits.length;
        const floats = (n: number): Float32Array => new Float32Array(n);
        const ints = (n: number): Int32Array => new Int32Array(n);
        const indices = ints(topK);
        kernels().routeForward(
          Float32Array.from(logits),
          0,
          bias && Float32Array.from(bias),
          0,
          floats(E),
          0,
          floats(1),
          0,
          indices,
          0,
          floats(topK),
          0,
          ints(E + 1),
          0,
          ints(topK),
          0,
          ints(topK),
          0,
          floats(E),
          0,
          1,
          E,
          topK,
          true,
        );
        return [...indices];
      };
      expect(choose([1, 1, 1, 1], null, 3)).toEqual([0, 1, 2]);
      expect(choose([0, 3, 1, 3], null, 3)).toEqual([1, 3, 2]);
      expect(choose([NAN, 0, 0, 0], null, 2)).toEqual([0, 1]);
      expect(choose([0, 0, 0, 0], [0, NAN, 1, -1], 4)).toEqual([2, 0, 3, 1]);
      expect(choose([-INF, -INF, 5, -INF], null, 2)).toEqual([2, 0]);
    });
  });

  describe('routeBackward', () => {
    for (const [name, c] of Object.entries(CASES)) {
      if (c.logits?.some((v) => !Number.isFinite(v))) continue;
      for (const [auxScale, zScale] of [
        [0, 0],
        [0.01, 0],
        [0, 0.02],
        [0.003, -0.01],
      ]) {
        it(`${name}, auxScale ${auxScale}, zScale ${zScale}`, () => {
          everywhere(c.tokens + c.nExperts, (scene, dice) =>
            checkBackward(kernels(), scene, dice, c, auxScale, zScale),
          );
        });
      }
    }

    it('gives no gradient through a renormalisation whose sum is 0', () => {
      const scene = new Scene(PLACEMENTS[0]);
      const probs = scene.floats('probs', [0, 0, 1]),
        lse = scene.floats('lse', [0]);
      const indices = scene.ints('topkIndices', [0, 1]),
        weights = scene.floats('topkWeights', [0, 0]);
      const dWeights = scene.floats('dTopkWeights', [3, 4]);
      const rowStarts = scene.ints('rowStarts', [0, 1, 2, 2]);
      const dLogits = scene.output('dLogits', 3);
      kernels().routeBackward(
        probs.array,
        0,
        lse.array,
        0,
        indices.array,
        0,
        weights.array,
        0,
        dWeights.array,
        0,
        rowStarts.array,
        0,
        dLogits.array,
        0,
        1,
        3,
        2,
        true,
        0,
        0,
      );
      expectSame('dLogits', dLogits.read(), [0, 0, 0]);
    });
  });
}

/** Compares with the Jacobians written out: of the weights in the chosen probs, and of the softmax. */
function checkBackward(
  k: Kernels,
  scene: Scene,
  dice: Dice,
  c: RouteCase,
  auxScale: number,
  zScale: number,
): void {
  const { tokens, nExperts, topK, renormalise } = c;
  const exact = naiveProbs(c, Float64Array.from(c.logits ?? spreadLogits(dice, tokens, nExperts)));
  const probs = scene.floats('probs', exact.probs),
    lse = scene.floats('lse', exact.lse);
  const p = probs.read(),
    z = lse.read();
  const route = naiveRoute(c, p);
  const indices = scene.ints('topkIndices', route.indices);
  const weights = scene.floats('topkWeights', route.weights);
  const dWeights = scene.floats('dTopkWeights', dice.values(tokens * topK));
  const rowStarts = scene.ints('rowStarts', route.rowStarts);
  const dLogits = scene.output('dLogits', tokens * nExperts);
  const dw = dWeights.read();
  const want = new Float64Array(tokens * nExperts),
    bounds = want.slice();
  for (let t = 0; t < tokens; t++) {
    const chosen = route.indices.slice(t * topK, (t + 1) * topK);
    const sum = chosen.reduce((total, e) => total + p[t * nExperts + e], 0);
    const dp = Array.from(
      { length: nExperts },
      (_, e) => auxScale * (route.rowStarts[e + 1] - route.rowStarts[e]),
    );
    const dpSize = dp.map(Math.abs);
    for (const [j, ej] of chosen.entries()) {
      for (const [i, ei] of chosen.entries()) {
        // d w_i / d p_j = [i = j] / sum - p_i / sum^2, or [i = j] without renormalisation.
        const same = i === j ? 1 : 0;
        const share = p[t * nExperts + ei] / sum;
        dp[ej] += dw[t * topK + i] * (renormalise ? (same - share) / sum : same);
        dpSize[ej] += Math.abs(dw[t * topK + i]) * (renormalise ? (same + share) / sum : same);
      }
    }
    const meanSize = dpSize.reduce((total, d, e) => total + p[t * nExperts + e] * d, 0);
    for (let e = 0; e < nExperts; e++) {
      const pe = p[t * nExperts + e];
      want[t * nExperts + e] = zScale * z[t] * pe;
      for (let i = 0; i < nExperts; i++) {
        want[t * nExperts + e] += pe * ((i === e ? 1 : 0) - p[t * nExperts + i]) * dp[i];
      }
      bounds[t * nExperts + e] = bound(nExperts, pe * (dpSize[e] + meanSize + Math.abs(zScale * z[t])));
    }
  }
  k.routeBackward(
    probs.array,
    probs.at,
    lse.array,
    lse.at,
    indices.array,
    indices.at,
    weights.array,
    weights.at,
    dWeights.array,
    dWeights.at,
    rowStarts.array,
    rowStarts.at,
    dLogits.array,
    dLogits.at,
    tokens,
    nExperts,
    topK,
    renormalise,
    auxScale,
    zScale,
  );
  expectClose(`dLogits, ${scene.place.name}`, dLogits.read(), want, bounds);
  scene.expectOnlyWritten(`routeBackward, ${scene.place.name}`, dLogits);
}
