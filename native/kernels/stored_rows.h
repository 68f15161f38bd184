// The rows of a product by rounded activations: what stored_rounded.cc and stored_rounded_neon.cc end with. They define Blocks,
// BlocksWithMinima and BlocksOf6Bits, whose product<M> multiplies a row of weights by M rows of activations.
#pragma once
#include "stored_rounded.h"

namespace sgemoe {
#if defined(SGEMOE_AVXVNNI)
namespace avx2 {
void multiplyRounded(const StoredProduct& s, const uint8_t* x);
}
#endif
namespace SGEMOE_ISA {

namespace {

constexpr int kMostRows = 8;

template <class B, int M>
void multiplyRows(const StoredProduct& s, const uint8_t* x, int64_t row) {
  RoundedRow rows[M];
  for (int i = 0; i < M; i++) rows[i] = roundedRow(x + (row + i) * roundedBytes(s.cols), s.cols);
  for (int64_t n = 0; n < s.n; n++) {
    float sums[M];
    B::template product<M>(s.w + n * s.rowBytes, s.cols / B::kElements, rows, sums);
    for (int i = 0; i < M; i++) {
      float* const y = s.y + (row + i) * s.ldy + n;
      *y = s.beta == 0 ? s.alpha * sums[i] : s.alpha * sums[i] + s.beta * *y;
    }
  }
}

template <class B>
void multiplyBy(const StoredProduct& s, const uint8_t* x) {
  int64_t row = 0;
  for (; row + kMostRows <= s.m; row += kMostRows) multiplyRows<B, kMostRows>(s, x, row);
  if (row + 4 <= s.m) {
    multiplyRows<B, 4>(s, x, row);
    row += 4;
  }
  if (row + 2 <= s.m) {
    multiplyRows<B, 2>(s, x, row);
    row += 2;
  }
  if (row < s.m) multiplyRows<B, 1>(s, x, row);
}

}  // namespace

void multiplyRounded(const StoredProduct& s, const uint8_t* x) {
  switch (s.type) {
    case StorageType::q4_k: return multiplyBy<BlocksWithMinima<false>>(s, x);
    case StorageType::q6_k: return multiplyBy<BlocksOf6Bits>(s, x);
#if defined(SGEMOE_AVXVNNI)  // the types of Q4_K_M are worth the bytes of a copy
    default: return avx2::multiplyRounded(s, x);
#else
    case StorageType::q4_0: return multiplyBy<Blocks<Q4_0>>(s, x);
    case StorageType::q4_1: return multiplyBy<Blocks<Q4_1>>(s, x);
    case StorageType::q5_0: return multiplyBy<Blocks<Q5_0>>(s, x);
    case StorageType::q5_1: return multiplyBy<Blocks<Q5_1>>(s, x);
    case StorageType::q8_0: return multiplyBy<Blocks<Q8_0>>(s, x);
    case StorageType::q5_k: return multiplyBy<BlocksWithMinima<true>>(s, x);
    default: return;  // floats are never rounded
#endif
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
