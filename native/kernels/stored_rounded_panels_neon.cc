// Rounded activations by block types for many rows on arm64: weights are taken apart once into panels of signed bytes, which pass
// by all rows of activations in register tiles. One instruction adds products to four sums: SMMLA (Armv8.6's i8mm) eight to
// each, of two rows by two weights, SDOT four to each, of one row by four weights.
#include "sgemm_tile.h"
#include "stored_quants_neon.h"
#include "stored_rounded.h"

// Compilers without this header have assemblers that don't know SMMLA: this set then has panels by SDOT.
#if defined(SGEMOE_I8MM) && !__has_include(<arm_bf16.h>)
#undef SGEMOE_I8MM
#endif

#if defined(SGEMOE_SDOT)

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// A tile has 16 vectors of float sums, and its rows take 8 for 32 numbers: 8 of the 32 registers are left for sums of integers,
// weights and scales.
constexpr int kWidth = 16;  // rows of weights in a panel
constexpr int kRows = 4;    // of activations in a tile
constexpr int64_t kDepth = 1024;  // numbers of a row in a panel, so that it stays in the first cache with the rows of a tile
// From so many rows on panels take little more than half of the instructions of stored_rounded_neon.cc: an estimate by counting,
// since no such processor was at hand. For 32 numbers of a row of weights and one of activations that file takes 11 to 20
// instructions, a tile 3 to 4 (SDOT: 4 to 5). Making a panel takes 26 to 47 (SDOT: 30 to 50) for 32 numbers of a row of weights.
#if defined(SGEMOE_I8MM)
constexpr int64_t kMinRows = 8;
#else
constexpr int64_t kMinRows = 16;
#endif
constexpr int kSixteens = 16 * kWidth;  // bytes of a panel for 16 numbers of its rows

// ---------------------------------------------------------------- four sums

#if defined(SGEMOE_I8MM)
constexpr int kUnitRows = 2, kUnitCols = 2;  // of the sums in a vector, row by row
#else
constexpr int kUnitRows = 1, kUnitCols = 4;
#endif
constexpr int kStep = 16 / kUnitCols;  // products that an instruction adds to each
constexpr int kUnits = kRows / kUnitRows, kGroups = kWidth / kUnitCols;  // of a tile: down and across
constexpr int kGroupBytes = 16 * kUnitCols;  // of a panel for 16 numbers of a group of weights

template <class T>
inline const T* rowAt(const T* first, int64_t stride, int i) {
  return (const T*)((const uint8_t*)first + i * stride);
}

#if defined(SGEMOE_I8MM)

// As assembly, since older compilers know neither its flag nor its name.
inline void addProducts(int32x4_t& sums, int8x16_t rows, int8x16_t cols) {
  __asm__(".arch_extension i8mm\n\tsmmla %0.4s, %1.16b, %2.16b" : "+w"(sums) : "w"(rows), "w"(cols));
}

// 16 numbers of a tile's rows: the first eight of two rows in a vector, then the others.
struct Sixteen {
  int8x16_t eights[kUnits][2];

  Sixteen(const int8_t* x, int64_t stride) {
    UNROLL for (int u = 0; u < kUnits; u++) {
      const int64x2_t even = vreinterpretq_s64_s8(vld1q_s8(rowAt(x, stride, 2 * u)));
      const int64x2_t odd = vreinterpretq_s64_s8(vld1q_s8(rowAt(x, stride, 2 * u + 1)));
      eights[u][0] = vreinterpretq_s8_s64(vzip1q_s64(even, odd));
      eights[u][1] = vreinterpretq_s8_s64(vzip2q_s64(even, odd));
    }
  }

  // Adds the products by the weights of a group.
  void addTo(int32x4_t* sums, const int8_t* w) const {
    UNROLL for (int step = 0; step < 2; step++) {
      const int8x16_t cols = vld1q_s8(w + 16 * step);
      UNROLL for (int u = 0; u < kUnits; u++) addProducts(sums[u], eights[u][step], cols);
    }
  }
};

// A number of each row of a tile.
struct Factors {
  float32x4_t units[kUnits];

  Factors(const float* x, int64_t stride) {
    UNROLL for (int u = 0; u < kUnits; u++) {
      units[u] = vcombine_f32(vld1_dup_f32(rowAt(x, stride, 2 * u)), vld1_dup_f32(rowAt(x, stride, 2 * u + 1)));
    }
  }

  void addTo(float32x4_t* totals, const float32x4_t* values) const {
    UNROLL for (int u = 0; u < kUnits; u++) totals[u] = vfmaq_f32(totals[u], values[u], units[u]);
  }
};

