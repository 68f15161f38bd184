// Rounded activations by block types as they lie in memory, with the sums of four products of bytes that Armv8.2's dot products
// (SDOT) add to each lane. As in stored_rounded.cc, weights are read once, in order, and taken apart once for up to eight rows. Bytes are signed
// here, so that what stands for 0 is subtracted before: only types with a minimum need the sums of activations.
#include "stored_quants_neon.h"
#include "stored_rounded.h"

// neoni8mm takes the functions of neondot: stored_rounded_table.cc.
#if defined(SGEMOE_SDOT) && !defined(SGEMOE_I8MM)

namespace sgemoe {
namespace SGEMOE_ISA {

// ---------------------------------------------------------------- activations

void roundRow(const float* x, int64_t cols, uint8_t* row) {
  const RoundedRow to = roundedRow(row, cols);
  auto* const bytes = const_cast<int8_t*>(to.q);
  float *const d = const_cast<float*>(to.d), *const dSum = const_cast<float*>(to.dSum);
  for (int64_t b = 0; b < cols / 32; b++) {
    float32x4_t v[8];
    UNROLL for (int i = 0; i < 8; i++) v[i] = vld1q_f32(x + 32 * b + 4 * i);
    // A NaN stays one in these maxima, and makes the step, and so the product, such. So does an infinity.
    float32x4_t most = vabsq_f32(v[0]);
    UNROLL for (int i = 1; i < 8; i++) most = vmaxq_f32(most, vabsq_f32(v[i]));
    const float max = vmaxvq_f32(most);
    // What lies below has an inverse too large for a float.
    const float step = max / 127, inverse = max > 0x1p-120f ? 127 / max : 0;
    int16x8_t pairs[4];
    UNROLL for (int i = 0; i < 4; i++) {
      const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i], inverse));
      const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i + 1], inverse));
      pairs[i] = vcombine_s16(vqmovn_s32(low), vqmovn_s32(high));
    }
    const int8x16_t first = vcombine_s8(vqmovn_s16(pairs[0]), vqmovn_s16(pairs[1]));
    const int8x16_t second = vcombine_s8(vqmovn_s16(pairs[2]), vqmovn_s16(pairs[3]));
    vst1q_s8(bytes + 32 * b, first);
    vst1q_s8(bytes + 32 * b + 16, second);
    d[b] = step;
    dSum[b] = step * (float)(vaddlvq_s8(first) + vaddlvq_s8(second));
  }
}

namespace {

// ---------------------------------------------------------------- products of bytes

// The sums of eight products of 32 weights and the activations at x.
inline float32x4_t dot(const Part32& w, const int8_t* x) {
  const int32x4_t sums = vdotq_s32(vdupq_n_s32(0), w.low, vld1q_s8(x));
  return vcvtq_f32_s32(vdotq_s32(sums, w.high, vld1q_s8(x + 16)));
}

// The products of a row of weights and M rows of x, in chains of additions that don't wait for each other.
template <int M>
struct Sums {
  static constexpr int kChains = M == 1 ? 4 : M == 2 ? 2 : 1;
  float32x4_t products[M][kChains];
  float minima[M];

  Sums() {
    UNROLL for (int i = 0; i < M; i++) {
      UNROLL for (int c = 0; c < kChains; c++) products[i][c] = vdupq_n_f32(0);
      minima[i] = 0;
    }
  }

  float total(int i) const {
    float32x4_t sum = products[i][0];
    UNROLL for (int c = 1; c < kChains; c++) sum = vaddq_f32(sum, products[i][c]);
    return vaddvq_f32(sum) + minima[i];
  }
};

// ---------------------------------------------------------------- types of 32 numbers

template <class T>
struct Blocks {
  static constexpr int kElements = 32;

  template <int kChain, int M>
  static inline __attribute__((always_inline)) void addBlock(const uint8_t* p, int64_t b, const RoundedRow* x,
                                                             Sums<M>* sums) {
    const Part32 q = T::q(p);
    const float d = halfAt(p), minimum = T::kMinimum ? halfAt(p + 2) : 0;
    UNROLL for (int i = 0; i < M; i++) {
      float32x4_t& sum = sums->products[i][kChain % Sums<M>::kChains];
      sum = vfmaq_n_f32(sum, dot(q, x[i].q + 32 * b), d * x[i].d[b]);
      if (T::kMinimum) sums->minima[i] += minimum * x[i].dSum[b];
    }
  }

  template <int M>
  static inline __attribute__((always_inline)) void product(const uint8_t* w, int64_t blocks, const RoundedRow* x,
                                                            float* results) {
    constexpr int kChains = Sums<M>::kChains;
    Sums<M> sums;
    int64_t b = 0;
    if (kChains > 1) {
      for (; b + kChains <= blocks; b += kChains) {
        const uint8_t* const p = w + b * T::kBytes;
        addBlock<0, M>(p, b, x, &sums);
        addBlock<1, M>(p + T::kBytes, b + 1, x, &sums);
        if (kChains > 2) {
          addBlock<2, M>(p + 2 * T::kBytes, b + 2, x, &sums);
          addBlock<3, M>(p + 3 * T::kBytes, b + 3, x, &sums);
        }
      }
    }
    for (; b < blocks; b++) addBlock<0, M>(w + b * T::kBytes, b, x, &sums);
    UNROLL for (int i = 0; i < M; i++) results[i] = sums.total(i);
  }
};

// ---------------------------------------------------------------- types of 256 numbers

// x = d s q - dmin m of 32 numbers each; the fifth bits are at byte 16 in q5_k.
template <bool kFiveBits>
struct BlocksWithMinima {
  static constexpr int kElements = 256;
  static constexpr int kBytes = kFiveBits ? 176 : 144;

