// Packing for a matrix unit (../tile_layout.h), and what becomes of its sums.
#if !defined(__wasm__)  // nothing there has such a unit
#include "../tile_layout.h"
#include "internal.h"
#include "pair_products.h"
#include "sgemm_tile.h"
#include "transpose.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));

// ---------------------------------------------------------------- splitting

template <int kParts>
inline void split(Vf x, Vu (&parts)[kParts]) {
  parts[0] = roundedBfloat16(x);
  if (kParts == 1) return;
  Vf rest = x - (Vf)parts[0];
  parts[1] = roundedBfloat16(rest);
  rest -= (Vf)parts[1];
  parts[kParts - 1] = (Vu)rest & 0xffff0000u;
}

// The range of the numbers that pass.
struct Range {
  Vu least = ~Vu{}, most = Vu{};

  void add(Vf x) {
    const Vu magnitude = (Vu)x & 0x7fffffffu;
    const Vu below = magnitude - 1u;  // 0 becomes the largest number
    most = magnitude > most ? magnitude : most;
    least = below < least ? below : least;
  }

  // Adds itself to the range in front of a panel, which begins with its first steps.
  void addTo(float* header, bool first) const {
    TileRange range = {UINT32_MAX, 0};
    if (!first) memcpy(&range, header, sizeof range);
    for (int i = 0; i < kLanes; i++) {
      if (least[i] < range.least) range.least = least[i];
      if (most[i] > range.most) range.most = most[i];
    }
    memcpy(header, &range, sizeof range);
  }
};

// Tiles of each part are 2 * kTileFloats apart, a panel's other half lying between them.
constexpr int64_t kPartDistance = 2 * kTileFloats;

// A tile of op(A) for each part from x [16 rows, 32 steps].
template <int kParts>
inline void splitRows(const float* x, int64_t ld, float* tiles, Range& range) {
  for (int64_t i = 0; i < kTileSide; i++) {
    for (int64_t p = 0; p < kTileSteps; p += kLanes) {
      const Vf value = load(x + i * ld + p);
      range.add(value);
      Vu parts[kParts];
      split(value, parts);
      for (int part = 0; part < kParts; part++) {
        const Halves halves = __builtin_convertvector(parts[part] >> 16, Halves);
        memcpy((char*)(tiles + part * kPartDistance + i * kTileSide) + 2 * p, &halves, sizeof halves);
      }
    }
  }
}

// A tile of op(B) for each part from x [32 steps, 16 columns].
template <int kParts>
inline void splitColumns(const float* x, int64_t ld, float* tiles, Range& range) {
  for (int64_t pair = 0; pair < kTileSteps / 2; pair++) {
    for (int64_t j = 0; j < kTileSide; j += kLanes) {
      const Vf even = load(x + 2 * pair * ld + j), odd = load(x + (2 * pair + 1) * ld + j);
      range.add(even);
      range.add(odd);
      Vu low[kParts], high[kParts];
      split(even, low);
      split(odd, high);
      for (int part = 0; part < kParts; part++) {
        const Vu words = low[part] >> 16 | high[part];
        memcpy(tiles + part * kPartDistance + pair * kTileSide + j, &words, sizeof words);
      }
    }
  }
}

// ---------------------------------------------------------------- packing

// dst [rows, cols] = the first `count` rows and `width` columns of src, zeros beyond.
inline void copyPadded(const float* src, int64_t ld, int64_t count, int64_t width, int64_t rows, int64_t cols, float* dst) {
  for (int64_t i = 0; i < rows; i++, dst += cols) {
    const int64_t there = i < count ? width : 0;
    if (there > 0) memcpy(dst, src + i * ld, (size_t)there * sizeof(float));
    for (int64_t j = there; j < cols; j++) dst[j] = 0;
  }
}

constexpr int64_t kBlock = kTileSide * kTileSteps;

// The tiles of `lines` rows of op(A), or columns of op(B), over `steps` of the depth. alongDepth: src is [lines, steps], else
// [steps, lines].
template <int kParts, bool kRows>
void packTiles(bool alongDepth, const float* src, int64_t ld, int64_t lines, int64_t steps, float* tiles, Range& range) {
  alignas(64) float padded[kBlock], turned[kBlock];
  const int64_t height = alongDepth ? kTileSide : kTileSteps, width = kBlock / height;
  if (lines < kTileSide || steps < kTileSteps) {
    copyPadded(src, ld, alongDepth ? lines : steps, alongDepth ? steps : lines, height, width, padded);
    src = padded;
    ld = width;
  }
  if (alongDepth != kRows) {
    transpose(src, ld, height, width, turned, height);
    src = turned;
    ld = height;
  }
  if (kRows) {
    splitRows<kParts>(src, ld, tiles, range);
  } else {
    splitColumns<kParts>(src, ld, tiles, range);
  }
}

// `count` rows or columns, panels `stride` apart; `packed` is where step `at` of the first panel lies.
template <int kParts, bool kRows>
void pack(bool alongDepth, int64_t depth, int64_t count, const float* src, int64_t ld, float* packed, int64_t stride,
          int64_t at) {
  const int64_t along = alongDepth ? 1 : ld, across = alongDepth ? ld : 1;
  for (int64_t line = 0; line < count; line += kTilePanel, packed += stride) {
    Range range;
    float* tiles = packed;
    for (int64_t p = 0; p < depth; p += kTileSteps, tiles += kParts * kPartDistance) {
      for (int64_t half = 0; half < 2; half++) {
        const int64_t first = line + half * kTileSide, lines = minOf(kTileSide, count - first);
        if (lines <= 0) continue;  // never read
        packTiles<kParts, kRows>(alongDepth, src + first * across + p * along, ld, lines, minOf(kTileSteps, depth - p),
                                 tiles + half * kTileFloats, range);
      }
    }
    range.addTo(packed - at * tileStepFloats(kParts) - kTileHeader, at == 0);
  }
}

// ---------------------------------------------------------------- sums [rows, cols], kTilePanel apart

float leastMagnitude(const float* sums, int64_t rows, int64_t cols) {
  float least = INFINITY;
  for (int64_t i = 0; i < rows; i++, sums += kTilePanel) {
    for (int64_t j = 0; j < cols; j++) least = fabsf(sums[j]) < least ? fabsf(sums[j]) : least;
  }
  return least;
}

// C = alpha * sums + beta * C.
void updateC(const float* sums, int64_t rows, int64_t cols, float alpha, float beta, float* c, int64_t ldc) {
  updateRows(sums, kTilePanel, rows, cols, alpha, beta, c, ldc);
}

}  // namespace

extern const TileKernels kTileKernels;
const TileKernels kTileKernels = {pack<kSplitParts, true>, pack<kSplitParts, false>, pack<1, true>, pack<1, false>,
                                  leastMagnitude,          updateC,                  multiplyPairs};

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
#endif
