// The logistic function, with its complement free of cancellation.
#pragma once
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

// Below this, x * sigmoid(x) rounds to zero; clamping keeps -inf * 0 out. NaN stays.
inline Vf clampGate(Vf x) { return vmax(set1(-120.0f), x); }

inline Vf expOfMinusAbs(Vf x) { return vexp((Vf)((Vi)x | (Vi)set1(-0.0f))); }

struct Sigmoid {
  Vf value, complement;  // s and 1 - s
};

// From e = exp(-|x|) <= 1, which cannot overflow: 1/(1+e) and e/(1+e), in the order that the sign of x says.
inline Sigmoid sigmoid(Vf x) {
  const Vf e = expOfMinusAbs(x);
  const Vf larger = set1(1.0f) / (set1(1.0f) + e);
  const Vf smaller = e * larger;
  const Vi positive = x >= Vf{};
  return {select(positive, larger, smaller), select(positive, smaller, larger)};
}

// x * sigmoid(x), with one division and no rounding of the sigmoid in between.
inline Vf siluOf(Vf x) {
  x = clampGate(x);
  const Vf e = expOfMinusAbs(x);
  return select(x >= Vf{}, x, x * e) / (set1(1.0f) + e);
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
