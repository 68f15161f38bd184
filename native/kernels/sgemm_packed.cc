// C = A B^T where B [n, k] was copied beforehand: panels of kPanelCols columns of B^T, one behind the other, each
// [k, width] in the order in which a register tile reads it. The last panel is as many whole vectors wide as it needs,
// with zeros behind the last column.
#include "internal.h"
#include "sgemm_pack.h"

namespace sgemoe {
namespace SGEMOE_ISA {
namespace {

// The part of a panel that stays in the first-level cache while the rows of A pass over it.
constexpr int64_t kDepth = 384;
constexpr int64_t kRowsOfOnePass = 2 * kMaxTileRows;  // rows that read a panel at most twice, so that it isn't cut

// The next panel, line by line; one tile alone leaves every second line to the processor, which fetches them in pairs.
Ahead aheadOf(const float* next, int64_t m, int64_t depth) {
  const int tiles = m > kTileRows[kPanelVectors] ? kPanelLines : 1;
  return {next, kPanelLines / tiles * kLine, 0, depth * kLine, tiles};
}

}  // namespace

int64_t packedSize(int64_t n, int64_t k) { return roundUp(roundUp(n, kLanes) * k, 16); }

void packWeights(const float* b, int64_t ldb, int64_t n, int64_t k, float* packed) {
  for (int64_t j = 0; j < n; j += kPanelCols) {
    const int64_t cols = minOf(kPanelCols, n - j), width = roundUp(cols, kLanes);
    packTransposed(b + j * ldb, ldb, k, cols, packed + j * k, width);
  }
}

void sgemmPacked(int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* packed,
                 float beta, float* c, int64_t ldc) {
  if (k == 0 || alpha == 0) return scaleMatrix(m, n, beta, c, ldc);
  const int64_t blocks = m <= kRowsOfOnePass ? 1 : ceilDiv(k, kDepth);
  int64_t p = 0;
  for (int64_t i = 0; i < blocks; i++) {
    const int64_t depth = k / blocks + (i < k % blocks);
    for (int64_t j = 0; j < n; j += kPanelCols) {
      const int64_t cols = minOf(kPanelCols, n - j), width = roundUp(cols, kLanes);
      TileArgs t;
      t.k = depth;
      t.a = a + p;
      t.aRow = lda;
      t.aStep = 1;
      t.b = packed + j * k + p * width;
      t.bStep = width;
      t.ahead = aheadOf(t.b + kPanelCols * k, m, depth);
      t.c = c + j;
      t.ldc = ldc;
      t.alpha = alpha;
      t.beta = i == 0 ? beta : 1;
      multiplyPanel(t, m, cols);
    }
    p += depth;
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
