// The normal generator of randomNormal on kCounters counters at once, for a source that defines SGEMOE_RANDOM_LANES
// (its namespace), SGEMOE_RANDOM_COUNTERS and SGEMOE_UNROLL. It has no include guard, since it is included once per
// vector width.
//
// Every operation is a single IEEE operation on each lane: the width changes the speed, not one bit.

namespace sgemoe {
namespace SGEMOE_RANDOM_LANES {

constexpr int kCounters = SGEMOE_RANDOM_COUNTERS;
constexpr int kSets = 2;            // vectors of counters computed together: one alone would wait for its results
constexpr int kPairs = 2 * kSets;   // vectors of pairs of normals
constexpr int kElements = 4 * kCounters * kSets;
typedef double D __attribute__((vector_size(kCounters * 8)));
typedef uint64_t U __attribute__((vector_size(kCounters * 8)));  // a 32-bit word in each lane, unless said otherwise
typedef int64_t I __attribute__((vector_size(kCounters * 8)));

static inline U splat(uint64_t x) { return x + U{}; }
static inline D splat(double x) { return x - D{}; }

// The 64-bit products of words.
static inline U multiply(U a, uint32_t b) {
#if defined(__SSE2__) && SGEMOE_RANDOM_COUNTERS == 4
  return (U)_mm256_mul_epu32((__m256i)a, (__m256i)splat((uint64_t)b));
#elif defined(__SSE2__)
  return (U)_mm_mul_epu32((__m128i)a, (__m128i)splat((uint64_t)b));
#elif defined(__aarch64__)
  return (U)vmull_u32(vmovn_u64((uint64x2_t)a), vdup_n_u32(b));
#else
  return a * splat((uint64_t)b);
#endif
}

struct RoundKeys {
  U k0[10], k1[10];

  RoundKeys(uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; ++round) {
      k0[round] = splat((uint64_t)(uint32_t)(key0 + (uint32_t)round * 0x9E3779B9u));
      k1[round] = splat((uint64_t)(uint32_t)(key1 + (uint32_t)round * 0xBB67AE85u));
    }
  }
};

// Philox4x32-10 (Salmon et al. 2011).
static inline void philox(U counters[kSets][4], const RoundKeys& keys) {
  SGEMOE_UNROLL
  for (int round = 0; round < 10; ++round) {
    SGEMOE_UNROLL
    for (int set = 0; set < kSets; ++set) {
      U* const c = counters[set];
      const U product0 = multiply(c[0], 0xD2511F53u), product1 = multiply(c[2], 0xCD9E8D57u);
      const U next0 = (product1 >> 32) ^ c[1] ^ keys.k0[round];
      const U next2 = (product0 >> 32) ^ c[3] ^ keys.k1[round];
      c[1] = product1 & splat((uint64_t)0xFFFFFFFFu);
      c[3] = product0 & splat((uint64_t)0xFFFFFFFFu);
      c[0] = next0;
      c[2] = next2;
    }
  }
}

// The conversion is exact: the word becomes the low bits of 2^52 + word.
static inline D toDouble(U word) { return (D)(word | splat((uint64_t)0x4330000000000000u)) - splat(0x1p52); }

static inline D select(I mask, D yes, D no) { return (D)(((I)yes & mask) | ((I)no & ~mask)); }

// series[i] = Horner's rule in x[i]; each step is done for all i before the next.
template <int kTerms>
static inline void horner(const double (&coefficients)[kTerms], const D x[kPairs], D series[kPairs]) {
  SGEMOE_UNROLL
  for (int i = 0; i < kPairs; ++i) series[i] = splat(coefficients[0]);
  SGEMOE_UNROLL
  for (int term = 1; term < kTerms; ++term) {
    SGEMOE_UNROLL
    for (int i = 0; i < kPairs; ++i) series[i] = series[i] * x[i] + splat(coefficients[term]);
  }
}

// The coefficients, highest power first: artanh(s)/s in s^2; sin(t)/t and cos(t) in t^2.
static constexpr double kArtanh[] = {1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0};
static constexpr double kSine[] = {1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
                                   1.0 / 362880,          -1.0 / 5040,          1.0 / 120,        -1.0 / 6,
                                   1.0};
static constexpr double kCosine[] = {-1.0 / 6402373705728000, 1.0 / 20922789888000, -1.0 / 87178291200,
                                     1.0 / 479001600,         -1.0 / 3628800,       1.0 / 40320,
                                     -1.0 / 720,              1.0 / 24,             -1.0 / 2,
                                     1.0};

// ln((word + 0.5) / 2^32). word + 0.5 = m * 2^e with m in [1/sqrt 2, sqrt 2]; ln m = 2 artanh(s), s = (m-1)/(m+1).
static inline void logUniform(const U words[kPairs], D logs[kPairs]) {
  D e[kPairs], s[kPairs], z[kPairs], p[kPairs];
  SGEMOE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    const U bits = (U)(toDouble(words[i]) + splat(0.5));
    const D m0 = (D)((bits & splat((uint64_t)0x000FFFFFFFFFFFFFu)) | splat((uint64_t)0x3FF0000000000000u));
    const D e0 = toDouble(bits >> 52) - splat(1023.0);
    const I large = m0 > splat(1.4142135623730951);
    const D m = select(large, m0 * splat(0.5), m0);
    e[i] = select(large, e0 + splat(1.0), e0);
    s[i] = (m - splat(1.0)) / (m + splat(1.0));
    z[i] = s[i] * s[i];
  }
  horner(kArtanh, z, p);
  SGEMOE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    logs[i] = (e[i] * splat(0.6931471805599453) + (splat(2.0) * s[i]) * p[i]) - splat(22.180709777918249);
  }
}

