// Integer arithmetic of sizes, and the matmul over k = 0. Everything is static, since the sources of kernels/ are compiled
// once per instruction set and the linker may keep the widest copy of a function with external linkage for all.
#pragma once
#include <stdint.h>
#include <string.h>

namespace sgemoe {

static inline int64_t minOf(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t maxOf(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t roundUp(int64_t x, int64_t unit) { return ceilDiv(x, unit) * unit; }

// C [m, n] = beta * C, zeros where beta = 0.
static inline void scaleMatrix(int64_t m, int64_t n, float beta, float* c, int64_t ldc) {
  for (int64_t i = 0; i < m; i++) {
    float* const row = c + i * ldc;
    if (beta == 0) {
      memset(row, 0, static_cast<size_t>(n) * sizeof(float));
    } else {
      for (int64_t j = 0; j < n; j++) row[j] *= beta;
    }
  }
}

}  // namespace sgemoe
