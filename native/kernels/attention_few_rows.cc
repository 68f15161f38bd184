// Attention of a few rows to many keys, bound by how fast keys and values come from memory.
#include "attention_tile.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// scores[r*kBlockKeys + j] = q_r . k_j
template <int Rows>
void dotKeys(int64_t headDim, const float* q, const float* k, int64_t ldk, int64_t keys, float* scores) {
  for (int64_t j = 0; j < keys; ++j) {
    Vf sums[Rows] = {};
    for (int64_t i = 0; i < headDim; i += kLanes) {
      const Vf key = load(k + j * ldk + i);
      for (int r = 0; r < Rows; ++r) sums[r] = fma(key, load(q + r * headDim + i), sums[r]);
    }
    for (int r = 0; r < Rows; ++r) scores[r * kBlockKeys + j] = hsum(sums[r]);
  }
}

constexpr decltype(&dotKeys<1>) kDotKeys[kFewRows + 1] = {nullptr, dotKeys<1>, dotKeys<2>, dotKeys<3>, dotKeys<4>};

}  // namespace

void attendFewRows(int64_t rows, int64_t headDim, const KeyBlock& all, const float* q, float* work,
                   const TileState& state) {
  float *const values = work, *const scores = work + kFewRows * headDim;
  float max[kFewRows], sum[kFewRows];
  for (int64_t r = 0; r < rows; ++r) {
    max[r] = -kInfinity;
    sum[r] = 0;
  }
  for (int64_t j = 0; j < all.count; j += kBlockKeys) {
    const int64_t keys = minOf(kBlockKeys, all.count - j);
    kDotKeys[rows](headDim, q, all.k + j * all.ldk, all.ldk, keys, scores);
    for (int64_t r = 0; r < rows; ++r) {
      float* const row = scores + r * kBlockKeys;
      const float blockMax = rowMax(row, keys), newMax = blockMax > max[r] ? blockMax : max[r];
      const float shift = rowShift(newMax), correction = vexp(set1(max[r] - shift))[0];
      sum[r] = sum[r] * correction + (float)expRow(row, row, keys, shift);
      max[r] = newMax;
      if (j > 0 && correction != 1) scaleRow(values + r * headDim, headDim, correction);
    }
    multiply({keys, scores, kBlockKeys, 1, all.v + j * all.ldv, all.ldv, values, headDim, j > 0}, rows,
             headDim / kLanes);
  }
  for (int64_t r = 0; r < rows; ++r) {
    state.max[r] = max[r];
    state.sum[r] = sum[r];
    for (int64_t d = 0; all.count > 0 && d < headDim; ++d) state.values[d * kTileLanes + r] = values[r * headDim + d];
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
