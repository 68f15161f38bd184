// The sums of dot products, four at a time.
#pragma once
#include "internal.h"

namespace sgemoe {
namespace SGEMOE_ISA {

typedef float Quad __attribute__((vector_size(16)));

// The sums over the lanes of four vectors.
#if defined(__SSE2__)
inline __m128 foldToQuad(Vf v) {
#if defined(__AVX512F__)
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#elif defined(__AVX2__)
  return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
#else
  return v;
#endif
}

inline Quad sumsOf(Vf v0, Vf v1, Vf v2, Vf v3) {
  const __m128 a = foldToQuad(v0), b = foldToQuad(v1), c = foldToQuad(v2), d = foldToQuad(v3);
  const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
  const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
  return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}
#elif defined(__wasm_simd128__)
inline Quad sumsOf(Vf a, Vf b, Vf c, Vf d) {
  const Vf ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Vf cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}
#else
inline Quad sumsOf(Vf v0, Vf v1, Vf v2, Vf v3) { return Quad{hsum(v0), hsum(v1), hsum(v2), hsum(v3)}; }
#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
