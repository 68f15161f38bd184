// The gated activation of the expert networks (Shazeer 2020, eq. 6).
#include "sigmoid.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void swigluForward(const float* gateUp, float* y, int64_t rows, int64_t ffn) {
  forChunks(rows, cost::kSwigluRow + cost::kSwigluForward * (double)ffn, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const gate = gateUp + r * 2 * ffn;
      const float* const up = gate + ffn;
      float* const out = y + r * ffn;
      forVectors(ffn, [=](auto place, int64_t i) {
        place.store(out + i, siluOf(place.load(gate + i)) * place.load(up + i));
      });
    }
  });
}

void swigluBackward(const float* gateUp, const float* dy, float* dGateUp, int64_t rows, int64_t ffn) {
  forChunks(rows, cost::kSwigluRow + cost::kSwigluBackward * (double)ffn, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const gate = gateUp + r * 2 * ffn;
      const float* const dyRow = dy + r * ffn;
      float* const dGate = dGateUp + r * 2 * ffn;
      forVectors(ffn, [=](auto place, int64_t i) {
        const Vf g = clampGate(place.load(gate + i)), u = place.load(gate + ffn + i), d = place.load(dyRow + i);
        const Sigmoid s = sigmoid(g);
        const Vf slope = s.value * fma(g, s.complement, set1(1.0f));
        place.store(dGate + i, d * u * slope);
        place.store(dGate + ffn + i, d * (g * s.value));
      });
    }
  });
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
