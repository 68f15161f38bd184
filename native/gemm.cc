#include "gemm.h"

#include <algorithm>

#include "arith.h"
#include "costs.h"
#include "gemm_large.h"
#include "parallel.h"

namespace sgemoe {
namespace {

// C is cut into tiles, each a serial matmul of its own. The cut depends on the shape alone and is made with one
// thread too: the same tiles mean the same bits whatever the number of threads.
struct Cut {
  int64_t rows, cols;  // of a tile; the last ones are smaller
  int64_t rowTiles, colTiles;

  int64_t tiles() const { return rowTiles * colTiles; }
};

// A library packs its operands again for each tile, which costs a tenth of its speed at 256 rows and columns and a fifth
// at 128 (measured with OpenBLAS 0.3.21 at 512 x 512 x 512). So the first cuts, without which there is nothing to share,
// may make small tiles; further cuts are only made while tiles stay large.
struct CutRule {
  int64_t tilesBelow;  // the rule holds while there are fewer tiles
  double minFlops;     // smaller tiles stay whole
  int64_t minSide;     // no side is cut to less
};
constexpr CutRule kCutRules[] = {{4, 4e6, 64}, {8, 10e6, 128}, {INT64_MAX, 40e6, 256}};

double flops(int64_t m, int64_t n, int64_t k) { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * k; }

// A multiple of 16, so that only the last tile has a ragged edge.
int64_t halved(int64_t side) { return roundUp(ceilDiv(side, 2), 16); }

Cut cutOf(int64_t m, int64_t n, int64_t k) {
  Cut cut{m, n, m > 0, n > 0};
  for (;;) {
    const CutRule* rule = kCutRules;
    while (cut.tiles() >= rule->tilesBelow) rule++;
    if (flops(cut.rows, cut.cols, k) < rule->minFlops) return cut;
    const bool rowsAllow = cut.rows >= 2 * rule->minSide, colsAllow = cut.cols >= 2 * rule->minSide;
    if (colsAllow && (cut.cols >= cut.rows || !rowsAllow)) {
      cut.cols = halved(cut.cols);
    } else if (rowsAllow) {
      cut.rows = halved(cut.rows);
    } else {
      return cut;
    }
    cut.rowTiles = ceilDiv(m, cut.rows);
    cut.colTiles = ceilDiv(n, cut.cols);
  }
}

// Estimated nanoseconds.
double workOf(int64_t m, int64_t n, int64_t k) {
  const double elements = static_cast<double>(m) * k + static_cast<double>(k) * n + static_cast<double>(m) * n;
  return flops(m, n, k) / cost::kGemmFlops + elements / cost::kGemmFloats;
}

void runTile(SgemmFn serial, const GemmShape& s, const Operands& p, const Cut& cut, int64_t tile) {
  const int64_t row = tile / cut.colTiles * cut.rows, col = tile % cut.colTiles * cut.cols;
  const int64_t rows = std::min(cut.rows, p.m - row), cols = std::min(cut.cols, s.n - col);
  const float* a = p.a + (s.transA ? row : row * s.lda);
  const float* b = p.b + (s.transB ? col * s.ldb : col);
  serial(s.transA, s.transB, rows, cols, p.k, s.alpha, a, s.lda, b, s.ldb, s.beta, p.c + row * s.ldc + col, s.ldc);
}

// A matmul among those of a region.
struct Part {
  Operands operands;
  Cut cut;
  int64_t firstTile;
};
constexpr int64_t kMaxParts = 128;  // of one region: more groups make more regions

void runParts(SgemmFn serial, const GemmShape& shape, const Part* parts, int64_t count, double work) {
  if (count == 0) return;
  auto body = [&](int64_t tile) {
    const Part* next = std::upper_bound(parts, parts + count, tile,
                                        [](int64_t number, const Part& part) { return number < part.firstTile; });
    const Part& part = next[-1];
    runTile(serial, shape, part.operands, part.cut, tile - part.firstTile);
  };
  const Part& last = parts[count - 1];
  parallelChunks(last.firstTile + last.cut.tiles(), work, body);
}

// Matmuls of different sizes, all tiles in one parallel region. operandsOf(g) describes number g.
template <class OperandsOf>
void runGroups(SgemmFn serial, const GemmShape& shape, int64_t groups, OperandsOf operandsOf) {
  Part parts[kMaxParts];
  int64_t count = 0, tiles = 0;
  double work = 0;
  for (int64_t g = 0; g < groups; g++) {
    const Operands p = operandsOf(g);
    const Cut cut = cutOf(p.m, shape.n, p.k);
    if (cut.tiles() == 0) continue;
    parts[count++] = {p, cut, tiles};
    tiles += cut.tiles();
    work += workOf(p.m, shape.n, p.k);
    if (count < kMaxParts) continue;
    runParts(serial, shape, parts, count, work);
    count = tiles = 0;
    work = 0;
  }
  runParts(serial, shape, parts, count, work);
}

// Packing makes the smaller ones of uneven groups slower, so uneven groups must be larger by this factor (measured at 4
// groups).
constexpr double kGroupedMargin = 4;

// Whether packing both operands pays for matmuls of this mean size. For thin ones it doesn't.
bool isLarge(const Gemm& gemm, bool transA, double m, double n, double k, float alpha, double margin = 1) {
  if (gemm.large == nullptr || alpha == 0) return false;
  const PanelKernels& panels = gemm.panels();
  const auto least = static_cast<double>(panels.minSide);
  if (m < least || n < least || k < least) return false;
  return m * n * k >= (transA ? panels.minProductsTransA : margin * panels.minProducts);
}

// Does the same with both operands packed.
template <class OperandsOf>
void runLarge(const Gemm& gemm, const GemmShape& shape, bool shareA, int64_t groups, const OperandsOf& operandsOf) {
  const auto call = [](const void* context, int64_t g) { return (*static_cast<const OperandsOf*>(context))(g); };
  sgemmLarge({shape, gemm.large, &gemm.panels(), shareA, groups, call, &operandsOf});
}

}  // namespace

void sgemm(const Gemm& gemm, bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
           int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  const GemmShape shape{transA, transB, n, alpha, lda, ldb, beta, ldc};
  const Operands operands{m, k, a, b, c};
  if (isLarge(gemm, transA, m, n, k, alpha)) {
    return runLarge(gemm, shape, m <= n, 1, [&](int64_t) { return operands; });
  }
  const Cut cut = cutOf(m, n, k);
  auto body = [&](int64_t tile) { runTile(gemm.serial, shape, operands, cut, tile); };
  parallelChunks(cut.tiles(), workOf(m, n, k), body);
}

void sgemmBatch(const Gemm& gemm, bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha,
                const float* a, int64_t lda, int64_t strideA, const float* b, int64_t ldb, int64_t strideB, float beta,
                float* c, int64_t ldc, int64_t strideC, int64_t batch) {
  const GemmShape shape{transA, transB, n, alpha, lda, ldb, beta, ldc};
  if (isLarge(gemm, transA, m, n, k, alpha)) {
    return runLarge(gemm, shape, m <= n, batch, [&](int64_t i) -> Operands {
      return {m, k, a + i * strideA, b + i * strideB, c + i * strideC};
    });
  }
  const Cut cut = cutOf(m, n, k);
  const int64_t tiles = cut.tiles() * batch;
  if (tiles == 0) return;
  // Small matrices share a chunk, so that taking chunks costs nothing.
  constexpr double kSharedFlops = 0.5e6;
  const double tileFlops = flops(cut.rows, cut.cols, k) + 1;
  const int64_t tilesPerChunk = static_cast<int64_t>(std::max(1.0, kSharedFlops / tileFlops));
  auto body = [&](int64_t chunk) {
    const int64_t end = std::min(tiles, (chunk + 1) * tilesPerChunk);
    for (int64_t tile = chunk * tilesPerChunk; tile < end; tile++) {
      const int64_t i = tile / cut.tiles();
      runTile(gemm.serial, shape, {m, k, a + i * strideA, b + i * strideB, c + i * strideC}, cut, tile % cut.tiles());
    }
  };
  parallelChunks(ceilDiv(tiles, tilesPerChunk), workOf(m, n, k) * static_cast<double>(batch), body);
}

void sgemmGrouped(const Gemm& gemm, bool transB, int64_t groups, const int32_t* rowStarts, int64_t n, int64_t k,
                  float alpha, const float* a, int64_t lda, const float* b, int64_t ldb, int64_t strideB, float beta,
                  float* c, int64_t ldc) {
  const GemmShape shape{false, transB, n, alpha, lda, ldb, beta, ldc};
  const auto operandsOf = [&](int64_t g) -> Operands {
    const int64_t start = rowStarts[g];
    return {rowStarts[g + 1] - start, k, a + start * lda, b + g * strideB, c + start * ldc};
  };
  const double meanRows = static_cast<double>(rowStarts[groups] - rowStarts[0]) / static_cast<double>(groups);
  if (isLarge(gemm, false, meanRows, n, k, alpha, kGroupedMargin)) {
    return runLarge(gemm, shape, true, groups, operandsOf);
  }
  runGroups(gemm.serial, shape, groups, operandsOf);
}

void sgemmGroupedTransA(const Gemm& gemm, int64_t groups, const int32_t* rowStarts, int64_t m, int64_t n, float alpha,
                        const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc,
                        int64_t strideC) {
  const GemmShape shape{true, false, n, alpha, lda, ldb, beta, ldc};
  const auto operandsOf = [&](int64_t g) -> Operands {
    const int64_t start = rowStarts[g];
    return {m, rowStarts[g + 1] - start, a + start * lda, b + start * ldb, c + g * strideC};
  };
  const double meanRows = static_cast<double>(rowStarts[groups] - rowStarts[0]) / static_cast<double>(groups);
  if (isLarge(gemm, true, m, n, meanRows, alpha)) return runLarge(gemm, shape, m <= n, groups, operandsOf);
  runGroups(gemm.serial, shape, groups, operandsOf);
}

}  // namespace sgemoe
