// What the readers of stored blocks share.
#pragma once
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

// The float16 at any address, exact.
inline float halfAt(const uint8_t* p) {
  uint16_t bits;
  memcpy(&bits, p, sizeof bits);
#if defined(__F16C__)
  return _cvtsh_ss(bits);
#elif defined(__aarch64__)
  __fp16 half;
  memcpy(&half, &bits, sizeof half);
  return half;
#else
  // The exponent's bias differs by 112: scaling by 2^112 moves normal and subnormal numbers alike.
  const uint32_t sign = (uint32_t)(bits & 0x8000) << 16, magnitude = (uint32_t)(bits & 0x7fff) << 13;
  float value;
  memcpy(&value, &magnitude, sizeof value);
  value *= 0x1p112f;
  uint32_t word;
  memcpy(&word, &value, sizeof word);
  if ((bits & 0x7c00) == 0x7c00) word = 0x7f800000 | ((bits & 0x3ff) != 0 ? 0x400000 | (magnitude & 0x7fffff) : 0);
  word |= sign;
  memcpy(&value, &word, sizeof value);
  return value;
#endif
}

// Scale and minimum of part j of 8, 6 bits each in 12 bytes.
struct Part6 {
  int scale, minimum;
};
inline Part6 part6(const uint8_t* p, int j) {
  if (j < 4) return {p[j] & 63, p[4 + j] & 63};
  const int low = p[4 + j];
  return {(low & 15) | (p[j - 4] >> 6) << 4, low >> 4 | (p[j] >> 6) << 4};
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
