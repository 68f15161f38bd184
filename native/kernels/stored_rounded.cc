// Rounded activations by block types as they lie in memory: weights are read once, in order, and taken apart once for up to
// eight rows.
#include "stored_quants.h"
#include "stored_rounded.h"

#if defined(__AVX2__)

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// ---------------------------------------------------------------- activations

// The sum of each half's bytes, in all its lanes.
inline __m256i sumsOf16(__m256i q) {
  __m256i sums = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), q), _mm256_set1_epi16(1));
  sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0x4e));
  return _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0xb1));
}

inline float maxOf8(__m256 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}

inline float sumOf8(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

}  // namespace

void roundRow(const float* x, int64_t cols, uint8_t* row) {
  const RoundedRow to = roundedRow(row, cols);
  float *const d = const_cast<float*>(to.d), *const dSum = const_cast<float*>(to.dSum);
  float* const dSum16 = const_cast<float*>(to.dSum16);
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  // packs works within halves: this puts groups of 4 into order again.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (int64_t b = 0; b < cols / 32; b++) {
    __m256 v[4];
    UNROLL for (int i = 0; i < 4; i++) v[i] = _mm256_loadu_ps(x + 32 * b + 8 * i);
    __m256 most = _mm256_and_ps(magnitude, v[0]);
    UNROLL for (int i = 1; i < 4; i++) most = _mm256_max_ps(most, _mm256_and_ps(magnitude, v[i]));
    const __m256 unordered = _mm256_or_ps(_mm256_cmp_ps(v[0], v[1], _CMP_UNORD_Q), _mm256_cmp_ps(v[2], v[3], _CMP_UNORD_Q));
    const float max = _mm256_movemask_ps(unordered) != 0 ? __builtin_nanf("") : maxOf8(most);
    // What lies below has an inverse too large for a float. Infinite and NaN activations make the step, and so the product, such.
    const float step = max / 127, inverse = max > 0x1p-120f ? 127 / max : 0;
    __m256i q[4];
    UNROLL for (int i = 0; i < 4; i++) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], _mm256_set1_ps(inverse)));
    const __m256i pairs = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    const __m256i bytes = _mm256_permutevar8x32_epi32(pairs, order);
    const __m256i sums = sumsOf16(bytes);
    const int low = _mm256_extract_epi32(sums, 0), high = _mm256_extract_epi32(sums, 4);
    _mm256_storeu_si256((__m256i*)(to.q + 32 * b), bytes);
    d[b] = step;
    dSum[b] = step * (float)(low + high);
    dSum16[2 * b] = step * (float)low;
    dSum16[2 * b + 1] = step * (float)high;
  }
}

namespace {

// ---------------------------------------------------------------- products of bytes

// AVX-VNNI, for processors without AVX-512: as assembly, since older compilers know neither its flag nor its name. They add
// products of bytes as with AVX2.
#if defined(SGEMOE_AVXVNNI) && defined(__has_include)
#if __has_include(<avxvnniintrin.h>)
#define SGEMOE_VEX_VPDPBUSD
#endif
#endif

// The sums of 4 products u s, u of 0 .. 63, with VNNI of 0 .. 255.
inline __m256i dot(__m256i u, __m256i s) {
#if defined(__AVX512VNNI__)
  return _mm256_dpbusd_epi32(_mm256_setzero_si256(), u, s);
#elif defined(SGEMOE_VEX_VPDPBUSD)
  __m256i sums = _mm256_setzero_si256();
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(u), "x"(s));
  return sums;
#else
  return _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
#endif
}

// The products of a row of weights and M rows of x, in chains of additions that don't wait for each other.
template <int M>
struct Sums {
  static constexpr int kChains = M == 1 ? 4 : M == 2 ? 2 : 1;
  __m256 products[M][kChains], minima[M];

  Sums() {
    UNROLL for (int i = 0; i < M; i++) {
      UNROLL for (int c = 0; c < kChains; c++) products[i][c] = _mm256_setzero_ps();
      minima[i] = _mm256_setzero_ps();
    }
  }

