#include <initializer_list>
#include <string>

#include "../stored.h"
#include "areas.h"
#include "entries.h"

namespace sgemoe::entries {
namespace {

// Throws if matrix `index`, which the call reads, has been given back.
void requireMatrix(const Args& args, const StoredHandle& handle, int64_t index) {
  if (handle.isGone(index)) args.throwGone(index);
}

// The distance between the rows of an argument that have `cols` elements.
struct RowDistance {
  const char* name;
  int64_t ld, cols;
};

void requireLds(const Args& args, std::initializer_list<RowDistance> distances) {
  for (const auto& [name, ld, cols] : distances) args.requireLd(name, ld, static_cast<double>(cols));
}

// Checks that the handle has a matrix `index` and the distances, in this order, and adds the matrix to what is read.
void readMatrix(const Args& args, Areas& areas, const StoredHandle& handle, int64_t index,
                std::initializer_list<RowDistance> distances) {
  const StoredMatrices& matrices = handle.matrices;
  if (index >= matrices.count) {
    args.throwRange("index must be in [0, " + std::to_string(matrices.count) + "), got " +
                    args.text(static_cast<double>(index)));
  }
  requireLds(args, distances);
  requireMatrix(args, handle, index);
  areas.readsMemory("matrices", matrices.parts[index], matrices.bytes());
}

double storedBytes(StorageType type, int64_t rows, int64_t cols) {
  const StorageLayout& layout = layoutOf(type);
  return static_cast<double>(rows) * static_cast<double>(cols / layout.elements) * static_cast<double>(layout.bytes);
}

}  // namespace

void multiplyStored(Args& args) {
  const StoredHandle& handle = args.stored("matrices");
  const StoredMatrices& matrices = handle.matrices;
  const int64_t index = args.size("index"), m = args.size("m");
  const double alpha = args.real("alpha");
  const Floats x = args.floats("x");
  const int64_t ldx = args.size("ldx");
  const double beta = args.real("beta");
  const Floats y = args.floats("y");
  const int64_t ldy = args.size("ldy");
  args.done();
  Areas areas(args);
  readMatrix(args, areas, handle, index, {{"ldx", ldx, matrices.cols}, {"ldy", ldy, matrices.rows}});
  areas.reads(x, matrix(m, matrices.cols, ldx));
  areas.writes(y, matrix(m, matrices.rows, ldy));
  if (m == 0 || matrices.rows == 0) return;
  areas.requireApart();
  sgemoe::multiplyStored(args.storedUnits(), matrices, index, m, static_cast<float>(alpha),
                         x.begin(), ldx, static_cast<float>(beta), y.begin(), ldy);
}

void multiplyStoredGroups(Args& args) {
  const StoredHandle& handle = args.stored("matrices");
  const StoredMatrices& matrices = handle.matrices;
  const Ints rowStarts = args.ints("rowStarts");
  const double alpha = args.real("alpha");
  const Floats x = args.floats("x");
  const int64_t ldx = args.size("ldx");
  const double beta = args.real("beta");
  const Floats y = args.floats("y");
  const int64_t ldy = args.size("ldy");
  args.done();
  requireLds(args, {{"ldx", ldx, matrices.cols}, {"ldy", ldy, matrices.rows}});
  Areas areas(args);
  areas.reads(rowStarts, static_cast<double>(matrices.count) + 1);
  args.requireRowStarts(rowStarts, matrices.count);
  const int32_t* const starts = rowStarts.begin();
  areas.reads(x, rowsOfGroups(starts[0], starts[matrices.count], matrices.cols, ldx));
  areas.writes(y, rowsOfGroups(starts[0], starts[matrices.count], matrices.rows, ldy));
  for (int64_t g = 0; g < matrices.count; g++) {
    if (starts[g + 1] == starts[g]) continue;
    requireMatrix(args, handle, g);
    if (areas.writesInto(matrices.parts[g], matrices.bytes())) args.throwRange("y must not overlap matrices");
  }
  if (starts[0] == starts[matrices.count] || matrices.rows == 0) return;
  areas.requireApart();
  sgemoe::multiplyStoredGroups(args.storedUnits(), matrices, starts, static_cast<float>(alpha),
                               x.begin(), ldx, static_cast<float>(beta), y.begin(), ldy);
}

void gatherStored(Args& args) {
  const StoredHandle& handle = args.stored("matrices");
  const StoredMatrices& matrices = handle.matrices;
  const int64_t index = args.size("index"), count = args.size("count");
  const Ints ids = args.ints("ids");
  const Floats out = args.floats("out");
  const int64_t ldOut = args.size("ldOut");
  args.done();
  Areas areas(args);
  readMatrix(args, areas, handle, index, {{"ldOut", ldOut, matrices.cols}});
  areas.reads(ids, static_cast<double>(count));
  areas.writes(out, matrix(static_cast<double>(count), static_cast<double>(matrices.cols), static_cast<double>(ldOut)));
  args.requireIndices(ids, count, matrices.rows);
  areas.requireApart();
  sgemoe::gatherStored(args.kernels(), matrices, index, count, ids.begin(), out.begin(), ldOut);
}

void quantize(Args& args) {
  const StorageType type = args.storageType("type");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  const Floats x = args.floats("x");
  const int64_t ldx = args.size("ldx");
  const Bytes bytes = args.bytes("bytes");
  args.done();
  args.requireWholeBlocks(type, cols);
  args.requireLd("ldx", ldx, static_cast<double>(cols));
  Areas areas(args);
  areas.reads(x, matrix(static_cast<double>(rows), static_cast<double>(cols), static_cast<double>(ldx)));
  areas.writesBytes(bytes, storedBytes(type, rows, cols));
  if (rows == 0 || cols == 0) return;
  areas.requireApart();
  sgemoe::quantize(type, rows, cols, x.begin(), ldx, bytes.begin());
}

void dequantize(Args& args) {
  const StorageType type = args.storageType("type");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  const Bytes bytes = args.bytes("bytes");
  const Floats out = args.floats("out");
  const int64_t ldOut = args.size("ldOut");
  args.done();
  args.requireWholeBlocks(type, cols);
  args.requireLd("ldOut", ldOut, static_cast<double>(cols));
  Areas areas(args);
  areas.readsBytes(bytes, storedBytes(type, rows, cols));
  areas.writes(out, matrix(static_cast<double>(rows), static_cast<double>(cols), static_cast<double>(ldOut)));
  if (rows == 0 || cols == 0) return;
  areas.requireApart();
  sgemoe::dequantize(args.kernels(), type, rows, cols, bytes.begin(), out.begin(), ldOut);
}

}  // namespace sgemoe::entries