// Compilers would rather begin the next groups, for which registers are missing.
inline void settle(float32x4_t* totals) { __asm__ volatile("" : "+w"(totals[0]), "+w"(totals[1]) : : "memory"); }

inline void storeUnit(float32x4_t total, float* sums) {
  vst1_f32(sums, vget_low_f32(total));
  vst1_f32(sums + kWidth, vget_high_f32(total));
}

// 16 numbers of a row of weights, into their places in a panel.
inline void storeWeights(int8x16_t q, int8_t* to) {
  vst1_s8(to, vget_low_s8(q));
  vst1_s8(to + 16, vget_high_s8(q));
}

#else

// 16 numbers of a tile's rows.
struct Sixteen {
  int8x16_t rows[kUnits];

  Sixteen(const int8_t* x, int64_t stride) {
    UNROLL for (int u = 0; u < kUnits; u++) rows[u] = vld1q_s8(rowAt(x, stride, u));
  }

  template <int kFour>
  void addFour(int32x4_t* sums, const int8_t* w) const {
    const int8x16_t cols = vld1q_s8(w + 16 * kFour);
    UNROLL for (int u = 0; u < kUnits; u++) sums[u] = vdotq_laneq_s32(sums[u], cols, rows[u], kFour);
  }

  // Adds the products by the weights of a group.
  void addTo(int32x4_t* sums, const int8_t* w) const {
    addFour<0>(sums, w);
    addFour<1>(sums, w);
    addFour<2>(sums, w);
    addFour<3>(sums, w);
  }
};

// A number of each row of a tile.
struct Factors {
  float32x4_t rows;

  Factors(const float* x, int64_t stride) {
    rows = vld1q_dup_f32(x);
    rows = vld1q_lane_f32(rowAt(x, stride, 1), rows, 1);
    rows = vld1q_lane_f32(rowAt(x, stride, 2), rows, 2);
    rows = vld1q_lane_f32(rowAt(x, stride, 3), rows, 3);
  }

  void addTo(float32x4_t* totals, const float32x4_t* values) const {
    totals[0] = vfmaq_laneq_f32(totals[0], values[0], rows, 0);
    totals[1] = vfmaq_laneq_f32(totals[1], values[1], rows, 1);
    totals[2] = vfmaq_laneq_f32(totals[2], values[2], rows, 2);
    totals[3] = vfmaq_laneq_f32(totals[3], values[3], rows, 3);
  }
};

// Compilers would rather begin the next groups, for which registers are missing.
inline void settle(float32x4_t* totals) {
  __asm__ volatile("" : "+w"(totals[0]), "+w"(totals[1]), "+w"(totals[2]), "+w"(totals[3]) : : "memory");
}

inline void storeUnit(float32x4_t total, float* sums) { vst1q_f32(sums, total); }

// 16 numbers of a row of weights, into their places in a panel.
inline void storeWeights(int8x16_t q, int8_t* to) {
  const int32x4_t fours = vreinterpretq_s32_s8(q);
  vst1q_lane_s32((int32_t*)to, fours, 0);
  vst1q_lane_s32((int32_t*)(to + 16), fours, 1);
  vst1q_lane_s32((int32_t*)(to + 32), fours, 2);
  vst1q_lane_s32((int32_t*)(to + 48), fours, 3);
}

#endif

// ---------------------------------------------------------------- from blocks to panels

// A panel: `q` [depth / 16][kGroups][16 / kStep][kUnitCols][kStep], and for each part of 32 numbers (16 for q6_k) the scales, and
// the minima if the type has any, in the lanes of their sums, [kGroups][4].
struct Panel {
  int8_t* q;
  float* scale;
  float* minimum;
};

constexpr int64_t kQuantBytes = kDepth * kWidth;
constexpr int kPartFloats = 4 * kGroups;
constexpr int64_t kScaleFloats = kDepth / 16 * kPartFloats;  // enough for the scales of q6_k, or for scales and minima of others

// The same for its row i.
Panel rowOf(const Panel& panel, int i) {
  const int group = i / kUnitCols, col = i % kUnitCols;
  return {panel.q + group * kGroupBytes + col * kStep, panel.scale + 4 * group + col,
          panel.minimum + 4 * group + col};
}

inline void storeScale(float value, float* to) {
  UNROLL for (int i = 0; i < kUnitRows; i++) to[i * kUnitCols] = value;
}

inline void storePart(const Part32& q, int64_t k, const Panel& row) {
  storeWeights(q.low, row.q + k / 16 * kSixteens);
  storeWeights(q.high, row.q + (k / 16 + 1) * kSixteens);
}

