// One row of a softmax: its largest entry, and the exponentials below it with their sum.
#pragma once
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

constexpr float kInfinity = __builtin_inff();

// The largest x, -inf for an empty row. A NaN may be passed over: the exponentials carry it on.
inline float rowMax(const float* x, int64_t n) {
  return hmax(reduceVectors(
      n, set1(-kInfinity), [](Vf a, Vf b) { return vmax(a, b); },
      [=](auto place, int64_t i) { return place.load(x + i, -kInfinity); }));
}

// The number to subtract before exp: the maximum, or 0 if that is -inf, so that a row of -inf becomes zeros.
inline float rowShift(float max) { return max == -kInfinity ? 0.0f : max; }

// y = exp(x - shift), unless y is null; returns the sum. Float32 lanes over short blocks, float64 from block to block:
// the sum is as accurate for a vocabulary of 10^5 as for ten experts.
inline double expRow(const float* x, float* y, int64_t n, float shift) {
  constexpr int64_t kBlock = 32 * kLanes;
  const Vf s = set1(shift);
  Vd total{};
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    Vf sum{};
    forVectors(minOf(kBlock, n - begin), [&](auto place, int64_t i) {
      const Vf e = vexp(place.load(x + begin + i, -kInfinity) - s);
      if (y != nullptr) place.store(y + begin + i, e);
      sum += e;
    });
    if (n <= kBlock) return hsum(sum);
    total += widenLow(sum) + widenHigh(sum);
  }
  return hsumd(total);
}

inline void scaleRow(float* x, int64_t n, float factor) {
  const Vf f = set1(factor);
  forVectors(n, [=](auto place, int64_t i) { place.store(x + i, place.load(x + i) * f); });
}

// log sum_i exp(x[i]) = log(sum) + shift.
struct RowSum {
  double sum;
  float shift;
};

inline float inverseOrZero(double sum) { return sum == 0 ? 0.0f : (float)(1 / sum); }

// The softmax of at most kLanes entries, in registers. Lanes from n on become 0 (or NaN).
inline Vf softmaxVector(const float* x, int64_t n, RowSum* row) {
  const Vf v = Tail{(int)n}.load(x, -kInfinity);
  row->shift = rowShift(hmax(v));
  const Vf e = vexp(v - set1(row->shift));
  row->sum = hsum(e);
  return e * set1(inverseOrZero(row->sum));
}

inline RowSum softmaxRow(const float* x, float* y, int64_t n) {
  RowSum row;
  if (n <= kLanes) {
    Tail{(int)n}.store(y, softmaxVector(x, n, &row));
    return row;
  }
  row.shift = rowShift(rowMax(x, n));
  row.sum = expRow(x, y, n, row.shift);
  scaleRow(y, n, inverseOrZero(row.sum));
  return row;
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
