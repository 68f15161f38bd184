#include "stored.h"

#include <algorithm>

#include "arith.h"
#include "costs.h"
#include "parallel.h"
#include "scratch.h"

namespace sgemoe {
namespace {

// Floats are multiplied as they are; blocks by rounded activations, or once widened.
enum class Way { floats, rounded, widened };

Way wayOf(const KernelTable& kernels, bool exact, StorageType type) {
  if (layoutOf(type).elements == 1) return Way::floats;
  return exact || kernels.stored->multiplyRounded == nullptr ? Way::widened : Way::rounded;
}

// Rows of W that one chunk takes. Widened rows must stay in the second cache; others take long enough to be worth a chunk.
int64_t chunkRows(const StoredMatrices& matrices, Way way) {
  constexpr int64_t kWidenedFloats = 48 * 1024, kChunkBytes = 96 * 1024;
  const int64_t rows = way == Way::widened ? kWidenedFloats / matrices.cols : kChunkBytes / matrices.rowBytes;
  return std::min(std::max<int64_t>(rows / 16 * 16, 16), roundUp(matrices.rows, 16));
}

// Estimated nanoseconds of a product of m rows.
double workOf(const StoredMatrices& matrices, double m) {
  const double weights = static_cast<double>(matrices.rows) * static_cast<double>(matrices.cols);
  const double bytes = static_cast<double>(matrices.bytes());
  return std::max(weights * m / cost::kStoredProducts, bytes / cost::kStoredBytes);
}

// Rows [start, start + m) of x and y by one matrix.
struct Part {
  int64_t index, start, m;
};

class Product {
 public:
  Product(const KernelTable& kernels, bool exact, const StoredMatrices& matrices, float alpha,
          const float* x, int64_t ldx, float beta, float* y, int64_t ldy)
      : kernels_(kernels), exact_(exact), w_(matrices), alpha_(alpha), x_(x), ldx_(ldx), beta_(beta), y_(y),
        ldy_(ldy) {}

  // partOf(i) for i of [0, parts), rows [first, end) in all.
  template <class PartOf>
  void run(int64_t first, int64_t end, int64_t parts, const PartOf& partOf) {
    const Way way = wayOf(kernels_, exact_, w_.type);
    const int64_t rows = chunkRows(w_, way), chunks = ceilDiv(w_.rows, rows);
    const int64_t roundedBytes = way == Way::rounded ? kernels_.stored->roundedBytes(w_.cols) : 0;
    ScratchParts scratch(parts * chunks, way == Way::widened ? rows * w_.cols : 0, (end - first) * roundedBytes / 4);
    auto* const rounded = reinterpret_cast<uint8_t*>(scratch.shared());
    if (way == Way::rounded) roundRows(first, end, roundedBytes, rounded);
    auto body = [&](int64_t chunk) {
      const Part part = partOf(chunk / chunks);
      const int64_t at = chunk % chunks * rows;
      const StoredProduct product = {w_.type, part.m, std::min(rows, w_.rows - at), w_.cols,
                                     w_.parts[part.index] + at * w_.rowBytes, w_.rowBytes, alpha_, x_ + part.start * ldx_,
                                     ldx_, beta_, y_ + part.start * ldy_ + at, ldy_};
      if (way == Way::floats) return kernels_.stored->multiplyFloats(product);
      if (way == Way::rounded) {
        return kernels_.stored->multiplyRounded(product, rounded + (part.start - first) * roundedBytes);
      }
      float* const wide = scratch.take();
      multiplyWidened(product, wide);
      scratch.giveBack(wide);
    };
    const double mean = static_cast<double>(end - first) / static_cast<double>(parts);
    parallelChunks(parts * chunks, static_cast<double>(parts) * workOf(w_, mean), body);
  }

 private:
  void roundRows(int64_t first, int64_t end, int64_t bytes, uint8_t* rounded) {
    constexpr int64_t kRows = 16;
    auto body = [&](int64_t chunk) {
      for (int64_t row = first + chunk * kRows; row < std::min(end, first + (chunk + 1) * kRows); row++) {
        kernels_.stored->roundRow(x_ + row * ldx_, w_.cols, rounded + (row - first) * bytes);
      }
    };
    const double numbers = static_cast<double>(end - first) * static_cast<double>(w_.cols);
    parallelChunks(ceilDiv(end - first, kRows), numbers * cost::kRound, body);
  }

  void multiplyWidened(StoredProduct product, float* wide) const {
    kernels_.stored->widen(product.type, product.w, product.n * product.cols, wide);
    product.type = StorageType::float32;
    product.w = reinterpret_cast<const uint8_t*>(wide);
    product.rowBytes = product.cols * static_cast<int64_t>(sizeof(float));
    kernels_.stored->multiplyFloats(product);
  }

  const KernelTable& kernels_;
  const bool exact_;
  const StoredMatrices& w_;
  const float alpha_;
  const float* const x_;
  const int64_t ldx_;
  const float beta_;
  float* const y_;
  const int64_t ldy_;
};

}  // namespace

void multiplyStored(const KernelTable& kernels, bool exact, const StoredMatrices& matrices,
                    int64_t index, int64_t m, float alpha, const float* x, int64_t ldx, float beta, float* y,
                    int64_t ldy) {
  if (m == 0 || matrices.rows == 0) return;
  if (matrices.cols == 0 || alpha == 0) return scaleMatrix(m, matrices.rows, beta, y, ldy);
  Product product(kernels, exact, matrices, alpha, x, ldx, beta, y, ldy);
  product.run(0, m, 1, [&](int64_t) { return Part{index, 0, m}; });
}

void multiplyStoredGroups(const KernelTable& kernels, bool exact, const StoredMatrices& matrices,
                          const int32_t* rowStarts, float alpha, const float* x, int64_t ldx, float beta, float* y,
                          int64_t ldy) {
  const int64_t first = rowStarts[0], end = rowStarts[matrices.count];
  if (first == end || matrices.rows == 0) return;
  if (matrices.cols == 0 || alpha == 0) return scaleMatrix(end - first, matrices.rows, beta, y + first * ldy, ldy);
  int64_t used = 0;
  for (int64_t g = 0; g < matrices.count; g++) used += rowStarts[g + 1] > rowStarts[g];
  Product product(kernels, exact, matrices, alpha, x, ldx, beta, y, ldy);
  product.run(first, end, used, [&](int64_t number) {  // the used group of this number
    int64_t g = 0;
    while (rowStarts[g + 1] == rowStarts[g] || number-- > 0) g++;
    return Part{g, rowStarts[g], rowStarts[g + 1] - rowStarts[g]};
  });
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
