// Transposing small matrices in registers.
#pragma once
#include "../simd.h"

namespace sgemoe {
namespace SGEMOE_ISA {

#if defined(__AVX2__)
constexpr int kTransposeBlock = 8;

// put(j, v) for j = 0 .. 7 in turn, with v[i] = rowOf(i)[j] for i < 8. Rows i and i+4 meet in one register while loading, so that
// the two rounds of shuffles stay within its halves.
template <class RowOf, class Put>
inline void transposeEight(RowOf rowOf, Put put) {
  for (int at = 0; at < 8; at += 4) {
    __m256 rows[4];
    for (int i = 0; i < 4; ++i) {
      const __m128 low = _mm_loadu_ps(rowOf(i) + at), high = _mm_loadu_ps(rowOf(i + 4) + at);
      rows[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
    }
    const __m256 low01 = _mm256_unpacklo_ps(rows[0], rows[1]), high01 = _mm256_unpackhi_ps(rows[0], rows[1]);
    const __m256 low23 = _mm256_unpacklo_ps(rows[2], rows[3]), high23 = _mm256_unpackhi_ps(rows[2], rows[3]);
    put(at, _mm256_shuffle_ps(low01, low23, 0x44));
    put(at + 1, _mm256_shuffle_ps(low01, low23, 0xee));
    put(at + 2, _mm256_shuffle_ps(high01, high23, 0x44));
    put(at + 3, _mm256_shuffle_ps(high01, high23, 0xee));
  }
}

// dst[j*dstStep + i] = src[i*srcStep + j] for i, j < kTransposeBlock.
inline void transposeBlock(const float* src, int64_t srcStep, float* dst, int64_t dstStep) {
  transposeEight([=](int i) { return src + i * srcStep; },
                 [=](int j, __m256 lanes) { _mm256_storeu_ps(dst + j * dstStep, lanes); });
}
#else
constexpr int kTransposeBlock = 4;

inline void transposeBlock(const float* src, int64_t srcStep, float* dst, int64_t dstStep) {
#if defined(__SSE2__)
  __m128 r0 = _mm_loadu_ps(src), r1 = _mm_loadu_ps(src + srcStep);
  __m128 r2 = _mm_loadu_ps(src + 2 * srcStep), r3 = _mm_loadu_ps(src + 3 * srcStep);
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  _mm_storeu_ps(dst, r0);
  _mm_storeu_ps(dst + dstStep, r1);
  _mm_storeu_ps(dst + 2 * dstStep, r2);
  _mm_storeu_ps(dst + 3 * dstStep, r3);
#elif defined(__wasm_simd128__)
  const Vf r0 = load(src), r1 = load(src + srcStep), r2 = load(src + 2 * srcStep), r3 = load(src + 3 * srcStep);
  const Vf low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
  const Vf low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
  store(dst, __builtin_shufflevector(low01, low23, 0, 1, 4, 5));
  store(dst + dstStep, __builtin_shufflevector(low01, low23, 2, 3, 6, 7));
  store(dst + 2 * dstStep, __builtin_shufflevector(high01, high23, 0, 1, 4, 5));
  store(dst + 3 * dstStep, __builtin_shufflevector(high01, high23, 2, 3, 6, 7));
#else
  for (int j = 0; j < kTransposeBlock; ++j) {
    for (int i = 0; i < kTransposeBlock; ++i) dst[j * dstStep + i] = src[i * srcStep + j];
  }
#endif
}
#endif

// dst [cols, rows] = the transpose of src [rows, cols]; both sizes are multiples of kTransposeBlock.
inline void transpose(const float* src, int64_t srcStep, int64_t rows, int64_t cols, float* dst, int64_t dstStep) {
  for (int64_t i = 0; i < rows; i += kTransposeBlock) {
    for (int64_t j = 0; j < cols; j += kTransposeBlock) {
      transposeBlock(src + i * srcStep + j, srcStep, dst + j * dstStep + i, dstStep);
    }
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
