// Blocks from float32. The formulas are those of src/backend/reference/quantize.ts and quantizeParts.ts; so are the steps,
// one rounding each, in the same order: compiled once, without contraction, so that every machine writes the same bytes.
#include <string.h>

#include "stored.h"

namespace sgemoe {
namespace {

// The nearest float16, ties to even.
uint16_t toHalf(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // from the midpoint above 65,504 on
  if (magnitude < 0x38800000) {  // subnormal: 2^-24 each, to which adding 1/2 rounds
    float positive;
    memcpy(&positive, &magnitude, sizeof positive);
    positive += 0.5f;
    uint32_t rounded;
    memcpy(&rounded, &positive, sizeof rounded);
    return static_cast<uint16_t>(sign | (rounded - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | ((rounded >> 13) - (112 << 10)));
}

float fromHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, magnitude = half & 0x7fff;
  float value;
  if (magnitude >= 0x7c00) {
    const uint32_t bits = sign | 0x7f800000 | (magnitude & 0x3ff) << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  const uint32_t bits = magnitude << 13;
  memcpy(&value, &bits, sizeof value);
  value *= 0x1p112f;
  return sign != 0 ? -value : value;
}

uint16_t toBfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void put16(uint8_t* to, uint16_t bits) {
  to[0] = static_cast<uint8_t>(bits);
  to[1] = static_cast<uint8_t>(bits >> 8);
}

// ---------------------------------------------------------------- blocks of 32

float magnitudeOf(float x) { return x < 0 ? -x : x; }
float inverse(float d) { return d == 0 ? 0 : 1 / d; }

// The whole part, in [0, most]; 0 for NaN.
uint8_t clamped(float value, int most) {
  return static_cast<uint8_t>(value >= static_cast<float>(most) ? most : value > 0 ? static_cast<int>(value) : 0);
}

// The number of largest magnitude, the first of several.
float extreme(const float* x) {
  float most = x[0];
  for (int i = 1; i < 32; i++) {
    if (magnitudeOf(x[i]) > magnitudeOf(most)) most = x[i];
  }
  return most;
}

void putNibbles(const uint8_t* q, uint8_t* to) {
  for (int i = 0; i < 16; i++) to[i] = static_cast<uint8_t>((q[i] & 15) | (q[16 + i] & 15) << 4);
}

void putFifthBits(const uint8_t* q, uint8_t* to) {
  for (int i = 0; i < 4; i++) {
    int byte = 0;
    for (int bit = 0; bit < 8; bit++) byte |= (q[8 * i + bit] >> 4) << bit;
    to[i] = static_cast<uint8_t>(byte);
  }
}

void symmetric(const float* x, int half, uint8_t* q, uint8_t* to) {
  const float d = extreme(x) / static_cast<float>(-half), id = inverse(d);
  for (int i = 0; i < 32; i++) q[i] = clamped(x[i] * id + (static_cast<float>(half) + 0.5f), 2 * half - 1);
  put16(to, toHalf(d));
}

void withMinimum(const float* x, int most, uint8_t* q, uint8_t* to) {
  float min = x[0], max = x[0];
  for (int i = 1; i < 32; i++) {
    if (x[i] < min) min = x[i];
    if (x[i] > max) max = x[i];
  }
  const float d = (max - min) / static_cast<float>(most), id = inverse(d);
  for (int i = 0; i < 32; i++) q[i] = clamped((x[i] - min) * id + 0.5f, most);
  put16(to, toHalf(d));
  put16(to + 2, toHalf(min));
}

void quantizeQ4_0(const float* x, uint8_t* to) {
  uint8_t q[32];
  symmetric(x, 8, q, to);
  putNibbles(q, to + 2);
}

void quantizeQ4_1(const float* x, uint8_t* to) {
  uint8_t q[32];
  withMinimum(x, 15, q, to);
  putNibbles(q, to + 4);
}

void quantizeQ5_0(const float* x, uint8_t* to) {
  uint8_t q[32];
  symmetric(x, 16, q, to);
  putFifthBits(q, to + 2);
  putNibbles(q, to + 6);
}

void quantizeQ5_1(const float* x, uint8_t* to) {
  uint8_t q[32];
  withMinimum(x, 31, q, to);
  putFifthBits(q, to + 4);
  putNibbles(q, to + 8);
}

void quantizeQ8_0(const float* x, uint8_t* to) {
  const float d = magnitudeOf(extreme(x)) / 127, id = inverse(d);
  put16(to, toHalf(d));
  for (int i = 0; i < 32; i++) {
    const float value = x[i] * id;
    // In double, as JavaScript adds: a float would round 0.49999997 + 0.5 up.
    const double raised = static_cast<double>(magnitudeOf(value)) + 0.5;
    const int magnitude = raised >= 127 ? 127 : raised > 0 ? static_cast<int>(raised) : 0;
    to[2 + i] = static_cast<uint8_t>(value < 0 ? -magnitude : magnitude);
  }
}

// ---------------------------------------------------------------- blocks of 256

constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52

// The nearest integer in [low, high], ties to even; low for NaN.
int nearest(double value, int low, int high) {
  const double whole = value + kRound - kRound;
  return whole >= high ? high : whole > low ? static_cast<int>(whole) : low;
}

struct Search {
  int most;
  double first;
  int count;
};

struct Fit {
  double scale, minimum;
};

double squareRoot(double x) { return __builtin_sqrt(x); }

// One candidate: the least-squares scale and minimum of the quotients that `inverse` gives.
struct Sums {
  double w, x, xx;
};

double fitCandidate(const double* part, const double* weights, double min, double inverse, int most, const Sums& sums,
                    Fit* fit) {
  double sumQ = 0, sumQQ = 0, sumQX = 0;
  for (int i = 0; i < 32; i++) {
    const double q = nearest(inverse * (part[i] - min), 0, most);
    sumQ += weights[i] * q;
    sumQQ += weights[i] * q * q;
    sumQX += weights[i] * q * part[i];
  }
  const double determinant = sums.w * sumQQ - sumQ * sumQ;
  // Quotients that are all the same leave the scale open.
  if (!(determinant > 1e-7 * sums.w * sumQQ)) return __builtin_inf();
  double scale = (sums.w * sumQX - sums.x * sumQ) / determinant;
  double shift = (sumQQ * sums.x - sumQ * sumQX) / determinant;
  if (shift > 0) {
    shift = 0;
    scale = sumQX / sumQQ;
  }
  *fit = {scale, -shift};
  return scale * scale * sumQQ + shift * shift * sums.w + sums.xx +
         2 * (scale * shift * sumQ - scale * sumQX - shift * sums.x);
}

Fit fitPart(const double* part, const Search& search) {
  double min = 0, max = part[0], squares = 0;
  for (int i = 0; i < 32; i++) {
    if (part[i] < min) min = part[i];
    if (part[i] > max) max = part[i];
    squares += part[i] * part[i];
  }
  Fit best{0, -min};
  const double range = max - min;
  if (!(range > 0)) return best;
  best.scale = range / search.most;
  const double mean = squareRoot(squares / 32);
  double weights[32];
  Sums sums{0, 0, 0};
  for (int i = 0; i < 32; i++) {
    weights[i] = mean + (part[i] < 0 ? -part[i] : part[i]);
    sums.w += weights[i];
    sums.x += weights[i] * part[i];
    sums.xx += weights[i] * part[i] * part[i];
  }
  double least = __builtin_inf();
  for (int candidate = -1; candidate < search.count; candidate++) {
    const double inverse = (candidate < 0 ? search.most : search.most + search.first + candidate / 10.0) / range;
    Fit fit{0, 0};
    const double error = fitCandidate(part, weights, min, inverse, search.most, sums, &fit);
    if (error < least) {
      least = error;
      best = fit;
    }
  }
  return best;
}

void putScales(uint8_t* to, const int* scale, const int* minimum) {
  for (int j = 0; j < 4; j++) {
    to[j] = static_cast<uint8_t>(scale[j] | scale[4 + j] >> 4 << 6);
    to[4 + j] = static_cast<uint8_t>(minimum[j] | minimum[4 + j] >> 4 << 6);
    to[8 + j] = static_cast<uint8_t>((scale[4 + j] & 15) | (minimum[4 + j] & 15) << 4);
  }
}

void withMinima(const float* x, const Search& search, int* q, uint8_t* to) {
  Fit fits[8];
  double maxScale = 0, maxMinimum = 0;
  for (int j = 0; j < 8; j++) {
    double part[32];
    for (int i = 0; i < 32; i++) part[i] = x[32 * j + i];
    fits[j] = fitPart(part, search);
    if (fits[j].scale > maxScale) maxScale = fits[j].scale;
    if (fits[j].minimum > maxMinimum) maxMinimum = fits[j].minimum;
  }
  const uint16_t d = toHalf(static_cast<float>(maxScale / 63)), dmin = toHalf(static_cast<float>(maxMinimum / 63));
  const double scaleUnit = fromHalf(d), minimumUnit = fromHalf(dmin);
  int scale[8], minimum[8];
  for (int j = 0; j < 8; j++) {
    scale[j] = maxScale > 0 ? nearest(63 / maxScale * fits[j].scale, 0, 63) : 0;
    minimum[j] = maxMinimum > 0 ? nearest(63 / maxMinimum * fits[j].minimum, 0, 63) : 0;
    const double step = scaleUnit * scale[j], shift = minimumUnit * minimum[j];
    for (int i = 0; i < 32; i++) {
      const double number = x[32 * j + i];
      q[32 * j + i] = step == 0 ? 0 : nearest((number + shift) / step, 0, search.most);
    }
  }
  put16(to, d);
  put16(to + 2, dmin);
  putScales(to + 4, scale, minimum);
}

void putPairs(const int* q, uint8_t* to) {
  for (int i = 0; i < 4; i++) {
    for (int b = 0; b < 32; b++) {
      to[32 * i + b] = static_cast<uint8_t>((q[64 * i + b] & 15) | (q[64 * i + 32 + b] & 15) << 4);
    }
  }
}

void quantizeQ4_K(const float* x, uint8_t* to) {
  int q[256];
  withMinima(x, {15, -1, 21}, q, to);
  putPairs(q, to + 16);
}

void quantizeQ5_K(const float* x, uint8_t* to) {
  int q[256];
  withMinima(x, {31, -0.5, 16}, q, to);
  for (int b = 0; b < 32; b++) {
    int byte = 0;
    for (int j = 0; j < 8; j++) byte |= q[32 * j + b] >> 4 << j;
    to[16 + b] = static_cast<uint8_t>(byte);
  }
  putPairs(q, to + 48);
}

// The number of largest magnitude, the first of several; 0 where all are.
double extremeOf16(const double* x) {
  double most = 0, magnitude = 0;
  for (int i = 0; i < 16; i++) {
    const double each = x[i] < 0 ? -x[i] : x[i];
    if (each > magnitude) {
      magnitude = each;
      most = x[i];
    }
  }
  return most;
}

double fitSigned(const double* part) {
  const double most = extremeOf16(part);
  if (most == 0) return 0;
  double best = 0, scale = 0;
  for (int candidate = -9; candidate <= 9; candidate++) {
    const double inverse = -(32 + candidate / 10.0) / most;
    double sumQX = 0, sumQQ = 0;
    for (int i = 0; i < 16; i++) {
      const double weight = part[i] * part[i], q = nearest(inverse * part[i], -32, 31);
      sumQX += weight * q * part[i];
      sumQQ += weight * q * q;
    }
    if (sumQQ > 0 && sumQX * sumQX > best * sumQQ) {
      scale = sumQX / sumQQ;
      best = scale * sumQX;
    }
  }
  return scale;
}

void quantizeQ6_K(const float* x, uint8_t* to) {
  double scales[16];
  for (int j = 0; j < 16; j++) {
    double part[16];
    for (int i = 0; i < 16; i++) part[i] = x[16 * j + i];
    scales[j] = fitSigned(part);
  }
  const double most = extremeOf16(scales);
  const uint16_t d = toHalf(static_cast<float>(most == 0 ? 0 : most / -128));
  const double unit = fromHalf(d);
  int q[256];
  for (int j = 0; j < 16; j++) {
    const int scale = most == 0 ? 0 : nearest(-128 / most * scales[j], -128, 127);
    to[192 + j] = static_cast<uint8_t>(scale);
    const double step = unit * scale;
    for (int i = 0; i < 16; i++) {
      const double number = x[16 * j + i];
      q[16 * j + i] = 32 + (step == 0 ? 0 : nearest(number / step, -32, 31));
    }
  }
  for (int h = 0; h < 2; h++) {
    for (int b = 0; b < 32; b++) {
      const int* const p = q + 128 * h + b;
      to[64 * h + b] = static_cast<uint8_t>((p[0] & 15) | (p[64] & 15) << 4);
      to[64 * h + 32 + b] = static_cast<uint8_t>((p[32] & 15) | (p[96] & 15) << 4);
      to[128 + 32 * h + b] = static_cast<uint8_t>(p[0] >> 4 | p[32] >> 4 << 2 | p[64] >> 4 << 4 | p[96] >> 4 << 6);
    }
  }
  put16(to + 208, d);
}

template <void (*kQuantize)(const float*, uint8_t*)>
void quantizeBlocks(StorageType type, const float* x, int64_t count, uint8_t* bytes) {
  const StorageLayout& layout = layoutOf(type);
  for (int64_t i = 0; i < count; i += layout.elements, bytes += layout.bytes) kQuantize(x + i, bytes);
}

}  // namespace

void quantizeRow(StorageType type, const float* x, int64_t count, uint8_t* bytes) {
  switch (type) {
    case StorageType::float32: memcpy(bytes, x, static_cast<size_t>(count) * sizeof(float)); return;
    case StorageType::bfloat16:
      for (int64_t i = 0; i < count; i++) put16(bytes + 2 * i, toBfloat16(x[i]));
      return;
    case StorageType::float16:
      for (int64_t i = 0; i < count; i++) put16(bytes + 2 * i, toHalf(x[i]));
      return;
    case StorageType::q4_0: return quantizeBlocks<quantizeQ4_0>(type, x, count, bytes);
    case StorageType::q4_1: return quantizeBlocks<quantizeQ4_1>(type, x, count, bytes);
    case StorageType::q5_0: return quantizeBlocks<quantizeQ5_0>(type, x, count, bytes);
    case StorageType::q5_1: return quantizeBlocks<quantizeQ5_1>(type, x, count, bytes);
    case StorageType::q8_0: return quantizeBlocks<quantizeQ8_0>(type, x, count, bytes);
    case StorageType::q4_k: return quantizeBlocks<quantizeQ4_K>(type, x, count, bytes);
    case StorageType::q5_k: return quantizeBlocks<quantizeQ5_K>(type, x, count, bytes);
    case StorageType::q6_k: return quantizeBlocks<quantizeQ6_K>(type, x, count, bytes);
  }
}

}  // namespace sgemoe
