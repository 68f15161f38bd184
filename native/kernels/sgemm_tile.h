// Declarations that the sources of the built-in sgemm share: register tiles of C, and the methods that the entry
// (sgemm.cc) chooses from. Everything lives in the namespace of the instruction set.
#pragma once
#include <stdint.h>

#include "../arith.h"
#include "../simd.h"

namespace sgemoe {
namespace SGEMOE_ISA {

struct Matrices {
  bool transA, transB;
  int64_t m, n;
  float alpha;
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb;
  float* c;
  int64_t ldc;
};

// ---------------------------------------------------------------- register tiles (sgemm_tile.cc)

// Rows of a tile that is one or two vectors wide: the most that leave registers for a row of B and one of A.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows[3] = {0, 14, 14};
#elif defined(__wasm_simd128__)
// An engine on x86 has 15 registers, and without fma a product takes one, too.
constexpr int kTileRows[3] = {0, 8, 4};
#else
constexpr int kTileRows[3] = {0, 12, 6};
#endif
constexpr int kMaxTileRows = 14;
constexpr int kPanelVectors = 2;
constexpr int kPanelCols = kPanelVectors * kLanes;
constexpr int64_t kLine = 16;  // floats in a line of the cache
constexpr int kPanelLines = kPanelCols > kLine ? kPanelCols / kLine : 1;  // of a row of a panel

// Prefetching of the next panel into the second-level cache while the tiles of a panel compute, since the processor's own
// prefetching stops at each 4 KiB page. Each step fetches a line; lines are `step` floats apart, and after sixteen of them
// `turn` further. Each tile starts `tile` floats after the previous one, and `tiles` tiles fetch. None do if `at` is null.
struct Ahead {
  const float* at = nullptr;
  int64_t step = 0, turn = 0, tile = 0;
  int tiles = 1;
};

// Element (i, p) of op(A) is at a[i*aRow + p*aStep]. Row p of the panel of op(B) is at b + p*bStep.
struct TileArgs {
  int64_t k;
  const float* a;
  int64_t aRow, aStep;
  const float* b;
  int64_t bStep;
  float* c;
  int64_t ldc;
  float alpha, beta;
  Ahead ahead;
  int lastLanes;  // columns of the last vector that exist in C, 1..kLanes
};

using TileFn = void (*)(const TileArgs&);

// kTiles[vectors][rows], as many rows as kTileRows[vectors]; null beyond.
extern const TileFn kTiles[kPanelVectors + 1][kMaxTileRows + 1];

// All rows of `t` against one panel of `cols` columns. The rows are spread evenly: 16 as 8 + 8, not 14 + 2.
void multiplyPanel(TileArgs t, int64_t m, int64_t cols);

// Stores the first `lanes` of a vector, mostly all of them. AVX-512 masks them for free; elsewhere it takes a branch.
inline Vf loadLanes(const float* p, int lanes) {
#if defined(__AVX512F__)
  return loadPartial(p, lanes);
#else
  return lanes == kLanes ? load(p) : loadPartial(p, lanes);
#endif
}
inline void storeLanes(float* p, Vf v, int lanes) {
#if defined(__AVX512F__)
  storePartial(p, v, lanes);
#else
  lanes == kLanes ? store(p, v) : storePartial(p, v, lanes);
#endif
}

inline void update(float* c, Vf sum, float alpha, float beta, int lanes) {
  Vf value = sum * set1(alpha);
  if (lanes == kLanes) {
    if (beta != 0) value = fma(load(c), set1(beta), value);
    store(c, value);
  } else {
    if (beta != 0) value = fma(loadPartial(c, lanes), set1(beta), value);
    storePartial(c, value, lanes);
  }
}

// c [rows, cols] = alpha * sums [rows, width] + beta * c.
inline void updateRows(const float* sums, int64_t width, int64_t rows, int64_t cols, float alpha, float beta, float* c,
                       int64_t ldc) {
  for (int64_t i = 0; i < rows; i++, sums += width, c += ldc) {
    for (int64_t j = 0; j < cols; j += kLanes) update(c + j, load(sums + j), alpha, beta, (int)minOf(kLanes, cols - j));
  }
}

// Rows are reached in threes from one pointer: an address is a pointer plus one or two times a register, so
// that 14 rows need five pointers and one stride, and nothing is spilled. Compilers would rather keep an offset for
// every row, in memory; the empty statement hides from them that the pointers keep their distance.
template <int Rows>
struct RowPointers {
  static constexpr int kCount = (Rows + 2) / 3;
  const float* at[kCount];

  RowPointers(const float* a, int64_t row) {
    UNROLL for (int g = 0; g < kCount; g++) at[g] = a + 3 * g * row;
  }
  void advance(int64_t step) {
    UNROLL for (int g = 0; g < kCount; g++) {
      at[g] += step;
      __asm__("" : "+r"(at[g]));
    }
  }
  const float* row(int i, int64_t row) const { return at[i / 3] + i % 3 * row; }
};

// ---------------------------------------------------------------- the ways to multiply

// C = alpha * op(A) op(B) + beta * C, for k > 0 and any sizes, panel by panel of op(B) (sgemm.cc).
void multiplyBlocked(const Matrices& s, int64_t k, float beta);

// The same for C = A B^T with some rows, where thinWins (sgemm_thin.cc; AVX-512).
bool thinWins(const Matrices& s, int64_t k);
void multiplyThin(const Matrices& s, int64_t k, float beta);

// The same for C = A B^T with some rows, where turnedWins (sgemm_turned.cc; AVX2).
bool turnedWins(const Matrices& s, int64_t k);
bool multiplyTurned(const Matrices& s, int64_t k, float beta);

// The same for C = A B^T by dot products, and for one row of A by an untransposed B (sgemm_dots.cc).
void multiplyByDots(const Matrices& s, int64_t k, float beta);
void multiplyRow(const Matrices& s, int64_t k, float beta);

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