  // The sums of row i: with kMinus the minima are taken off, else they are added.
  template <bool kMinus>
  float total(int i) const {
    __m256 sum = products[i][0];
    UNROLL for (int c = 1; c < kChains; c++) sum = _mm256_add_ps(sum, products[i][c]);
    return sumOf8(kMinus ? _mm256_sub_ps(sum, minima[i]) : _mm256_add_ps(sum, minima[i]));
  }
};

// Eight steps for each of M rows. One of them is wanted in all lanes: spread from memory that costs a load, from a register
// a shuffle and a register of places. Loads are what one row by weights without a fifth bit is bound by.
template <int M, bool kFifthBit>
struct Steps {
#if defined(__AVX512VL__)
  static constexpr bool kShuffled = M == 1 && !kFifthBit;
#else
  static constexpr bool kShuffled = false;  // 16 registers hold no places
#endif
  __m256 rows[M];

  template <int kPart>
  __m256 of(int i) const {
    if (kShuffled) return _mm256_permutevar8x32_ps(rows[i], _mm256_set1_epi32(kPart));
    return _mm256_set1_ps(((const float*)(rows + i))[kPart]);
  }
  // Compilers would rather shuffle twice than load what they have just stored.
  void settle() const {
    if (!kShuffled) __asm__ volatile("" : : "r"(rows) : "memory");
  }
};

// Adds the products of 32 weights and number `at` on of each row, times its step kPart.
template <bool kSigned, int kPart, int M, class S>
inline __attribute__((always_inline)) void addPart(__m256i q, int64_t at, const RoundedRow* x, const S& steps,
                                                   Sums<M>* sums) {
  UNROLL for (int i = 0; i < M; i++) {
    const __m256i right = load32(x[i].q + at);
    // Of |q| <= 128 and 127 the sum of two products fits 16 bits.
    const __m256i lanes = kSigned ? dot(_mm256_sign_epi8(q, q), _mm256_sign_epi8(right, q)) : dot(q, right);
    __m256& sum = sums->products[i][kPart % Sums<M>::kChains];
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(lanes), steps.template of<kPart>(i), sum);
  }
}

// The float16 numbers at p, p + kStride ... of 8 blocks.
template <int kStride>
inline __m256 halvesOf8(const uint8_t* p) {
#if defined(__AVX512BW__)
  if (3 * kStride + 2 <= 64) {  // a register holds those of four blocks
    constexpr short kNext = kStride / 2, kSecond = 32;
    const __m512i places = _mm512_castsi128_si512(_mm_setr_epi16(
        0, kNext, 2 * kNext, 3 * kNext, kSecond, kSecond + kNext, kSecond + 2 * kNext, kSecond + 3 * kNext));
    const __m512i words =
        _mm512_permutex2var_epi16(_mm512_loadu_si512(p), places, _mm512_loadu_si512(p + 4 * kStride));
    return _mm256_cvtph_ps(_mm512_castsi512_si128(words));
  }
#endif
  uint16_t h[8];
  UNROLL for (int j = 0; j < 8; j++) memcpy(h + j, p + j * kStride, 2);
  return _mm256_cvtph_ps(_mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3], (short)h[4], (short)h[5],
                                        (short)h[6], (short)h[7]));
}

template <class T>
struct Blocks {
  static constexpr int kElements = 32;
  static constexpr bool kShifted = T::kMinimum || T::kZero != 0;

  template <int kPart, int M, class S>
  static inline __attribute__((always_inline)) void addBlock(const uint8_t* p, int64_t b, const RoundedRow* x,
                                                             const S& steps, Sums<M>* sums) {
    addPart<T::kSigned, kPart, M>(T::q(p + kPart * T::kBytes), 32 * (b + kPart), x, steps, sums);
  }

