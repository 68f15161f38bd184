// Matmuls large enough to pack both operands (Goto & van de Geijn 2008): the packing, and the product of packed blocks.
// ../gemm_large.cc cuts the matrices into blocks and says which thread packs and multiplies which.
//
// A packed block of op(A) is a row of panels of kRows rows, each [depth, kRows]; one of op(B) a row of panels of
// kPanelCols columns, each [depth, kPanelCols]. The last panel is laid out like the others; its elements beyond
// the matrix are zero, or never read.
#include "internal.h"
#include "sgemm_pack.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

constexpr int kRows = kTileRows[kPanelVectors];

// Each block of the depth passes once over C, which comes from a far cache or memory, so few passes are fastest even
// though a panel of B is then larger than the first-level cache.
constexpr int64_t kDepth = 512;

// ---------------------------------------------------------------- the register tile

struct PackedTile {
  int64_t depth;
  const float* a;
  const float* b;
  float* c;
  int64_t ldc;
  int64_t cols;  // columns of C that exist, 1..kPanelCols
  float alpha, beta;
  const float* next;  // memory that is read soon: one cache line of it is fetched every fourth step
};

template <int R>
inline void step(Vf (&sums)[R][kPanelVectors], const float* a, const float* b) {
  Vf row[kPanelVectors];
  UNROLL for (int j = 0; j < kPanelVectors; j++) row[j] = load(b + j * kLanes);
  UNROLL for (int i = 0; i < R; i++) {
    const Vf factor = set1(a[i]);
    UNROLL for (int j = 0; j < kPanelVectors; j++) sums[i][j] = fma(row[j], factor, sums[i][j]);
  }
}

template <int R>
inline void addToC(const PackedTile& t, const Vf (&sums)[R][kPanelVectors]) {
  if (t.cols > kLanes) {
    const int lanes = static_cast<int>(t.cols - kLanes);
    UNROLL for (int i = 0; i < R; i++) {
      update(t.c + i * t.ldc, sums[i][0], t.alpha, t.beta, kLanes);
      update(t.c + i * t.ldc + kLanes, sums[i][1], t.alpha, t.beta, lanes);
    }
  } else {
    const int lanes = static_cast<int>(t.cols);
    UNROLL for (int i = 0; i < R; i++) update(t.c + i * t.ldc, sums[i][0], t.alpha, t.beta, lanes);
  }
}

template <int R>
void packedTile(const PackedTile& t) {
  Vf sums[R][kPanelVectors];
  UNROLL for (int i = 0; i < R; i++) {
    UNROLL for (int j = 0; j < kPanelVectors; j++) sums[i][j] = Vf{};
  }
  const float* a = t.a;
  const float* b = t.b;
  int64_t p = 0;
  // C is needed at the end. Prefetching it row by row doesn't delay the loads of the panels.
  const float* c = t.c;
  for (; p < R && p < t.depth; p++, a += kRows, b += kPanelCols, c += t.ldc) {
    __builtin_prefetch(c, 1);
    __builtin_prefetch(c + t.cols - 1, 1);
    step<R>(sums, a, b);
  }
  const float* next = t.next;
  for (; p + 4 <= t.depth; p += 4, next += 16) {
    __builtin_prefetch(next, 0, 2);
    for (int u = 0; u < 4; u++, a += kRows, b += kPanelCols) step<R>(sums, a, b);
  }
  for (; p < t.depth; p++, a += kRows, b += kPanelCols) step<R>(sums, a, b);
  addToC<R>(t, sums);
}

using PackedTileFn = void (*)(const PackedTile&);

// The tile for each number of rows.
const PackedTileFn kPackedTiles[kRows + 1] = {
    nullptr,        packedTile<1>,  packedTile<2>,  packedTile<3>,  packedTile<4>,
#if !defined(__wasm_simd128__)
    packedTile<5>,  packedTile<6>,
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
    packedTile<7>,  packedTile<8>,  packedTile<9>,  packedTile<10>, packedTile<11>,
    packedTile<12>, packedTile<13>, packedTile<14>,
#endif
};

// ---------------------------------------------------------------- packing

// Rows of the source that are copied to all panels before the next rows, so that address translation keeps their pages.
constexpr int64_t kCopiedRows = 8;

// Stores the first n lanes. If the next step of the panel is packed later, all of them, which end within it: Zen 3 takes a
// dozen cycles for a store of some lanes.
inline void storeRest(float* to, Vf rest, int n, bool hasNext) {
  if (hasNext) return store(to, rest);
  storePartial(to, rest, n);
}