// The numbers of a row [depth].
using UnpackFn = void (*)(const uint8_t* p, int64_t depth, const Panel& row);

template <class T>
void unpack(const uint8_t* p, int64_t depth, const Panel& row) {
  for (int64_t k = 0; k < depth; k += 32, p += T::kBytes) {
    storePart(T::q(p), k, row);
    storeScale(halfAt(p), row.scale + k / 32 * kPartFloats);
    if (T::kMinimum) storeScale(halfAt(p + 2), row.minimum + k / 32 * kPartFloats);
  }
}

template <bool kFiveBits>
void unpackWithMinima(const uint8_t* p, int64_t depth, const Panel& row) {
  constexpr int kBytes = kFiveBits ? 176 : 144;
  for (int64_t k = 0; k < depth; k += 256, p += kBytes) {
    const float d = halfAt(p), dMin = halfAt(p + 2);
    ROLLED for (int j = 0; j < 8; j++) {
      const Part6 part = part6(p + 4, j);
      storeScale(d * (float)part.scale, row.scale + (k / 32 + j) * kPartFloats);
      storeScale(-dMin * (float)part.minimum, row.minimum + (k / 32 + j) * kPartFloats);
    }
    ROLLED for (int half = 0; half < 2; half++) {
      const uint8_t* const quants = p + (kFiveBits ? 48 : 16) + 64 * half;
      const uint8x16x2_t bits = fifthBitsOfHalf<kFiveBits>(p, half);
      Part32 parts[4];
      partsOfPair<kFiveBits, 0>(quants, bits, parts, parts + 1);
      partsOfPair<kFiveBits, 2>(quants, bits, parts + 2, parts + 3);
      UNROLL for (int i = 0; i < 4; i++) storePart(parts[i], k + 128 * half + 32 * i, row);
    }
  }
}

template <int kPart>
inline void storePartOf6Bits(const uint8_t* low, const uint8_t* bits, int64_t k, const Panel& row) {
  storePart({quantsOf6Bits<kPart>(vld1q_u8(low), vld1q_u8(bits)),
             quantsOf6Bits<kPart>(vld1q_u8(low + 16), vld1q_u8(bits + 16))}, k + 32 * kPart, row);
}

void unpackOf6Bits(const uint8_t* p, int64_t depth, const Panel& row) {
  constexpr int kBytes = 210;
  for (int64_t k = 0; k < depth; k += 256, p += kBytes) {
    const float d = halfAt(p + 208);
    ROLLED for (int i = 0; i < 16; i++) {
      storeScale(d * (float)(int8_t)p[192 + i], row.scale + (k / 16 + i) * kPartFloats);
    }
    ROLLED for (int half = 0; half < 2; half++) {
      const uint8_t *const low = p + 64 * half, *const bits = p + 128 + 32 * half;
      storePartOf6Bits<0>(low, bits, k + 128 * half, row);
      storePartOf6Bits<1>(low + 32, bits, k + 128 * half, row);
      storePartOf6Bits<2>(low, bits, k + 128 * half, row);
      storePartOf6Bits<3>(low + 32, bits, k + 128 * half, row);
    }
  }
}

// ---------------------------------------------------------------- the register tile

// Rounded rows of activations from a tile's first one on, `stride` bytes apart.
struct Left {
  const int8_t* q;
  const float* d;
  const float* sum;
  int64_t stride;
};

// Adds the products of 32 numbers of a tile's rows and a group of weights.
template <int kPart>
inline __attribute__((always_inline)) void addGroup(const Sixteen& low, const Sixteen& high, const int8_t* w,
                                                    const float* scale, const Factors& d, float32x4_t* totals) {
  int32x4_t dots[kUnits];
  float32x4_t values[kUnits];
  UNROLL for (int u = 0; u < kUnits; u++) dots[u] = vdupq_n_s32(0);
  low.addTo(dots, w);
  if (kPart == 16) {
    const float32x4_t scales = vld1q_f32(scale);
    scale += kPartFloats;
    UNROLL for (int u = 0; u < kUnits; u++) {
      values[u] = vmulq_f32(vcvtq_f32_s32(dots[u]), scales);
      dots[u] = vdupq_n_s32(0);
    }
  }
  high.addTo(dots, w + kSixteens);
  const float32x4_t scales = vld1q_f32(scale);
  UNROLL for (int u = 0; u < kUnits; u++) {
    const float32x4_t products = vcvtq_f32_s32(dots[u]);
    values[u] = kPart == 16 ? vfmaq_f32(values[u], products, scales) : vmulq_f32(products, scales);
  }
  d.addTo(totals, values);
  settle(totals);
}