  template <int M>
  static inline __attribute__((always_inline)) void product(const uint8_t* w, int64_t blocks, const RoundedRow* x,
                                                            float* results) {
    Sums<M> sums;
    int64_t b = 0;
    for (; b + 8 <= blocks; b += 8) {
      const uint8_t* const p = w + b * T::kBytes;
      UNROLL for (int line = 0; line < 8 * T::kBytes; line += 64) _mm_prefetch((const char*)p + kPrefetchBytes + line, _MM_HINT_T0);
      const __m256 d = halvesOf8<T::kBytes>(p);
      // What is to be added for each d_x sum q_x.
      const __m256 minimum = T::kMinimum ? halvesOf8<T::kBytes>(p + 2) : _mm256_mul_ps(d, _mm256_set1_ps(-T::kZero));
      Steps<M, T::kFifthBit> steps;
      UNROLL for (int i = 0; i < M; i++) {
        steps.rows[i] = _mm256_mul_ps(d, _mm256_loadu_ps(x[i].d + b));
        if (kShifted) sums.minima[i] = _mm256_fmadd_ps(minimum, _mm256_loadu_ps(x[i].dSum + b), sums.minima[i]);
      }
      steps.settle();
      addBlock<0, M>(p, b, x, steps, &sums);
      addBlock<1, M>(p, b, x, steps, &sums);
      addBlock<2, M>(p, b, x, steps, &sums);
      addBlock<3, M>(p, b, x, steps, &sums);
      addBlock<4, M>(p, b, x, steps, &sums);
      addBlock<5, M>(p, b, x, steps, &sums);
      addBlock<6, M>(p, b, x, steps, &sums);
      addBlock<7, M>(p, b, x, steps, &sums);
    }
    float rest[M] = {};
    for (; b < blocks; b++) {
      const uint8_t* const p = w + b * T::kBytes;
      Steps<M, T::kFifthBit> steps;
      UNROLL for (int i = 0; i < M; i++) {
        steps.rows[i] = _mm256_set1_ps(halfAt(p) * x[i].d[b]);
        if (kShifted) rest[i] += (T::kMinimum ? halfAt(p + 2) : -T::kZero * halfAt(p)) * x[i].dSum[b];
      }
      addBlock<0, M>(p, b, x, steps, &sums);
    }
    UNROLL for (int i = 0; i < M; i++) results[i] = sums.template total<false>(i) + rest[i];
  }
};

// ---------------------------------------------------------------- types of 256 numbers

// x = d s q - dmin m of 32 numbers each; the fifth bits are at byte 16 in q5_k.
template <bool kFiveBits>
struct BlocksWithMinima {
  static constexpr int kElements = 256;
  static constexpr int kBytes = kFiveBits ? 176 : 144;

  template <int kPair, int M, class S>
  static inline __attribute__((always_inline)) void addPair(const uint8_t* quants, __m256i bits, int64_t b,
                                                            const RoundedRow* x, const S& steps, Sums<M>* sums) {
    __m256i low, up;
    quantsOfPair<kFiveBits, kPair>(quants, bits, &low, &up);
    const int64_t at = 256 * b + 64 * kPair;
    addPart<false, 2 * kPair, M>(low, at, x, steps, sums);
    addPart<false, 2 * kPair + 1, M>(up, at + 32, x, steps, sums);
  }

