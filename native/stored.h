// Matrices as they are stored: 32-bit and 16-bit floats, and the block types of GGUF (src/base/storageTypes.ts has the same
// table). Products by them are shared over the pool here; native/kernels/stored*.cc compute them.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"

namespace sgemoe {

struct StorageLayout {
  const char* name;
  int64_t elements, bytes;  // of a block
};

// In the order of StorageType (kernels/kernels.h).
inline constexpr StorageLayout kStorageLayouts[] = {
    {"float32", 1, 4},   {"bfloat16", 1, 2},  {"float16", 1, 2},   {"q4_0", 32, 18},   {"q4_1", 32, 20},   {"q5_0", 32, 22},
    {"q5_1", 32, 24},    {"q8_0", 32, 34},    {"q4_k", 256, 144},  {"q5_k", 256, 176}, {"q6_k", 256, 210},
};
constexpr int kStorageTypes = sizeof kStorageLayouts / sizeof kStorageLayouts[0];

inline const StorageLayout& layoutOf(StorageType type) { return kStorageLayouts[static_cast<int>(type)]; }

// `count` matrices [rows, cols], whose rows are rowBytes long; matrix i begins at parts[i].
struct StoredMatrices {
  StorageType type;
  int64_t rows, cols, count, rowBytes;
  const uint8_t* const* parts;

  int64_t bytes() const { return rows * rowBytes; }
};

// What multiplies stored matrices.
struct StoredUnits {
  const KernelTable& kernels;
  bool exact;  // products by block types take the activations as they are
  // Panels of a matrix unit for many rows, by matrices in bfloat16, in float32 and float16, and in blocks; null: none.
  const PanelKernels *bfloat16Tiles, *floatTiles, *roundedTiles;
};

// y [m, rows] = alpha * x W^T + beta * y with W matrix number `index`.
void multiplyStored(const StoredUnits& units, const StoredMatrices& matrices, int64_t index, int64_t m, float alpha,
                    const float* x, int64_t ldx, float beta, float* y, int64_t ldy);

// Rows rowStarts[g] .. rowStarts[g+1] of x and y by matrix g.
void multiplyStoredGroups(const StoredUnits& units, const StoredMatrices& matrices, const int32_t* rowStarts, float alpha,
                          const float* x, int64_t ldx, float beta, float* y, int64_t ldy);

// Row i of out = row ids[i] of matrix number `index`.
void gatherStored(const KernelTable& kernels, const StoredMatrices& matrices, int64_t index, int64_t count,
                  const int32_t* ids, float* out, int64_t ldOut);

void dequantize(const KernelTable& kernels, StorageType type, int64_t rows, int64_t cols, const uint8_t* bytes,
                float* out, int64_t ldOut);

// The blocks of `count` numbers; the same bytes everywhere (quantize.cc).
void quantizeRow(StorageType type, const float* x, int64_t count, uint8_t* bytes);
void quantize(StorageType type, int64_t rows, int64_t cols, const float* x, int64_t ldx, uint8_t* bytes);

}  // namespace sgemoe
