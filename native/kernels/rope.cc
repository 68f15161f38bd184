// Rotary position embedding in place (Su et al. 2021, eq. 34): (a, b) -> (a, b) cos + (-b, a) sin for pairs that are
// neighbours, or lie half a head apart.
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

// One row of heads. cos and sin: [headDim / 2]; direction: 1, or -1 for the inverse.
static void turnNeighbours(float* row, const float* cos, const float* sin, int64_t nHeads, int64_t headDim,
                           float direction) {
  // In a vector (a0,b0,a1,b1,..): (a,b) cos + (b,a) (-sin, sin).
  Vf sign = set1(direction);
  for (int i = 0; i < kLanes; i += 2) sign[i] = -sign[i];
  forVectors(headDim, [=](auto place, int64_t i) {
    const int pairs = (int)minOf(kLanes, headDim - i) / 2;
    const Vf c = spreadPairs(loadPartial(cos + i / 2, pairs));
    const Vf s = spreadPairs(loadPartial(sin + i / 2, pairs)) * sign;
    float* at = row + i;
    for (int64_t h = 0; h < nHeads; ++h, at += headDim) {
      const Vf v = place.load(at);
      place.store(at, fma(v, c, swapPairs(v) * s));
    }
  });
}

static void turnHalves(float* row, const float* cos, const float* sin, int64_t nHeads, int64_t headDim,
                       float direction) {
  const int64_t half = headDim / 2;
  for (int64_t h = 0; h < nHeads; ++h, row += headDim) {
    float *const first = row, *const second = row + half;
    int64_t i = 0;
    for (; i + kLanes <= half; i += kLanes) {
      const Vf a = load(first + i), b = load(second + i), c = load(cos + i), s = load(sin + i) * set1(direction);
      store(first + i, fma(a, c, b * -s));
      store(second + i, fma(b, c, a * s));
    }
    ROLLED for (; i < half; i++) {
      const float a = first[i], b = second[i], s = sin[i] * direction;
      first[i] = a * cos[i] - b * s;
      second[i] = b * cos[i] + a * s;
    }
  }
}

void rope(float* x, int64_t ldx, const float* cos, const float* sin, const int32_t* positions, int64_t rows,
          int64_t nHeads, int64_t headDim, bool halves, bool inverse) {
  const auto turn = halves ? turnHalves : turnNeighbours;
  forChunks(rows, cost::kRopeRow + cost::kRope * (double)(nHeads * headDim), 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t angles = positions[r] * (headDim / 2);
      turn(x + r * ldx, cos + angles, sin + angles, nHeads, headDim, inverse ? -1.0f : 1.0f);
    }
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
