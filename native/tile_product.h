// The product of packed panels (tile_layout.h) on tiles. Unit is a matrix unit with 8 tile registers: the processor's
// (tiles_amx.cc) or the model of it (tiles_model.cc). Everything is the same source for both, so that tests of the model test what
// the processor runs; only the instructions themselves differ.
//
// bfloat16 by bfloat16 is one product. float32 by float32 takes the six products of parts i and j with i + j <= 4, which are 1, 2^-8 and 2^-16 of the whole product in
// size; what is left out is below 2^-24 of it, mostly below 2^-26. float32 by bfloat16 takes all three. Each tile instruction adds 16 pairs of products to
// its sums and rounds as Intel's manual says: two chains of fused multiply-adds from zero, their sum, the sum with the tile.
#pragma once
#include <cmath>
#include <cstring>

#include "arith.h"
#include "kernels/kernels.h"
#include "packed_blocks.h"
#include "tile_layout.h"

namespace sgemoe {

// The 64 bytes that LDTILECFG reads (Intel's manual, volume 1, 18.2).
struct TileConfig {
  uint8_t palette, startRow, reserved[14];
  uint16_t rowBytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64, "the processor reads 64 bytes");

// 16 rows of 64 bytes in each of the 8 registers: edges are padded with zeros instead. A constant, so that no compiler can
// drop stores to it that it doesn't know the instruction to read.
alignas(64) constexpr TileConfig kTileConfig = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

// Whether the unit's results can be used. It takes numbers below 2^-126 for zero and makes zeros of such results, and a sum may
// overflow that a float32 kernel adds in another order.
struct TileTrust {
  enum Kind { always, byResults, never } kind;
  float least;  // byResults: the magnitude from which a result of the unit is right
};

static inline int exponentOf(uint32_t bits) { return static_cast<int>(bits >> 23) - 127; }

static inline TileTrust trustOf(const TileRange& a, const TileRange& b, int64_t depth) {
  constexpr uint32_t kTooLarge = 0x7f000000;  // 2^127, and infinities and NaNs: might round to an infinite first part
  if (a.most >= kTooLarge || b.most >= kTooLarge) return {TileTrust::never, 0};
  const int mostA = exponentOf(a.most) + 1, mostB = exponentOf(b.most) + 1;  // |a| < 2^mostA
  int steps = 0;
  while ((int64_t{1} << steps) < depth) steps++;
  if (mostA + mostB + steps + 1 > 126) return {TileTrust::never, 0};
  // Nothing is flushed if all parts are normal numbers and all products multiples of 2^-126. With 2^e <= |a| the parts of a are
  // multiples of 2^(e - 23), so those of products of a and b are multiples of 2^(e - 23) 2^(f - 23).
  constexpr uint32_t kNone = UINT32_MAX;
  if (a.least == kNone || b.least == kNone) return {TileTrust::always, 0};
  const int leastA = exponentOf(a.least + 1), leastB = exponentOf(b.least + 1);
  if (leastA >= -103 && leastB >= -103 && leastA + leastB >= -80) return {TileTrust::always, 0};
  // Otherwise parts of a and b are off by less than 2^-125, and each of at most 7 sums a step by 2^-126: together by less than
  // depth * 2^-123 * (1 + |a| + |b|). That is below 2^-26 of what is at least 2^26 times as large.
  const double error = static_cast<double>(depth) * 0x1p-123 * (1 + std::ldexp(1.0, mostA) + std::ldexp(1.0, mostB));
  return {TileTrust::byResults, static_cast<float>(error * 0x1p26)};
}

template <class Unit, int kRowParts, int kColumnParts>
class TileProduct {
 public:
  explicit TileProduct(const PackedProduct& s) : s_(s), steps_(ceilDiv(s.depth, kTileSteps)) {}

  // Tile registers are configured here and released at the end, so that a thread that does something else has no tile state for
  // the system to save.
  void run() {
    unit_.configure(kTileConfig);
    forPanels(s_, [this](int64_t i, int64_t j) { block(i, j); });
    unit_.release();
  }

 private:
  static TileRange rangeOf(const float* panel, int64_t at, int parts) {
    TileRange range;
    std::memcpy(&range, panel - at * tileStepFloats(parts) - kTileHeader, sizeof range);
    return range;
  }

  // Rounded operands are the unit's own numbers: what it flushes, kernels.ts allows.
  TileTrust trustIn(const float* a, const float* b) const {
    if (kRowParts == 1) return {TileTrust::always, 0};
    return trustOf(rangeOf(a, s_.aAt, kRowParts), rangeOf(b, s_.bAt, kColumnParts), s_.depth);
  }

