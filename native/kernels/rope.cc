// Rotary position embedding on interleaved pairs, in place (Su et al. 2021, eq. 34).
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void rope(float* x, int64_t ldx, const float* cos, const float* sin, const int32_t* positions, int64_t rows,
          int64_t nHeads, int64_t headDim, bool inverse) {
  // In a vector (a0,b0,a1,b1,..): (a,b) cos + (b,a) (-sin, sin), the sign turned round for the inverse.
  Vf sign = set1(inverse ? -1.0f : 1.0f);
  for (int i = 0; i < kLanes; i += 2) sign[i] = -sign[i];
  forChunks(rows, cost::kRopeRow + cost::kRope * (double)(nHeads * headDim), 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const cosRow = cos + positions[r] * (headDim / 2);
      const float* const sinRow = sin + positions[r] * (headDim / 2);
      forVectors(headDim, [=](auto place, int64_t i) {
        const int pairs = (int)minOf(kLanes, headDim - i) / 2;
        const Vf c = spreadPairs(loadPartial(cosRow + i / 2, pairs));
        const Vf s = spreadPairs(loadPartial(sinRow + i / 2, pairs)) * sign;
        float* at = x + r * ldx + i;
        for (int64_t h = 0; h < nHeads; ++h, at += headDim) {
          const Vf v = place.load(at);
          place.store(at, fma(v, c, swapPairs(v) * s));
        }
      });
    }
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
