// Batched and grouped matmuls over any serial sgemm, shared over the thread pool.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"

namespace sgemoe {

struct Gemm {
  SgemmFn serial;           // cblas_sgemm at one thread, or the built-in kernel
  const KernelTable* large;  // multiplies large matrices; null where `serial` does
  const PanelKernels* others = nullptr;  // if not null, these multiply large matrices instead of the table's panels

  const PanelKernels& panels() const { return others != nullptr ? *others : *large->panels; }
};

void sgemm(const Gemm& gemm, bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
           int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

void sgemmBatch(const Gemm& gemm, bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha,
                const float* a, int64_t lda, int64_t strideA, const float* b, int64_t ldb, int64_t strideB, float beta,
                float* c, int64_t ldc, int64_t strideC, int64_t batch);

void sgemmGrouped(const Gemm& gemm, bool transB, int64_t groups, const int32_t* rowStarts, int64_t n, int64_t k,
                  float alpha, const float* a, int64_t lda, const float* b, int64_t ldb, int64_t strideB, float beta,
                  float* c, int64_t ldc);

void sgemmGroupedTransA(const Gemm& gemm, int64_t groups, const int32_t* rowStarts, int64_t m, int64_t n, float alpha,
                        const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc,
                        int64_t strideC);

}  // namespace sgemoe