  // Rows from 32 i and columns from 32 j of C.
  void block(int64_t i, int64_t j) {
    const float* const a = s_.a + i * s_.aStride;
    const float* const b = s_.b + j * s_.bStride;
    const int64_t row = i * kTilePanel, col = j * kTilePanel;
    const int64_t rows = minOf(kTilePanel, s_.rows - row), cols = minOf(kTilePanel, s_.cols - col);
    const TileTrust trust = trustIn(a, b);
    if (trust.kind != TileTrust::never) {
      alignas(64) float sums[kTilePanel * kTilePanel];
      (this->*sumsOf(rows > kTileSide, cols > kTileSide))(a, b, sums);
      if (trust.kind == TileTrust::always || s_.tiles->least(sums, rows, cols) >= trust.least) {
        return s_.tiles->update(sums, rows, cols, s_.alpha, s_.beta, s_.c + row * s_.ldc + col, s_.ldc);
      }
    }
    s_.multiplyPlainly(s_.context, row, col, rows, cols);
  }

  using Sums = void (TileProduct::*)(const float* a, const float* b, float* sums);
  static Sums sumsOf(bool twoRows, bool twoCols) {
    if (twoRows) return twoCols ? &TileProduct::sum<2, 2> : &TileProduct::sum<2, 1>;
    return twoCols ? &TileProduct::sum<1, 2> : &TileProduct::sum<1, 1>;
  }

  // sums [32][32] of R by C tiles. The first parts come last: until then the sums are small, and so are their roundings.
  template <int R, int C>
  void sum(const float* panelA, const float* panelB, float* sums) {
    constexpr int64_t kStepA = 2 * kTileFloats * kRowParts, kStepB = 2 * kTileFloats * kColumnParts;
    unit_.template zero<0>();
    if (C == 2) unit_.template zero<1>();
    if (R == 2) unit_.template zero<2>();
    if (R == 2 && C == 2) unit_.template zero<3>();
    for (int64_t step = 0; kRowParts > 1 && step < steps_; step++) {
      const float* const a = panelA + step * kStepA;
      const float* const b = panelB + step * kStepB;
      rows<R>(a, 2);
      columns<C>(b, 0);
      multiply<R, C>();
      rows<R>(a, 1);
      multiply<R, C>();
      if (kColumnParts == 1) continue;
      columns<C>(b, 1);
      multiply<R, C>();
      rows<R>(a, 0);
      multiply<R, C>();
      columns<C>(b, 2);
      multiply<R, C>();
    }
    for (int64_t step = 0; step < steps_; step++) {
      rows<R>(panelA + step * kStepA, 0);
      columns<C>(panelB + step * kStepB, 0);
      multiply<R, C>();
    }
    constexpr int64_t kStride = kTilePanel * sizeof(float);
    unit_.template store<0>(sums, kStride);
    if (C == 2) unit_.template store<1>(sums + kTileSide, kStride);
    if (R == 2) unit_.template store<2>(sums + kTileSide * kTilePanel, kStride);
    if (R == 2 && C == 2) unit_.template store<3>(sums + kTileSide * kTilePanel + kTileSide, kStride);
  }

  template <int R>
  void rows(const float* a, int part) {
    unit_.template load<4>(a + 2 * part * kTileFloats, kTileRowBytes);
    if (R == 2) unit_.template load<5>(a + (2 * part + 1) * kTileFloats, kTileRowBytes);
  }
  template <int C>
  void columns(const float* b, int part) {
    unit_.template load<6>(b + 2 * part * kTileFloats, kTileRowBytes);
    if (C == 2) unit_.template load<7>(b + (2 * part + 1) * kTileFloats, kTileRowBytes);
  }
  template <int R, int C>
  void multiply() {
    unit_.template dotBfloat16<0, 4, 6>();
    if (C == 2) unit_.template dotBfloat16<1, 4, 7>();
    if (R == 2) unit_.template dotBfloat16<2, 5, 6>();
    if (R == 2 && C == 2) unit_.template dotBfloat16<3, 5, 7>();
  }

  static constexpr int64_t kTileRowBytes = 64;
  const PackedProduct& s_;
  const int64_t steps_;
  Unit unit_;
};

template <class Unit, int kRowParts, int kColumnParts>
void multiplyTiles(const PackedProduct& product) {
  TileProduct<Unit, kRowParts, kColumnParts>(product).run();
}

}  // namespace sgemoe
