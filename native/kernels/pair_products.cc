// Products of panels of bfloat16 (../tile_layout.h) by instructions that vectors have for it: where there is no matrix unit, these take
// half or a quarter of the instructions of float32. Written as assembly, since the compiler's intrinsics need flags that would
// have this compiled once more.
#include "pair_products.h"

#include "../pair_product.h"
#include "internal.h"

#if defined(SGEMOE_VDPBF16PS)
#include <immintrin.h>
#elif defined(SGEMOE_BFMMLA)
#include <arm_neon.h>
#endif

namespace sgemoe {
namespace SGEMOE_ISA {

#if defined(SGEMOE_VDPBF16PS)
namespace {

struct Vdpbf16ps {
  using Vector = __m512;
  static Vector zero() { return _mm512_setzero_ps(); }
  static Vector load(const float* from) { return _mm512_loadu_ps(from); }
  static Vector broadcast(const float* from) { return _mm512_set1_ps(*from); }
  static void addProducts(Vector& sums, Vector row, Vector columns) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(row), "v"(columns));
  }
  static void store(float* to, Vector sums) { _mm512_storeu_ps(to, sums); }
};

}  // namespace

void multiplyPairs(const PackedProduct& s) { PairProduct<Vdpbf16ps>(s).run(); }

#elif defined(SGEMOE_BFMMLA)
namespace {

constexpr int64_t kSide = 8;  // rows and columns of a group: 16 registers of 2 x 2 sums

// sums (2 x 2) += rows (2 x 4) * columns (4 x 2), the columns behind each other.
inline void addSquare(float32x4_t& sums, uint32x4_t rows, uint32x4_t columns) {
  __asm__(".arch_extension bf16\n\tbfmmla %0.4s, %1.8h, %2.8h" : "+w"(sums) : "w"(rows), "w"(columns));
}

// sums [8][32] of 8 rows of a tile of op(A) by 8 columns of one of op(B).
void sumGroup(const float* a, const float* b, int64_t steps, float* sums) {
  float32x4_t total[kSide / 2][kSide / 2];
  for (auto& row : total) {
    for (float32x4_t& square : row) square = vdupq_n_f32(0);
  }
  for (int64_t step = 0; step < steps; step++, a += 2 * kTileFloats, b += 2 * kTileFloats) {
    for (int64_t pair = 0; pair < kTileSteps / 2; pair += 2) {
      const uint32_t* const left = (const uint32_t*)a + pair;
      const uint32_t* const right = (const uint32_t*)b + pair * kTileSide;
      uint32x4_t rows[kSide / 2], columns[kSide / 2];
      for (int64_t r = 0; r < kSide / 2; r++) {
        rows[r] = vcombine_u32(vld1_u32(left + 2 * r * kTileSide), vld1_u32(left + (2 * r + 1) * kTileSide));
      }
      for (int64_t c = 0; c < kSide; c += 4) {
        const uint32x4_t first = vld1q_u32(right + c), second = vld1q_u32(right + kTileSide + c);
        columns[c / 2] = vzip1q_u32(first, second);
        columns[c / 2 + 1] = vzip2q_u32(first, second);
      }
      for (int64_t r = 0; r < kSide / 2; r++) {
        for (int64_t c = 0; c < kSide / 2; c++) addSquare(total[r][c], rows[r], columns[c]);
      }
    }
  }
  for (int64_t r = 0; r < kSide / 2; r++, sums += 2 * kTilePanel) {
    for (int64_t c = 0; c < kSide / 2; c++) {
      vst1_f32(sums + 2 * c, vget_low_f32(total[r][c]));
      vst1_f32(sums + kTilePanel + 2 * c, vget_high_f32(total[r][c]));
    }
  }
}

}  // namespace

void multiplyPairs(const PackedProduct& s) {
  const int64_t steps = ceilDiv(s.depth, kTileSteps);
  // Row or column `line` of a panel's first step; 16 words of a row, one of a column.
  auto begin = [](const float* panel, int64_t line, int64_t words) {
    return panel + line / kTileSide * kTileFloats + line % kTileSide * words;
  };
  forPanels(s, [&](int64_t i, int64_t j) {
    const int64_t row = i * kTilePanel, col = j * kTilePanel;
    const int64_t rows = minOf(kTilePanel, s.rows - row), cols = minOf(kTilePanel, s.cols - col);
    alignas(64) float sums[kTilePanel * kTilePanel];
    for (int64_t c = 0; c < cols; c += kSide) {
      for (int64_t r = 0; r < rows; r += kSide) {
        sumGroup(begin(s.a + i * s.aStride, r, kTileSide), begin(s.b + j * s.bStride, c, 1), steps, sums + r * kTilePanel + c);
      }
    }
    s.tiles->update(sums, rows, cols, s.alpha, s.beta, s.c + row * s.ldc + col, s.ldc);
  });
}
#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
