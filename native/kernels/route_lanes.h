// Routing for few experts, with a token in each lane: a vector of tokens goes through expert by expert.
#pragma once
#include "softmax_row.h"

namespace sgemoe {
namespace SGEMOE_ISA {

constexpr int kMostLaneExperts = 16;

#if defined(__wasm__)  // whose module has to stay small
constexpr bool kBiasInLanes = false;
#else
constexpr bool kBiasInLanes = true;
#endif

// ln x for x >= 1 or 0, at most 2 ulp off; ln 0 = -inf, infinity and NaN stay. x = 2^k m with m in [sqrt 1/2, sqrt 2];
// ln m = 2 artanh(s), s = (m-1)/(m+1), whose series up to s^9 is 2e-9 off.
inline Vf logOfSum(Vf x) {
  const Vi k = ((Vi)x - 0x3f3504f3) >> 23;  // the bits of sqrt 1/2
  const Vf exponent = __builtin_convertvector(k, Vf), m = (Vf)((Vi)x - (k << 23));
  const Vf s = (m - set1(1.0f)) / (m + set1(1.0f)), z = s * s;
  Vf series = fma(z, set1(2.0f / 9), set1(2.0f / 7));
  series = fma(series, z, set1(2.0f / 5));
  series = fma(series, z, set1(2.0f / 3)) * z;
  const Vf lnM = fma(series, s, s + s);
  const Vf ln = fma(exponent, set1(0.693359375f), fma(exponent, set1(-2.12194440054690583e-4f), lnM));
  return select(x == Vf{}, set1(-kInfinity), select(x < set1(kInfinity), ln, x));
}

// The topK experts with the largest p of each token, with their p and numbers, best first; a NaN is below every other p.
inline void chooseLargest(int64_t nExperts, int64_t topK, const Vf* p, Vf* chosen, Vi* indices) {
  // An expert that is already chosen ranks below a NaN.
  const Vf kNanKey = set1(-0.5f), kChosenKey = set1(-1.0f);
  Vf key[kMostLaneExperts];
  for (int64_t e = 0; e < nExperts; ++e) key[e] = select(p[e] == p[e], p[e], kNanKey);
  for (int64_t k = 0; k < topK; ++k) {
    Vf best = key[0];
    Vi at{};
    for (int64_t e = 1; e < nExperts; ++e) {
      const Vi better = key[e] > best;
      best = select(better, key[e], best);
      at = (better & (int32_t)e) | (~better & at);
    }
    for (int64_t e = 0; e < nExperts; ++e) key[e] = select(at == (int32_t)e, kChosenKey, key[e]);
    chosen[k] = select(best == kNanKey, set1(__builtin_nanf("")), best);
    indices[k] = at;
  }
}

// The same by p + bias, for one half of a vector of tokens. Sums are float64, as in routeToken, so that ties are the same there.
inline void chooseBiasedHalf(int64_t nExperts, int64_t topK, const float* bias, const Vd* p, Vd* chosen, Vd* indices) {
  const Vd kLowest = set1d(-1e300), kNanKey = set1d(-1e305), kChosenKey = set1d(-__builtin_inf());
  Vd key[kMostLaneExperts];
  for (int64_t e = 0; e < nExperts; ++e) {
    const Vd sum = p[e] + set1d((double)bias[e]), finite = sum < kLowest ? kLowest : sum;
    key[e] = sum == sum ? finite : kNanKey;
  }
  for (int64_t k = 0; k < topK; ++k) {
    Vd best = key[0], at{}, value = p[0];
    for (int64_t e = 1; e < nExperts; ++e) {
      const auto better = key[e] > best;
      best = better ? key[e] : best;
      at = better ? set1d((double)e) : at;
      value = better ? p[e] : value;
    }
    for (int64_t e = 0; e < nExperts; ++e) key[e] = at == set1d((double)e) ? kChosenKey : key[e];
    chosen[k] = value;
    indices[k] = at;
  }
}

inline void chooseBiased(int64_t nExperts, int64_t topK, const float* bias, const Vf* p, Vf* chosen, Vi* indices) {
  Vd wide[kMostLaneExperts], values[2][kMostLaneExperts], numbers[2][kMostLaneExperts];
  for (int half = 0; half < 2; ++half) {
    for (int64_t e = 0; e < nExperts; ++e) wide[e] = half == 0 ? widenLow(p[e]) : widenHigh(p[e]);
    chooseBiasedHalf(nExperts, topK, bias, wide, values[half], numbers[half]);
  }
  for (int64_t k = 0; k < topK; ++k) {
    chosen[k] = narrow(values[0][k], values[1][k]);
    indices[k] = __builtin_convertvector(narrow(numbers[0][k], numbers[1][k]), Vi);
  }
}

// The values of one expert, or of one choice, for each token.
struct alignas(64) Column {
  float lanes[kLanes];
};

// Of `count` <= kLanes tokens: probs [count,E], lse, the chosen experts [count,K] and their weights, as routeForward's
// documentation says. nExperts <= kMostLaneExperts; no bias unless kBiasInLanes.
inline void routeLanes(const RouteShape& shape, int64_t count, const float* logits, const float* bias, float* probs,
                       float* lse, int32_t* topkIndices, float* topkWeights) {
  const int64_t nExperts = shape.nExperts, topK = shape.topK;
  Column columns[kMostLaneExperts] = {};
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t e = 0; e < nExperts; ++e) columns[e].lanes[t] = logits[t * nExperts + e];
  }

  Vf p[kMostLaneExperts];
  Vf max = set1(-kInfinity), sum{};
  for (int64_t e = 0; e < nExperts; ++e) {
    p[e] = load(columns[e].lanes);
    max = vmax(p[e], max);
  }
  const Vf shift = select(max == set1(-kInfinity), Vf{}, max);
  for (int64_t e = 0; e < nExperts; ++e) {
    p[e] = vexp(p[e] - shift);
    sum += p[e];
  }
  storePartial(lse, logOfSum(sum) + shift, (int)count);
  const Vf inverse = select(sum == Vf{}, Vf{}, set1(1.0f) / sum);
  for (int64_t e = 0; e < nExperts; ++e) {
    p[e] *= inverse;
    store(columns[e].lanes, p[e]);
  }
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t e = 0; e < nExperts; ++e) probs[t * nExperts + e] = columns[e].lanes[t];
  }

  Vf chosen[kMostLaneExperts], weightSum{};
  Vi indices[kMostLaneExperts];
  if (kBiasInLanes && bias != nullptr) {
    chooseBiased(nExperts, topK, bias, p, chosen, indices);
  } else {
    chooseLargest(nExperts, topK, p, chosen, indices);
  }
  for (int64_t k = 0; k < topK; ++k) weightSum += chosen[k];
  const Vf divisor = shape.renormalise ? select(weightSum == Vf{}, set1(kInfinity), weightSum) : set1(1.0f);
  for (int64_t k = 0; k < topK; ++k) {
    store(columns[k].lanes, chosen[k] / divisor);
    int32_t lanes[kLanes];
    memcpy(lanes, &indices[k], sizeof lanes);
    for (int64_t t = 0; t < count; ++t) {
      topkIndices[t * topK + k] = lanes[t];
      topkWeights[t * topK + k] = columns[k].lanes[t];
    }
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
