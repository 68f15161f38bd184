// Attention of a few rows to many keys, bound by how fast keys and values come from memory: they are widened in registers.
#include "attention_stored.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// Keys ahead of the one that is read. A head's rows lie a token's bytes apart, which no hardware foresees.
constexpr int64_t kAhead = 8;

inline void prefetchRow(const uint8_t* row, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i);
}

template <int Rows, class Keys>
struct FewRows {
  // scores[r*kBlockKeys + j] = q_r . k_j. It asks for the values too.
  static void dotKeys(int64_t headDim, const float* q, const StoredBlock& block, float* scores) {
    for (int64_t j = 0; j < block.count; ++j) {
      const uint8_t* const row = block.k + j * block.ldk;
      prefetchRow(row + kAhead * block.ldk, block.headBytes);
      prefetchRow(block.v + j * block.ldv, block.headBytes);
      Vf sums[Rows] = {};
      for (int64_t i = 0; i < headDim; i += kLanes) {
        const Vf key = Keys::at(row, i, Keys::scaleAt(row, i));
        for (int r = 0; r < Rows; ++r) sums[r] = fma(key, load(q + r * headDim + i), sums[r]);
      }
      for (int r = 0; r < Rows; ++r) scores[r * kBlockKeys + j] = hsum(sums[r]);
    }
  }

  // values[r*headDim + i] (+)= sum_j scores[r*kBlockKeys + j] v_j, NV vectors of i.
  template <int NV>
  static void addPanel(int64_t headDim, int64_t i, const float* scores, const StoredBlock& block, bool add,
                       float* values) {
    Vf sums[Rows][NV];
    for (int r = 0; r < Rows; ++r) {
      for (int x = 0; x < NV; ++x) sums[r][x] = add ? load(values + r * headDim + i + x * kLanes) : Vf{};
    }
    for (int64_t j = 0; j < block.count; ++j) {
      const uint8_t* const row = block.v + j * block.ldv;
      const Vf scale = Keys::scaleAt(row, i);
      Vf value[NV];
      for (int x = 0; x < NV; ++x) value[x] = Keys::at(row, i + x * kLanes, scale);
      for (int r = 0; r < Rows; ++r) {
        const Vf weight = set1(scores[r * kBlockKeys + j]);
        for (int x = 0; x < NV; ++x) sums[r][x] = fma(value[x], weight, sums[r][x]);
      }
    }
    for (int r = 0; r < Rows; ++r) {
      for (int x = 0; x < NV; ++x) store(values + r * headDim + i + x * kLanes, sums[r][x]);
    }
  }

  static void addValues(int64_t headDim, const float* scores, const StoredBlock& block, bool add, float* values) {
    int64_t i = 0;
    for (; i + kPanel <= headDim; i += kPanel) addPanel<2>(headDim, i, scores, block, add, values);
    if (i < headDim) addPanel<1>(headDim, i, scores, block, add, values);
  }
};

struct Steps {
  decltype(&FewRows<1, Q8Rows>::dotKeys) dotKeys;
  decltype(&FewRows<1, Q8Rows>::addValues) addValues;
};

template <int Rows, class Keys>
constexpr Steps kSteps = {FewRows<Rows, Keys>::dotKeys, FewRows<Rows, Keys>::addValues};

template <class Keys>
constexpr Steps kStepsOf[kFewRows] = {kSteps<1, Keys>, kSteps<2, Keys>, kSteps<3, Keys>, kSteps<4, Keys>};

const Steps& stepsOf(StorageType type, int64_t rows) {
  if (type == StorageType::float16) return kStepsOf<FloatRows<Float16>>[rows - 1];
  if (type == StorageType::q8_0) return kStepsOf<Q8Rows>[rows - 1];
  return kStepsOf<FloatRows<Float32>>[rows - 1];
}

}  // namespace

bool hasFewRows(StorageType type) {
  return type == StorageType::float32 || type == StorageType::float16 || type == StorageType::q8_0;
}

void attendFewRows(int64_t rows, int64_t headDim, const StoredBlock& all, const float* q, float* work,
                   const TileState& state) {
  const Steps& steps = stepsOf(all.type, rows);
  float *const values = work, *const scores = work + kFewRows * headDim;
  float max[kFewRows], sum[kFewRows];
  for (int64_t r = 0; r < rows; ++r) {
    max[r] = -kInfinity;
    sum[r] = 0;
  }
  for (int64_t j = 0; j < all.count; j += kBlockKeys) {
    const StoredBlock block = all.from(j, minOf(kBlockKeys, all.count - j));
    steps.dotKeys(headDim, q, block, scores);
    for (int64_t r = 0; r < rows; ++r) {
      float* const row = scores + r * kBlockKeys;
      const float blockMax = rowMax(row, block.count), newMax = blockMax > max[r] ? blockMax : max[r];
      const float shift = rowShift(newMax), correction = vexp(set1(max[r] - shift))[0];
      sum[r] = sum[r] * correction + (float)expRow(row, row, block.count, shift);
      max[r] = newMax;
      if (j > 0 && correction != 1) scaleRow(values + r * headDim, headDim, correction);
    }
    steps.addValues(headDim, scores, block, j > 0, values);
  }
  for (int64_t r = 0; r < rows; ++r) {
    state.max[r] = max[r];
    state.sum[r] = sum[r];
    for (int64_t d = 0; all.count > 0 && d < headDim; ++d) state.values[d * kTileLanes + r] = values[r * headDim + d];
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
