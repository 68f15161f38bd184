// Root-mean-square normalisation (Zhang & Sennrich 2019, eq. 4). The gradient: docs/gradients.
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// Rows computed at a time: their reductions overlap, and gamma is read once for all.
constexpr int kGroup = 4;

struct Forward {
  const float* x;
  int64_t ldx;
  const float* gamma;
  float* y;
  int64_t ldy;
  float* invRms;
  int64_t cols;
  double eps;
};

template <int kRows>
inline void forwardRows(const Forward& a, int64_t first) {
  const float* const x = a.x + first * a.ldx;
  float* const y = a.y + first * a.ldy;
  const int64_t ldx = a.ldx, ldy = a.ldy;
  const float* const gamma = a.gamma;
  Vf squares[kRows] = {}, s[kRows];
  forVectors(a.cols, [&](auto place, int64_t i) {
    for (int r = 0; r < kRows; ++r) {
      const Vf v = place.load(x + r * ldx + i);
      squares[r] = fma(v, v, squares[r]);
    }
  });
  for (int r = 0; r < kRows; ++r) {
    const float inv = (float)(1 / __builtin_sqrt((double)hsum(squares[r]) / (double)a.cols + a.eps));
    a.invRms[first + r] = inv;
    s[r] = set1(inv);
  }
  forVectors(a.cols, [&](auto place, int64_t i) {
    const Vf g = place.load(gamma + i);
    for (int r = 0; r < kRows; ++r) place.store(y + r * ldy + i, g * (place.load(x + r * ldx + i) * s[r]));
  });
}

}  // namespace

void rmsNormForward(const float* x, int64_t ldx, const float* gamma, float* y, int64_t ldy, float* invRms,
                    int64_t rows, int64_t cols, double eps) {
  if (cols == 0) return;
  const Forward args{x, ldx, gamma, y, ldy, invRms, cols, eps};
  forChunks(rows, cost::kRmsNormRow + cost::kRmsNormForward * (double)cols, kGroup, [=](int64_t begin, int64_t end) {
    int64_t r = begin;
    for (; r + kGroup <= end; r += kGroup) forwardRows<kGroup>(args, r);
    for (; r < end; ++r) forwardRows<1>(args, r);
  });
}

namespace {

struct Backward {
  const float* x;
  int64_t ldx;
  const float* gamma;
  const float* invRms;
  const float* dy;
  int64_t lddy;
  float* dx;
  int64_t lddx;
  bool accumulateDx;
  int64_t cols;
};

// dx of kRows rows from `first` on; their share of dGamma is added, row after row.
template <int kRows>
inline void backwardGroup(const Backward& a, int64_t first, float* dGamma) {
  const float* const x = a.x + first * a.ldx;
  const float* const dy = a.dy + first * a.lddy;
  float* const dx = a.dx + first * a.lddx;
  const float* const gamma = a.gamma;
  const int64_t ldx = a.ldx, lddy = a.lddy, lddx = a.lddx;
  Vf s[kRows], back[kRows], dot[kRows] = {};
  for (int r = 0; r < kRows; ++r) s[r] = set1(a.invRms[first + r]);
  forVectors(a.cols, [&](auto place, int64_t i) {
    const Vf g = place.load(gamma + i);
    Vf sum = place.load(dGamma + i);
    for (int r = 0; r < kRows; ++r) {
      const Vf dyx = place.load(dy + r * lddy + i) * place.load(x + r * ldx + i);
      sum = fma(dyx, s[r], sum);
      dot[r] = fma(dyx, g, dot[r]);
    }
    place.store(dGamma + i, sum);
  });
  for (int r = 0; r < kRows; ++r) {
    const double inv = a.invRms[first + r];
    back[r] = set1((float)(-inv * inv * inv * hsum(dot[r]) / (double)a.cols));
  }
  const bool accumulate = a.accumulateDx;
  forVectors(a.cols, [&](auto place, int64_t i) {
    const Vf g = place.load(gamma + i);
    for (int r = 0; r < kRows; ++r) {
      float* const to = dx + r * lddx + i;
      const Vf d = fma(place.load(dy + r * lddy + i) * g, s[r], back[r] * place.load(x + r * ldx + i));
      place.store(to, accumulate ? place.load(to) + d : d);
    }
  });
}

// dx of rows [begin, end), and their share of dGamma, which is written.
void backwardRows(const Backward& a, int64_t begin, int64_t end, float* dGamma) {
  memset(dGamma, 0, (size_t)a.cols * sizeof(float));
  int64_t r = begin;
  for (; r + kGroup <= end; r += kGroup) backwardGroup<kGroup>(a, r, dGamma);
  for (; r < end; ++r) backwardGroup<1>(a, r, dGamma);
}

}  // namespace

void rmsNormBackward(const float* x, int64_t ldx, const float* gamma, const float* invRms, const float* dy,
                     int64_t lddy, float* dx, int64_t lddx, bool accumulateDx, float* dGamma, int64_t rows,
                     int64_t cols) {
  if (rows == 0 || cols == 0) return;
  // Rows of a chunk add up in float32, the chunks in float64: the error grows with the chunk, not with the rows.
  constexpr int64_t kRows = 64;
  const int64_t chunks = ceilDiv(rows, kRows);
  const Scratch scratch(chunks * cols);
  float* const partial = scratch.data();
  const Backward args{x, ldx, gamma, invRms, dy, lddy, dx, lddx, accumulateDx, cols};
  auto chunk = [&](int64_t i) { backwardRows(args, i * kRows, minOf(rows, (i + 1) * kRows), partial + i * cols); };
  parallelChunks(chunks, (double)rows * (cost::kRmsNormRow + cost::kRmsNormBackward * (double)cols), chunk);
  forVectors(cols, [=](auto place, int64_t c) {
    const Vf before = place.load(dGamma + c);
    Vd low = widenLow(before), high = widenHigh(before);
    for (int64_t i = 0; i < chunks; ++i) {
      const Vf part = place.load(partial + i * cols + c);
      low += widenLow(part);
      high += widenHigh(part);
    }
    place.store(dGamma + c, narrow(low, high));
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
