// Copies of a panel of op(B) in the order in which a register tile reads it.
#pragma once
#include <stdlib.h>

#include "sgemm_tile.h"
#include "transpose.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

#if !defined(__wasm__)
// `count` floats that a thread keeps, since one that multiplies once usually does so again.
struct KeptFloats {
  int64_t count;
  float* memory = nullptr;
  explicit KeptFloats(int64_t floats) : count(floats) {}
  ~KeptFloats() { free(memory); }
  // 64-byte aligned; null where there is no memory.
  float* get() {
    if (memory == nullptr) memory = static_cast<float*>(malloc((count + 16) * sizeof(float)));
    if (memory == nullptr) return nullptr;
    return memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64 / sizeof(float);
  }
};
#endif

#if defined(__AVX512F__)
// dst [k, width] from 16 rows of src, k a multiple of 4. Quarters of vectors are gathered while loading, so that rows
// j, j+4, j+8 and j+12 meet in one vector and two rounds of shuffles within quarters are left.
inline void transposeSixteen(const float* src, int64_t ld, int64_t k, float* dst, int64_t width) {
  for (int64_t p = 0; p < k; p += 4) {
    __m512 rows[4];
    UNROLL for (int i = 0; i < 4; i++) {
      const float* from = src + i * ld + p;
      __m512 row = _mm512_castps128_ps512(_mm_loadu_ps(from));
      row = _mm512_insertf32x4(row, _mm_loadu_ps(from + 4 * ld), 1);
      row = _mm512_insertf32x4(row, _mm_loadu_ps(from + 8 * ld), 2);
      rows[i] = _mm512_insertf32x4(row, _mm_loadu_ps(from + 12 * ld), 3);
    }
    const __m512 low01 = _mm512_unpacklo_ps(rows[0], rows[1]), high01 = _mm512_unpackhi_ps(rows[0], rows[1]);
    const __m512 low23 = _mm512_unpacklo_ps(rows[2], rows[3]), high23 = _mm512_unpackhi_ps(rows[2], rows[3]);
    float* to = dst + p * width;
    store(to, _mm512_shuffle_ps(low01, low23, 0x44));
    store(to + width, _mm512_shuffle_ps(low01, low23, 0xee));
    store(to + 2 * width, _mm512_shuffle_ps(high01, high23, 0x44));
    store(to + 3 * width, _mm512_shuffle_ps(high01, high23, 0xee));
  }
}
#endif

// dst [k, width] = the transpose of src [cols, k], zeros in columns cols..width.
inline void packTransposed(const float* src, int64_t ld, int64_t k, int64_t cols, float* dst, int64_t width) {
  const int64_t wholeK = k / kTransposeBlock * kTransposeBlock;
  int64_t j = 0;
#if defined(__AVX512F__)
  for (; j + 16 <= cols && k % 4 == 0; j += 16) transposeSixteen(src + j * ld, ld, k, dst + j, width);
#endif
  for (; j + kTransposeBlock <= cols; j += kTransposeBlock) {
    const float* from = src + j * ld;
    for (int64_t p = 0; p < wholeK; p += kTransposeBlock) transposeBlock(from + p, ld, dst + p * width + j, width);
    for (int64_t p = wholeK; p < k; p++) {
      for (int i = 0; i < kTransposeBlock; i++) dst[p * width + j + i] = from[i * ld + p];
    }
  }
  for (; j < width; j++) {
    for (int64_t p = 0; p < k; p++) dst[p * width + j] = j < cols ? src[j * ld + p] : 0;
  }
}

// dst [k, width] = src [k, cols], zeros in columns cols..width.
inline void packCopied(const float* src, int64_t ld, int64_t k, int64_t cols, float* dst, int64_t width) {
  for (int64_t p = 0; p < k; p++) {
    int64_t j = 0;
    for (; j + kLanes <= cols; j += kLanes) store(dst + p * width + j, load(src + p * ld + j));
    if (j < width) store(dst + p * width + j, loadPartial(src + p * ld + j, static_cast<int>(cols - j)));
  }
}

}  // namespace

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
