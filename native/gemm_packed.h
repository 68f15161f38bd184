// Matmuls by packed weights, shared over the thread pool. The built-in kernel always computes them.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"

namespace sgemoe {

// Packs `groups` matrices [n, k], strideB apart, packedSize(n, k) floats each.
void packWeights(const KernelTable& kernels, const float* b, int64_t ldb, int64_t strideB, int64_t groups, int64_t n,
                 int64_t k, float* packed);

// C = alpha * A B^T + beta * C.
void sgemmPacked(const KernelTable& kernels, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                 const float* packed, float beta, float* c, int64_t ldc);

// The same for rows rowStarts[g] .. rowStarts[g+1] and the packed matrix of each group g.
void sgemmGroupedPacked(const KernelTable& kernels, int64_t groups, const int32_t* rowStarts, int64_t n, int64_t k,
                        float alpha, const float* a, int64_t lda, const float* packed, float beta, float* c,
                        int64_t ldc);

}  // namespace sgemoe
