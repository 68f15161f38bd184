// Numbers from stored blocks, as ggml's format defines them. A float16 scale times small integers is exact in float32, so
// adding the minimum is the only rounding: fused or not, the bits are the same everywhere.
#include "stored_blocks.h"

namespace sgemoe {
namespace SGEMOE_ISA {

namespace {

void widenFloat32(const uint8_t* p, float* out, int64_t n) { memcpy(out, p, (size_t)n * sizeof(float)); }

void widenBfloat16(const uint8_t* p, float* out, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    uint16_t half;
    memcpy(&half, p + 2 * i, 2);
    const uint32_t bits = (uint32_t)half << 16;
    memcpy(out + i, &bits, 4);
  }
}

void widenFloat16(const uint8_t* p, float* out, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 2 * i))));
#endif
  for (; i < n; i++) out[i] = halfAt(p + 2 * i);
}

void widenQ4_0(const uint8_t* p, float* out) {
  const float d = halfAt(p);
  for (int i = 0; i < 16; i++) {
    out[i] = d * (float)((p[2 + i] & 15) - 8);
    out[16 + i] = d * (float)((p[2 + i] >> 4) - 8);
  }
}

void widenQ4_1(const uint8_t* p, float* out) {
  const float d = halfAt(p), m = halfAt(p + 2);
  for (int i = 0; i < 16; i++) {
    out[i] = d * (float)(p[4 + i] & 15) + m;
    out[16 + i] = d * (float)(p[4 + i] >> 4) + m;
  }
}

// The 32 quotients of 5 bits: bit 4 of number i is bit i of the word, 4 bits lie in the bytes behind it.
inline void fiveBits(const uint8_t* p, int* q) {
  uint32_t high;
  memcpy(&high, p, 4);
  for (int i = 0; i < 16; i++) {
    q[i] = (p[4 + i] & 15) | (int)((high >> i & 1) << 4);
    q[16 + i] = (p[4 + i] >> 4) | (int)((high >> (16 + i) & 1) << 4);
  }
}

void widenQ5_0(const uint8_t* p, float* out) {
  const float d = halfAt(p);
  int q[32];
  fiveBits(p + 2, q);
  for (int i = 0; i < 32; i++) out[i] = d * (float)(q[i] - 16);
}

void widenQ5_1(const uint8_t* p, float* out) {
  const float d = halfAt(p), m = halfAt(p + 2);
  int q[32];
  fiveBits(p + 4, q);
  for (int i = 0; i < 32; i++) out[i] = d * (float)q[i] + m;
}

void widenQ8_0(const uint8_t* p, float* out) {
  const float d = halfAt(p);
  for (int i = 0; i < 32; i++) out[i] = d * (float)(int8_t)p[2 + i];
}

// x = d s q - dmin m with s, m of each 32 numbers.
template <bool kFiveBits>
void widenWithMinima(const uint8_t* p, float* out) {
  const float d = halfAt(p), dmin = halfAt(p + 2);
  const uint8_t* const quants = p + (kFiveBits ? 48 : 16);
  for (int j = 0; j < 8; j++) {
    const Part6 part = part6(p + 4, j);
    const float step = d * (float)part.scale, shift = dmin * (float)part.minimum;
    for (int i = 0; i < 32; i++) {
      int q = quants[32 * (j / 2) + i] >> (4 * (j % 2)) & 15;
      if (kFiveBits) q |= (p[16 + i] >> j & 1) << 4;
      out[32 * j + i] = step * (float)q - shift;
    }
  }
}

// x = d s (q - 32), s of each 16 numbers.
void widenQ6_K(const uint8_t* p, float* out) {
  const float d = halfAt(p + 208);
  for (int part = 0; part < 16; part++) {
    const float step = d * (float)(int8_t)p[192 + part];
    const int half = part / 8, quarter = part / 2 % 4, first = 16 * (part % 2);
    const uint8_t* const low = p + 64 * half + 32 * (quarter % 2) + first;
    const uint8_t* const high = p + 128 + 32 * half + first;
    for (int i = 0; i < 16; i++) {
      const int q = (low[i] >> (4 * (quarter / 2)) & 15) | (high[i] >> (2 * quarter) & 3) << 4;
      out[16 * part + i] = step * (float)(q - 32);
    }
  }
}

template <void (*kWiden)(const uint8_t*, float*)>
void widenBlocks(const uint8_t* blocks, int64_t blockBytes, int64_t blockElements, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += blockElements, blocks += blockBytes) kWiden(blocks, out + i);
}

}  // namespace

void widen(StorageType type, const uint8_t* blocks, int64_t count, float* out);
void widen(StorageType type, const uint8_t* blocks, int64_t count, float* out) {
  switch (type) {
    case StorageType::float32: return widenFloat32(blocks, out, count);
    case StorageType::bfloat16: return widenBfloat16(blocks, out, count);
    case StorageType::float16: return widenFloat16(blocks, out, count);
    case StorageType::q4_0: return widenBlocks<widenQ4_0>(blocks, 18, 32, count, out);
    case StorageType::q4_1: return widenBlocks<widenQ4_1>(blocks, 20, 32, count, out);
    case StorageType::q5_0: return widenBlocks<widenQ5_0>(blocks, 22, 32, count, out);
    case StorageType::q5_1: return widenBlocks<widenQ5_1>(blocks, 24, 32, count, out);
    case StorageType::q8_0: return widenBlocks<widenQ8_0>(blocks, 34, 32, count, out);
    case StorageType::q4_k: return widenBlocks<widenWithMinima<false>>(blocks, 144, 256, count, out);
    case StorageType::q5_k: return widenBlocks<widenWithMinima<true>>(blocks, 176, 256, count, out);
    case StorageType::q6_k: return widenBlocks<widenQ6_K>(blocks, 210, 256, count, out);
  }
}

}  // namespace SGEMOE_ISA
}  // namespace sgemoe
