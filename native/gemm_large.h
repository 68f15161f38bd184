// Large matmuls by the built-in kernel or a matrix unit, both operands packed: one of them first, shared by all tiles, the
// other tile by tile (kernels/sgemm_large.cc, tile_product.h).
#pragma once
#include <cstdint>

#include "kernels/kernels.h"
#include "stored.h"

namespace sgemoe {

// One of several matmuls that differ in place and in one size.
struct Operands {
  int64_t m, k;
  const float* a;
  const float* b;
  float* c;
  const uint8_t* storedB = nullptr;  // instead of b
};

// The properties that the matmuls of one call share.
struct GemmShape {
  bool transA, transB;
  int64_t n;
  float alpha;
  int64_t lda, ldb;
  float beta;
  int64_t ldc;
};

struct LargeGemm : GemmShape {
  const KernelTable* kernels;
  const PanelKernels* panels;  // the table's, or those of a matrix unit
  bool shareA;  // op(A) is packed first and tiles are columns; else op(B), and tiles are rows
  int64_t groups;
  Operands (*operandsOf)(const void* context, int64_t g);
  const void* context;
  // If not null, B is stored like these matrices: transB, shareA and Operands::storedB must be set. By block types a
  // matrix unit multiplies rounded operands only.
  const StoredMatrices* storedB = nullptr;
};

// C = alpha * op(A) op(B) + beta * C for each of the groups. Throws std::bad_alloc.
void sgemmLarge(const LargeGemm& s);

}  // namespace sgemoe
