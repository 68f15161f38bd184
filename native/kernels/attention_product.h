// The matmul inside attention. It is small and its operands are in the caches, so nothing is packed or chosen here.
#pragma once
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

// c[i*cStep + x] = (add ? c : 0) + sum_p a[i*aRow + p*aStep] * b[p*bStep + x]: a is read in broadcasts, b in vectors.
struct Product {
  int64_t depth;
  const float* a;
  int64_t aRow, aStep;
  const float* b;
  int64_t bStep;
  float* c;
  int64_t cStep;
  bool add;
};

#if defined(__clang__)
#define SGEMOE_UNROLL _Pragma("unroll")
#else
#define SGEMOE_UNROLL _Pragma("GCC unroll 8")
#endif

// c [Rows, NV vectors].
template <int Rows, int NV>
void productTile(const Product& t) {
  Vf sums[Rows][NV];
  SGEMOE_UNROLL for (int i = 0; i < Rows; ++i) {
    SGEMOE_UNROLL for (int j = 0; j < NV; ++j) {
      sums[i][j] = t.add ? load(t.c + i * t.cStep + j * kLanes) : Vf{};
    }
  }
  const float* a = t.a;
  const float* b = t.b;
  for (int64_t p = 0; p < t.depth; ++p) {
    Vf row[NV];
    SGEMOE_UNROLL for (int j = 0; j < NV; ++j) row[j] = load(b + j * kLanes);
    SGEMOE_UNROLL for (int i = 0; i < Rows; ++i) {
      const Vf factor = set1(a[i * t.aRow]);
      SGEMOE_UNROLL for (int j = 0; j < NV; ++j) sums[i][j] = fma(row[j], factor, sums[i][j]);
    }
    a += t.aStep;
    b += t.bStep;
  }
  SGEMOE_UNROLL for (int i = 0; i < Rows; ++i) {
    SGEMOE_UNROLL for (int j = 0; j < NV; ++j) store(t.c + i * t.cStep + j * kLanes, sums[i][j]);
  }
}
#undef SGEMOE_UNROLL

using ProductTileFn = void (*)(const Product&);

// The most rows that leave registers for a row of b and a broadcast, and whose rows of a fit into the integer registers.
// Taller tiles were slower.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMostTileRows[3] = {0, 8, 8};
#else
constexpr int kMostTileRows[3] = {0, 8, 6};
#endif
#define SGEMOE_TILES(NV)                                                                                       \
  {nullptr, productTile<1, NV>, productTile<2, NV>, productTile<3, NV>, productTile<4, NV>, productTile<5, NV>, \
   productTile<6, NV>, productTile<7, NV>, productTile<8, NV>}
constexpr ProductTileFn kProductTiles[3][9] = {{}, SGEMOE_TILES(1), SGEMOE_TILES(2)};
#undef SGEMOE_TILES

// All `rows` of c by `vectors` <= 2 vectors. The rows are spread evenly over the tiles: 12 as 6 + 6, not as 8 + 4.
inline void multiplyPanel(Product t, int64_t rows, int vectors) {
  if (rows == 0) return;
  const int64_t tiles = ceilDiv(rows, kMostTileRows[vectors]);
  const int64_t each = rows / tiles, larger = rows % tiles;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t r = each + (i < larger);
    kProductTiles[vectors][r](t);
    t.a += r * t.aRow;
    t.c += r * t.cStep;
  }
}

// The same for any number of vectors.
inline void multiply(Product t, int64_t rows, int64_t vectors) {
  for (; vectors > 0; vectors -= 2) {
    multiplyPanel(t, rows, (int)minOf(vectors, 2));
    t.b += 2 * kLanes;
    t.c += 2 * kLanes;
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
