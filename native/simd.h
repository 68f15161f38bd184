// Vectors of float32 with the width of the instruction set a source is compiled for, and e^x on them.
// For the sources that are compiled once per instruction set: everything lives in that namespace.
//
// Names: Vf floats, Vi 32-bit integers, Vd doubles (half as many lanes); kLanes, kDoubleLanes.
// vmax/vmin return b when either operand is NaN on x86, NaN on arm: callers that care put the checked value in b.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's AVX-512 header reads its own deliberately undefined vectors (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// UNROLL before a loop of at most 16 turns over registers; ROLLED where copies of the body would only be more code.
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("clang loop vectorize(disable) unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define ROLLED _Pragma("GCC unroll 1")
#endif

namespace sgemoe {
namespace SGEMOE_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

constexpr int kLanes = kVectorBytes / 4;
constexpr int kDoubleLanes = kVectorBytes / 8;
typedef float Vf __attribute__((vector_size(kVectorBytes)));
typedef int32_t Vi __attribute__((vector_size(kVectorBytes)));
typedef uint32_t Vu __attribute__((vector_size(kVectorBytes)));
typedef double Vd __attribute__((vector_size(kVectorBytes)));

inline Vf set1(float x) { return x - Vf{}; }  // x - (+0) keeps every bit of x, -0 included
inline Vd set1d(double x) { return x - Vd{}; }

inline Vf load(const float* p) {
  Vf v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vf v) { memcpy(p, &v, sizeof v); }
inline Vd loadd(const double* p) {
  Vd v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline void stored(double* p, Vd v) { memcpy(p, &v, sizeof v); }

// Asks for the cache line at p, which may lie beyond an array: nothing is read.
inline void prefetch(const float* p) { __builtin_prefetch(p); }
inline void prefetchFar(const float* p) { __builtin_prefetch(p, 0, 2); }  // into the second cache
inline void prefetchToWrite(const float* p) { __builtin_prefetch(p, 1); }

// mask lanes are 0 or -1, as comparisons of Vf give them.
inline Vf select(Vi mask, Vf yes, Vf no) { return mask ? yes : no; }

// loadPartial: the first n <= kLanes elements, 0 in the other lanes. storePartial: the first n lanes.
// fma(a,b,c) = a*b + c, rounded once where the instruction set can. hsum, hmax: a fixed halving order.
// widenLow/widenHigh: the lower/upper half of the lanes as doubles; narrow puts them together again.
#if defined(__AVX512F__)

inline Vf loadPartial(const float* p, int n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
inline void storePartial(float* p, Vf v, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v); }
inline Vf fma(Vf a, Vf b, Vf c) { return _mm512_fmadd_ps(a, b, c); }
inline Vf vmax(Vf a, Vf b) { return _mm512_max_ps(a, b); }
inline Vf vmin(Vf a, Vf b) { return _mm512_min_ps(a, b); }
inline Vf vsqrt(Vf a) { return _mm512_sqrt_ps(a); }
inline float hsum(Vf v) { return _mm512_reduce_add_ps(v); }
inline float hmax(Vf v) { return _mm512_reduce_max_ps(v); }
inline double hsumd(Vd v) { return _mm512_reduce_add_pd(v); }
inline Vd widenLow(Vf v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
inline Vd widenHigh(Vf v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }
inline Vf narrow(Vd low, Vd high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}

#elif defined(__AVX2__)

inline __m256i lanesBelow(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vf loadPartial(const float* p, int n) { return _mm256_maskload_ps(p, lanesBelow(n)); }
inline void storePartial(float* p, Vf v, int n) { _mm256_maskstore_ps(p, lanesBelow(n), v); }
inline Vf fma(Vf a, Vf b, Vf c) { return _mm256_fmadd_ps(a, b, c); }
inline Vf vmax(Vf a, Vf b) { return _mm256_max_ps(a, b); }
inline Vf vmin(Vf a, Vf b) { return _mm256_min_ps(a, b); }
inline Vf vsqrt(Vf a) { return _mm256_sqrt_ps(a); }
inline float hsum(Vf v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline float hmax(Vf v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline double hsumd(Vd v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline Vd widenLow(Vf v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
inline Vd widenHigh(Vf v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }
inline Vf narrow(Vd low, Vd high) { return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low)); }

#else

inline Vf loadPartial(const float* p, int n) {
  if (n == kLanes) return load(p);
  return n == 0 ? Vf{} : n == 1 ? Vf{p[0]} : n == 2 ? Vf{p[0], p[1]} : Vf{p[0], p[1], p[2]};
}
inline void storePartial(float* p, Vf v, int n) {
  if (n == kLanes) return store(p, v);
  if (n > 0) p[0] = v[0];
  if (n > 1) p[1] = v[1];
  if (n > 2) p[2] = v[2];
}
inline float hsum(Vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline double hsumd(Vd v) { return v[0] + v[1]; }

#if defined(__SSE2__)
inline Vf fma(Vf a, Vf b, Vf c) { return a * b + c; }
inline Vf vmax(Vf a, Vf b) { return _mm_max_ps(a, b); }
inline Vf vmin(Vf a, Vf b) { return _mm_min_ps(a, b); }
inline Vf vsqrt(Vf a) { return _mm_sqrt_ps(a); }
inline float hmax(Vf v) {
  __m128 s = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline Vd widenLow(Vf v) { return _mm_cvtps_pd(v); }
inline Vd widenHigh(Vf v) { return _mm_cvtps_pd(_mm_movehl_ps(v, v)); }
inline Vf narrow(Vd low, Vd high) { return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high)); }
#elif defined(__aarch64__)
inline Vf fma(Vf a, Vf b, Vf c) { return (Vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
inline Vf vmax(Vf a, Vf b) { return (Vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
inline Vf vmin(Vf a, Vf b) { return (Vf)vminq_f32((float32x4_t)a, (float32x4_t)b); }
inline Vf vsqrt(Vf a) { return (Vf)vsqrtq_f32((float32x4_t)a); }
inline float hmax(Vf v) { return vmaxvq_f32((float32x4_t)v); }
inline Vd widenLow(Vf v) { return (Vd)vcvt_f64_f32(vget_low_f32((float32x4_t)v)); }
inline Vd widenHigh(Vf v) { return (Vd)vcvt_high_f64_f32((float32x4_t)v); }
inline Vf narrow(Vd low, Vd high) {
  return (Vf)vcvt_high_f32_f64(vcvt_f32_f64((float64x2_t)low), (float64x2_t)high);
}
#else  // only the compiler's vectors: WebAssembly, RISC-V, POWER, 32-bit ARM, ...
#if defined(__wasm_relaxed_simd__)  // fused where the processor can
inline Vf fma(Vf a, Vf b, Vf c) { return __builtin_wasm_relaxed_madd_f32x4(a, b, c); }
#else
inline Vf fma(Vf a, Vf b, Vf c) { return a * b + c; }
#endif
inline Vf vmax(Vf a, Vf b) { return select(a > b, a, b); }
inline Vf vmin(Vf a, Vf b) { return select(a < b, a, b); }
inline Vf vsqrt(Vf a) {
  for (int i = 0; i < kLanes; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
inline float hmax(Vf v) {
  v = vmax(v, Vf{v[2], v[3], v[2], v[3]});
  return v[0] > v[1] ? v[0] : v[1];
}
inline Vd widenLow(Vf v) { return Vd{(double)v[0], (double)v[1]}; }
inline Vd widenHigh(Vf v) { return Vd{(double)v[2], (double)v[3]}; }
inline Vf narrow(Vd low, Vd high) { return Vf{(float)low[0], (float)low[1], (float)high[0], (float)high[1]}; }
#endif

#endif

// sqrt(x) for x >= 0, at most 1 ulp off: an estimate of 14 bits and one Newton step. The exact root would keep the
// divider busy for as long as everything else in a loop takes.
#if defined(__AVX512F__)
inline Vf quickSqrt(Vf x) {
  const Vf y = _mm512_rsqrt14_ps(x), root = x * y;
  const Vf better = fma(root * set1(0.5f), fma(-root, y, set1(1.0f)), root);
  return _mm512_mask_mov_ps(better, _mm512_fpclass_ps_mask(x, 0x9f), x);  // 0, inf and NaN stay
}
#else
inline Vf quickSqrt(Vf x) { return vsqrt(x); }
#endif

// swapPairs: (a,b) -> (b,a) in each pair of lanes. spreadPairs repeats each lane of the lower half.
#if defined(__AVX512F__)
inline Vf swapPairs(Vf v) { return _mm512_permute_ps(v, 0xB1); }
inline Vf spreadPairs(Vf v) {
  return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), v);
}
#elif defined(__AVX2__)
inline Vf swapPairs(Vf v) { return _mm256_permute_ps(v, 0xB1); }
inline Vf spreadPairs(Vf v) { return _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)); }
#elif defined(__SSE2__)
inline Vf swapPairs(Vf v) { return _mm_shuffle_ps(v, v, 0xB1); }
inline Vf spreadPairs(Vf v) { return _mm_unpacklo_ps(v, v); }
#elif defined(__aarch64__)
inline Vf swapPairs(Vf v) { return (Vf)vrev64q_f32((float32x4_t)v); }
inline Vf spreadPairs(Vf v) { return (Vf)vzip1q_f32((float32x4_t)v, (float32x4_t)v); }
#else
inline Vf swapPairs(Vf v) { return Vf{v[1], v[0], v[3], v[2]}; }
inline Vf spreadPairs(Vf v) { return Vf{v[0], v[0], v[1], v[1]}; }
#endif

// What a loop body loads and stores: a whole vector, or the last few elements of an array.
struct Whole {
  static Vf load(const float* p) { return SGEMOE_ISA::load(p); }
  static void store(float* p, Vf v) { SGEMOE_ISA::store(p, v); }
  // Lanes beyond the array become `fill`, so that a reduction can ignore them.
  static Vf load(const float* p, float) { return SGEMOE_ISA::load(p); }
};

struct Tail {
  int n;
  Vf load(const float* p) const { return loadPartial(p, n); }
  void store(float* p, Vf v) const { storePartial(p, v, n); }
  Vf load(const float* p, float fill) const {
    Vf lane;
    for (int i = 0; i < kLanes; ++i) lane[i] = (float)i;
    return select(lane < set1((float)n), loadPartial(p, n), set1(fill));
  }
};

// body(place, i) for i = 0, kLanes, 2 kLanes ... over n elements; place.load and place.store respect the end.
template <class Body>
inline void forVectors(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(Whole{}, i);
  if (i < n) body(Tail{(int)(n - i)}, i);
}

// combine(term(place, i), ...) over the vectors of n elements, in four chains that are joined in a fixed order: a
// single chain would wait for each result.
template <class Combine, class Term>
inline Vf reduceVectors(int64_t n, Vf start, Combine combine, Term term) {
  Vf a = start, b = start, c = start, d = start;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a = combine(a, term(Whole{}, i));
    b = combine(b, term(Whole{}, i + kLanes));
    c = combine(c, term(Whole{}, i + 2 * kLanes));
    d = combine(d, term(Whole{}, i + 3 * kLanes));
  }
  for (; i + kLanes <= n; i += kLanes) a = combine(a, term(Whole{}, i));
  if (i < n) a = combine(a, term(Tail{(int)(n - i)}, i));
  return combine(combine(a, b), combine(c, d));
}

template <class Term>
inline Vf sumVectors(int64_t n, Term term) {
  return reduceVectors(n, Vf{}, [](Vf a, Vf b) { return a + b; }, term);
}

// The bits of the bfloat16 nearest to x, ties to even, in the upper half of each lane; the lower half is 0. Integers keep what is
// below 2^-126. A NaN stays one: its upper bits, quiet.
inline Vu roundedBfloat16(Vf x) {
  const Vu bits = (Vu)x;
  const Vu nan = (Vu)(x != x), nearest = bits + 0x7fffu + ((bits >> 16) & 1u);
  return ((nan & (bits | 0x400000u)) | (~nan & nearest)) & 0xffff0000u;
}

// e^x in every lane, at most 1 ulp off (1.2 ulp without fma; measured over the whole range). e^-inf = 0,
// e^inf = inf, NaN stays, subnormal results are right.
//
// x = k ln2 + r with k the nearest integer, so |r| <= 0.3466. ln2 is split so that k * kLn2High is exact (15 bits
// times 8 bits). e^r = 1 + r + r^2 q(r), q of degree 4 fitted for the least largest relative error, 3.1e-9 (0.05 ulp);
// the rest is rounding: 0.5 ulp of the last sum, and |r| times as much of the sum before it.
// 2^k comes in two factors, since k reaches -150 (below the smallest exponent) and 128 (above the largest); the
// first product is exact, so a subnormal result is rounded once. Results that are 0 are set, not computed: an
// underflow costs 100 ns on some processors, and -inf fills the unused lanes of a short row.
inline Vf vexp(Vf x) {
  const Vf kLowest = set1(-104.0f), kHighest = set1(89.0f);  // e^-104 rounds to 0, e^89 to inf
  const Vf kLn2High = set1(0.693359375f), kLn2Low = set1(-2.12194440054690583e-4f);
  const Vf kRound = set1(12582912.0f);  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
#if defined(__AVX512F__)
  const __mmask16 kept = _mm512_cmp_ps_mask(x, kLowest, _CMP_NLT_UQ);
#else
  const Vi kept = ~(Vi)(x < kLowest);
  x = (Vf)((Vi)x & kept);
#endif
  x = vmin(kHighest, x);
  const Vf shifted = fma(x, set1(1.44269504088896341f), kRound);
  const Vf k = shifted - kRound;
  const Vf r = fma(k, -kLn2Low, fma(k, -kLn2High, x));
  Vf q = set1(0.00138145986467f);
  q = fma(q, r, set1(0.00836871687973f));
  q = fma(q, r, set1(0.0416683880453f));
  q = fma(q, r, set1(0.166665206317f));
  q = fma(q, r, set1(0.499999934478f));
  const Vf p = fma(fma(q, r, set1(1.0f)), r, set1(1.0f));
#if defined(__AVX512F__)
  return _mm512_maskz_scalef_ps(kept, p, k);
#else
  const Vi exponent = (Vi)shifted - (Vi)kRound;
  const Vi half = exponent >> 1;
  const Vf scale1 = (Vf)((half + 127) << 23), scale2 = (Vf)((exponent - half + 127) << 23);
  return (Vf)((Vi)(p * scale1 * scale2) & kept);
#endif
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
