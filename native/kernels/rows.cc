// Gathering, scattering and adding rows by index, for the embedding and for the way of tokens to experts and back.
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void gatherRows(const float* src, const int32_t* indices, float* dst, int64_t rows, int64_t cols) {
  forChunks(rows, cost::kPickedRow + cost::kPicked * (double)cols, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const from = src + indices[r] * cols;
      float* const to = dst + r * cols;
      forVectors(cols, [=](auto place, int64_t i) { place.store(to + i, place.load(from + i)); });
    }
  });
}

namespace {

// kVectors vectors of y at once, so that the weight and the place of a row are looked up once for all of them.
template <int kVectors, class Place>
inline void addWeighted(Place place, const float* x, const int32_t* slot, const float* weight, float* y, int64_t topK,
                        int64_t cols) {
  Vf sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = place.load(y + v * kLanes);
  for (int64_t k = 0; k < topK; ++k) {
    const Vf w = set1(weight != nullptr ? weight[k] : 1.0f);
    const float* const row = x + slot[k] * cols;
    for (int v = 0; v < kVectors; ++v) sum[v] = fma(w, place.load(row + v * kLanes), sum[v]);
  }
  for (int v = 0; v < kVectors; ++v) place.store(y + v * kLanes, sum[v]);
}

}  // namespace

void scatterAddRows(const float* x, const int32_t* slots, const float* weights, float* y, int64_t tokens,
                    int64_t topK, int64_t cols) {
  forChunks(tokens, cost::kPickedRow + cost::kPicked * (double)(cols * (topK + 1)), 1, [=](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int32_t* const slot = slots + t * topK;
      const float* const weight = weights != nullptr ? weights + t * topK : nullptr;
      float* const to = y + t * cols;
      int64_t i = 0;
      for (; i + 4 * kLanes <= cols; i += 4 * kLanes) addWeighted<4>(Whole{}, x + i, slot, weight, to + i, topK, cols);
      forVectors(cols - i, [=](auto place, int64_t rest) {
        addWeighted<1>(place, x + i + rest, slot, weight, to + i + rest, topK, cols);
      });
    }
  });
}

void scatterAddRowsBackward(const float* dy, const float* x, const int32_t* slots, const float* weights, float* dx,
                            float* dWeights, int64_t tokens, int64_t topK, int64_t cols) {
  forChunks(tokens, cost::kPickedRow + cost::kScatterBackward * (double)(cols * topK), 1, [=](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* const dyRow = dy + t * cols;
      for (int64_t k = 0; k < topK; ++k) {
        const int64_t row = slots[t * topK + k] * cols;
        const Vf w = set1(weights[t * topK + k]);
        dWeights[t * topK + k] = hsum(sumVectors(cols, [=](auto place, int64_t i) {
          const Vf d = place.load(dyRow + i), product = d * place.load(x + row + i);
          place.store(dx + row + i, w * d);
          return product;
        }));
      }
    }
  });
}

void embeddingBackward(const float* dy, const int32_t* ids, float* dTable, int64_t tokens, int64_t cols) {
  // Cut by columns: each chunk sees all tokens in order, so that repeated ids need no care.
  forChunks(cols, cost::kEmbeddingBackward * (double)(tokens + 1), 64, [=](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < tokens; ++t) {
      const float* const from = dy + t * cols + begin;
      float* const to = dTable + ids[t] * cols + begin;
      forVectors(end - begin, [=](auto place, int64_t i) {
        place.store(to + i, place.load(to + i) + place.load(from + i));
      });
    }
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
