// C = A B^T for so few rows of A that a copy of B, which lies along k, wouldn't pay: computed as C^T = B A^T. The roles are
// swapped: A, the smaller, is packed, and B read in order where it lies, once for all rows of A. Each tile of C^T is turned
// on its way to C.
#include "sgemm_pack.h"

namespace sgemoe {
namespace SGEMOE_ISA {

#if defined(__AVX2__) && !defined(__AVX512F__)
namespace {

constexpr int64_t kTurnedCols = 48;    // of C are turned at a time, so that its lines are written whole
constexpr int64_t kTurnedDepth = 512;  // is summed at a time: long sums round more
constexpr int64_t kMostRows = 128;
constexpr int64_t kPackedFloats = 65536;  // of A, half of a second-level cache

thread_local KeptFloats packedRows(kPackedFloats);

// c[i][j] = t[j][i] + beta * c[i][j] for i < 4, j < 4.
inline void turnSquare(const float* t, float* c, int64_t ldc, float beta) {
  __m128 r0 = _mm_load_ps(t), r1 = _mm_load_ps(t + kPanelCols), r2 = _mm_load_ps(t + 2 * kPanelCols),
         r3 = _mm_load_ps(t + 3 * kPanelCols);
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  if (beta != 0) {
    const __m128 factor = _mm_set1_ps(beta);
    r0 = _mm_fmadd_ps(_mm_loadu_ps(c), factor, r0);
    r1 = _mm_fmadd_ps(_mm_loadu_ps(c + ldc), factor, r1);
    r2 = _mm_fmadd_ps(_mm_loadu_ps(c + 2 * ldc), factor, r2);
    r3 = _mm_fmadd_ps(_mm_loadu_ps(c + 3 * ldc), factor, r3);
  }
  _mm_storeu_ps(c, r0);
  _mm_storeu_ps(c + ldc, r1);
  _mm_storeu_ps(c + 2 * ldc, r2);
  _mm_storeu_ps(c + 3 * ldc, r3);
}

// c [rows, cols] = the transpose of t [cols, kPanelCols] + beta * c.
void turn(const float* t, int64_t rows, int64_t cols, float* c, int64_t ldc, float beta) {
  const int64_t wholeRows = rows / 4 * 4, wholeCols = cols / 4 * 4;
  for (int64_t i = 0; i < wholeRows; i += 4) {
    for (int64_t j = 0; j < wholeCols; j += 4) turnSquare(t + j * kPanelCols + i, c + i * ldc + j, ldc, beta);
  }
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = i < wholeRows ? wholeCols : 0; j < cols; j++) {
      float& to = c[i * ldc + j];
      to = beta == 0 ? t[j * kPanelCols + i] : t[j * kPanelCols + i] + beta * to;
    }
  }
}

// Rows j..j+cols of C^T for all packed rows of A: [panels of A][kTurnedCols][kPanelCols] from `c` on.
void multiplyColumns(const Matrices& s, int64_t k, const float* packed, int64_t j, int64_t cols, float* c) {
  TileArgs t;
  t.aRow = s.ldb;
  t.aStep = 1;
  t.ldc = kPanelCols;
  t.alpha = s.alpha;
  // The rows of B that come next are fetched evenly by all tiles.
  const int64_t tiles = cols > kTileRows[2] ? ceilDiv(s.m, kLanes) : ceilDiv(s.m, kPanelCols);
  const float* ahead = s.ldb == k && j + cols < s.n ? s.b + (j + cols) * s.ldb : nullptr;
  for (int64_t p = 0; p < k; p += kTurnedDepth) {
    t.k = minOf(kTurnedDepth, k - p);
    t.a = s.b + j * s.ldb + p;
    t.beta = p == 0 ? 0 : 1;
    for (int64_t i = 0; i < s.m; i += kPanelCols) {
      const int64_t width = roundUp(minOf(kPanelCols, s.m - i), kLanes);
      t.b = packed + i * k + p * width;
      t.bStep = width;
      t.c = c + i / kPanelCols * kTurnedCols * kPanelCols;
      if (ahead != nullptr) {
        t.ahead = {ahead, ceilDiv(cols, tiles), 0, cols * t.k / tiles, kMaxTileRows};
        ahead += ceilDiv(cols, kTileRows[width / kLanes]) * t.ahead.tile;
      }
      multiplyPanel(t, cols, width);
    }
  }
}

}  // namespace

// Measured against dot products, which win with fewer rows, and against copies of B, which win with more rows where B comes from
// a near cache.
bool turnedWins(const Matrices& s, int64_t k) {
  constexpr int64_t kFar = 1 << 15;  // floats: models with such pieces of matrices have more of them than that cache holds
  const bool fits = s.m <= kMostRows && s.n >= kTurnedCols && k >= 32 && roundUp(s.m, kLanes) * k <= kPackedFloats;
  return !s.transA && s.transB && fits && (k >= 128 && s.n * k >= kFar ? s.m > 4 : s.m >= 8 && s.m <= 16);
}

bool multiplyTurned(const Matrices& s, int64_t k, float beta) {
  float* const packed = packedRows.get();
  if (packed == nullptr) return false;
  for (int64_t i = 0; i < s.m; i += kPanelCols) {
    const int64_t rows = minOf(kPanelCols, s.m - i);
    packTransposed(s.a + i * s.lda, s.lda, k, rows, packed + i * k, roundUp(rows, kLanes));
  }
  // Rows of B that begin in the same set of the first-level cache, which has eight lines, are fewer.
  const int64_t tileCols = s.ldb % 1024 == 0 ? kTileRows[2] : kTileRows[1];
  alignas(64) float turned[kMostRows * kTurnedCols];
  for (int64_t j = 0; j < s.n; j += kTurnedCols) {
    const int64_t cols = minOf(kTurnedCols, s.n - j);
    for (int64_t at = 0; at < cols; at += tileCols) {
      multiplyColumns(s, k, packed, j + at, minOf(tileCols, cols - at), turned + at * kPanelCols);
    }
    for (int64_t i = 0; i < s.m; i += kPanelCols) {
      turn(turned + i * kTurnedCols, minOf(kPanelCols, s.m - i), cols, s.c + i * s.ldc + j, s.ldc, beta);
    }
  }
  return true;
}
#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
