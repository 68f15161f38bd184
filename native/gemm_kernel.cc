// The built-in serial sgemm, compiled once per instruction set.
//
// C is computed in register tiles of MR rows by NV vectors; op(A) is read in broadcasts, op(B) in vectors along the
// rows of a packed panel (Goto & van de Geijn 2008). Few rows or columns of a product whose both operands run along k
// in memory are dot products instead, which need no packing.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "simd.h"

namespace sgemoe {
namespace SGEMOE_ISA {

void sgemm(bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
           const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

namespace {

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t roundUp(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

// ---------------------------------------------------------------- register tiles

// Rows of a tile that is one or two vectors wide: as many as leave registers for a row of B and one of A.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kTileRows[3] = {0, 14, 14};
#else
constexpr int kTileRows[3] = {0, 12, 6};
#endif
constexpr int kMaxTileRows = 14;
constexpr int kPanelVectors = 2;
constexpr int kPanelCols = kPanelVectors * kLanes;

// Element (i, p) of op(A) is at a[i*aRow + p*aStep]. Row p of the panel of op(B) is at b + p*bStep.
struct TileArgs {
  int64_t k;
  const float* a;
  int64_t aRow, aStep;
  const float* b;
  int64_t bStep;
  float* c;
  int64_t ldc;
  float alpha, beta;
  int lastLanes;  // columns of the last vector that exist in C, 1..kLanes
};

inline void update(float* c, Vf sum, float alpha, float beta, int lanes) {
  Vf value = sum * set1(alpha);
  if (lanes == kLanes) {
    if (beta != 0) value = fma(load(c), set1(beta), value);
    store(c, value);
  } else {
    if (beta != 0) value = fma(loadPartial(c, lanes), set1(beta), value);
    storePartial(c, value, lanes);
  }
}

template <int MR, int NV>
void tile(const TileArgs& t) {
  Vf sums[MR][NV];
  UNROLL for (int i = 0; i < MR; i++) {
    UNROLL for (int j = 0; j < NV; j++) sums[i][j] = Vf{};
  }
  const float* a = t.a;
  const float* b = t.b;
  for (int64_t p = 0; p < t.k; p++) {
    Vf row[NV];
    UNROLL for (int j = 0; j < NV; j++) row[j] = load(b + j * kLanes);
    UNROLL for (int i = 0; i < MR; i++) {
      const Vf factor = set1(a[i * t.aRow]);
      UNROLL for (int j = 0; j < NV; j++) sums[i][j] = fma(row[j], factor, sums[i][j]);
    }
    a += t.aStep;
    b += t.bStep;
  }
  UNROLL for (int i = 0; i < MR; i++) {
    float* c = t.c + i * t.ldc;
    UNROLL for (int j = 0; j < NV; j++) {
      update(c + j * kLanes, sums[i][j], t.alpha, t.beta, j == NV - 1 ? t.lastLanes : kLanes);
    }
  }
}

using TileFn = void (*)(const TileArgs&);

// kTiles[NV][MR], as many as kTileRows.
#define TILES_1_TO_6(NV) nullptr, tile<1, NV>, tile<2, NV>, tile<3, NV>, tile<4, NV>, tile<5, NV>, tile<6, NV>
#define TILES_7_TO_12(NV) tile<7, NV>, tile<8, NV>, tile<9, NV>, tile<10, NV>, tile<11, NV>, tile<12, NV>
const TileFn kTiles[kPanelVectors + 1][kMaxTileRows + 1] = {
    {},
#if defined(__AVX512F__) || defined(__ARM_NEON)
    {TILES_1_TO_6(1), TILES_7_TO_12(1), tile<13, 1>, tile<14, 1>},
    {TILES_1_TO_6(2), TILES_7_TO_12(2), tile<13, 2>, tile<14, 2>},
#else
    {TILES_1_TO_6(1), TILES_7_TO_12(1)},
    {TILES_1_TO_6(2)},
#endif
};
#undef TILES_1_TO_6
#undef TILES_7_TO_12

// All rows of `t` against one panel of `cols` columns. The rows are spread evenly: 16 as 8 + 8, not 14 + 2.
void multiplyPanel(TileArgs t, int64_t m, int64_t cols) {
  const int vectors = cols > kLanes ? 2 : 1;
  t.lastLanes = static_cast<int>(cols - (vectors - 1) * kLanes);
  const int64_t tiles = (m + kTileRows[vectors] - 1) / kTileRows[vectors];
  const int64_t rows = m / tiles, larger = m % tiles;
  for (int64_t i = 0; i < tiles; i++) {
    const int64_t r = rows + (i < larger);
    kTiles[vectors][r](t);
    t.a += r * t.aRow;
    t.c += r * t.ldc;
  }
}

// ---------------------------------------------------------------- packing

#if defined(__AVX2__)
constexpr int kBlock = 8;

// dst[j*dstStep + i] = src[i*srcStep + j] for i, j < 8. Rows i and i+4 are joined while loading, which leaves two
// rounds of shuffles within the halves.
inline void transposeBlock(const float* src, int64_t srcStep, float* dst, int64_t dstStep) {
  UNROLL for (int half = 0; half < 2; half++) {
    __m256 rows[4];
    UNROLL for (int i = 0; i < 4; i++) {
      const __m256 low = _mm256_castps128_ps256(_mm_loadu_ps(src + i * srcStep + 4 * half));
      rows[i] = _mm256_insertf128_ps(low, _mm_loadu_ps(src + (i + 4) * srcStep + 4 * half), 1);
    }
    const __m256 low01 = _mm256_unpacklo_ps(rows[0], rows[1]), high01 = _mm256_unpackhi_ps(rows[0], rows[1]);
    const __m256 low23 = _mm256_unpacklo_ps(rows[2], rows[3]), high23 = _mm256_unpackhi_ps(rows[2], rows[3]);
    float* to = dst + 4 * half * dstStep;
    _mm256_storeu_ps(to, _mm256_shuffle_ps(low01, low23, 0x44));
    _mm256_storeu_ps(to + dstStep, _mm256_shuffle_ps(low01, low23, 0xee));
    _mm256_storeu_ps(to + 2 * dstStep, _mm256_shuffle_ps(high01, high23, 0x44));
    _mm256_storeu_ps(to + 3 * dstStep, _mm256_shuffle_ps(high01, high23, 0xee));
  }
}
#elif defined(__SSE2__)
constexpr int kBlock = 4;

inline void transposeBlock(const float* src, int64_t srcStep, float* dst, int64_t dstStep) {
  __m128 r0 = _mm_loadu_ps(src), r1 = _mm_loadu_ps(src + srcStep);
  __m128 r2 = _mm_loadu_ps(src + 2 * srcStep), r3 = _mm_loadu_ps(src + 3 * srcStep);
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  _mm_storeu_ps(dst, r0);
  _mm_storeu_ps(dst + dstStep, r1);
  _mm_storeu_ps(dst + 2 * dstStep, r2);
  _mm_storeu_ps(dst + 3 * dstStep, r3);
}
#else
constexpr int kBlock = 4;

inline void transposeBlock(const float* src, int64_t srcStep, float* dst, int64_t dstStep) {
  UNROLL for (int j = 0; j < kBlock; j++) {
    UNROLL for (int i = 0; i < kBlock; i++) dst[j * dstStep + i] = src[i * srcStep + j];
  }
}
#endif

// dst [k, width] = the transpose of src [cols, k], zeros in columns cols..width.
void packTransposed(const float* src, int64_t ld, int64_t k, int64_t cols, float* dst, int64_t width) {
  const int64_t wholeK = k / kBlock * kBlock;
  int64_t j = 0;
  for (; j + kBlock <= cols; j += kBlock) {
    const float* from = src + j * ld;
    for (int64_t p = 0; p < wholeK; p += kBlock) transposeBlock(from + p, ld, dst + p * width + j, width);
    for (int64_t p = wholeK; p < k; p++) {
      for (int i = 0; i < kBlock; i++) dst[p * width + j + i] = from[i * ld + p];
    }
  }
  for (; j < width; j++) {
    for (int64_t p = 0; p < k; p++) dst[p * width + j] = j < cols ? src[j * ld + p] : 0;
  }
}

// dst [k, width] = src [k, cols], zeros in columns cols..width.
void packCopied(const float* src, int64_t ld, int64_t k, int64_t cols, float* dst, int64_t width) {
  for (int64_t p = 0; p < k; p++) {
    int64_t j = 0;
    for (; j + kLanes <= cols; j += kLanes) store(dst + p * width + j, load(src + p * ld + j));
    if (j < width) store(dst + p * width + j, loadPartial(src + p * ld + j, static_cast<int>(cols - j)));
  }
}

// ---------------------------------------------------------------- the packing buffer

// One panel of B: it stays in the first-level cache while all rows pass over it.
constexpr int64_t kPanelDepth = 256;

// A thread that multiplies once usually goes on to, so it keeps its buffer.
struct PackBuffer {
  float* memory = nullptr;
  ~PackBuffer() { free(memory); }
};
thread_local PackBuffer packBuffer;

inline float* aligned(float* p) { return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof(float); }

// ---------------------------------------------------------------- blocked matmul

struct Matrices {
  bool transA, transB;
  int64_t m, n;
  float alpha;
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb;
  float* c;
  int64_t ldc;
};

// A panel of op(B) is reused by all rows: copying it pays from this many on, and spares cache conflicts.
constexpr int64_t kMinRowsToCopyB = 4 * kMaxTileRows;

// C = alpha * A[:, p0..p0+depth] B[p0..p0+depth, :] + beta * C.
void multiplyDepth(const Matrices& s, int64_t p0, int64_t depth, float beta, float* panel) {
  for (int64_t j = 0; j < s.n; j += kPanelCols) {
    const int64_t cols = least(kPanelCols, s.n - j), width = roundUp(cols, kLanes);
    TileArgs t;
    t.k = depth;
    t.a = s.a + (s.transA ? p0 * s.lda : p0);
    t.aRow = s.transA ? 1 : s.lda;
    t.aStep = s.transA ? s.lda : 1;
    t.c = s.c + j;
    t.ldc = s.ldc;
    t.alpha = s.alpha;
    t.beta = beta;
    t.b = panel;
    t.bStep = width;
    if (s.transB) {
      packTransposed(s.b + j * s.ldb + p0, s.ldb, depth, cols, panel, width);
    } else if (cols < width || s.m >= kMinRowsToCopyB) {
      packCopied(s.b + p0 * s.ldb + j, s.ldb, depth, cols, panel, width);
    } else {
      t.b = s.b + p0 * s.ldb + j;
      t.bStep = s.ldb;
    }
    multiplyPanel(t, s.m, cols);
  }
}

void multiplyBlocked(const Matrices& s, int64_t k, float beta) {
  constexpr int64_t kSmallDepth = 64;
  alignas(64) float small[kSmallDepth * kPanelCols];
  float* panel = small;
  int64_t maxDepth = kSmallDepth;
  if (k > kSmallDepth) {
    if (packBuffer.memory == nullptr) {
      packBuffer.memory = static_cast<float*>(malloc((kPanelDepth * kPanelCols + 16) * sizeof(float)));
    }
    if (packBuffer.memory != nullptr) {  // else the small one serves
      panel = aligned(packBuffer.memory);
      maxDepth = kPanelDepth;
    }
  }
  const int64_t blocks = (k + maxDepth - 1) / maxDepth;
  int64_t p = 0;
  for (int64_t i = 0; i < blocks; i++) {
    const int64_t depth = k / blocks + (i < k % blocks);
    multiplyDepth(s, p, depth, i == 0 ? beta : 1, panel);
    p += depth;
  }
}

// ---------------------------------------------------------------- dot products

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
#else
inline Quad sumsOf(Vf v0, Vf v1, Vf v2, Vf v3) { return Quad{hsum(v0), hsum(v1), hsum(v2), hsum(v3)}; }
#endif

// c[0..count] = alpha * sums + beta * c, count at most 4.
inline void updateQuad(float* c, Quad sums, float alpha, float beta, int count) {
  Quad value = sums * alpha;
  if (count == 4) {
    if (beta != 0) {
      Quad old;
      memcpy(&old, c, sizeof old);
      value += old * beta;
    }
    memcpy(c, &value, sizeof value);
    return;
  }
  for (int j = 0; j < count; j++) c[j] = beta == 0 ? value[j] : value[j] + beta * c[j];
}

// R rows of A by four rows of B, which all run along k. Where B has fewer left, its last one is repeated.
template <int R>
void dotTile(const Matrices& s, int64_t k, float beta, int64_t row, int64_t col) {
  const int count = static_cast<int>(least(4, s.n - col));
  const float* a = s.a + row * s.lda;
  const float* b[4];
  UNROLL for (int j = 0; j < 4; j++) b[j] = s.b + (col + least(j, count - 1)) * s.ldb;
  Vf sums[R][4];
  UNROLL for (int i = 0; i < R; i++) {
    UNROLL for (int j = 0; j < 4; j++) sums[i][j] = Vf{};
  }
  int64_t p = 0;
  for (; p + kLanes <= k; p += kLanes) {
    Vf right[4];
    UNROLL for (int j = 0; j < 4; j++) right[j] = load(b[j] + p);
    UNROLL for (int i = 0; i < R; i++) {
      const Vf left = load(a + i * s.lda + p);
      UNROLL for (int j = 0; j < 4; j++) sums[i][j] = fma(left, right[j], sums[i][j]);
    }
  }
  if (p < k) {
    const int lanes = static_cast<int>(k - p);
    UNROLL for (int j = 0; j < 4; j++) {
      const Vf right = loadPartial(b[j] + p, lanes);
      UNROLL for (int i = 0; i < R; i++) {
        sums[i][j] = fma(loadPartial(a + i * s.lda + p, lanes), right, sums[i][j]);
      }
    }
  }
  UNROLL for (int i = 0; i < R; i++) {
    const Quad quad = sumsOf(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
    updateQuad(s.c + (row + i) * s.ldc + col, quad, s.alpha, beta, count);
  }
}

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kDotRows = 4;
#else
constexpr int kDotRows = 2;
#endif

void multiplyByDots(const Matrices& s, int64_t k, float beta) {
  for (int64_t col = 0; col < s.n; col += 4) {
    int64_t row = 0;
    for (; row + kDotRows <= s.m; row += kDotRows) dotTile<kDotRows>(s, k, beta, row, col);
    const int64_t left = s.m - row;
    if (left == 1) dotTile<1>(s, k, beta, row, col);
    if (left == 2) dotTile<2>(s, k, beta, row, col);
    if (left == 3) dotTile<3>(s, k, beta, row, col);
  }
}

// Dot products spare the packing of B, and pay with a sum over lanes for each element of C: they win where there are
// few rows or columns, and, when k is long enough to make that sum cheap, some more rows (measured on AVX-512, AVX2).
bool dotsWin(const Matrices& s, int64_t k) {
  return s.m <= 4 || s.n <= (kLanes < 8 ? 4 : kLanes / 2) || (s.m <= 16 && k >= 16 * kLanes);
}

// ---------------------------------------------------------------- one row by a matrix that runs along n

// c = alpha * a B + beta * c, four rows of B at a time.
void multiplyRow(const Matrices& s, int64_t k, float beta) {
  const int64_t aStep = s.transA ? s.lda : 1;
  for (int64_t p = 0; p < k; p += 4) {
    const int64_t rows = least(4, k - p);
    float factors[4];
    for (int64_t i = 0; i < rows; i++) factors[i] = s.alpha * s.a[(p + i) * aStep];
    const float* b = s.b + p * s.ldb;
    const float scale = p == 0 ? beta : 1;
    for (int64_t j = 0; j < s.n; j += kLanes) {
      const int lanes = static_cast<int>(least(kLanes, s.n - j));
      Vf sum = Vf{};
      for (int64_t i = 0; i < rows; i++) {
        const Vf row = lanes == kLanes ? load(b + i * s.ldb + j) : loadPartial(b + i * s.ldb + j, lanes);
        sum = fma(row, set1(factors[i]), sum);
      }
      update(s.c + j, sum, 1, scale, lanes);
    }
  }
}

void scaleMatrix(int64_t m, int64_t n, float beta, float* c, int64_t ldc) {
  for (int64_t i = 0; i < m; i++) {
    float* row = c + i * ldc;
    if (beta == 0) {
      memset(row, 0, static_cast<size_t>(n) * sizeof(float));
    } else {
      for (int64_t j = 0; j < n; j++) row[j] *= beta;
    }
  }
}

}  // namespace

void sgemm(bool transA, bool transB, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
           const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (k == 0 || alpha == 0) return scaleMatrix(m, n, beta, c, ldc);
  // A single column that is dense in memory is as good as a row.
  if (transA && m == 1 && lda == 1) {
    transA = false;
    lda = k;
  }
  if (!transB && n == 1 && ldb == 1) {
    transB = true;
    ldb = k;
  }
  const Matrices s{transA, transB, m, n, alpha, a, lda, b, ldb, c, ldc};
  if (!transA && transB && dotsWin(s, k)) return multiplyByDots(s, k, beta);
  if (!transB && m == 1) return multiplyRow(s, k, beta);
  multiplyBlocked(s, k, beta);
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
