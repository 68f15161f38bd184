// Products by matrices of floats as they lie in memory: they are widened in registers, for four rows of x at a time. For up
// to four rows they are read once, in order; more rows find them in the second cache.
#include "quad_sums.h"
#include "stored_lanes.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// How many rows of weights share the loads of x.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 4;
#else
constexpr int kTileRows = 2;
#endif

// How far one row's weights are prefetched: Zen 3 reads them from memory 5 % faster so, Zen 4 slower.
#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr int kRowPrefetchBytes = 1024;
#else
constexpr int kRowPrefetchBytes = 0;
#endif

inline void update(const StoredProduct& s, int64_t row, int64_t n, float sum) {
  float* const y = s.y + row * s.ldy + n;
  *y = s.beta == 0 ? s.alpha * sum : s.alpha * sum + s.beta * *y;
}

// R rows of weights from n on by M rows of x from `row` on; chains of additions that don't wait for each other.
template <class T, int R, int M, int kChains>
void multiplyTile(const StoredProduct& s, int64_t row, int64_t n) {
  const uint8_t* const w = s.w + n * s.rowBytes;
  const float* const x = s.x + row * s.ldx;
  Vf sum[R][M][kChains];
  UNROLL for (int r = 0; r < R; r++) {
    UNROLL for (int i = 0; i < M; i++) {
      UNROLL for (int c = 0; c < kChains; c++) sum[r][i][c] = Vf{};
    }
  }
  int64_t k = 0;
  for (; k + kChains * kLanes <= s.cols; k += kChains * kLanes) {
    UNROLL for (int c = 0; c < kChains; c++) {
      Vf right[R];
      UNROLL for (int r = 0; r < R; r++) {
        const uint8_t* const p = w + r * s.rowBytes + (k + c * kLanes) * T::kBytes;
        if (R > 1) __builtin_prefetch(p + R * s.rowBytes);
        if (kRowPrefetchBytes > 0 && R * M == 1 && c * kLanes * T::kBytes % 64 == 0) __builtin_prefetch(p + kRowPrefetchBytes);
        right[r] = T::load(p);
      }
      UNROLL for (int i = 0; i < M; i++) {
        const Vf left = load(x + i * s.ldx + k + c * kLanes);
        UNROLL for (int r = 0; r < R; r++) sum[r][i][c] = fma(left, right[r], sum[r][i][c]);
      }
    }
  }
  for (; k < s.cols; k += kLanes) {
    const int lanes = (int)minOf(kLanes, s.cols - k);
    UNROLL for (int r = 0; r < R; r++) {
      uint8_t rest[kLanes * T::kBytes] = {};
      memcpy(rest, w + r * s.rowBytes + k * T::kBytes, (size_t)(lanes * T::kBytes));
      const Vf right = T::load(rest);
      UNROLL for (int i = 0; i < M; i++) {
        sum[r][i][0] = fma(loadPartial(x + i * s.ldx + k, lanes), right, sum[r][i][0]);
      }
    }
  }
  UNROLL for (int r = 0; r < R; r++) {
    UNROLL for (int i = 0; i < M; i++) {
      UNROLL for (int c = 1; c < kChains; c++) sum[r][i][0] += sum[r][i][c];
    }
    if (M == 4) {
      const Quad sums = sumsOf(sum[r][0][0], sum[r][1 % M][0], sum[r][2 % M][0], sum[r][3 % M][0]);
      for (int i = 0; i < M; i++) update(s, row + i, n + r, sums[i]);
    } else {
      for (int i = 0; i < M; i++) update(s, row + i, n + r, hsum(sum[r][i][0]));
    }
  }
}

template <class T, int R, int M, int kChains>
void multiplyRows(const StoredProduct& s, int64_t row) {
  int64_t n = 0;
  for (; n + R <= s.n; n += R) multiplyTile<T, R, M, kChains>(s, row, n);
  for (; n < s.n; n++) multiplyTile<T, 1, M, kChains>(s, row, n);
}

template <class T>
void multiplyBy(const StoredProduct& s) {
  int64_t row = 0;
  for (; row + 4 <= s.m; row += 4) multiplyRows<T, kTileRows, 4, 1>(s, row);
  if (row + 2 <= s.m) {
    multiplyRows<T, kTileRows, 2, 1>(s, row);
    row += 2;
  }
  if (row < s.m) multiplyRows<T, 1, 1, 4>(s, row);
}

}  // namespace

void multiplyFloats(const StoredProduct& s) {
  switch (s.type) {
    case StorageType::float32: return multiplyBy<Float32>(s);
    case StorageType::bfloat16: return multiplyBy<Bfloat16>(s);
    case StorageType::float16: return multiplyBy<Float16>(s);
    default: return;  // blocks are widened, or multiplied by rounded rows
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
