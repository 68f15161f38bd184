// The kernels, as C++ sees them: plain pointers (offsets already applied) and sizes. addon.cc has checked every
// argument; nothing here checks again. Formulas and conventions: src/backend/kernels.ts.
//
// Each source in this folder is compiled once per instruction set, inside the namespace SGEMOE_ISA (baseline, avx2,
// avx512, neon), and gathered into one table; what multiplies bytes once more for avxvnni, avx512vnni, neondot and neoni8mm. The table is chosen at load by CPU check. Those sources must not use
// inline templates of the standard library: the linker keeps one copy for all.
#pragma once
#include <cstdint>

namespace sgemoe {

// Row-major C = alpha * op(A) op(B) + beta * C on the calling thread. beta = 0 never reads C. The sizes may be 0.
using SgemmFn = void (*)(bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                         int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

struct TileKernels;

// C [rows, cols] = alpha * A B + beta * C. Panel number i of A is at a + i * aStride, of B at b + i * bStride.
struct PackedProduct {
  int64_t rows, cols, depth;
  float alpha;
  const float* a;
  int64_t aStride;
  const float* b;
  int64_t bStride;
  float beta;
  float* c;
  int64_t ldc;
  // Of products on a matrix unit: the steps of the depth that lie in front of a and b in their panels, and what computes
  // [rows, cols] from `row` and `col` on from the operands as they are, where the unit can't.
  int64_t aAt, bAt;
  const TileKernels* tiles;
  void (*multiplyPlainly)(const void* context, int64_t row, int64_t col, int64_t rows, int64_t cols);
  const void* context;
};

// The parts of a large matmul (sgemm_large.cc). A panel of op(A) is [depth, rows], one of op(B) [depth, cols].
// Packing takes any number of rows or columns, which run along the depth in memory or across it, and puts the panels
// `stride` apart. `packed` is where step `at` of the first panel lies; the steps before it have been packed.
using PackPanelsFn = void (*)(bool alongDepth, int64_t depth, int64_t count, const float* from, int64_t ld, float* packed,
                              int64_t stride, int64_t at);
struct PanelKernels {
  int64_t rows, cols;
  int64_t depth;  // to cut long products to
  double minProducts, minProductsTransA;  // m * n * k from which they beat the other ways
  PackPanelsFn packRows, packColumns;
  void (*multiply)(const PackedProduct& product);
  int64_t rowFloats, colFloats;  // floats of a panel of op(A) or op(B) for each step of the depth
  int64_t depthUnit;             // panels hold a multiple of so many steps
  int64_t header;                // floats in front of a panel
  int64_t minSide;               // the least m, n and k
  const TileKernels* tiles;      // if a matrix unit multiplies
};

// What products on a matrix unit need besides the unit (tile_panels.cc), and what does its work in part without one. Sums are 32
// floats a row.
struct TileKernels {
  PackPanelsFn packRows, packColumns;  // in three parts
  PackPanelsFn packBfloat16Rows, packBfloat16Columns;  // in one, rounded to bfloat16
  float (*least)(const float* sums, int64_t rows, int64_t cols);  // magnitude
  void (*update)(const float* sums, int64_t rows, int64_t cols, float alpha, float beta, float* c, int64_t ldc);
  // Panels of bfloat16 by instructions for vectors (pair_products.cc); null where the instruction set has none.
  void (*multiplyPairs)(const PackedProduct& product);
};

// Strides of keys and values are in elements, of stored ones in bytes.
struct AttentionShape {
  int64_t batch, queryLen, nHeads, nKvHeads, headDim;
  int64_t ldq, ldk, kBatchStride, ldv, vBatchStride, ldo;
  float scale;
  const int32_t* queryStarts;
  const int32_t* kvLengths;
};

struct RouteShape {
  int64_t tokens, nExperts, topK;
  bool renormalise;
};

struct AdamwArgs {
  double lr, beta1, beta2, eps, weightDecay, biasCorrection1, biasCorrection2, gradScale;
};

// How a matrix is stored; layouts and names: stored.h.
enum class StorageType : int32_t { float32, bfloat16, float16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k };

// y [m, n] = alpha * x W^T + beta * y with rows of W that lie rowBytes apart.
struct StoredProduct {
  StorageType type;
  int64_t m, n, cols;
  const uint8_t* w;
  int64_t rowBytes;
  float alpha;
  const float* x;
  int64_t ldx;
  float beta;
  float* y;
  int64_t ldy;
};

// Products of many rounded rows (kernels/stored_rounded_panels.cc, on arm64 stored_rounded_panels_neon.cc).
struct RoundedPanels {
  int64_t tileRows;  // rounded rows are read in multiples of it, whatever those beyond the last one hold
  int64_t bytes;     // of memory that a product needs, aligned to 64
  int64_t minRows;   // from which it beats RoundedProducts.multiply
  void (*multiply)(const StoredProduct& product, const uint8_t* rounded, uint8_t* memory);
};

// Products by block types of rows that roundRow has rounded to 8 bits.
struct RoundedProducts {
  int64_t (*rowBytes)(int64_t cols);  // of a rounded row
  void (*roundRow)(const float* x, int64_t cols, uint8_t* rounded);
  void (*multiply)(const StoredProduct& product, const uint8_t* rounded);
  const RoundedPanels* panels;  // null where widened weights are as fast
};

// The parts of products by stored matrices (stored.cc).
struct StoredKernels {
  // The numbers of `count` elements, whole blocks.
  void (*widen)(StorageType type, const uint8_t* blocks, int64_t count, float* out);
  // By floats of 32 or 16 bits.
  void (*multiplyFloats)(const StoredProduct& product);
  const RoundedProducts* rounded;  // null where this doesn't gain
};

struct KernelTable {
  const char* instructionSet;

  const PanelKernels* panels;         // the built-in sgemm's way with large matrices
  const PanelKernels* roundedPanels;  // the same, of operands of any size rounded to bfloat16
  const StoredKernels* stored;
  const TileKernels* tiles;  // null where no matrix unit can be

  // One member for each kernel.
#define SGEMOE_KERNEL(result, name, parameters) result(*name) parameters;
#define SGEMOE_ENTRY(result, name)
#include "../kernels.def"
};

// One definition for every instruction set: exact arithmetic, compiled once without contraction (random.cc).
void randomNormal(float* out, int64_t n, uint32_t seedLow, uint32_t seedHigh, uint32_t stream, double std);

}  // namespace sgemoe