void packRowsCopied(const float* a, int64_t lda, int64_t depth, int64_t rows, float* packed, int64_t stride) {
  for (int64_t p0 = 0; p0 < depth; p0 += kCopiedRows) {
    const int64_t end = minOf(depth, p0 + kCopiedRows);
    for (int64_t i = 0; i < rows; i += kRows) {
      const int count = static_cast<int>(minOf(kRows, rows - i));
      for (int64_t p = p0; p < end; p++) {
        const float* from = a + p * lda + i;
        float* to = packed + i / kRows * stride + p * kRows;
        int j = 0;
        for (; j + kLanes <= count; j += kLanes) store(to + j, load(from + j));
        if (j < count) storeRest(to + j, loadPartial(from + j, count - j), count - j, p + 1 < depth);
      }
    }
  }
}

void packColumnsCopied(const float* b, int64_t ldb, int64_t depth, int64_t cols, float* packed, int64_t stride) {
  for (int64_t p = 0; p < depth; p += kCopiedRows) {
    for (int64_t j = 0; j < cols; j += kPanelCols) {
      packCopied(b + p * ldb + j, ldb, minOf(kCopiedRows, depth - p), minOf(kPanelCols, cols - j),
                 packed + j / kPanelCols * stride + p * kPanelCols, kPanelCols);
    }
  }
}

#if defined(__AVX512F__)
constexpr int kSquare = 16;

// out[j][i] = src[i*step + j] for i, j < 16. If there are fewer than 16 rows, the last one is repeated.
inline void transposeSquare(const float* src, int64_t step, int rows, __m512 (&out)[16]) {
  __m512 r[16], pairs[16];
  UNROLL for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(src + (i < rows ? i : rows - 1) * step);
  UNROLL for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  // Then lane 4*q + i of r[4*g + j] is element 4*q + j of row 4*g + i.
  UNROLL for (int i = 0; i < 16; i += 4) {
    UNROLL for (int h = 0; h < 2; h++) {
      const __m512d low = _mm512_castps_pd(pairs[i + h]), high = _mm512_castps_pd(pairs[i + 2 + h]);
      r[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      r[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  UNROLL for (int j = 0; j < 4; j++) {
    const __m512 even0 = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88), odd0 = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd);
    const __m512 even1 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);
    const __m512 odd1 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
    out[j] = _mm512_shuffle_f32x4(even0, even1, 0x88);
    out[8 + j] = _mm512_shuffle_f32x4(even0, even1, 0xdd);
    out[4 + j] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
    out[12 + j] = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
  }
}

inline void transposeRows(const float* src, int64_t step, int rows, float* dst) {
  __m512 columns[16];
  transposeSquare(src, step, rows, columns);
  UNROLL for (int j = 0; j < 16; j++) storePartial(dst + j * kRows, columns[j], kRows);
}
#elif defined(__AVX2__)
constexpr int kSquare = 8;

// dst[j*kRows + i] = src[i*step + j] for i < kRows, j < 8. If there are fewer than kRows rows, the last one is repeated.
inline void transposeRows(const float* src, int64_t step, int rows, float* dst) {
  static_assert(kRows == 6, "four lanes and two");
  const auto rowOf = [=](int i) { return src + (i < rows ? i : rows - 1) * step; };
  transposeEight(rowOf, [=](int j, __m256 lanes) {
    float* const to = dst + j * kRows;
    if (j + 1 < kSquare) return store(to, lanes);  // the next j is stored over the end
    _mm_storeu_ps(to, _mm256_castps256_ps128(lanes));
    _mm_storel_pi(reinterpret_cast<__m64*>(to + 4), _mm256_extractf128_ps(lanes, 1));
  });
}
#else
constexpr int kSquare = kTransposeBlock;

// dst[j*kRows + i] = src[i*step + j] for i < rows, j < kSquare.
inline void transposeRows(const float* src, int64_t step, int rows, float* dst) {
  int i = 0;
  for (; i + kTransposeBlock <= rows; i += kTransposeBlock) transposeBlock(src + i * step, step, dst + i, kRows);
  for (; i < rows; i++) {
    for (int j = 0; j < kSquare; j++) dst[j * kRows + i] = src[i * step + j];
  }
}
#endif

void packRowsTransposed(const float* a, int64_t lda, int64_t depth, int64_t rows, float* packed, int64_t stride) {
  for (int64_t i = 0; i < rows; i += kRows) {
    const int count = static_cast<int>(minOf(kRows, rows - i));
    const float* from = a + i * lda;
    float* to = packed + i / kRows * stride;
    int64_t p = 0;
    for (; p + kSquare <= depth; p += kSquare) transposeRows(from + p, lda, count, to + p * kRows);
    for (; p < depth; p++) {
      for (int r = 0; r < count; r++) to[p * kRows + r] = from[r * lda + p];
    }
  }
}

void packColumnsTransposed(const float* b, int64_t ldb, int64_t depth, int64_t cols, float* packed, int64_t stride) {
  for (int64_t j = 0; j < cols; j += kPanelCols) {
    packTransposed(b + j * ldb, ldb, depth, minOf(kPanelCols, cols - j), packed + j / kPanelCols * stride, kPanelCols);
  }
}

void packRows(bool alongDepth, int64_t depth, int64_t rows, const float* a, int64_t lda, float* packed,
              int64_t stride, int64_t) {
  (alongDepth ? packRowsTransposed : packRowsCopied)(a, lda, depth, rows, packed, stride);
}

void packColumns(bool alongDepth, int64_t depth, int64_t cols, const float* b, int64_t ldb, float* packed,
                 int64_t stride, int64_t) {
  (alongDepth ? packColumnsTransposed : packColumnsCopied)(b, ldb, depth, cols, packed, stride);
}

// ---------------------------------------------------------------- operands rounded to bfloat16

// Rounds panels that were just packed and still lie in the caches.
void roundPanels(int64_t panels, int64_t floats, float* packed, int64_t stride) {
  for (int64_t i = 0; i < panels; i++, packed += stride) {
    forVectors(floats, [=](auto place, int64_t p) { place.store(packed + p, (Vf)roundedBfloat16(place.load(packed + p))); });
  }
}

void packRoundedRows(bool alongDepth, int64_t depth, int64_t rows, const float* a, int64_t lda, float* packed,
                     int64_t stride, int64_t at) {
  packRows(alongDepth, depth, rows, a, lda, packed, stride, at);
  roundPanels(ceilDiv(rows, kRows), depth * kRows, packed, stride);
}

void packRoundedColumns(bool alongDepth, int64_t depth, int64_t cols, const float* b, int64_t ldb, float* packed,
                        int64_t stride, int64_t at) {
  packColumns(alongDepth, depth, cols, b, ldb, packed, stride, at);
  roundPanels(ceilDiv(cols, kPanelCols), depth * kPanelCols, packed, stride);
}

// ---------------------------------------------------------------- the product

void multiply(const PackedProduct& s) {
  const int64_t nextPerTile = s.depth / 4 * 16;
  const auto tile = [&](int64_t i, int64_t j, const float* next) {
    const int64_t rows = minOf(kRows, s.rows - i), cols = minOf(kPanelCols, s.cols - j);
    kPackedTiles[rows]({s.depth, s.a + i / kRows * s.aStride, s.b + j / kPanelCols * s.bStride, s.c + i * s.ldc + j,
                        s.ldc, cols, s.alpha, s.beta, next});
  };
  // The panel of the outer loop stays in the first or second level of the cache, the block of the inner one in the
  // second. The next panel of the outer loop is fetched meanwhile.
  if (s.rows <= s.cols) {
    for (int64_t j = 0; j < s.cols; j += kPanelCols) {
      const float* next = s.b + (j / kPanelCols + 1) * s.bStride;
      for (int64_t i = 0; i < s.rows; i += kRows, next += nextPerTile) tile(i, j, next);
    }
  } else {
    for (int64_t i = 0; i < s.rows; i += kRows) {
      const float* next = s.a + (i / kRows + 1) * s.aStride;
      for (int64_t j = 0; j < s.cols; j += kPanelCols, next += nextPerTile) tile(i, j, next);
    }
  }
}

}  // namespace

