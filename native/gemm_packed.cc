#include "gemm_packed.h"

#include <algorithm>

#include "arith.h"
#include "costs.h"
#include "parallel.h"

namespace sgemoe {
namespace {

// Estimated nanoseconds.
double workOf(double rows, double cols, double k) {
  return std::max(rows * cols * k / cost::kPackedGemmProducts, cols * k / cost::kPackedWeights);
}

// The tiles of C don't depend on the number of threads. Columns are cut first, at whole panels, since a packed operand
// needn't be packed again for each tile.
constexpr double kTileNs = 16e3;
constexpr int64_t kColUnit = 32;  // a multiple of every instruction set's panel width
constexpr int64_t kTileRows = 252;

struct Cut {
  int64_t cols, colTiles;

  Cut(double rowsOfTile, int64_t n, int64_t k) {
    const double nsPerUnit = workOf(rowsOfTile, kColUnit, static_cast<double>(k));
    const double units = std::min(std::max(kTileNs / nsPerUnit, 1.0), static_cast<double>(ceilDiv(n, kColUnit)));
    cols = static_cast<int64_t>(units) * kColUnit;
    colTiles = ceilDiv(n, cols);
  }
};

}  // namespace

void packWeights(const KernelTable& kernels, const float* b, int64_t ldb, int64_t strideB, int64_t groups, int64_t n,
                 int64_t k, float* packed) {
  const int64_t size = kernels.packedSize(n, k);
  const int64_t tiles = ceilDiv(n, kColUnit);
  auto body = [&](int64_t chunk) {
    const int64_t g = chunk / tiles, j = chunk % tiles * kColUnit;
    kernels.packWeights(b + g * strideB + j * ldb, ldb, std::min(kColUnit, n - j), k, packed + g * size + j * k);
  };
  const double elements = static_cast<double>(groups) * static_cast<double>(n) * static_cast<double>(k);
  parallelChunks(groups * tiles, elements / cost::kPackWeightsFloats, body);
}

void sgemmPacked(const KernelTable& kernels, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                 const float* packed, float beta, float* c, int64_t ldc) {
  const Cut cut(static_cast<double>(std::min(m, kTileRows)), n, k);
  auto body = [&](int64_t tile) {
    const int64_t row = tile / cut.colTiles * kTileRows, col = tile % cut.colTiles * cut.cols;
    kernels.sgemmPacked(std::min(kTileRows, m - row), std::min(cut.cols, n - col), k, alpha, a + row * lda, lda,
                        packed + col * k, beta, c + row * ldc + col, ldc);
  };
  const double work = workOf(static_cast<double>(m), static_cast<double>(n), static_cast<double>(k));
  parallelChunks(ceilDiv(m, kTileRows) * cut.colTiles, work, body);
}

void sgemmGroupedPacked(const KernelTable& kernels, int64_t groups, const int32_t* rowStarts, int64_t n, int64_t k,
                        float alpha, const float* a, int64_t lda, const float* packed, float beta, float* c,
                        int64_t ldc) {
  const int64_t size = kernels.packedSize(n, k);
  const double rows = rowStarts[groups] - rowStarts[0];
  // Groups share no weights, so a tile's cost is that of a group of mean size.
  const Cut cut(std::min(rows / static_cast<double>(groups), static_cast<double>(kTileRows)), n, k);
  const auto tilesOf = [&](int64_t g) { return ceilDiv(rowStarts[g + 1] - rowStarts[g], kTileRows) * cut.colTiles; };
  int64_t tiles = 0;
  for (int64_t g = 0; g < groups; g++) tiles += tilesOf(g);
  auto body = [&](int64_t tile) {
    int64_t g = 0;
    for (; tile >= tilesOf(g); g++) tile -= tilesOf(g);
    const int64_t row = rowStarts[g] + tile / cut.colTiles * kTileRows, col = tile % cut.colTiles * cut.cols;
    kernels.sgemmPacked(std::min<int64_t>(kTileRows, rowStarts[g + 1] - row), std::min(cut.cols, n - col), k, alpha,
                        a + row * lda, lda, packed + g * size + col * k, beta, c + row * ldc + col, ldc);
  };
  parallelChunks(tiles, workOf(rows, static_cast<double>(n), static_cast<double>(k)), body);
}

}  // namespace sgemoe
