#include "stored.h"

#include <algorithm>

#include "arith.h"
#include "costs.h"
#include "parallel.h"
#include "scratch.h"

namespace sgemoe {
namespace {

// Rows of W that are widened at a time: their floats stay in the second cache.
constexpr int64_t kTileFloats = 48 * 1024;

int64_t tileRows(const StoredMatrices& matrices) {
  const int64_t rows = kTileFloats / std::max<int64_t>(matrices.cols, 1) / 16 * 16;
  return std::min(std::max<int64_t>(rows, 16), roundUp(std::max<int64_t>(matrices.rows, 1), 16));
}

// Estimated nanoseconds of a product of m rows.
double workOf(const StoredMatrices& matrices, double m) {
  const double weights = static_cast<double>(matrices.rows) * static_cast<double>(matrices.cols);
  return weights * (cost::kWiden + 2 * m / cost::kGemmFlops);
}

// Rows of x and y that one matrix multiplies.
struct Part {
  int64_t index, m;
  const float* x;
  float* y;
};

// Widens a tile of W and multiplies by it as by any matrix.
void multiplyTile(const Gemm& gemm, const KernelTable& kernels, const StoredMatrices& matrices, const Part& part,
                  int64_t first, int64_t rows, float alpha, int64_t ldx, float beta, int64_t ldy, float* wide) {
  const uint8_t* const w = matrices.parts[part.index] + first * matrices.rowBytes;
  kernels.stored->widen(matrices.type, w, rows * matrices.cols, wide);
  gemm.serial(false, true, part.m, rows, matrices.cols, alpha, part.x, ldx, wide, matrices.cols, beta, part.y + first,
              ldy);
}

}  // namespace

void multiplyStored(const Gemm& gemm, const KernelTable& kernels, bool exact, const StoredMatrices& matrices,
                    int64_t index, int64_t m, float alpha, const float* x, int64_t ldx, float beta, float* y,
                    int64_t ldy) {
  (void)exact;
  if (m == 0 || matrices.rows == 0) return;
  if (matrices.cols == 0 || alpha == 0) return scaleMatrix(m, matrices.rows, beta, y, ldy);
  const int64_t rows = tileRows(matrices), tiles = ceilDiv(matrices.rows, rows);
  ScratchParts scratch(tiles, rows * matrices.cols);
  const Part part{index, m, x, y};
  auto body = [&](int64_t tile) {
    float* const wide = scratch.take();
    const int64_t first = tile * rows;
    multiplyTile(gemm, kernels, matrices, part, first, std::min(rows, matrices.rows - first), alpha, ldx, beta, ldy,
                 wide);
    scratch.giveBack(wide);
  };
  parallelChunks(tiles, workOf(matrices, static_cast<double>(m)), body);
}

void multiplyStoredGroups(const Gemm& gemm, const KernelTable& kernels, bool exact, const StoredMatrices& matrices,
                          const int32_t* rowStarts, float alpha, const float* x, int64_t ldx, float beta, float* y,
                          int64_t ldy) {
  (void)exact;
  const int64_t total = rowStarts[matrices.count] - rowStarts[0];
  if (total == 0 || matrices.rows == 0) return;
  if (matrices.cols == 0 || alpha == 0) {
    return scaleMatrix(total, matrices.rows, beta, y + rowStarts[0] * ldy, ldy);
  }
  const int64_t rows = tileRows(matrices), tiles = ceilDiv(matrices.rows, rows);
  int64_t used = 0;
  for (int64_t g = 0; g < matrices.count; g++) used += rowStarts[g + 1] > rowStarts[g];
  ScratchParts scratch(used * tiles, rows * matrices.cols);
  auto body = [&](int64_t chunk) {
    int64_t left = chunk / tiles, g = 0;
    while (rowStarts[g + 1] == rowStarts[g] || left-- > 0) g++;
    const int64_t start = rowStarts[g], first = chunk % tiles * rows;
    float* const wide = scratch.take();
    multiplyTile(gemm, kernels, matrices, {g, rowStarts[g + 1] - start, x + start * ldx, y + start * ldy}, first,
                 std::min(rows, matrices.rows - first), alpha, ldx, beta, ldy, wide);
    scratch.giveBack(wide);
  };
  const double mean = static_cast<double>(total) / static_cast<double>(used);
  parallelChunks(used * tiles, static_cast<double>(used) * workOf(matrices, mean), body);
}

namespace {

// body(row) for each of `count` rows of `cols` numbers, some rows a chunk.
template <class Body>
void forRows(int64_t count, int64_t cols, double nsPerNumber, Body body) {
  constexpr double kChunkNs = 5000;
  const double nsPerRow = 5 + nsPerNumber * static_cast<double>(cols);
  const int64_t rows = std::max<int64_t>(1, static_cast<int64_t>(kChunkNs / nsPerRow));
  auto chunk = [&](int64_t i) {
    for (int64_t row = i * rows; row < std::min(count, (i + 1) * rows); row++) body(row);
  };
  parallelChunks(ceilDiv(count, rows), static_cast<double>(count) * nsPerRow, chunk);
}

int64_t bytesOf(StorageType type, int64_t count) {
  const StorageLayout& layout = layoutOf(type);
  return count / layout.elements * layout.bytes;
}

}  // namespace

void gatherStored(const KernelTable& kernels, const StoredMatrices& matrices, int64_t index, int64_t count,
                  const int32_t* ids, float* out, int64_t ldOut) {
  const uint8_t* const w = matrices.parts[index];
  forRows(count, matrices.cols, cost::kWiden, [&](int64_t i) {
    kernels.stored->widen(matrices.type, w + ids[i] * matrices.rowBytes, matrices.cols, out + i * ldOut);
  });
}

void dequantize(const KernelTable& kernels, StorageType type, int64_t rows, int64_t cols, const uint8_t* bytes,
                float* out, int64_t ldOut) {
  const int64_t rowBytes = bytesOf(type, cols);
  forRows(rows, cols, cost::kWiden, [&](int64_t row) {
    kernels.stored->widen(type, bytes + row * rowBytes, cols, out + row * ldOut);
  });
}

void quantize(StorageType type, int64_t rows, int64_t cols, const float* x, int64_t ldx, uint8_t* bytes) {
  const int64_t rowBytes = bytesOf(type, cols);
  const double ns = layoutOf(type).elements == 256 ? cost::kQuantizeParts : cost::kQuantize;
  forRows(rows, cols, ns, [&](int64_t row) { quantizeRow(type, x + row * ldx, cols, bytes + row * rowBytes); });
}

}  // namespace sgemoe
