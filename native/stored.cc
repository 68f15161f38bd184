#include "stored.h"

#include <algorithm>

#include "arith.h"
#include "costs.h"
#include "gemm_large.h"
#include "parallel.h"
#include "scratch.h"

namespace sgemoe {
namespace {

// Few rows: floats are multiplied as they are, blocks by rounded activations or once widened. Many rows: rounded ones by
// panels of bytes, else both operands are packed, as floats or for a matrix unit, which goes first where there is one.
enum class Way { floats, rounded, widened, panels, large };

// Rows from which packing both operands as floats is as fast as the other ways, measured on Zen 4.
constexpr int64_t kLargeRows = 96, kLargeRowsRounded = 192;
// From which a matrix unit pays, by an estimate: packing a weight costs as much as ten of its products by vectors; one of blocks is
// widened first, which costs as much as fifty of its products by bytes.
constexpr int64_t kTiledRows = 32, kTiledRowsRounded = 96;

// The matrix unit's panels for a type, if any. Those for blocks round both operands to bfloat16, which for normal numbers
// is off by less than half of what activations in 8 bits are.
const PanelKernels* tilesOf(const StoredUnits& units, StorageType type) {
  if (layoutOf(type).elements > 1) return units.exact ? nullptr : units.roundedTiles;
  return type == StorageType::bfloat16 ? units.bfloat16Tiles : units.floatTiles;
}

int64_t tiledRows(StorageType type) { return layoutOf(type).elements > 1 ? kTiledRowsRounded : kTiledRows; }

Way wayOf(const StoredUnits& units, StorageType type, int64_t m) {
  const RoundedProducts* const rounded = units.kernels.stored->rounded;
  if (tilesOf(units, type) != nullptr && m >= tiledRows(type)) return Way::large;
  const bool rounds = layoutOf(type).elements > 1 && !units.exact && rounded != nullptr;
  if (rounds && rounded->panels != nullptr) return m < rounded->panels->minRows ? Way::rounded : Way::panels;
  if (m >= (rounds ? kLargeRowsRounded : kLargeRows)) return Way::large;
  return rounds ? Way::rounded : layoutOf(type).elements == 1 ? Way::floats : Way::widened;
}

constexpr int64_t kPanelRows = 32;  // of a panel of rounded weights

// Rows of W that one chunk takes. Widened rows must stay in the second cache; others take long enough to be worth a chunk.
int64_t chunkRows(const StoredMatrices& matrices, bool widened) {
  constexpr int64_t kWidenedFloats = 48 * 1024, kChunkBytes = 96 * 1024;
  const int64_t unit = widened ? 16 : kPanelRows;
  const int64_t rows = widened ? kWidenedFloats / matrices.cols : kChunkBytes / matrices.rowBytes;
  return std::min(std::max<int64_t>(rows / unit * unit, unit), roundUp(matrices.rows, unit));
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
  Product(const StoredUnits& units, const StoredMatrices& matrices, float alpha, const float* x, int64_t ldx, float beta,
          float* y, int64_t ldy)
      : units_(units), kernels_(units.kernels), w_(matrices), alpha_(alpha), x_(x), ldx_(ldx), beta_(beta), y_(y),
        ldy_(ldy) {}

  // partOf(i) for i of [0, parts), all within rows [first, end) of x and y.
  template <class PartOf>
  void run(int64_t first, int64_t end, int64_t parts, const PartOf& partOf) {
    int64_t large = 0;
    bool widens = false, rounds = false, hasPanels = false;
    for (int64_t i = 0; i < parts; i++) {
      const Way way = wayOf(partOf(i).m);
      large += way == Way::large;
      widens |= way == Way::widened;
      rounds |= way == Way::rounded || way == Way::panels;
      hasPanels |= way == Way::panels;
    }
    if (large > 0) multiplyLarge(parts, partOf);
    if (large == parts) return;
    const int64_t rows = chunkRows(w_, widens), chunks = ceilDiv(w_.rows, rows);
    const int64_t roundedBytes = rounds ? products().rowBytes(w_.cols) : 0;
    const int64_t beyond = hasPanels ? products().panels->tileRows - 1 : 0;
    const int64_t memory = hasPanels ? products().panels->bytes / 4 : widens ? rows * w_.cols : 0;
    ScratchParts scratch(parts * chunks, memory, (end - first + beyond) * roundedBytes / 4);
    auto* const rounded = reinterpret_cast<uint8_t*>(scratch.shared());
    if (rounds) roundRows(first, end, roundedBytes, rounded);
    auto body = [&](int64_t chunk) {
      const Part part = partOf(chunk / chunks);
      const int64_t at = chunk % chunks * rows;
      const StoredProduct product = {w_.type, part.m, std::min(rows, w_.rows - at), w_.cols,
                                     w_.parts[part.index] + at * w_.rowBytes, w_.rowBytes, alpha_, x_ + part.start * ldx_,
                                     ldx_, beta_, y_ + part.start * ldy_ + at, ldy_};
      float* const own = scratch.take();
      multiplyChunk(product, rounded + (part.start - first) * roundedBytes, own);
      scratch.giveBack(own);
    };
    const double mean = static_cast<double>(end - first) / static_cast<double>(parts);
    parallelChunks(parts * chunks, static_cast<double>(parts) * workOf(w_, mean), body);
  }

 private:
  // Called where something is rounded, so they exist.
  const RoundedProducts& products() const { return *kernels_.stored->rounded; }
  Way wayOf(int64_t m) const { return sgemoe::wayOf(units_, w_.type, m); }

  void roundRows(int64_t first, int64_t end, int64_t bytes, uint8_t* rounded) {
    constexpr int64_t kRows = 16;
    auto body = [&](int64_t chunk) {
      for (int64_t row = first + chunk * kRows; row < std::min(end, first + (chunk + 1) * kRows); row++) {
        products().roundRow(x_ + row * ldx_, w_.cols, rounded + (row - first) * bytes);
      }
    };
    const double numbers = static_cast<double>(end - first) * static_cast<double>(w_.cols);
    parallelChunks(ceilDiv(end - first, kRows), numbers * cost::kRound, body);
  }

  void multiplyChunk(const StoredProduct& product, const uint8_t* rounded, float* memory) const {
    switch (wayOf(product.m)) {
      case Way::floats: return kernels_.stored->multiplyFloats(product);
      case Way::rounded: return products().multiply(product, rounded);
      case Way::panels: return products().panels->multiply(product, rounded, reinterpret_cast<uint8_t*>(memory));
      case Way::widened: return multiplyWidened(product, memory);
      case Way::large: return;  // done before
    }
  }

  void multiplyWidened(StoredProduct product, float* wide) const {
    kernels_.stored->widen(product.type, product.w, product.n * product.cols, wide);
    product.type = StorageType::float32;
    product.w = reinterpret_cast<const uint8_t*>(wide);
    product.rowBytes = product.cols * static_cast<int64_t>(sizeof(float));
    kernels_.stored->multiplyFloats(product);
  }

  template <class PartOf>
  void multiplyLarge(int64_t parts, const PartOf& partOf) const {
    const auto operandsOf = [&](int64_t i) -> Operands {
      const Part part = partOf(i);
      const int64_t m = wayOf(part.m) == Way::large ? part.m : 0;  // the others come later
      return {m, w_.cols, x_ + part.start * ldx_, nullptr, y_ + part.start * ldy_, w_.parts[part.index]};
    };
    const auto call = [](const void* context, int64_t i) {
      return (*static_cast<const decltype(operandsOf)*>(context))(i);
    };
    const GemmShape shape{false, true, w_.rows, alpha_, ldx_, 0, beta_, ldy_};
    const PanelKernels* const tiles = tilesOf(units_, w_.type);
    sgemmLarge({shape, &kernels_, tiles != nullptr ? tiles : kernels_.panels, true, parts, call, &operandsOf, &w_});
  }

  const StoredUnits& units_;
  const KernelTable& kernels_;
  const StoredMatrices& w_;
  const float alpha_;
  const float* const x_;
  const int64_t ldx_;
  const float beta_;
  float* const y_;
  const int64_t ldy_;
};

}  // namespace

void multiplyStored(const StoredUnits& units, const StoredMatrices& matrices, int64_t index, int64_t m, float alpha,
                    const float* x, int64_t ldx, float beta, float* y, int64_t ldy) {
  if (m == 0 || matrices.rows == 0) return;
  if (matrices.cols == 0 || alpha == 0) return scaleMatrix(m, matrices.rows, beta, y, ldy);
  Product product(units, matrices, alpha, x, ldx, beta, y, ldy);
  if (wayOf(units, matrices.type, m) != Way::panels) {
    return product.run(0, m, 1, [&](int64_t) { return Part{index, 0, m}; });
  }
  // Where there are few panels of weights, rows are cut too.
  constexpr int64_t kChunks = 16, kMinRows = 96;
  const int64_t panels = ceilDiv(matrices.rows, kPanelRows);
  const int64_t parts = std::max<int64_t>(std::min(ceilDiv(kChunks, panels), m / kMinRows), 1), size = ceilDiv(m, parts);
  product.run(0, m, ceilDiv(m, size), [&](int64_t i) { return Part{index, i * size, std::min(size, m - i * size)}; });
}

void multiplyStoredGroups(const StoredUnits& units, const StoredMatrices& matrices, const int32_t* rowStarts, float alpha,
                          const float* x, int64_t ldx, float beta, float* y, int64_t ldy) {
  const int64_t first = rowStarts[0], end = rowStarts[matrices.count];
  if (first == end || matrices.rows == 0) return;
  if (matrices.cols == 0 || alpha == 0) return scaleMatrix(end - first, matrices.rows, beta, y + first * ldy, ldy);
  int64_t used = 0;
  for (int64_t g = 0; g < matrices.count; g++) used += rowStarts[g + 1] > rowStarts[g];
  Product product(units, matrices, alpha, x, ldx, beta, y, ldy);
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
