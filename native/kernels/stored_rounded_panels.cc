// Rounded activations by block types for many rows: weights are taken apart once into panels of bytes, which pass by all rows
// of activations in register tiles. Only where bytes are multiplied and added in one instruction.
#include "sgemm_pack.h"
#include "stored_quants.h"
#include "stored_rounded.h"

#if defined(__AVX512VNNI__)

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

constexpr int kWidth = 2 * kLanes;  // rows of weights in a panel
constexpr int kRows = 6;             // of activations in a tile: with two vectors of weights 12 sums of bytes, 12 of floats
constexpr int64_t kDepth = 1024;  // numbers of a row in a panel, so that it stays in the second cache, mostly in the first
constexpr int64_t kStagedStride = kDepth + 64;  // rows a power of two apart would share few lines of the cache

// A panel in parts of 32 numbers (16 for q6_k): `q` in steps of four numbers, [depth / 4][kWidth][4], and for each part the
// scales and what is added for each sum of activations, [parts][kWidth].
struct Panel {
  uint8_t* q;
  float* scale;
  float* minimum;
};

// Memory for a panel, and for the bytes of kLanes rows as they come from blocks.
constexpr int64_t kQuantBytes = kDepth * kWidth, kStagedBytes = kStagedStride * kLanes;
constexpr int64_t kScaleFloats = kDepth / 16 * kWidth;

// ---------------------------------------------------------------- from blocks to panels

// The numbers of a row [depth], and its lane of the scales and minima.
using UnpackFn = void (*)(const uint8_t* p, int64_t depth, uint8_t* q, float* scale, float* minimum);

template <class T>
void unpack(const uint8_t* p, int64_t depth, uint8_t* q, float* scale, float* minimum) {
  for (int64_t k = 0; k < depth; k += 32, p += T::kBytes) {
    _mm_prefetch((const char*)p + kPrefetchBytes, _MM_HINT_T0);
    _mm256_storeu_si256((__m256i*)(q + k), T::q(p));
    const float d = halfAt(p);
    scale[k / 32 * kWidth] = d;
    minimum[k / 32 * kWidth] = T::kMinimum ? halfAt(p + 2) : (float)-T::kZero * d;
  }
}

template <bool kFiveBits>
void unpackWithMinima(const uint8_t* p, int64_t depth, uint8_t* q, float* scale, float* minimum) {
  constexpr int kBytes = kFiveBits ? 176 : 144;
  for (int64_t k = 0; k < depth; k += 256, p += kBytes) {
    for (int line = 0; line < kBytes; line += 64) _mm_prefetch((const char*)p + kPrefetchBytes + line, _MM_HINT_T0);
    __m256 scales, minima;
    scalesOf6Bits(p + 4, &scales, &minima);
    scales = _mm256_mul_ps(scales, _mm256_set1_ps(halfAt(p)));
    minima = _mm256_mul_ps(minima, _mm256_set1_ps(-halfAt(p + 2)));
    for (int i = 0; i < 8; i++) {
      scale[(k / 32 + i) * kWidth] = scales[i];
      minimum[(k / 32 + i) * kWidth] = minima[i];
    }
    const uint8_t* const quants = p + (kFiveBits ? 48 : 16);
    const __m256i bits = kFiveBits ? load32(p + 16) : _mm256_setzero_si256();
    __m256i pairs[8];
    quantsOfPair<kFiveBits, 0>(quants, bits, pairs, pairs + 1);
    quantsOfPair<kFiveBits, 1>(quants, bits, pairs + 2, pairs + 3);
    quantsOfPair<kFiveBits, 2>(quants, bits, pairs + 4, pairs + 5);
    quantsOfPair<kFiveBits, 3>(quants, bits, pairs + 6, pairs + 7);
    UNROLL for (int i = 0; i < 8; i++) _mm256_storeu_si256((__m256i*)(q + k) + i, pairs[i]);
  }
}

void unpackOf6Bits(const uint8_t* p, int64_t depth, uint8_t* q, float* scale, float* minimum) {
  constexpr int kBytes = 210;
  for (int64_t k = 0; k < depth; k += 256, p += kBytes) {
    for (int line = 0; line < kBytes; line += 64) _mm_prefetch((const char*)p + kPrefetchBytes + line, _MM_HINT_T0);
    const float d = halfAt(p + 208);
    for (int i = 0; i < 16; i++) {
      const float step = d * (float)(int8_t)p[192 + i];
      scale[(k / 16 + i) * kWidth] = step;
      minimum[(k / 16 + i) * kWidth] = -32 * step;
    }
    for (int half = 0; half < 2; half++) {
      const __m256i low = load32(p + 64 * half), next = load32(p + 64 * half + 32), bits = load32(p + 128 + 32 * half);
      __m256i* const to = (__m256i*)(q + k + 128 * half);
      _mm256_storeu_si256(to, quantsOf6Bits<0>(low, bits));
      _mm256_storeu_si256(to + 1, quantsOf6Bits<1>(next, bits));
      _mm256_storeu_si256(to + 2, quantsOf6Bits<2>(low, bits));
      _mm256_storeu_si256(to + 3, quantsOf6Bits<3>(next, bits));
    }
  }
}

struct BlockType {
  int64_t elements, bytes;  // of a block
  int partSteps;            // steps of four numbers that share a scale
  UnpackFn unpack;
};

