// Root-mean-square normalisation (Zhang & Sennrich 2019, eq. 4). The gradient: docs/gradients.
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void rmsNormForward(const float* x, int64_t ldx, const float* gamma, float* y, int64_t ldy, float* invRms,
                    int64_t rows, int64_t cols, double eps) {
  if (cols == 0) return;
  forChunks(rows, 5 + 0.15 * (double)cols, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const xRow = x + r * ldx;
      float* const yRow = y + r * ldy;
      const float squares = hsum(sumVectors(cols, [=](auto place, int64_t i) {
        const Vf v = place.load(xRow + i);
        return v * v;
      }));
      const float inv = (float)(1 / __builtin_sqrt((double)squares / (double)cols + eps));
      invRms[r] = inv;
      const Vf s = set1(inv);
      forVectors(cols, [=](auto place, int64_t i) {
        place.store(yRow + i, place.load(gamma + i) * (place.load(xRow + i) * s));
      });
    }
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

// dx of rows [begin, end), and their share of dGamma, which is written.
void backwardRows(const Backward& a, int64_t begin, int64_t end, float* dGamma) {
  memset(dGamma, 0, (size_t)a.cols * sizeof(float));
  for (int64_t r = begin; r < end; ++r) {
    const float* const x = a.x + r * a.ldx;
    const float* const gamma = a.gamma;
    const float* const dy = a.dy + r * a.lddy;
    float* const dx = a.dx + r * a.lddx;
    const float inv = a.invRms[r];
    const Vf s = set1(inv);
    const float dot = hsum(sumVectors(a.cols, [=](auto place, int64_t i) {
      const Vf dyx = place.load(dy + i) * place.load(x + i);
      place.store(dGamma + i, fma(dyx, s, place.load(dGamma + i)));
      return dyx * place.load(gamma + i);
    }));
    const Vf back = set1((float)(-(double)inv * inv * inv * dot / (double)a.cols));
    const bool accumulate = a.accumulateDx;
    forVectors(a.cols, [=](auto place, int64_t i) {
      const Vf d = fma(place.load(dy + i) * place.load(gamma + i), s, back * place.load(x + i));
      place.store(dx + i, accumulate ? place.load(dx + i) + d : d);
    });
  }
}

}  // namespace

void rmsNormBackward(const float* x, int64_t ldx, const float* gamma, const float* invRms, const float* dy,
                     int64_t lddy, float* dx, int64_t lddx, bool accumulateDx, float* dGamma, int64_t rows,
                     int64_t cols) {
  if (rows == 0 || cols == 0) return;
  // Rows of a chunk add up in float32, the chunks in float64: the error grows with the chunk, not with the rows.
  constexpr int64_t kRows = 64;
  const int64_t chunks = divideUp(rows, kRows);
  const Scratch scratch(chunks * cols);
  float* const partial = scratch.data();
  const Backward args{x, ldx, gamma, invRms, dy, lddy, dx, lddx, accumulateDx, cols};
  auto chunk = [&](int64_t i) { backwardRows(args, i * kRows, minOf(rows, (i + 1) * kRows), partial + i * cols); };
  parallelChunks(chunks, (double)rows * (5 + 0.3 * (double)cols), chunk);
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
