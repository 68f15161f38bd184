// The normal generator of randomNormal on kCounters counters at once, for a source that defines SGEMOE_RANDOM_LANES
// (its namespace), SGEMOE_RANDOM_COUNTERS and SGEMOE_UNROLL. Included once per vector width, so no include guard.
//
// Every operation is a single IEEE operation on each lane: the width changes the speed, not one bit.

namespace sgemoe {
namespace SGEMOE_RANDOM_LANES {

constexpr int kCounters = SGEMOE_RANDOM_COUNTERS;
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
#elif defined(__ARM_NEON)
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
static inline void philox(U c[4], const RoundKeys& keys) {
  SGEMOE_UNROLL
  for (int round = 0; round < 10; ++round) {
    const U product0 = multiply(c[0], 0xD2511F53u), product1 = multiply(c[2], 0xCD9E8D57u);
    const U next0 = (product1 >> 32) ^ c[1] ^ keys.k0[round];
    const U next2 = (product0 >> 32) ^ c[3] ^ keys.k1[round];
    c[1] = product1 & splat((uint64_t)0xFFFFFFFFu);
    c[3] = product0 & splat((uint64_t)0xFFFFFFFFu);
    c[0] = next0;
    c[2] = next2;
  }
}

// Exact: the word becomes the low bits of 2^52 + word.
static inline D toDouble(U word) { return (D)(word | splat((uint64_t)0x4330000000000000u)) - splat(0x1p52); }

static inline D select(I mask, D yes, D no) { return (D)(((I)yes & mask) | ((I)no & ~mask)); }

// ln((word + 0.5) / 2^32). word + 0.5 = m * 2^e with m in [1/sqrt 2, sqrt 2]; ln m = 2 artanh(s), s = (m-1)/(m+1).
static inline D logUniform(U word) {
  const U bits = (U)(toDouble(word) + splat(0.5));
  const D m0 = (D)((bits & splat((uint64_t)0x000FFFFFFFFFFFFFu)) | splat((uint64_t)0x3FF0000000000000u));
  const D e0 = toDouble(bits >> 52) - splat(1023.0);
  const I large = m0 > splat(1.4142135623730951);
  const D m = select(large, m0 * splat(0.5), m0), e = select(large, e0 + splat(1.0), e0);
  const D s = (m - splat(1.0)) / (m + splat(1.0));
  const D z = s * s;
  D p = splat(1.0 / 17);
  SGEMOE_UNROLL
  for (int n = 15; n >= 3; n -= 2) p = p * z + splat(1.0 / n);
  p = p * z + splat(1.0);
  return (e * splat(0.6931471805599453) + (splat(2.0) * s) * p) - splat(22.180709777918249);
}

static inline D root(D x) {
#if defined(__SSE2__) && SGEMOE_RANDOM_COUNTERS == 4
  return _mm256_sqrt_pd(x);
#elif defined(__SSE2__)
  return _mm_sqrt_pd(x);
#elif defined(__ARM_NEON)
  return (D)vsqrtq_f64((float64x2_t)x);
#else
  for (int i = 0; i < kCounters; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
#endif
}

// The signed coefficients of the two series, highest power first: 1/17! .. 1/1! and 1/18! .. 1/0!.
static constexpr double kSine[] = {1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
                                   1.0 / 362880,          -1.0 / 5040,          1.0 / 120,        -1.0 / 6,
                                   1.0};
static constexpr double kCosine[] = {-1.0 / 6402373705728000, 1.0 / 20922789888000, -1.0 / 87178291200,
                                     1.0 / 479001600,         -1.0 / 3628800,       1.0 / 40320,
                                     -1.0 / 720,              1.0 / 24,             -1.0 / 2,
                                     1.0};

// Box-Muller: two normals from two words. The upper two bits of the second are the quarter turn.
static inline void normalPair(U radiusWord, U angleWord, D scale, double* first, double* second) {
  const D r = root(splat(-2.0) * logUniform(radiusWord));
  const D t = toDouble(angleWord & splat((uint64_t)0x3FFFFFFFu)) * splat(0x1p-30) * splat(1.5707963267948966);
  const D w = t * t;
  D sine = splat(kSine[0]), cosine = splat(kCosine[0]);
  SGEMOE_UNROLL
  for (int i = 1; i < 9; ++i) sine = sine * w + splat(kSine[i]);
  SGEMOE_UNROLL
  for (int i = 1; i < 10; ++i) cosine = cosine * w + splat(kCosine[i]);
  sine = t * sine;

  const U quarter = angleWord >> 30;
  const I swap = -(I)(quarter & splat((uint64_t)1));
  const U sign1 = (quarter ^ (quarter >> 1)) << 63, sign2 = (quarter >> 1) << 63;
  const D x = (D)((U)select(swap, sine, cosine) ^ sign1), y = (D)((U)select(swap, cosine, sine) ^ sign2);
  const D scaledX = scale * (r * x), scaledY = scale * (r * y);
  memcpy(first, &scaledX, sizeof scaledX);
  memcpy(second, &scaledY, sizeof scaledY);
}

// 4 * kCounters elements, of the counters block .. block + kCounters - 1.
static inline void normals(float* out, uint64_t block, const RoundKeys& keys, uint32_t stream, double std) {
  U counter = splat(block);
  for (int i = 0; i < kCounters; ++i) counter[i] += (uint64_t)i;
  U words[4] = {counter & splat((uint64_t)0xFFFFFFFFu), counter >> 32, splat((uint64_t)stream), U{}};
  philox(words, keys);
  double lanes[4][kCounters];
  normalPair(words[0], words[1], splat(std), lanes[0], lanes[1]);
  normalPair(words[2], words[3], splat(std), lanes[2], lanes[3]);
  SGEMOE_UNROLL
  for (int i = 0; i < kCounters; ++i) {
    SGEMOE_UNROLL
    for (int j = 0; j < 4; ++j) out[4 * i + j] = (float)lanes[j][i];
  }
}

// Elements [begin, end) of the sequence, begin a multiple of 4, written from out.
static void fill(float* out, int64_t begin, int64_t end, uint32_t key0, uint32_t key1, uint32_t stream, double std) {
  const RoundKeys keys(key0, key1);
  int64_t i = begin;
  for (; i + 4 * kCounters <= end; i += 4 * kCounters) {
    normals(out + (i - begin), (uint64_t)i / 4, keys, stream, std);
  }
  if (i < end) {
    float rest[4 * kCounters];
    normals(rest, (uint64_t)i / 4, keys, stream, std);
    memcpy(out + (i - begin), rest, (size_t)(end - i) * sizeof(float));
  }
}

}  // namespace SGEMOE_RANDOM_LANES
}  // namespace sgemoe
