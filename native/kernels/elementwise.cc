// Maps over one array, and the sum of squares.
#include "sigmoid.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void exp(const float* x, float* y, int64_t n) {
  forChunks(n, 0.25, kLanes, [=](int64_t begin, int64_t end) {
    forVectors(end - begin,
               [=](auto place, int64_t i) { place.store(y + begin + i, vexp(place.load(x + begin + i))); });
  });
}

void silu(const float* x, float* y, int64_t n) {
  forChunks(n, 0.4, kLanes, [=](int64_t begin, int64_t end) {
    forVectors(end - begin,
               [=](auto place, int64_t i) { place.store(y + begin + i, siluOf(place.load(x + begin + i))); });
  });
}

void scale(float* x, int64_t n, float factor) {
  const Vf f = set1(factor);
  forChunks(n, 0.1, kLanes, [=](int64_t begin, int64_t end) {
    float* const part = x + begin;
    forVectors(end - begin, [=](auto place, int64_t i) { place.store(part + i, place.load(part + i) * f); });
  });
}

void axpy(int64_t n, float alpha, const float* x, float* y) {
  const Vf a = set1(alpha);
  forChunks(n, 0.15, kLanes, [=](int64_t begin, int64_t end) {
    forVectors(end - begin, [=](auto place, int64_t i) {
      place.store(y + begin + i, fma(a, place.load(x + begin + i), place.load(y + begin + i)));
    });
  });
}

static double sumSquaresOf(const float* x, int64_t n) {
  Vd a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const Vf u = load(x + i), v = load(x + i + kLanes);
    const Vd u0 = widenLow(u), u1 = widenHigh(u), v0 = widenLow(v), v1 = widenHigh(v);
    a += u0 * u0;
    b += u1 * u1;
    c += v0 * v0;
    d += v1 * v1;
  }
  double rest = 0;
  for (; i < n; ++i) rest += (double)x[i] * x[i];
  return hsumd((a + b) + (c + d)) + rest;
}

double sumSquares(const float* x, int64_t n) {
  constexpr int64_t kChunk = 1 << 16;
  if (n <= kChunk) return sumSquaresOf(x, n);
  const int64_t chunks = divideUp(n, kChunk);
  const Scratch scratch(2 * chunks);
  double* const partial = (double*)scratch.data();
  auto chunk = [=](int64_t i) { partial[i] = sumSquaresOf(x + i * kChunk, minOf(kChunk, n - i * kChunk)); };
  parallelChunks(chunks, 0.15 * (double)n, chunk);
  double sum = 0;
  for (int64_t i = 0; i < chunks; ++i) sum += partial[i];
  return sum;
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