static inline D root(D x) {
#if defined(__SSE2__) && SGEMOE_RANDOM_COUNTERS == 4
  return _mm256_sqrt_pd(x);
#elif defined(__SSE2__)
  return _mm_sqrt_pd(x);
#elif defined(__aarch64__)
  return (D)vsqrtq_f64((float64x2_t)x);
#else
  for (int i = 0; i < kCounters; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
#endif
}

// Box-Muller: two normals from two words. The upper two bits of the second are the quarter turn.
static inline void normalPairs(const U radiusWords[kPairs], const U angleWords[kPairs], double std, D first[kPairs],
                               D second[kPairs]) {
  D r[kPairs], t[kPairs], w[kPairs], sines[kPairs], cosines[kPairs];
  logUniform(radiusWords, r);
  SGEMOE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    r[i] = root(splat(-2.0) * r[i]);
    t[i] = toDouble(angleWords[i] & splat((uint64_t)0x3FFFFFFFu)) * splat(0x1p-30) * splat(1.5707963267948966);
    w[i] = t[i] * t[i];
  }
  horner(kSine, w, sines);
  horner(kCosine, w, cosines);
  SGEMOE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    const D sine = t[i] * sines[i], cosine = cosines[i];
    const U quarter = angleWords[i] >> 30;
    const I swap = -(I)(quarter & splat((uint64_t)1));
    const U sign1 = (quarter ^ (quarter >> 1)) << 63, sign2 = (quarter >> 1) << 63;
    first[i] = splat(std) * (r[i] * (D)((U)select(swap, sine, cosine) ^ sign1));
    second[i] = splat(std) * (r[i] * (D)((U)select(swap, cosine, sine) ^ sign2));
  }
}

// The kElements elements of the counters from `block` on.
static inline void normals(float* out, uint64_t block, const RoundKeys& keys, uint32_t stream, double std) {
  U words[kSets][4];
  for (int set = 0; set < kSets; ++set) {
    U counter = splat(block + (uint64_t)(set * kCounters));
    for (int i = 0; i < kCounters; ++i) counter[i] += (uint64_t)i;
    words[set][0] = counter & splat((uint64_t)0xFFFFFFFFu);
    words[set][1] = counter >> 32;
    words[set][2] = splat((uint64_t)stream);
    words[set][3] = U{};
  }
  philox(words, keys);
  U radiusWords[kPairs], angleWords[kPairs];
  SGEMOE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    radiusWords[i] = words[i / 2][i % 2 * 2];
    angleWords[i] = words[i / 2][i % 2 * 2 + 1];
  }
  D normal[2][kPairs];
  normalPairs(radiusWords, angleWords, std, normal[0], normal[1]);
  SGEMOE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    SGEMOE_UNROLL
    for (int lane = 0; lane < kCounters; ++lane) {
      float* const to = out + i / 2 * 4 * kCounters + 4 * lane + i % 2 * 2;
      to[0] = (float)normal[0][i][lane];
      to[1] = (float)normal[1][i][lane];
    }
  }
}

// Elements [begin, end) of the sequence, begin a multiple of 4, written from out.
static void fill(float* out, int64_t begin, int64_t end, uint32_t key0, uint32_t key1, uint32_t stream, double std) {
  const RoundKeys keys(key0, key1);
  int64_t i = begin;
  for (; i + kElements <= end; i += kElements) normals(out + (i - begin), (uint64_t)i / 4, keys, stream, std);
  if (i < end) {
    float rest[kElements];
    normals(rest, (uint64_t)i / 4, keys, stream, std);
    memcpy(out + (i - begin), rest, (size_t)(end - i) * sizeof(float));
  }
}

}  // namespace SGEMOE_RANDOM_LANES
}  // namespace sgemoe