// Measured beside the tiles of ../gemm.cc on cubes and the shapes of small models: 64 x 1024 x 256 is where neither
// wins on AVX-512, 64 x 2048 x 512 on AVX2. Packing gains most for a transposed A: in place, each step along the depth
// reads another line. Without wide vectors the rest is 10 % slower at any size; NEON was not measured.
#if defined(__AVX512F__)
constexpr double kMinProducts = 1 << 24, kMinProductsTransA = 1 << 24;
#elif defined(__AVX2__)
constexpr double kMinProducts = 1 << 26, kMinProductsTransA = 1 << 24;
#else
constexpr double kMinProducts = 1e300, kMinProductsTransA = 1 << 25;
#endif

constexpr int64_t kMinSide = 64;

extern const PanelKernels kPanelKernels;
const PanelKernels kPanelKernels = {kRows, kPanelCols, kDepth, kMinProducts, kMinProductsTransA, packRows, packColumns,
                                    multiply, kRows, kPanelCols, 1, 0, kMinSide, nullptr};

extern const PanelKernels kRoundedPanelKernels;
const PanelKernels kRoundedPanelKernels = {kRows, kPanelCols, kDepth, 0, 0, packRoundedRows, packRoundedColumns,
                                           multiply, kRows, kPanelCols, 1, 0, 0, nullptr};

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
