// The kernels, as C++ sees them: plain pointers (offsets already applied) and sizes. addon.cc has checked every
// argument; nothing here checks again. Formulas and conventions: src/backend/kernels.ts.
//
// Each source in this folder is compiled once per instruction set, inside the namespace SGEMOE_ISA (baseline, avx2,
// avx512, neon), and gathered into one table. The table is chosen at load by CPU check. Those sources must not use
// inline templates of the standard library: the linker keeps one copy for all.
#pragma once
#include <cstdint>

namespace sgemoe {

// Row-major C = alpha * op(A) op(B) + beta * C on the calling thread. beta = 0 never reads C. The sizes may be 0.
using SgemmFn = void (*)(bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                         int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

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
};

// The parts of a large matmul (sgemm_large.cc). A panel of op(A) is [depth, rows], one of op(B) [depth, cols].
// Packing takes any number of rows or columns, which run along the depth in memory or across it, and puts the panels
// `stride` apart, with `rows` or `cols` floats a step.
struct PanelKernels {
  int64_t rows, cols;
  int64_t depth;  // to cut long products to
  double minProducts, minProductsTransA;  // m * n * k from which they beat the other ways
  void (*packRows)(bool alongDepth, int64_t depth, int64_t rows, const float* a, int64_t lda, float* packed,
                   int64_t stride);
  void (*packColumns)(bool alongDepth, int64_t depth, int64_t cols, const float* b, int64_t ldb, float* packed,
                      int64_t stride);
  void (*multiply)(const PackedProduct& product);
};

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

struct KernelTable {
  const char* instructionSet;

  SgemmFn sgemm;  // the built-in kernel
  const PanelKernels* panels;  // its way with large matrices

  // B [n, k] packed for C = alpha * A B^T + beta * C. With n a multiple of 32, what is packed of more columns follows.
  int64_t (*packedSize)(int64_t n, int64_t k);
  void (*packWeights)(const float* b, int64_t ldb, int64_t n, int64_t k, float* packed);
  void (*sgemmPacked)(int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* packed,
                      float beta, float* c, int64_t ldc);

  void (*exp)(const float* x, float* y, int64_t n);
  void (*silu)(const float* x, float* y, int64_t n);
  void (*softmaxForward)(const float* x, float* y, int64_t rows, int64_t cols);
  void (*softmaxBackward)(const float* y, const float* dy, float* dx, int64_t rows, int64_t cols);
  void (*rmsNormForward)(const float* x, int64_t ldx, const float* gamma, float* y, int64_t ldy, float* invRms,
                         int64_t rows, int64_t cols, double eps);
  void (*rmsNormBackward)(const float* x, int64_t ldx, const float* gamma, const float* invRms, const float* dy,
                          int64_t lddy, float* dx, int64_t lddx, bool accumulateDx, float* dGamma, int64_t rows,
                          int64_t cols);
  void (*swigluForward)(const float* gateUp, float* y, int64_t rows, int64_t ffn);
  void (*swigluBackward)(const float* gateUp, const float* dy, float* dGateUp, int64_t rows, int64_t ffn);
  void (*rope)(float* x, int64_t ldx, const float* cos, const float* sin, const int32_t* positions, int64_t rows,
               int64_t nHeads, int64_t headDim, bool inverse);
  void (*attentionForward)(const AttentionShape& shape, const float* q, const float* k, const float* v, float* out,
                           float* lse);
  void (*attentionBackward)(const AttentionShape& shape, const float* q, const float* k, const float* v,
                            const float* out, const float* lse, const float* dOut, float* dq, float* dk, float* dv);
  void (*routeForward)(const RouteShape& shape, const float* logits, const float* bias, float* probs, float* lse,
                       int32_t* topkIndices, float* topkWeights, int32_t* rowStarts, int32_t* slotToToken,
                       int32_t* tokenToSlots, float* probMeans);
  void (*routeBackward)(const RouteShape& shape, const float* probs, const float* lse, const int32_t* topkIndices,
                        const float* topkWeights, const float* dTopkWeights, const int32_t* rowStarts, float* dLogits,
                        double auxScale, double zScale);
  void (*gatherRows)(const float* src, const int32_t* indices, float* dst, int64_t rows, int64_t cols);
  void (*scatterAddRows)(const float* x, const int32_t* slots, const float* weights, float* y, int64_t tokens,
                         int64_t topK, int64_t cols);
  void (*scatterAddRowsBackward)(const float* dy, const float* x, const int32_t* slots, const float* weights, float* dx,
                                 float* dWeights, int64_t tokens, int64_t topK, int64_t cols);
  void (*embeddingBackward)(const float* dy, const int32_t* ids, float* dTable, int64_t tokens, int64_t cols);
  double (*crossEntropy)(float* logits, const int32_t* targets, float* losses, int64_t rows, int64_t cols,
                         int32_t ignoreIndex, double gradScale, bool writeGradient);
  double (*sumSquares)(const float* x, int64_t n);
  void (*scale)(float* x, int64_t n, float factor);
  void (*axpy)(int64_t n, float alpha, const float* x, float* y);
  void (*adamw)(float* param, const float* grad, float* m, float* v, int64_t n, const AdamwArgs& args);
};

// One definition for every instruction set: exact arithmetic, compiled once without contraction (random.cc).
void randomNormal(float* out, int64_t n, uint32_t seedLow, uint32_t seedHigh, uint32_t stream, double std);

}  // namespace sgemoe