// sums [kRows][kWidth] = the products of kRows rows and a panel.
using TileFn = void (*)(const Left& x, const Panel& panel, int64_t depth, float* sums);

template <int kPart, bool kMinima>
void tile(const Left& x, const Panel& panel, int64_t depth, float* sums) {
  float32x4_t totals[kGroups][kUnits];
  UNROLL for (int g = 0; g < kGroups; g++) {
    UNROLL for (int u = 0; u < kUnits; u++) totals[g][u] = vdupq_n_f32(0);
  }
  const int8_t* w = panel.q;
  const float *scale = panel.scale, *minimum = panel.minimum;
  for (int64_t k = 0; k < depth; k += 32) {
    const Sixteen low(x.q + k, x.stride), high(x.q + k + 16, x.stride);
    const Factors d(x.d + k / 32, x.stride);
    UNROLL for (int g = 0; g < kGroups; g++) {
      addGroup<kPart>(low, high, w + g * kGroupBytes, scale + 4 * g, d, totals[g]);
    }
    w += 2 * kSixteens;
    scale += 32 / kPart * kPartFloats;
    if (!kMinima) continue;
    const Factors sum(x.sum + k / 32, x.stride);
    UNROLL for (int g = 0; g < kGroups; g++) {
      float32x4_t values[kUnits];
      UNROLL for (int u = 0; u < kUnits; u++) values[u] = vld1q_f32(minimum + 4 * g);
      sum.addTo(totals[g], values);
    }
    minimum += kPartFloats;
  }
  UNROLL for (int g = 0; g < kGroups; g++) {
    UNROLL for (int u = 0; u < kUnits; u++) storeUnit(totals[g][u], sums + u * kUnitRows * kWidth + g * kUnitCols);
  }
}

// ---------------------------------------------------------------- products

struct BlockType {
  int64_t elements, bytes;  // of a block
  UnpackFn unpack;
  TileFn tile;
};

BlockType blockTypeOf(StorageType type) {
  switch (type) {
    case StorageType::q4_0: return {32, 18, unpack<Q4_0>, tile<32, false>};
    case StorageType::q4_1: return {32, 20, unpack<Q4_1>, tile<32, true>};
    case StorageType::q5_0: return {32, 22, unpack<Q5_0>, tile<32, false>};
    case StorageType::q5_1: return {32, 24, unpack<Q5_1>, tile<32, true>};
    case StorageType::q8_0: return {32, 34, unpack<Q8_0>, tile<32, false>};
    case StorageType::q4_k: return {256, 144, unpackWithMinima<false>, tile<32, true>};
    case StorageType::q5_k: return {256, 176, unpackWithMinima<true>, tile<32, true>};
    default: return {256, 210, unpackOf6Bits, tile<16, false>};  // q6_k: floats are never rounded
  }
}

void multiply(const StoredProduct& s, const uint8_t* x, uint8_t* memory) {
  const BlockType type = blockTypeOf(s.type);
  float* const scales = (float*)(memory + kQuantBytes);
  const Panel panel = {(int8_t*)memory, scales, scales + kScaleFloats / 2};
  const int64_t stride = roundedBytes(s.cols);
  for (int64_t n = 0; n < s.n; n += kWidth) {
    const int64_t cols = minOf(kWidth, s.n - n);
    for (int64_t k = 0; k < s.cols; k += kDepth) {
      const int64_t depth = minOf(kDepth, s.cols - k);
      const uint8_t* const w = s.w + n * s.rowBytes + k / type.elements * type.bytes;
      // Lanes beyond `cols` hold anything.
      for (int i = 0; i < (int)cols; i++) type.unpack(w + i * s.rowBytes, depth, rowOf(panel, i));
      for (int64_t i = 0; i < s.m; i += kRows) {
        float sums[kRows * kWidth];
        const RoundedRow row = roundedRow(x + i * stride, s.cols);
        type.tile({row.q + k, row.d + k / 32, row.dSum + k / 32, stride}, panel, depth, sums);
        updateRows(sums, kWidth, minOf(kRows, s.m - i), cols, s.alpha, k == 0 ? s.beta : 1, s.y + i * s.ldy + n, s.ldy);
      }
    }
  }
}

}  // namespace

const RoundedPanels kRoundedPanels = {kRows, kQuantBytes + kScaleFloats * (int64_t)sizeof(float), kMinRows, multiply};

}  // namespace SGEMOE_ISA
}  // namespace sgemoe

#endif
