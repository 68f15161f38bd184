// Keys and values widened for tiles of many rows, which read a block so often that widening it once pays.
#include "attention_stored.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void widen(StorageType type, const uint8_t* blocks, int64_t count, float* out);

namespace {

template <class Rows>
void widenRows(const uint8_t* from, int64_t ld, int64_t rows, int64_t cols, float* to, int64_t toLd) {
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* const row = from + r * ld;
    for (int64_t i = 0; i < cols; i += kLanes) store(to + r * toLd + i, Rows::at(row, i, Rows::scaleAt(row, i)));
  }
}

void widenRows(StorageType type, const uint8_t* from, int64_t ld, int64_t rows, int64_t cols, float* to,
               int64_t toLd) {
  const bool whole = cols % kLanes == 0;
  if (whole && type == StorageType::float16) return widenRows<FloatRows<Float16>>(from, ld, rows, cols, to, toLd);
  if (whole && type == StorageType::q8_0) return widenRows<Q8Rows>(from, ld, rows, cols, to, toLd);
  for (int64_t r = 0; r < rows; ++r) widen(type, from + r * ld, cols, to + r * toLd);
}

}  // namespace

KeyBlock widenBlock(int64_t headDim, const StoredBlock& stored, float* memory) {
  const int64_t padded = paddedDim(headDim);
  float* const values = memory + kBlockKeys * padded;
  widenRows(stored.type, stored.k, stored.ldk, stored.count, headDim, memory, padded);
  widenRows(stored.type, stored.v, stored.ldv, stored.count, headDim, values, padded);
  return {stored.first, stored.count, memory, values, padded, padded};
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
