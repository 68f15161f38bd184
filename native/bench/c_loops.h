// The kernels of the elementwise family as plain C++ loops: what a compiler makes of the formulas of
// src/backend/kernels.ts when it may use this machine's instructions, reorder sums and call a vector libm. The measure
// that kernel_bench holds the library's kernels against. No attention to NaN, infinities or the last digits.
#pragma once
#include <cstdint>

#include "../kernels/kernels.h"

namespace sgemoe::loops {

void exp(const float* x, float* y, int64_t n);
void silu(const float* x, float* y, int64_t n);
void softmaxForward(const float* x, float* y, int64_t rows, int64_t cols);
void softmaxBackward(const float* y, const float* dy, float* dx, int64_t rows, int64_t cols);
void rmsNormForward(const float* x, const float* gamma, float* y, float* invRms, int64_t rows, int64_t cols);
void rmsNormBackward(const float* x, const float* gamma, const float* invRms, const float* dy, float* dx,
                     float* dGamma, int64_t rows, int64_t cols);
void swigluForward(const float* gateUp, float* y, int64_t rows, int64_t ffn);
void swigluBackward(const float* gateUp, const float* dy, float* dGateUp, int64_t rows, int64_t ffn);
void rope(float* x, const float* cos, const float* sin, const int32_t* positions, int64_t rows, int64_t nHeads,
          int64_t headDim);
void routeForward(const RouteShape& shape, const float* logits, float* probs, float* lse, int32_t* topkIndices,
                  float* topkWeights, int32_t* rowStarts, int32_t* slotToToken, int32_t* tokenToSlots,
                  float* probMeans);
void routeBackward(const RouteShape& shape, const float* probs, const float* lse, const int32_t* topkIndices,
                   const float* topkWeights, const float* dTopkWeights, const int32_t* rowStarts, float* dLogits,
                   float auxScale, float zScale);
void gatherRows(const float* src, const int32_t* indices, float* dst, int64_t rows, int64_t cols);
void scatterAddRows(const float* x, const int32_t* slots, const float* weights, float* y, int64_t tokens,
                    int64_t topK, int64_t cols);
void scatterAddRowsBackward(const float* dy, const float* x, const int32_t* slots, const float* weights, float* dx,
                            float* dWeights, int64_t tokens, int64_t topK, int64_t cols);
void embeddingBackward(const float* dy, const int32_t* ids, float* dTable, int64_t tokens, int64_t cols);
double crossEntropy(float* logits, const int32_t* targets, float* losses, int64_t rows, int64_t cols,
                    float gradScale);
double sumSquares(const float* x, int64_t n);
void scale(float* x, int64_t n, float factor);
void axpy(int64_t n, float alpha, const float* x, float* y);
void adamw(float* param, const float* grad, float* m, float* v, int64_t n, const AdamwArgs& args);

}  // namespace sgemoe::loops
