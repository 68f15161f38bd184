// Few rows or columns: products whose both operands run along k in memory are dot products, which need no packing.
#include <string.h>

#include "quad_sums.h"
#include "sgemm_tile.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// c[0..count] = alpha * sums + beta * c, count at most 4.
inline void updateQuad(float* c, Quad sums, float alpha, float beta, int count) {
  Quad value = sums * alpha;
  if (count == 4) {
    if (beta != 0) {
      Quad old;
      memcpy(&old, c, sizeof old);
      value += old * beta;
    }
    memcpy(c, &value, sizeof value);
    return;
  }
  for (int j = 0; j < count; j++) c[j] = beta == 0 ? value[j] : value[j] + beta * c[j];
}

// R rows of A by four rows of B, which all run along k. Where B has fewer left, its last one is repeated.
template <int R>
void dotTile(const Matrices& s, int64_t k, float beta, int64_t row, int64_t col) {
  const int count = static_cast<int>(minOf(4, s.n - col));
  const float* a = s.a + row * s.lda;
  const float* b[4];
  UNROLL for (int j = 0; j < 4; j++) b[j] = s.b + (col + minOf(j, count - 1)) * s.ldb;
  Vf sums[R][4];
  UNROLL for (int i = 0; i < R; i++) {
    UNROLL for (int j = 0; j < 4; j++) sums[i][j] = Vf{};
  }
  int64_t p = 0;
  for (; p + kLanes <= k; p += kLanes) {
    Vf right[4];
    UNROLL for (int j = 0; j < 4; j++) {
      right[j] = load(b[j] + p);
      if (R > 1) prefetch(b[j] + p + 4 * s.ldb);
    }
    UNROLL for (int i = 0; i < R; i++) {
      const Vf left = load(a + i * s.lda + p);
      UNROLL for (int j = 0; j < 4; j++) sums[i][j] = fma(left, right[j], sums[i][j]);
    }
  }
  if (p < k) {
    const int lanes = static_cast<int>(k - p);
    UNROLL for (int j = 0; j < 4; j++) {
      const Vf right = loadPartial(b[j] + p, lanes);
      UNROLL for (int i = 0; i < R; i++) {
        sums[i][j] = fma(loadPartial(a + i * s.lda + p, lanes), right, sums[i][j]);
      }
    }
  }
  UNROLL for (int i = 0; i < R; i++) {
    const Quad quad = sumsOf(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
    updateQuad(s.c + (row + i) * s.ldc + col, quad, s.alpha, beta, count);
  }
}

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kDotRows = 4;
#else
constexpr int kDotRows = 2;
#endif

}  // namespace

void multiplyByDots(const Matrices& s, int64_t k, float beta) {
  for (int64_t col = 0; col < s.n; col += 4) {
    int64_t row = 0;
    for (; row + kDotRows <= s.m; row += kDotRows) dotTile<kDotRows>(s, k, beta, row, col);
    const int64_t left = s.m - row;
    if (left == 1) dotTile<1>(s, k, beta, row, col);
    if (left == 2) dotTile<2>(s, k, beta, row, col);
    if (left == 3) dotTile<3>(s, k, beta, row, col);
  }
}

// c = alpha * a B + beta * c, four rows of B at a time.
void multiplyRow(const Matrices& s, int64_t k, float beta) {
  const int64_t aStep = s.transA ? s.lda : 1;
  for (int64_t p = 0; p < k; p += 4) {
    const int64_t rows = minOf(4, k - p);
    float factors[4];
    for (int64_t i = 0; i < rows; i++) factors[i] = s.alpha * s.a[(p + i) * aStep];
    const float* b = s.b + p * s.ldb;
    const float scale = p == 0 ? beta : 1;
    for (int64_t j = 0; j < s.n; j += kLanes) {
      const int lanes = static_cast<int>(minOf(kLanes, s.n - j));
      Vf sum = Vf{};
      for (int64_t i = 0; i < rows; i++) {
        const Vf row = lanes == kLanes ? load(b + i * s.ldb + j) : loadPartial(b + i * s.ldb + j, lanes);
        sum = fma(row, set1(factors[i]), sum);
      }
      update(s.c + j, sum, 1, scale, lanes);
    }
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
