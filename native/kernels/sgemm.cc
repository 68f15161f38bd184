// The built-in serial sgemm: its entry, and the method for any sizes.
#include "internal.h"
#include "sgemm_pack.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// One panel of B: it stays in the first-level cache while all rows pass over it.
constexpr int64_t kPanelDepth = 256;

#if defined(__wasm__)
// No heap that helping threads could ask (wasm/pool.cc).
struct PackBuffer {
  alignas(64) float own[kPanelDepth * kPanelCols];
  float* get() { return own; }
};
thread_local PackBuffer packBuffer;
#else
thread_local KeptFloats packBuffer(kPanelDepth * kPanelCols);
#endif

// A panel of op(B) is reused by all rows: copying it pays from this many on, and spares cache conflicts.
constexpr int64_t kMinRowsToCopyB = 4 * kMaxTileRows;

// The panel of op(B) after the one that begins at row p0, column j. A transposed panel is fetched in sixteen rows of B.
Ahead panelBehind(const Matrices& s, int64_t p0, int64_t j) {
  if (!s.transB) return {s.b + p0 * s.ldb + j + kPanelCols, s.ldb, 0, 0, 1};
  return {s.b + (j + kPanelCols) * s.ldb + p0, s.ldb, kLine - 16 * s.ldb, 16 * s.ldb, kPanelLines};
}

// C = alpha * A[:, p0..p0+depth] B[p0..p0+depth, :] + beta * C.
void multiplyDepth(const Matrices& s, int64_t p0, int64_t depth, float beta, float* panel) {
  for (int64_t j = 0; j < s.n; j += kPanelCols) {
    const int64_t cols = minOf(kPanelCols, s.n - j), width = roundUp(cols, kLanes);
    TileArgs t;
    t.k = depth;
    t.a = s.a + (s.transA ? p0 * s.lda : p0);
    t.aRow = s.transA ? 1 : s.lda;
    t.aStep = s.transA ? s.lda : 1;
    t.c = s.c + j;
    t.ldc = s.ldc;
    t.alpha = s.alpha;
    t.beta = beta;
    t.b = panel;
    t.bStep = width;
    if (j + kPanelCols < s.n) t.ahead = panelBehind(s, p0, j);
    if (s.transB) {
      packTransposed(s.b + j * s.ldb + p0, s.ldb, depth, cols, panel, width);
    } else if (cols < width || s.m >= kMinRowsToCopyB) {
      packCopied(s.b + p0 * s.ldb + j, s.ldb, depth, cols, panel, width);
    } else {
      t.b = s.b + p0 * s.ldb + j;
      t.bStep = s.ldb;
    }
    multiplyPanel(t, s.m, cols);
  }
}

// A tile of C that will be written.
inline void fetchC(const float* c, int64_t ldc, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < cols; j += kLine) prefetchToWrite(c + i * ldc + j);
  }
}

// The same in one go, op(B) in place, for an untransposed B that the second-level cache holds: rows outermost, so that C
// is written along its rows, which matters most where k is short. `panel` holds the ragged last columns.
void multiplyInPlace(const Matrices& s, int64_t k, float beta, float* panel) {
  const int64_t ragged = s.n % kLanes == 0 ? 0 : s.n % kPanelCols, whole = s.n - ragged;
  if (ragged > 0) packCopied(s.b + whole, s.ldb, k, ragged, panel, roundUp(ragged, kLanes));
  const int64_t tiles = ceilDiv(s.m, kTileRows[2]);
  constexpr int64_t kBeyondCaches = 1 << 17;  // floats: a smaller C was often written not long ago
  const bool fetchesC = s.m * s.n >= kBeyondCaches;
  int64_t row = 0;
  for (int64_t i = 0; i < tiles; i++) {
    const int64_t rows = s.m / tiles + (i < s.m % tiles);
    TileArgs t;
    t.k = k;
    t.a = s.a + (s.transA ? row : row * s.lda);
    t.aRow = s.transA ? 1 : s.lda;
    t.aStep = s.transA ? s.lda : 1;
    t.ldc = s.ldc;
    t.alpha = s.alpha;
    t.beta = beta;
    for (int64_t j = 0; j < s.n; j += kPanelCols) {
      const int64_t cols = minOf(kPanelCols, s.n - j);
      const int vectors = cols > kLanes ? 2 : 1;
      const bool copied = j >= whole;
      t.lastLanes = static_cast<int>(cols - (vectors - 1) * kLanes);
      t.b = copied ? panel : s.b + j;
      t.bStep = copied ? vectors * kLanes : s.ldb;
      t.c = s.c + row * s.ldc + j;
      if (fetchesC) fetchC(t.c + rows * s.ldc, s.ldc, rows, cols);
      kTiles[vectors][rows](t);
    }
    row += rows;
  }
}

bool inPlaceWins(const Matrices& s, int64_t k, int64_t maxDepth) {
  constexpr int64_t kMaxElements = 65536;
  return !s.transB && s.n > kPanelCols && k <= maxDepth && k <= 128 && k * s.n <= kMaxElements;
}

}  // namespace

void multiplyBlocked(const Matrices& s, int64_t k, float beta) {
  constexpr int64_t kSmallDepth = 64;
  alignas(64) float small[kSmallDepth * kPanelCols];
  float* panel = small;
  int64_t maxDepth = kSmallDepth;
  if (k > kSmallDepth) {
    float* const large = packBuffer.get();
    if (large != nullptr) {  // else the small one serves
      panel = large;
      maxDepth = kPanelDepth;
    }
  }
  if (inPlaceWins(s, k, maxDepth)) return multiplyInPlace(s, k, beta, panel);
  const int64_t blocks = ceilDiv(k, maxDepth);
  int64_t p = 0;
  for (int64_t i = 0; i < blocks; i++) {
    const int64_t depth = k / blocks + (i < k % blocks);
    multiplyDepth(s, p, depth, i == 0 ? beta : 1, panel);
    p += depth;
  }
}

namespace {

// Dot products spare the packing of B, and pay with a sum over lanes for each element of C: they win where there are
// few rows or columns, and, when k is long enough to make that sum cheap, some more rows (measured on AVX-512, AVX2).
bool dotsWin(const Matrices& s, int64_t k) {
  return s.m <= 4 || s.n <= (kLanes < 8 ? 4 : kLanes / 2) || (s.m <= 16 && k >= 16 * kLanes);
}

}  // namespace

void sgemm(bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
           const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (k == 0 || alpha == 0) return scaleMatrix(m, n, beta, c, ldc);
  // A single column that is dense in memory is as good as a row.
  if (transA && m == 1 && lda == 1) {
    transA = false;
    lda = k;
  }
  if (!transB && n == 1 && ldb == 1) {
    transB = true;
    ldb = k;
  }
  const Matrices s{transA, transB, m, n, alpha, a, lda, b, ldb, c, ldc};
#if defined(__AVX512F__)
  if (thinWins(s, k)) return multiplyThin(s, k, beta);
#elif defined(__AVX2__)
  if (turnedWins(s, k) && multiplyTurned(s, k, beta)) return;
#endif
  if (!transA && transB && dotsWin(s, k)) return multiplyByDots(s, k, beta);
  if (!transB && m == 1) return multiplyRow(s, k, beta);
  multiplyBlocked(s, k, beta);
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
