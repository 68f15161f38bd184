// The numbers of block types as bytes in registers, and their scales.
#pragma once
#include "stored_blocks.h"

#if defined(__AVX2__)

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

// Ahead of what is read. Zen 3, whose AVX2 takes longer for a line, reads from memory 10 to 17 % faster with more.
#if defined(__AVX512F__)
constexpr int kPrefetchBytes = 1024;
#else
constexpr int kPrefetchBytes = 3072;
#endif

inline __m256i load32(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }

// 16 bytes as the 32 numbers in their low halves, then their high halves.
inline __m256i nibbles(const uint8_t* p) {
  const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)p));
  const __m256i apart = _mm256_srlv_epi32(both, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
  return _mm256_and_si256(apart, _mm256_set1_epi8(15));
}

// 16 in the bytes whose bit is set.
inline __m256i fifthBits(const uint8_t* p) {
  uint32_t bits;
  memcpy(&bits, p, sizeof bits);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  return _mm256_maskz_set1_epi8(bits, 16);
#else
  const __m256i bytes = _mm256_shuffle_epi8(
      _mm256_set1_epi32((int)bits),
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
  const __m256i one = _mm256_set1_epi64x((long long)0x8040201008040201ull);
  return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, one), one), _mm256_set1_epi8(16));
#endif
}

// ---------------------------------------------------------------- types of 32 numbers

// Each reads a block: `q` are the numbers that dot takes, of which kZero stands for 0, or to which the minimum behind the scale
// is added.
struct Q4_0 {
  static constexpr bool kFifthBit = false;
  static constexpr int kBytes = 18;
  static constexpr int kZero = 8;
  static constexpr bool kMinimum = false, kSigned = false;
  static __m256i q(const uint8_t* p) { return nibbles(p + 2); }
};
struct Q4_1 {
  static constexpr bool kFifthBit = false;
  static constexpr int kBytes = 20;
  static constexpr int kZero = 0;
  static constexpr bool kMinimum = true, kSigned = false;
  static __m256i q(const uint8_t* p) { return nibbles(p + 4); }
};
struct Q5_0 {
  static constexpr bool kFifthBit = true;
  static constexpr int kBytes = 22;
  static constexpr int kZero = 16;
  static constexpr bool kMinimum = false, kSigned = false;
  static __m256i q(const uint8_t* p) { return _mm256_or_si256(nibbles(p + 6), fifthBits(p + 2)); }
};
struct Q5_1 {
  static constexpr bool kFifthBit = true;
  static constexpr int kBytes = 24;
  static constexpr int kZero = 0;
  static constexpr bool kMinimum = true, kSigned = false;
  static __m256i q(const uint8_t* p) { return _mm256_or_si256(nibbles(p + 8), fifthBits(p + 4)); }
};
struct Q8_0 {
  static constexpr bool kFifthBit = false;
  static constexpr int kBytes = 34;
  static constexpr bool kMinimum = false;
#if defined(__AVX512VNNI__)
  static constexpr int kZero = 128;
  static constexpr bool kSigned = false;
  static __m256i q(const uint8_t* p) { return _mm256_xor_si256(load32(p + 2), _mm256_set1_epi8(-128)); }
#else
  static constexpr int kZero = 0;
  static constexpr bool kSigned = true;
  static __m256i q(const uint8_t* p) { return load32(p + 2); }
#endif
};

// ---------------------------------------------------------------- types of 256 numbers

inline __m256 floatsOfBytes(__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)); }

// The eight 6-bit scales, and the eight minima, of 12 bytes: 4 whole ones each, then halves whose upper bits lie above those.
inline void scalesOf6Bits(const uint8_t* p, __m256* scales, __m256* minima) {
  uint32_t words[3];  // copied one by one: compilers would put twelve bytes into memory and wait for them
  UNROLL for (int i = 0; i < 3; i++) memcpy(words + i, p + 4 * i, sizeof words[i]);
  const uint32_t low = 0x3f3f3f3f, upper = 0x30303030, nibble = 0x0f0f0f0f;
  const __m128i s = _mm_set_epi32(0, 0, (int)((words[2] & nibble) | (words[0] >> 2 & upper)), (int)(words[0] & low));
  const __m128i m = _mm_set_epi32(0, 0, (int)((words[2] >> 4 & nibble) | (words[1] >> 2 & upper)), (int)(words[1] & low));
  *scales = floatsOfBytes(s);
  *minima = floatsOfBytes(m);
}

// Numbers 64 pair .. 64 pair + 63 of q4_k and q5_k: the halves of 32 bytes, and bits 2 pair and 2 pair + 1 of each of 32 more.
template <bool kFiveBits, int kPair>
inline void quantsOfPair(const uint8_t* quants, __m256i bits, __m256i* low, __m256i* up) {
  const __m256i both = load32(quants + 32 * kPair), nibble = _mm256_set1_epi8(15);
  *low = _mm256_and_si256(both, nibble);
  *up = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
  if (kFiveBits) {
    const __m256i two = _mm256_srli_epi16(bits, 2 * kPair), bit = _mm256_set1_epi8(16);
    *low = _mm256_or_si256(*low, _mm256_and_si256(_mm256_slli_epi16(two, 4), bit));
    *up = _mm256_or_si256(*up, _mm256_and_si256(_mm256_slli_epi16(two, 3), bit));
  }
}

// Part kPart of four of half a block of q6_k: 4 bits of `low`, two of `bits`.
template <int kPart>
inline __m256i quantsOf6Bits(__m256i low, __m256i bits) {
  const __m256i shifted = kPart < 2 ? low : _mm256_srli_epi16(low, 4);
  const __m256i high = kPart == 0   ? _mm256_slli_epi16(bits, 4)
                       : kPart == 1 ? _mm256_slli_epi16(bits, 2)
                       : kPart == 2 ? bits
                                    : _mm256_srli_epi16(bits, 2);
  return _mm256_or_si256(_mm256_and_si256(shifted, _mm256_set1_epi8(15)),
                         _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
}

}  // namespace

}  // namespace SGEMOE_ISA
}  // namespace sgemoe

#endif
