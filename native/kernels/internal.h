// What the kernel sources share: their declarations and the cutting of rows into chunks.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../parallel.h"
#include "../scratch.h"
#include "../simd.h"
#include "kernels.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void sgemm(bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
           const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

int64_t packedSize(int64_t n, int64_t k);
void packWeights(const float* b, int64_t ldb, int64_t n, int64_t k, float* packed);
void sgemmPacked(int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* packed,
                 float beta, float* c, int64_t ldc);

void exp(const float* x, float* y, int64_t n);
void silu(const float* x, float* y, int64_t n);
void scale(float* x, int64_t n, float factor);
void axpy(int64_t n, float alpha, const float* x, float* y);
double sumSquares(const float* x, int64_t n);

void softmaxForward(const float* x, float* y, int64_t rows, int64_t cols);
void softmaxBackward(const float* y, const float* dy, float* dx, int64_t rows, int64_t cols);

void rmsNormForward(const float* x, int64_t ldx, const float* gamma, float* y, int64_t ldy, float* invRms,
                    int64_t rows, int64_t cols, double eps);
void rmsNormBackward(const float* x, int64_t ldx, const float* gamma, const float* invRms, const float* dy,
                     int64_t lddy, float* dx, int64_t lddx, bool accumulateDx, float* dGamma, int64_t rows,
                     int64_t cols);

void swigluForward(const float* gateUp, float* y, int64_t rows, int64_t ffn);
void swigluBackward(const float* gateUp, const float* dy, float* dGateUp, int64_t rows, int64_t ffn);

void rope(float* x, int64_t ldx, const float* cos, const float* sin, const int32_t* positions, int64_t rows,
          int64_t nHeads, int64_t headDim, bool inverse);

void attentionForward(const AttentionShape& shape, const float* q, const float* k, const float* v, float* out,
                      float* lse);
void attentionBackward(const AttentionShape& shape, const float* q, const float* k, const float* v, const float* out,
                       const float* lse, const float* dOut, float* dq, float* dk, float* dv);

void routeForward(const RouteShape& shape, const float* logits, const float* bias, float* probs, float* lse,
                  int32_t* topkIndices, float* topkWeights, int32_t* rowStarts, int32_t* slotToToken,
                  int32_t* tokenToSlots, float* probMeans);
void routeBackward(const RouteShape& shape, const float* probs, const float* lse, const int32_t* topkIndices,
                   const float* topkWeights, const float* dTopkWeights, const int32_t* rowStarts, float* dLogits,
                   double auxScale, double zScale);

void gatherRows(const float* src, const int32_t* indices, float* dst, int64_t rows, int64_t cols);
void scatterAddRows(const float* x, const int32_t* slots, const float* weights, float* y, int64_t tokens,
                    int64_t topK, int64_t cols);
void scatterAddRowsBackward(const float* dy, const float* x, const int32_t* slots, const float* weights, float* dx,
                            float* dWeights, int64_t tokens, int64_t topK, int64_t cols);
void embeddingBackward(const float* dy, const int32_t* ids, float* dTable, int64_t tokens, int64_t cols);

double crossEntropy(float* logits, const int32_t* targets, float* losses, int64_t rows, int64_t cols,
                    int32_t ignoreIndex, double gradScale, bool writeGradient);
void adamw(float* param, const float* grad, float* m, float* v, int64_t n, const AdamwArgs& args);

inline int64_t minOf(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t maxOf(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A chunk should cost far more than taking it, yet be short enough for the last one not to leave others idle.
constexpr double kChunkNs = 2500;

// body(begin, end) over [0, count) in chunks of about kChunkNs, cut from count and cost alone. For bodies whose
// items are independent of each other. `multiple` keeps cuts on vector boundaries.
template <class Body>
inline void forChunks(int64_t count, double nsPerItem, int64_t multiple, Body body) {
  const double items = kChunkNs / nsPerItem;
  const int64_t size = items < (double)multiple ? multiple : (int64_t)(items / (double)multiple) * multiple;
  if (count <= size) {
    if (count > 0) body(0, count);
    return;
  }
  auto chunk = [&](int64_t i) { body(i * size, minOf(count, (i + 1) * size)); };
  parallelChunks(divideUp(count, size), (double)count * nsPerItem, chunk);
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