  template <int M>
  static inline __attribute__((always_inline)) void product(const uint8_t* w, int64_t blocks, const RoundedRow* x,
                                                            float* results) {
    Sums<M> sums;
    for (int64_t b = 0; b < blocks; b++) {
      const uint8_t* const p = w + b * kBytes;
      UNROLL for (int line = 0; line < kBytes; line += 64) _mm_prefetch((const char*)p + kPrefetchBytes + line, _MM_HINT_T0);
      __m256 scales, mins;
      scalesOf6Bits(p + 4, &scales, &mins);
      scales = _mm256_mul_ps(scales, _mm256_set1_ps(halfAt(p)));
      mins = _mm256_mul_ps(mins, _mm256_set1_ps(halfAt(p + 2)));
      Steps<M, kFiveBits> steps;
      UNROLL for (int i = 0; i < M; i++) {
        steps.rows[i] = _mm256_mul_ps(scales, _mm256_loadu_ps(x[i].d + 8 * b));
        sums.minima[i] = _mm256_fmadd_ps(mins, _mm256_loadu_ps(x[i].dSum + 8 * b), sums.minima[i]);
      }
      steps.settle();
      const uint8_t* const quants = p + (kFiveBits ? 48 : 16);
      const __m256i bits = kFiveBits ? load32(p + 16) : _mm256_setzero_si256();
      addPair<0, M>(quants, bits, b, x, steps, &sums);
      addPair<1, M>(quants, bits, b, x, steps, &sums);
      addPair<2, M>(quants, bits, b, x, steps, &sums);
      addPair<3, M>(quants, bits, b, x, steps, &sums);
    }
    UNROLL for (int i = 0; i < M; i++) results[i] = sums.template total<true>(i);
  }
};

// x = d s (q - 32), a scale each 16 numbers.
struct BlocksOf6Bits {
  static constexpr int kElements = 256;
  static constexpr int kBytes = 210;

  // Part kPart of half a block: the two scales of its 16 numbers each, in the lanes of their sums.
  template <int kPart, int M>
  static inline __attribute__((always_inline)) void addPart(__m256i low, __m256i bits, int64_t at, const RoundedRow* x,
                                                            const __m256* steps, Sums<M>* sums) {
    const __m256i q = quantsOf6Bits<kPart>(low, bits);
    const __m256i lanes = _mm256_setr_epi32(2 * kPart, 2 * kPart, 2 * kPart, 2 * kPart, 2 * kPart + 1, 2 * kPart + 1,
                                            2 * kPart + 1, 2 * kPart + 1);
    UNROLL for (int i = 0; i < M; i++) {
      const __m256i sum = dot(q, load32(x[i].q + at + 32 * kPart));
      __m256& to = sums->products[i][kPart % Sums<M>::kChains];
      to = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_permutevar8x32_ps(steps[i], lanes), to);
    }
  }

  template <int M>
  static inline __attribute__((always_inline)) void product(const uint8_t* w, int64_t blocks, const RoundedRow* x,
                                                            float* results) {
    Sums<M> sums;
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    for (int64_t b = 0; b < blocks; b++) {
      const uint8_t* const p = w + b * kBytes;
      for (int line = 0; line < kBytes; line += 64) _mm_prefetch((const char*)p + kPrefetchBytes + line, _MM_HINT_T0);
      const __m256 d = _mm256_set1_ps(halfAt(p + 208));
      for (int half = 0; half < 2; half++) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i*)(p + 192 + 8 * half));
        const __m256 scales = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
        const __m256i low = load32(p + 64 * half), next = load32(p + 64 * half + 32), bits = load32(p + 128 + 32 * half);
        const __m256 minimum = _mm256_mul_ps(scales, _mm256_set1_ps(-32));
        __m256 steps[M];
        UNROLL for (int i = 0; i < M; i++) {
          const __m256 dSum = _mm256_loadu_ps(x[i].dSum16 + 16 * b + 8 * half);
          sums.minima[i] = _mm256_fmadd_ps(minimum, dSum, sums.minima[i]);
          const __m256 dx = _mm256_castps128_ps256(_mm_loadu_ps(x[i].d + 8 * b + 4 * half));
          steps[i] = _mm256_mul_ps(scales, _mm256_permutevar8x32_ps(dx, twice));
        }
        const int64_t at = 256 * b + 128 * half;
        addPart<0, M>(low, bits, at, x, steps, &sums);
        addPart<1, M>(next, bits, at, x, steps, &sums);
        addPart<2, M>(low, bits, at, x, steps, &sums);
        addPart<3, M>(next, bits, at, x, steps, &sums);
      }
    }
    UNROLL for (int i = 0; i < M; i++) results[i] = sums.template total<false>(i);
  }
};

}  // namespace

}  // namespace SGEMOE_ISA
}  // namespace sgemoe

#include "stored_rows.h"

#endif
