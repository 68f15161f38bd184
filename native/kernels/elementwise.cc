// Maps over one array, and the sum of squares.
#include "sigmoid.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void exp(const float* x, float* y, int64_t n) {
  forChunks(n, cost::kExp, kLanes, [=](int64_t begin, int64_t end) {
    forVectors(end - begin,
               [=](auto place, int64_t i) { place.store(y + begin + i, vexp(place.load(x + begin + i))); });
  });
}

void silu(const float* x, float* y, int64_t n) {
  forChunks(n, cost::kSilu, kLanes, [=](int64_t begin, int64_t end) {
    forVectors(end - begin,
               [=](auto place, int64_t i) { place.store(y + begin + i, siluOf(place.load(x + begin + i))); });
  });
}

void scale(float* x, int64_t n, float factor) {
  const Vf f = set1(factor);
  forChunks(n, cost::kScale, kLanes, [=](int64_t begin, int64_t end) {
    float* const part = x + begin;
    forVectors(end - begin, [=](auto place, int64_t i) { place.store(part + i, place.load(part + i) * f); });
  });
}

void axpy(int64_t n, float alpha, const float* x, float* y) {
  const Vf a = set1(alpha);
  forChunks(n, cost::kAxpy, kLanes, [=](int64_t begin, int64_t end) {
    forVectors(end - begin, [=](auto place, int64_t i) {
      place.store(y + begin + i, fma(a, place.load(x + begin + i), place.load(y + begin + i)));
    });
  });
}

static inline void addSquares(Vf u, Vd& low, Vd& high) {
  const Vd a = widenLow(u), b = widenHigh(u);
  low += a * a;
  high += b * b;
}

static double sumSquaresOf(const float* x, int64_t n) {
  Vd a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    addSquares(load(x + i), a, b);
    addSquares(load(x + i + kLanes), c, d);
  }
  double rest = 0;
  for (; i < n; ++i) rest += (double)x[i] * x[i];
  return hsumd((a + b) + (c + d)) + rest;
}

// A chunk is read from eight places at once. One stream from memory gets half the rate (14 instead of 28 GB/s), since the
// processor only prefetches within a page, but does so in several pages at once.
constexpr int64_t kSquaresStream = 8192, kSquaresChunk = 8 * kSquaresStream;

static double sumSquaresOfChunk(const float* x) {
  Vd low[4] = {}, high[4] = {};
  for (int64_t i = 0; i < kSquaresStream; i += kLanes) {
    for (int64_t stream = 0; stream < 8; ++stream) {
      addSquares(load(x + stream * kSquaresStream + i), low[stream % 4], high[stream % 4]);
    }
  }
  return hsumd(((low[0] + high[0]) + (low[1] + high[1])) + ((low[2] + high[2]) + (low[3] + high[3])));
}

double sumSquares(const float* x, int64_t n) {
  if (n < kSquaresChunk) return sumSquaresOf(x, n);
  const int64_t chunks = ceilDiv(n, kSquaresChunk);
  const Scratch scratch(2 * chunks);
  double* const partial = (double*)scratch.data();
  auto chunk = [=](int64_t i) {
    const int64_t begin = i * kSquaresChunk;
    partial[i] = n - begin < kSquaresChunk ? sumSquaresOf(x + begin, n - begin) : sumSquaresOfChunk(x + begin);
  };
  parallelChunks(chunks, cost::kSumSquares * (double)n, chunk);
  double sum = 0;
  for (int64_t i = 0; i < chunks; ++i) sum += partial[i];
  return sum;
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
