// Products by block types as sums of integers. Activations are rounded to 8 bits in blocks of 32: x ~ d q, d = max |x| / 127.
// A part of 32 weights is step * q + shift, on x86 with q >= 0, so that its product is
//   step d sum (q q_x) + shift d sum q_x
// with sums of integers, of which the second doesn't depend on the weights.
#pragma once
#include "stored_blocks.h"

namespace sgemoe {
namespace SGEMOE_ISA {

// A row of activations [cols], in this order behind each other.
struct RoundedRow {
  const int8_t* q;      // [cols]
  const float* d;       // [cols / 32]
  const float* dSum;    // [cols / 32]: d * (the sum of 32 numbers q)
  const float* dSum16;  // [cols / 16]: of 16 numbers, for q6_k, whose parts have 16 weights; x86 alone has it
};

inline RoundedRow roundedRow(const uint8_t* at, int64_t cols) {
  const float* const d = (const float*)(at + cols);
  return {(const int8_t*)at, d, d + cols / 32, d + cols / 16};
}

// Bytes of a row.
inline int64_t roundedBytes(int64_t cols) { return roundUp(cols + cols / 2, 64); }

void roundRow(const float* x, int64_t cols, uint8_t* row);

// y [m, n] = alpha * x W^T + beta * y for rounded rows x, which are roundedBytes(cols) apart.
void multiplyRounded(const StoredProduct& product, const uint8_t* x);

#if defined(__AVX512VNNI__) || defined(SGEMOE_SDOT)
extern const RoundedPanels kRoundedPanels;
#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
