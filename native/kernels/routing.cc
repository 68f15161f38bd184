// Routing of tokens to experts (Shazeer et al. 2017): softmax, top-k, the sorting of assignments by expert, and their
// gradient.
#include "route_lanes.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// A NaN is below everything and equal to another; on equality the earlier expert stays ahead.
inline bool better(double a, double b) { return a > b || (b != b && a == a); }

// The k best of n by probs + bias, best first, by insertion into a list of k: O(n) comparisons once the list holds
// the best, and no memory but the result.
void topK(const float* probs, const float* bias, int64_t n, int64_t k, int32_t* best) {
  auto key = [=](int64_t e) { return (double)probs[e] + (bias != nullptr ? (double)bias[e] : 0.0); };
  int64_t held = 0;
  for (int64_t e = 0; e < n; ++e) {
    const double candidate = key(e);
    if (held == k && !better(candidate, key(best[k - 1]))) continue;
    int64_t at = held < k ? held++ : k - 1;
    for (; at > 0 && better(candidate, key(best[at - 1])); --at) best[at] = best[at - 1];
    best[at] = (int32_t)e;
  }
}

void gateWeights(const float* probs, const int32_t* chosen, int64_t k, bool renormalise, float* weights) {
  double sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += probs[chosen[i]];
  for (int64_t i = 0; i < k; ++i) {
    const float p = probs[chosen[i]];
    weights[i] = !renormalise ? p : sum == 0 ? 0.0f : (float)(p / sum);
  }
}

// One token: probs and lse, the chosen experts and their weights.
void routeToken(const RouteShape& s, const float* logits, const float* bias, float* probs, float* lse,
                int32_t* chosen, float* weights) {
  RowSum row;
  float few[kLanes];
  const float* p = probs;
  if (s.nExperts <= kLanes) {
    // The values are read back one by one from a whole vector, since the processor can't forward from a partial store.
    const Vf v = softmaxVector(logits, s.nExperts, &row);
    store(few, v);
    storePartial(probs, v, (int)s.nExperts);
    p = few;
  } else {
    row = softmaxRow(logits, probs, s.nExperts);
  }
  *lse = (float)(__builtin_log(row.sum) + row.shift);
  topK(p, bias, s.nExperts, s.topK, chosen);
  gateWeights(p, chosen, s.topK, s.renormalise, weights);
}

// Counting sort of the assignments: by expert, then token, then choice.
void sortByExpert(const RouteShape& s, const int32_t* topkIndices, int32_t* rowStarts, int32_t* slotToToken,
                  int32_t* tokenToSlots) {
  const int64_t assignments = s.tokens * s.topK;
  memset(rowStarts, 0, (size_t)(s.nExperts + 1) * sizeof(int32_t));
  for (int64_t i = 0; i < assignments; ++i) rowStarts[topkIndices[i] + 1] += 1;
  for (int64_t e = 0; e < s.nExperts; ++e) rowStarts[e + 1] += rowStarts[e];
  // While slots are dealt out, rowStarts[e] is the next free one; at the end that is the start of expert e + 1.
  for (int64_t t = 0; t < s.tokens; ++t) {
    for (int64_t i = t * s.topK; i < (t + 1) * s.topK; ++i) {
      const int32_t slot = rowStarts[topkIndices[i]]++;
      slotToToken[slot] = (int32_t)t;
      tokenToSlots[i] = slot;
    }
  }
  memmove(rowStarts + 1, rowStarts, (size_t)s.nExperts * sizeof(int32_t));
  rowStarts[0] = 0;
}

// Means over tokens in their order, in float64.
void columnMeans(const float* probs, int64_t tokens, int64_t nExperts, float* means) {
  forVectors(nExperts, [=](auto place, int64_t e) {
    Vd low{}, high{};
    for (int64_t t = 0; t < tokens; ++t) {
      const Vf p = place.load(probs + t * nExperts + e);
      low += widenLow(p);
      high += widenHigh(p);
    }
    const Vd count = set1d(tokens == 0 ? 1.0 : (double)tokens);
    place.store(means + e, narrow(low / count, high / count));
  });
}

}  // namespace

