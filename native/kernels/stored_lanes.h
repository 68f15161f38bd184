// Loads of stored floats as vectors.
#pragma once
#include "stored_blocks.h"

namespace sgemoe {
namespace SGEMOE_ISA {

// kLanes numbers at any address.
struct Float32 {
  static constexpr int kBytes = 4;
  static Vf load(const uint8_t* p) {
    Vf v;
    memcpy(&v, p, sizeof v);
    return v;
  }
};

typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));

struct Bfloat16 {
  static constexpr int kBytes = 2;
  static Vf load(const uint8_t* p) {
    Halves v;
    memcpy(&v, p, sizeof v);
#if defined(__AVX2__) && !defined(__AVX512F__)
    return (Vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)v), 16);  // GCC converts by halves, at half the speed
#else
    return (Vf)(__builtin_convertvector(v, Vi) << 16);
#endif
  }
};

struct Float16 {
  static constexpr int kBytes = 2;
  static Vf load(const uint8_t* p) {
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#elif defined(__aarch64__)
    uint16x4_t v;
    memcpy(&v, p, sizeof v);
    return (Vf)vcvt_f32_f16(vreinterpret_f16_u16(v));
#else
    Vf v;
    for (int i = 0; i < kLanes; i++) v[i] = halfAt(p + 2 * i);
    return v;
#endif
  }
};

// kLanes signed bytes. GCC makes of one conversion from bytes to ints as many moves as there are lanes.
inline Vf loadBytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
#else
  typedef int8_t Bytes __attribute__((vector_size(kLanes)));
  typedef int16_t Shorts __attribute__((vector_size(2 * kLanes)));
  Bytes bytes;
  memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(bytes, Shorts), Vi), Vf);
#endif
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