BlockType blockTypeOf(StorageType type) {
  switch (type) {
    case StorageType::q4_0: return {32, 18, 8, unpack<Q4_0>};
    case StorageType::q4_1: return {32, 20, 8, unpack<Q4_1>};
    case StorageType::q5_0: return {32, 22, 8, unpack<Q5_0>};
    case StorageType::q5_1: return {32, 24, 8, unpack<Q5_1>};
    case StorageType::q8_0: return {32, 34, 8, unpack<Q8_0>};
    case StorageType::q4_k: return {256, 144, 8, unpackWithMinima<false>};
    case StorageType::q5_k: return {256, 176, 8, unpackWithMinima<true>};
    default: return {256, 210, 4, unpackOf6Bits};  // q6_k: floats are never rounded
  }
}

// The panel of `rows` rows; lanes beyond them hold anything.
void pack(UnpackFn unpack, const uint8_t* w, int64_t rowBytes, int64_t rows, int64_t depth, uint8_t* staged, const Panel& panel) {
  for (int64_t first = 0; first < rows; first += kLanes) {
    for (int64_t i = first; i < minOf(rows, first + kLanes); i++) {
      unpack(w + i * rowBytes, depth, staged + (i - first) * kStagedStride, panel.scale + i, panel.minimum + i);
    }
    // Four bytes are moved as a float.
    transposeSixteen((const float*)staged, kStagedStride / 4, depth / 4, (float*)panel.q + first, kWidth);
  }
}

// ---------------------------------------------------------------- the register tile

// Rounded rows of activations from a tile's first one on, `stride` bytes apart.
struct Left {
  const uint8_t* q;
  const uint8_t* d;
  const uint8_t* sum;
  int64_t stride;
};

inline __m512i fourOf(const uint8_t* p) {
  int32_t bytes;
  memcpy(&bytes, p, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}
inline __m512 floatOf(const uint8_t* p) {
  float value;
  memcpy(&value, p, sizeof value);
  return _mm512_set1_ps(value);
}

// sums [kRows][kWidth] = the products of kRows rows and a panel.
template <int kSteps>
void tile(const Left& x, const Panel& panel, int64_t depth, float* sums) {
  constexpr int kPart = 4 * kSteps;
  __m512 total[kRows][2];
  UNROLL for (int i = 0; i < kRows; i++) total[i][0] = total[i][1] = _mm512_setzero_ps();
  const uint8_t* w = panel.q;
  for (int64_t part = 0; part < depth / kPart; part++) {
    __m512i dots[kRows][2];
    UNROLL for (int i = 0; i < kRows; i++) dots[i][0] = dots[i][1] = _mm512_setzero_si512();
    const uint8_t* const q = x.q + part * kPart;
    UNROLL for (int step = 0; step < kSteps; step++, w += 4 * kWidth) {
      const __m512i left = _mm512_load_si512(w), right = _mm512_load_si512(w + 64);
      UNROLL for (int i = 0; i < kRows; i++) {
        const __m512i four = fourOf(q + i * x.stride + 4 * step);
        dots[i][0] = _mm512_dpbusd_epi32(dots[i][0], left, four);
        dots[i][1] = _mm512_dpbusd_epi32(dots[i][1], right, four);
      }
    }
    const uint8_t *const d = x.d + part * kPart / 32 * 4, *const sum = x.sum + part * 4;
    UNROLL for (int j = 0; j < 2; j++) {
      const __m512 scale = _mm512_load_ps(panel.scale + part * kWidth + j * kLanes);
      const __m512 minimum = _mm512_load_ps(panel.minimum + part * kWidth + j * kLanes);
      UNROLL for (int i = 0; i < kRows; i++) {
        const __m512 step = _mm512_mul_ps(scale, floatOf(d + i * x.stride));
        total[i][j] = _mm512_fmadd_ps(minimum, floatOf(sum + i * x.stride), total[i][j]);
        total[i][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[i][j]), step, total[i][j]);
      }
    }
  }
  UNROLL for (int i = 0; i < kRows; i++) {
    UNROLL for (int j = 0; j < 2; j++) _mm512_storeu_ps(sums + i * kWidth + j * kLanes, total[i][j]);
  }
}

void multiply(const StoredProduct& s, const uint8_t* x, uint8_t* memory) {
  const BlockType type = blockTypeOf(s.type);
  float* const scales = (float*)(memory + kQuantBytes);
  const Panel panel = {memory, scales, scales + kScaleFloats};
  uint8_t* const staged = (uint8_t*)(scales + 2 * kScaleFloats);
  const int64_t stride = roundedBytes(s.cols);
  for (int64_t n = 0; n < s.n; n += kWidth) {
    const int64_t cols = minOf(kWidth, s.n - n);
    for (int64_t k = 0; k < s.cols; k += kDepth) {
      const int64_t depth = minOf(kDepth, s.cols - k);
      const uint8_t* const w = s.w + n * s.rowBytes + k / type.elements * type.bytes;
      pack(type.unpack, w, s.rowBytes, cols, depth, staged, panel);
      for (int64_t i = 0; i < s.m; i += kRows) {
        float sums[kRows * kWidth];
        const RoundedRow row = roundedRow(x + i * stride, s.cols);
        const float* const sum = type.partSteps == 8 ? row.dSum + k / 32 : row.dSum16 + k / 16;
        const Left left = {(const uint8_t*)(row.q + k), (const uint8_t*)(row.d + k / 32), (const uint8_t*)sum, stride};
        (type.partSteps == 8 ? tile<8> : tile<4>)(left, panel, depth, sums);
        updateRows(sums, kWidth, minOf(kRows, s.m - i), cols, s.alpha, k == 0 ? s.beta : 1, s.y + i * s.ldy + n, s.ldy);
      }
    }
  }
}

}  // namespace

const RoundedPanels kRoundedPanels = {
    kRows, kQuantBytes + 2 * kScaleFloats * (int64_t)sizeof(float) + kStagedBytes, 16, multiply};

}  // namespace SGEMOE_ISA
}  // namespace sgemoe

#endif
