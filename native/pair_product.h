// The product of packed panels (tile_layout.h) of bfloat16 by vectors of float32 sums, to each of which one instruction adds the
// products of a pair. A tile of op(B) is what such instructions read: in each word lie two steps of a column. Pairs is the
// instruction of AVX-512 (kernels/pair_products.cc) or the model of it (tiles_model.cc); all else is the same source for both.
#pragma once
#include "packed_blocks.h"

namespace sgemoe {

template <class Pairs>
class PairProduct {
 public:
  explicit PairProduct(const PackedProduct& s) : s_(s), steps_(ceilDiv(s.depth, kTileSteps)) {}

  void run() {
    forPanels(s_, [this](int64_t i, int64_t j) { block(i, j); });
  }

 private:
  using Vector = typename Pairs::Vector;             // kTileSide sums, or pairs
  static constexpr int64_t kRows = 8;                // of a group, with two vectors each: 16 sums wait for no other
  static constexpr int64_t kStep = 2 * kTileFloats;  // words of a panel for kTileSteps

  // Rows from 32 i and columns from 32 j of C.
  void block(int64_t i, int64_t j) {
    const float* const a = s_.a + i * s_.aStride;
    const float* const b = s_.b + j * s_.bStride;
    const int64_t row = i * kTilePanel, col = j * kTilePanel;
    const int64_t rows = minOf(kTilePanel, s_.rows - row), cols = minOf(kTilePanel, s_.cols - col);
    alignas(64) float sums[kTilePanel * kTilePanel];
    for (int64_t r = 0; r < rows; r += kRows) {
      const float* const group = a + r / kTileSide * kTileFloats + r % kTileSide * kTileSide;
      if (cols > kTileSide) {
        sum<2>(group, b, sums + r * kTilePanel);
      } else {
        sum<1>(group, b, sums + r * kTilePanel);
      }
    }
    s_.tiles->update(sums, rows, cols, s_.alpha, s_.beta, s_.c + row * s_.ldc + col, s_.ldc);
  }

  // sums [kRows][32] of C tiles of op(B).
  template <int C>
  void sum(const float* a, const float* b, float* sums) const {
    Vector total[kRows][C];
    for (int r = 0; r < kRows; r++) {
      for (int c = 0; c < C; c++) total[r][c] = Pairs::zero();
    }
    for (int64_t step = 0; step < steps_; step++, a += kStep, b += kStep) {
      for (int64_t pair = 0; pair < kTileSteps / 2; pair++) {
        Vector columns[C];
        for (int c = 0; c < C; c++) columns[c] = Pairs::load(b + c * kTileFloats + pair * kTileSide);
        for (int r = 0; r < kRows; r++) {
          const Vector row = Pairs::broadcast(a + r * kTileSide + pair);
          for (int c = 0; c < C; c++) Pairs::addProducts(total[r][c], row, columns[c]);
        }
      }
    }
    for (int r = 0; r < kRows; r++) {
      for (int c = 0; c < C; c++) Pairs::store(sums + r * kTilePanel + c * kTileSide, total[r][c]);
    }
  }

  const PackedProduct& s_;
  const int64_t steps_;
};

}  // namespace sgemoe