void routeForward(const RouteShape& shape, const float* logits, const float* bias, float* probs, float* lse,
                  int32_t* topkIndices, float* topkWeights, int32_t* rowStarts, int32_t* slotToToken,
                  int32_t* tokenToSlots, float* probMeans) {
  const RouteShape s = shape;
  const bool inLanes = s.nExperts <= kMostLaneExperts && (kBiasInLanes || bias == nullptr);
  const double nsPerToken = inLanes ? cost::kRouteLanesToken + cost::kRouteLanesExpert * (double)s.nExperts
                                    : cost::kRouteToken + cost::kRouteExpert * (double)s.nExperts +
                                          cost::kRouteChoice * (double)s.topK;
  forChunks(s.tokens, nsPerToken, kLanes, [=](int64_t begin, int64_t end) {
    const int64_t step = inLanes ? kLanes : 1;
    for (int64_t t = begin; t < end; t += step) {
      const float* const x = logits + t * s.nExperts;
      float* const p = probs + t * s.nExperts;
      int32_t* const chosen = topkIndices + t * s.topK;
      float* const weights = topkWeights + t * s.topK;
      if (inLanes) {
        routeLanes(s, minOf(kLanes, end - t), x, bias, p, lse + t, chosen, weights);
      } else {
        routeToken(s, x, bias, p, lse + t, chosen, weights);
      }
    }
  });
  sortByExpert(s, topkIndices, rowStarts, slotToToken, tokenToSlots);
  columnMeans(probs, s.tokens, s.nExperts, probMeans);
}

namespace {

struct RouteGradient {
  RouteShape shape;
  const double* balance;  // d loss / d probs[t,e] through the balance loss, the same for every token
  double zScale;
};

// dp of the chosen probs of one token through their weights, as in routeBackward's documentation.
struct ChosenGradient {
  const float* dWeights;
  double dot, inverseSum;

  double operator()(int64_t i) const { return (dWeights[i] - dot) * inverseSum; }
};

ChosenGradient chosenGradient(const RouteShape& s, const float* probs, const int32_t* chosen, const float* weights,
                              const float* dWeights) {
  if (!s.renormalise) return {dWeights, 0, 1};
  double sum = 0, dot = 0;
  for (int64_t i = 0; i < s.topK; ++i) {
    sum += probs[chosen[i]];
    dot += (double)dWeights[i] * weights[i];
  }
  return sum == 0 ? ChosenGradient{dWeights, dot, 0} : ChosenGradient{dWeights, dot, 1 / sum};
}

// In float64: with balanced experts the balance gradient is a small difference of nearly equal terms.
void backwardToken(const RouteGradient& a, const float* probs, double lse, const int32_t* chosen,
                   const ChosenGradient& dChosen, float* dLogits) {
  const int64_t n = a.shape.nExperts, k = a.shape.topK;
  const double* const balance = a.balance;
  double dot = 0;
  for (int64_t i = 0; i < k; ++i) dot += probs[chosen[i]] * dChosen(i);
  Vd low{}, high{};
  forVectors(n, [&](auto place, int64_t e) {
    const Vf p = place.load(probs + e);
    low += widenLow(p) * loadd(balance + e);
    high += widenHigh(p) * loadd(balance + e + kDoubleLanes);
  });
  dot += hsumd(low + high);
  const Vd rest = set1d(a.zScale == 0 ? -dot : a.zScale * lse - dot);
  forVectors(n, [=](auto place, int64_t e) {
    const Vf p = place.load(probs + e);
    const Vd first = widenLow(p) * (loadd(balance + e) + rest);
    place.store(dLogits + e, narrow(first, widenHigh(p) * (loadd(balance + e + kDoubleLanes) + rest)));
  });
  for (int64_t i = 0; i < k; ++i) {
    const int32_t e = chosen[i];
    dLogits[e] = (float)(probs[e] * (balance[e] + rest[0] + dChosen(i)));
  }
}

}  // namespace

void routeBackward(const RouteShape& shape, const float* probs, const float* lse, const int32_t* topkIndices,
                   const float* topkWeights, const float* dTopkWeights, const int32_t* rowStarts, float* dLogits,
                   double auxScale, double zScale) {
  const RouteShape s = shape;
  const Scratch scratch(2 * roundUp(s.nExperts, kLanes));
  double* const balance = (double*)scratch.data();
  for (int64_t e = 0; e < roundUp(s.nExperts, kLanes); ++e) {
    balance[e] = e < s.nExperts ? auxScale * (rowStarts[e + 1] - rowStarts[e]) : 0.0;
  }
  const RouteGradient gradient{s, balance, zScale};
  const double nsPerToken = cost::kRouteBackwardToken + cost::kRouteBackwardExpert * (double)s.nExperts +
                            cost::kRouteBackwardChoice * (double)s.topK;
  forChunks(s.tokens, nsPerToken, 1, [=](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* const p = probs + t * s.nExperts;
      const int32_t* const chosen = topkIndices + t * s.topK;
      const ChosenGradient dChosen =
          chosenGradient(s, p, chosen, topkWeights + t * s.topK, dTopkWeights + t * s.topK);
      backwardToken(gradient, p, lse[t], chosen, dChosen, dLogits + t * s.nExperts);
    }
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
