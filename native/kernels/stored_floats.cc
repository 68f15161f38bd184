// Products by matrices of floats as they lie in memory: they are widened in registers, for four rows of x at a time. For one, two
// and four rows they are read once; other rows find them in the second cache.
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

// From how many places the weights for one row of x are read at once, and how far ahead. Zen 3 gets them from memory 1.4 times as
// fast from four places as from one, unless they share a page; Zen 4 half as fast from two. Intel's without AVX-512 weren't measured.
#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr int kStreams = 4;
#else
constexpr int kStreams = 1;
#endif
constexpr int kStreamPrefetchBytes = 512;

inline void update(const StoredProduct& s, int64_t row, int64_t n, float sum) {
  float* const y = s.y + row * s.ldy + n;
  *y = s.beta == 0 ? s.alpha * sum : s.alpha * sum + s.beta * *y;
}

// R rows of weights from n on, `apart` rows apart, by M rows of x from `row` on; chains of additions that don't wait for each
// other.
template <class T, int R, int M, int kChains>
void multiplyTile(const StoredProduct& s, int64_t row, int64_t n, int64_t apart) {
  const uint8_t* const w = s.w + n * s.rowBytes;
  const int64_t stride = apart * s.rowBytes, ahead = M == 1 ? kStreamPrefetchBytes : R * s.rowBytes;
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
        const uint8_t* const p = w + r * stride + (k + c * kLanes) * T::kBytes;
        if (R > 1) __builtin_prefetch(p + ahead);
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
      memcpy(rest, w + r * stride + k * T::kBytes, (size_t)(lanes * T::kBytes));
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
      for (int i = 0; i < M; i++) update(s, row + i, n + r * apart, sums[i]);
    } else {
      for (int i = 0; i < M; i++) update(s, row + i, n + r * apart, hsum(sum[r][i][0]));
    }
  }
}

template <class T, int R, int M, int kChains>
void multiplyRows(const StoredProduct& s, int64_t row) {
  const int64_t tiles = s.n / R;
  const int64_t apart = M == 1 ? tiles : 1, step = M == 1 ? 1 : R;
  for (int64_t i = 0; i < tiles; i++) multiplyTile<T, R, M, kChains>(s, row, i * step, apart);
  for (int64_t n = tiles * R; n < s.n; n++) multiplyTile<T, 1, M, kChains>(s, row, n, 1);
}

template <class T>
void multiplyBy(const StoredProduct& s) {
  int64_t row = 0;
  for (; row + 4 <= s.m; row += 4) multiplyRows<T, kTileRows, 4, 1>(s, row);
  if (row + 2 <= s.m) {
    multiplyRows<T, kTileRows, 2, 1>(s, row);
    row += 2;
  }
  if (row < s.m) multiplyRows<T, kStreams, 1, 4 / kStreams>(s, row);
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
