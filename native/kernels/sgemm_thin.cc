// C = A B^T for few rows of A, with B [n, k] as weights are stored: B is read in order, once for each group of rows of
// A, and never copied. The roles are swapped: A is in the vectors, B in the broadcasts.
//
// A vector holds `kLanes / S` rows of A by S steps of k, S a power of two: lane r*S + s is A[r, p + s]. It meets S
// elements of a row of B, repeated over the vector, which is one load; so 8, 4, 2 or 1 rows fill the vectors as well
// as 16. The sums for eight rows of B then exchange lanes between their vectors, as in a transposition, and lanes that
// differ only in s are added. This leaves eight columns of C side by side.
#include <string.h>

#include "sgemm_pack.h"

namespace sgemoe {
namespace SGEMOE_ISA {

#if defined(__AVX512F__)
namespace {

constexpr int kCols = 8;  // rows of B at a time

// A vector that repeats S floats.
template <int S>
inline Vf spread(const float* p);
template <>
inline Vf spread<1>(const float* p) { return set1(*p); }
template <>
inline Vf spread<2>(const float* p) {
  return _mm512_castpd_ps(_mm512_broadcastsd_pd(_mm_loadl_pd(_mm_setzero_pd(), reinterpret_cast<const double*>(p))));
}
template <>
inline Vf spread<4>(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
template <>
inline Vf spread<8>(const float* p) { return _mm512_broadcast_f32x8(_mm256_loadu_ps(p)); }
template <>
inline Vf spread<16>(const float* p) { return load(p); }

// lower: lanes i without the bit D come from a, the lanes i + D from lane i of b. upper: lanes i without the bit come
// from lane i + D of a, lanes with the bit from b.
template <int D>
inline Vf lower(Vf a, Vf b) {
  Vi from;
  UNROLL for (int i = 0; i < kLanes; i++) from[i] = i & D ? kLanes + i - D : i;
  return _mm512_permutex2var_ps(a, (__m512i)from, b);
}
template <int D>
inline Vf upper(Vf a, Vf b) {
  Vi from;
  UNROLL for (int i = 0; i < kLanes; i++) from[i] = i & D ? kLanes + i : i + D;
  return _mm512_permutex2var_ps(a, (__m512i)from, b);
}

// Turns the kCols vectors of sums, one for each row of B, into rows of C. D is the current bit of the lane's number,
// Count the number of vectors left. In the end v[r] holds row r of A in its lower half and row r + kLanes / (2 * S) in
// its upper half.
template <int S, int D, int Count>
inline void exchange(Vf* v) {
  if constexpr (D < S && D < kCols) {
    UNROLL for (int i = 0; i < Count / 2; i++) {
      v[i] = lower<D>(v[2 * i], v[2 * i + 1]) + upper<D>(v[2 * i], v[2 * i + 1]);
    }
    exchange<S, 2 * D, Count / 2>(v);
  } else if constexpr (D < kCols) {
    constexpr int kApart = D / S;
    UNROLL for (int i = 0; i < Count; i++) {
      if (i & kApart) continue;
      const Vf a = v[i], b = v[i + kApart];
      v[i] = lower<D>(a, b);
      v[i + kApart] = upper<D>(a, b);
    }
    exchange<S, 2 * D, Count>(v);
  }
}

// The inputs of eight columns of C. x [k / S, NV, kLanes] holds rows of A as vectors.
struct Block {
  const float* x;
  const float* b;
  int64_t ldb, k;
  float* c;
  int64_t ldc, rows;
  float alpha, beta;
  bool fetches;  // whether to fetch the next eight rows of b into the second cache
  int from;      // the first column to write
};

inline void writeRow(const Block& t, int64_t row, __m256 value) {
  if (row >= t.rows) return;
  const __mmask8 mask = (__mmask8)(0xffu << t.from);
  float* c = t.c + row * t.ldc;
  value = _mm256_mul_ps(value, _mm256_set1_ps(t.alpha));
  if (t.beta != 0) value = _mm256_fmadd_ps(_mm256_maskz_loadu_ps(mask, c), _mm256_set1_ps(t.beta), value);
  _mm256_mask_storeu_ps(c, mask, value);
}

// Multiplies NV vectors of kLanes / S rows of A by kCols rows of B.
template <int S, int NV>
void multiplyBlock(const Block& arguments) {
  const Block t = arguments;
  constexpr int kRows = kLanes / S;
  Vf sums[NV][kCols];
  RowPointers<kCols> b(t.b, t.ldb);
  const float* x = t.x;
  UNROLL for (int i = 0; i < kCols; i++) {
    const Vf right = spread<S>(b.row(i, t.ldb));
    UNROLL for (int v = 0; v < NV; v++) sums[v][i] = load(x + v * kLanes) * right;
  }
  const float* ahead = t.b + kCols * t.ldb;
  for (int64_t p = S; p < t.k; p += S) {
    b.advance(S);
    x += NV * kLanes;
    if (t.fetches) {
      UNROLL for (int i = 0; i < S / 2; i++) {
        prefetchFar(ahead);
        ahead += t.ldb;
      }
      if (p % kLanes == 0) ahead += kLanes - kCols * t.ldb;
    }
    Vf left[NV];
    UNROLL for (int v = 0; v < NV; v++) left[v] = load(x + v * kLanes);
    UNROLL for (int i = 0; i < kCols; i++) {
      const Vf right = spread<S>(b.row(i, t.ldb));
      UNROLL for (int v = 0; v < NV; v++) sums[v][i] = fma(left[v], right, sums[v][i]);
    }
  }
  UNROLL for (int v = 0; v < NV; v++) {
    exchange<S, 1, kCols>(sums[v]);
    if (S == kLanes) {
      const Vf all = sums[v][0];
      writeRow(t, v, _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1)));
      continue;
    }
    UNROLL for (int r = 0; r < kRows / 2; r++) {
      writeRow(t, v * kRows + r, _mm512_castps512_ps256(sums[v][r]));
      writeRow(t, v * kRows + r + kRows / 2, _mm512_extractf32x8_ps(sums[v][r], 1));
    }
  }
}

// Fills x [k / S, NV, kLanes] with `rows` rows of A; the other rows are zeros.
template <int S, int NV>
void arrange(const float* a, int64_t lda, int64_t rows, int64_t k, float* x) {
  constexpr int kRows = NV * kLanes / S;
  if (S == 1) return packTransposed(a, lda, k, rows, x, kRows);
  for (int64_t r = 0; r < kRows; r++) {
    float* to = x + r * S;
    for (int64_t p = 0; p < k; p += S, to += NV * kLanes) {
      if (r < rows) {
        memcpy(to, a + r * lda + p, S * sizeof(float));
      } else {
        memset(to, 0, S * sizeof(float));
      }
    }
  }
}

// Rows of A that share vectors: 1 in one vector, or 2, 4, ... 32 in two.
struct Way {
  int64_t size;
  void (*multiply)(const Block&);
  void (*arrange)(const float* a, int64_t lda, int64_t rows, int64_t k, float* x);
};
constexpr Way kWays[] = {
    {32, multiplyBlock<1, 2>, arrange<1, 2>},   {16, multiplyBlock<2, 2>, arrange<2, 2>},
    {8, multiplyBlock<4, 2>, arrange<4, 2>},    {4, multiplyBlock<8, 2>, arrange<8, 2>},
    {2, multiplyBlock<16, 2>, arrange<16, 2>},  {1, multiplyBlock<16, 1>, arrange<16, 1>},
};

// The largest group that the rows fill, or nearly fill.
const Way& wayOf(int64_t rows) {
  const Way* way = kWays;
  while (rows < way->size - way->size / 8 && !(way->size == 4 && rows == 3)) way++;
  return *way;
}

struct Group {
  const Way* way;
  int64_t row, rows;
  const float* x;
};

// Floats of A that are arranged at a time: with eight rows of B they stay in the first-level cache.
constexpr int64_t kArrangedFloats = 8192;
constexpr int kMaxGroups = 64;

// Arranges as many rows from `row` on as there is room for. Returns the row after them.
int64_t arrangeGroups(const Matrices& s, int64_t p0, int64_t k, int64_t row, float* x, Group* groups, int* count) {
  const float* const end = x + kArrangedFloats;
  *count = 0;
  while (row < s.m && *count < kMaxGroups) {
    const Way& way = wayOf(s.m - row);
    const int64_t floats = way.size < 2 ? k : way.size * k;
    if (x + floats > end) break;
    const int64_t rows = minOf(way.size, s.m - row);
    way.arrange(s.a + row * s.lda + p0, s.lda, rows, k, x);
    groups[(*count)++] = {&way, row, rows, x};
    x += floats;
    row += rows;
  }
  return row;
}

void multiplyDepth(const Matrices& s, int64_t p0, int64_t k, float beta, float* x) {
  Group groups[kMaxGroups];
  int count = 0;
  for (int64_t row = 0; row < s.m;) {
    row = arrangeGroups(s, p0, k, row, x, groups, &count);
    for (int64_t j = 0; j < s.n; j += kCols) {
      const int64_t at = minOf(j, s.n - kCols);
      for (int i = 0; i < count; i++) {
        const Group& g = groups[i];
        const bool fetches = i == 0 && j + kCols < s.n;
        g.way->multiply({g.x, s.b + at * s.ldb + p0, s.ldb, k, s.c + g.row * s.ldc + at, s.ldc, g.rows, s.alpha, beta,
                         fetches, static_cast<int>(j - at)});
      }
    }
  }
}

}  // namespace

// Measured against dot products, which win with fewer rows, and against a transposed B, which wins with more.
bool thinWins(const Matrices& s, int64_t k) {
  return !s.transA && s.transB && s.m > 4 && s.m <= 16 && s.n >= kCols && k % kLanes == 0;
}

void multiplyThin(const Matrices& s, int64_t k, float beta) {
  alignas(64) float x[kArrangedFloats];
  const int64_t maxDepth = kArrangedFloats / roundUp(s.m, 8);
  const int64_t blocks = ceilDiv(k, maxDepth);
  int64_t p = 0;
  for (int64_t i = 0; i < blocks; i++) {
    const int64_t depth = minOf(k - p, roundUp(k / blocks, kLanes));
    if (depth <= 0) return;
    multiplyDepth(s, p, depth, i == 0 ? beta : 1, x);
    p += depth;
  }
}

#endif

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
