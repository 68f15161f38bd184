// Choice of tokens from logits: sampleRows of src/backend/kernels/sampling.ts, over the pool.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"

namespace sgemoe {

// settings [rows, 3]: temperature, topP, minP; choices [rows, 2]: topK, random bits.
void sampleRows(const KernelTable& kernels, const float* logits, int64_t ldLogits, const float* settings,
                const int32_t* choices, int32_t* tokens, int64_t rows, int64_t cols);

}  // namespace sgemoe