  template <int kPart, int M>
  static inline __attribute__((always_inline)) void addPart(Part32 q, int64_t at, const RoundedRow* x,
                                                            const float (*steps)[8], int first, Sums<M>* sums) {
    UNROLL for (int i = 0; i < M; i++) {
      float32x4_t& sum = sums->products[i][kPart % Sums<M>::kChains];
      sum = vfmaq_n_f32(sum, dot(q, x[i].q + at + 32 * kPart), steps[i][first + kPart]);
    }
  }

  // Parts kPart and kPart + 1 of four of half a block.
  template <int kPart, int M>
  static inline __attribute__((always_inline)) void addPair(const uint8_t* quants, uint8x16x2_t bits, int64_t at,
                                                            const RoundedRow* x, const float (*steps)[8], int first,
                                                            Sums<M>* sums) {
    Part32 low, up;
    partsOfPair<kFiveBits, kPart>(quants, bits, &low, &up);
    addPart<kPart, M>(low, at, x, steps, first, sums);
    addPart<kPart + 1, M>(up, at, x, steps, first, sums);
  }

  template <int M>
  static inline __attribute__((always_inline)) void product(const uint8_t* w, int64_t blocks, const RoundedRow* x,
                                                            float* results) {
    Sums<M> sums;
    for (int64_t b = 0; b < blocks; b++) {
      const uint8_t* const p = w + b * kBytes;
      const float d = halfAt(p), dMin = halfAt(p + 2);
      float steps[M][8];
      ROLLED for (int j = 0; j < 8; j++) {
        const Part6 scale = part6(p + 4, j);
        const float step = d * (float)scale.scale, minimum = dMin * (float)scale.minimum;
        UNROLL for (int i = 0; i < M; i++) {
          steps[i][j] = step * x[i].d[8 * b + j];
          sums.minima[i] -= minimum * x[i].dSum[8 * b + j];
        }
      }
      ROLLED for (int half = 0; half < 2; half++) {
        const uint8_t* const quants = p + (kFiveBits ? 48 : 16) + 64 * half;
        const uint8x16x2_t bits = fifthBitsOfHalf<kFiveBits>(p, half);
        const int64_t at = 256 * b + 128 * half;
        addPair<0, M>(quants, bits, at, x, steps, 4 * half, &sums);
        addPair<2, M>(quants, bits, at, x, steps, 4 * half, &sums);
      }
    }
    UNROLL for (int i = 0; i < M; i++) results[i] = sums.total(i);
  }
};

// x = d s (q - 32), a scale each 16 numbers.
struct BlocksOf6Bits {
  static constexpr int kElements = 256;
  static constexpr int kBytes = 210;

  template <int kPart, int M>
  static inline __attribute__((always_inline)) void addPart(const uint8_t* low, const uint8_t* bits, const float* scales,
                                                            int64_t at, const RoundedRow* x, Sums<M>* sums) {
    UNROLL for (int half = 0; half < 2; half++) {
      const int8x16_t q = quantsOf6Bits<kPart>(vld1q_u8(low + 16 * half), vld1q_u8(bits + 16 * half));
      const float scale = scales[2 * kPart + half];
      UNROLL for (int i = 0; i < M; i++) {
        const int32x4_t sum = vdotq_s32(vdupq_n_s32(0), q, vld1q_s8(x[i].q + at + 32 * kPart + 16 * half));
        float32x4_t& to = sums->products[i][(2 * kPart + half) % Sums<M>::kChains];
        to = vfmaq_n_f32(to, vcvtq_f32_s32(sum), scale * x[i].d[at / 32 + kPart]);
      }
    }
  }

  template <int M>
  static inline __attribute__((always_inline)) void product(const uint8_t* w, int64_t blocks, const RoundedRow* x,
                                                            float* results) {
    Sums<M> sums;
    for (int64_t b = 0; b < blocks; b++) {
      const uint8_t* const p = w + b * kBytes;
      const float d = halfAt(p + 208);
      ROLLED for (int half = 0; half < 2; half++) {
        const auto* const bytes = (const int8_t*)(p + 192 + 8 * half);
        float scales[8];
        UNROLL for (int j = 0; j < 8; j++) scales[j] = d * (float)bytes[j];
        const uint8_t *const low = p + 64 * half, *const bits = p + 128 + 32 * half;
        const int64_t at = 256 * b + 128 * half;
        addPart<0, M>(low, bits, scales, at, x, &sums);
        addPart<1, M>(low + 32, bits, scales, at, x, &sums);
        addPart<2, M>(low, bits, scales, at, x, &sums);
        addPart<3, M>(low + 32, bits, scales, at, x, &sums);
      }
    }
    UNROLL for (int i = 0; i < M; i++) results[i] = sums.total(i);
  }
};

}  // namespace

}  // namespace SGEMOE_ISA
}  // namespace sgemoe

#include "stored_rows.h"

#endif
