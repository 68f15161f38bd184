// The numbers of block types as signed bytes in registers of arm64: what stands for 0 is subtracted.
#pragma once
#include "stored_blocks.h"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

struct Part32 {
  int8x16_t low, high;
};

inline int8x16_t signedBytes(uint8x16_t q) { return vreinterpretq_s8_u8(q); }

inline Part32 part(uint8x16_t low, uint8x16_t high, int8_t zero) {
  return {vsubq_s8(signedBytes(low), vdupq_n_s8(zero)), vsubq_s8(signedBytes(high), vdupq_n_s8(zero))};
}

// ---------------------------------------------------------------- types of 32 numbers

inline uint8x16_t lowNibbles(uint8x16_t both) { return vandq_u8(both, vdupq_n_u8(15)); }

inline Part32 nibbles(const uint8_t* p, int8_t zero) {
  const uint8x16_t both = vld1q_u8(p);
  return part(lowNibbles(both), vshrq_n_u8(both, 4), zero);
}

// 16 in the bytes whose bit is set, of the 16 bits at p.
inline uint8x16_t fifthBits(const uint8_t* p) {
  static const uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t bytes = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1]));
  return vandq_u8(vtstq_u8(bytes, vld1q_u8(kBits)), vdupq_n_u8(16));
}

inline Part32 fiveBits(const uint8_t* bits, const uint8_t* p, int8_t zero) {
  const uint8x16_t both = vld1q_u8(p);
  return part(vorrq_u8(lowNibbles(both), fifthBits(bits)), vorrq_u8(vshrq_n_u8(both, 4), fifthBits(bits + 2)), zero);
}

struct Q4_0 {
  static constexpr int kBytes = 18;
  static constexpr bool kMinimum = false;
  static Part32 q(const uint8_t* p) { return nibbles(p + 2, 8); }
};
struct Q4_1 {
  static constexpr int kBytes = 20;
  static constexpr bool kMinimum = true;
  static Part32 q(const uint8_t* p) { return nibbles(p + 4, 0); }
};
struct Q5_0 {
  static constexpr int kBytes = 22;
  static constexpr bool kMinimum = false;
  static Part32 q(const uint8_t* p) { return fiveBits(p + 2, p + 6, 16); }
};
struct Q5_1 {
  static constexpr int kBytes = 24;
  static constexpr bool kMinimum = true;
  static Part32 q(const uint8_t* p) { return fiveBits(p + 4, p + 8, 0); }
};
struct Q8_0 {
  static constexpr int kBytes = 34;
  static constexpr bool kMinimum = false;
  static Part32 q(const uint8_t* p) { return {signedBytes(vld1q_u8(p + 2)), signedBytes(vld1q_u8(p + 18))}; }
};

// ---------------------------------------------------------------- types of 256 numbers

// Adds bit kPart of each of the lowest four of `bits` as the fifth bit.
template <bool kFiveBits, int kPart>
inline int8x16_t withFifth(uint8x16_t q, uint8x16_t bits) {
  if (!kFiveBits) return signedBytes(q);
  return signedBytes(vorrq_u8(q, vandq_u8(vshlq_n_u8(bits, 4 - kPart), vdupq_n_u8(16))));
}

// The fifth bits of half a block of q5_k, in the lowest four bits of each byte; none in q4_k.
template <bool kFiveBits>
inline uint8x16x2_t fifthBitsOfHalf(const uint8_t* p, int half) {
  if (!kFiveBits) return {{vdupq_n_u8(0), vdupq_n_u8(0)}};
  const int8x16_t down = vdupq_n_s8((int8_t)(-4 * half));
  return {{vshlq_u8(vld1q_u8(p + 16), down), vshlq_u8(vld1q_u8(p + 32), down)}};
}

// Parts kPart and kPart + 1 of four of half a block, whose nibbles are at `quants`.
template <bool kFiveBits, int kPart>
inline void partsOfPair(const uint8_t* quants, uint8x16x2_t bits, Part32* first, Part32* second) {
  const uint8x16_t low = vld1q_u8(quants + 16 * kPart), high = vld1q_u8(quants + 16 * kPart + 16);
  *first = {withFifth<kFiveBits, kPart>(lowNibbles(low), bits.val[0]),
            withFifth<kFiveBits, kPart>(lowNibbles(high), bits.val[1])};
  *second = {withFifth<kFiveBits, kPart + 1>(vshrq_n_u8(low, 4), bits.val[0]),
             withFifth<kFiveBits, kPart + 1>(vshrq_n_u8(high, 4), bits.val[1])};
}

// 16 numbers of part kPart of four of half a block: 4 bits of `low`, two of `bits`.
template <int kPart>
inline int8x16_t quantsOf6Bits(uint8x16_t low, uint8x16_t bits) {
  const uint8x16_t four = kPart < 2 ? lowNibbles(low) : vshrq_n_u8(low, 4);
  const uint8x16_t moved = kPart == 0 ? vshlq_n_u8(bits, 4) : kPart == 1 ? vshlq_n_u8(bits, 2)
                         : kPart == 2 ? bits : vshrq_n_u8(bits, 2);
  const uint8x16_t q = vorrq_u8(four, vandq_u8(moved, vdupq_n_u8(0x30)));
  return vsubq_s8(signedBytes(q), vdupq_n_s8(32));
}

}  // namespace

}  // namespace SGEMOE_ISA
}  // namespace sgemoe

#endif
