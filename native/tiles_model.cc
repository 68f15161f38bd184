// A scalar model of the tile instructions, from the operation sections of Intel's manual (volume 2: LDTILECFG, TILELOADD,
// TILESTORED, TILEZERO, TDPBF16PS). It gives the bits that the processor gives, and counts what the processor would refuse. And one
// of VDPBF16PS, of whose order of sums AMD's manual says nothing else.
#include <atomic>
#include <cstring>

#include "pair_product.h"
#include "tile_product.h"
#include "tiles.h"

namespace sgemoe {
namespace {

std::atomic<int64_t> faults{0};

uint32_t bitsOf(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
float floatOf(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
float signedZero(double like) { return std::signbit(like) ? -0.0f : 0.0f; }

// Denormals are zeros.
float flushed(float x) { return (bitsOf(x) & 0x7f800000) == 0 ? floatOf(bitsOf(x) & 0x80000000) : x; }

// a + b rounded once, to the nearest float32 with ties to even; results that are denormal after rounding with an unbounded exponent
// become zeros. a and b hold at most 53 bits each, and their product or sum no infinity that float32 lacks.
__attribute__((noinline)) float addRounded(double a, double b) {
  double sum = a + b;
  if (!std::isfinite(sum)) return static_cast<float>(sum);
  // What the double's rounding lost (Knuth's two-sum). A sum that isn't exact gets an odd last bit, which keeps the second rounding
  // right (Boldo and Melquiond 2008).
  const double back = sum - a, lost = (a - (sum - back)) + (b - back);
  if (lost != 0) {
    uint64_t bits;
    std::memcpy(&bits, &sum, sizeof bits);
    if ((bits & 1) == 0) bits += (lost > 0) == (sum > 0) ? 1 : -1;
    std::memcpy(&sum, &bits, sizeof sum);
  }
  if (std::fabs(sum) >= 0x1p-100) return static_cast<float>(sum);
  const float scaled = static_cast<float>(sum * 0x1p200);  // 24 bits, however small
  return std::fabs(scaled) < 0x1p74f ? signedZero(sum) : static_cast<float>(static_cast<double>(scaled) * 0x1p-200);
}

// sums += a * b, each rounded once; the product of two bfloat16 is exact in float64. Mostly the sum is, too, and large enough.
__attribute__((noinline)) void fusedMultiplyAdd(float a, const float (&b)[16], float (&sums)[16]) {
  double sum[16], lost[16];
  for (int n = 0; n < 16; n++) {
    const double product = static_cast<double>(a) * static_cast<double>(b[n]), old = sums[n];
    sum[n] = product + old;
    const double back = sum[n] - product;
    lost[n] = (product - (sum[n] - back)) + (old - back);
  }
  for (int n = 0; n < 16; n++) {
    const bool simple = lost[n] == 0 && (std::fabs(sum[n]) >= 0x1p-100 || sum[n] == 0);
    sums[n] = simple ? static_cast<float>(sum[n]) : addRounded(static_cast<double>(a) * static_cast<double>(b[n]), sums[n]);
  }
}

class Model {
 public:
  void configure(const TileConfig& config) {
    bool bad = config.palette != 1 || config.startRow != 0;
    for (const uint8_t byte : config.reserved) bad |= byte != 0;
    for (int t = 0; t < 16; t++) {
      const int rows = config.rows[t], bytes = config.rowBytes[t];
      bad |= t >= 8 ? rows != 0 || bytes != 0 : rows > 16 || bytes > 64 || (rows == 0) != (bytes == 0);
    }
    if (bad) return fault();
    config_ = config;
    std::memset(tiles_, 0, sizeof tiles_);
    configured_ = true;
  }

  void release() {
    if (!configured_) fault();
    configured_ = false;
  }

  template <int T>
  void zero() {
    if (exists(T)) std::memset(tiles_[T], 0, sizeof tiles_[T]);
  }

  template <int T>
  void load(const void* from, int64_t stride) {
    loadTile(T, from, stride);
  }

  template <int T>
  void store(void* to, int64_t stride) {
    storeTile(T, to, stride);
  }

  template <int C, int A, int B>
  void dotBfloat16() {
    static_assert(C != A && C != B && A != B, "the processor wants three registers");
    dotTiles(C, A, B);
  }

 private:
  // One copy of each in the addon.
  __attribute__((noinline)) void loadTile(int t, const void* from, int64_t stride) {
    if (!exists(t)) return;
    std::memset(tiles_[t], 0, sizeof tiles_[t]);
    for (int row = 0; row < config_.rows[t]; row++) {
      std::memcpy(tiles_[t][row], static_cast<const char*>(from) + row * stride, config_.rowBytes[t]);
    }
  }

  __attribute__((noinline)) void storeTile(int t, void* to, int64_t stride) {
    if (!exists(t)) return;
    for (int row = 0; row < config_.rows[t]; row++) {
      std::memcpy(static_cast<char*>(to) + row * stride, tiles_[t][row], config_.rowBytes[t]);
    }
  }

  __attribute__((noinline)) void dotTiles(int c, int a, int b) {
    if (!exists(c) || !exists(a) || !exists(b)) return;
    const int rows = config_.rows[c], cols = config_.rowBytes[c] / 4, pairs = config_.rowBytes[a] / 4;
    const bool fits = config_.rowBytes[c] % 4 == 0 && config_.rowBytes[a] % 4 == 0 && config_.rows[a] == rows &&
                      config_.rowBytes[b] == config_.rowBytes[c] && config_.rows[b] == pairs;
    if (!fits) return fault();
    for (int m = 0; m < rows; m++) {
      float even[16] = {}, odd[16] = {};
      for (int k = 0; k < pairs; k++) {
        const uint32_t left = tiles_[a][m][k];
        float low[16], high[16];
        for (int n = 0; n < 16; n++) {
          low[n] = flushed(floatOf(tiles_[b][k][n] << 16));
          high[n] = flushed(floatOf(tiles_[b][k][n] & 0xffff0000));
        }
        fusedMultiplyAdd(flushed(floatOf(left << 16)), low, even);
        fusedMultiplyAdd(flushed(floatOf(left & 0xffff0000)), high, odd);
      }
      for (int n = 0; n < cols; n++) {
        const float old = flushed(floatOf(tiles_[c][m][n]));
        tiles_[c][m][n] = bitsOf(addRounded(old, addRounded(even[n], odd[n])));
      }
    }
  }

  bool exists(int tile) {
    const bool there = configured_ && config_.rows[tile] > 0;
    if (!there) fault();
    return there;
  }

  void fault() { faults.fetch_add(1, std::memory_order_relaxed); }

  TileConfig config_ = {};
  bool configured_ = false;
  uint32_t tiles_[8][16][16];
};

// VDPBF16PS: the products of the second numbers of all pairs are added first, then those of the first ones.
struct ModelPairs {
  struct Vector {
    float words[16];
  };
  static Vector zero() { return {}; }
  static Vector load(const float* from) {
    Vector vector;
    std::memcpy(vector.words, from, sizeof vector.words);
    return vector;
  }
  static Vector broadcast(const float* from) {
    Vector vector;
    for (float& word : vector.words) std::memcpy(&word, from, sizeof word);
    return vector;
  }
  static void addProducts(Vector& sums, const Vector& row, const Vector& columns) {
    float low[16], high[16];
    for (int n = 0; n < 16; n++) {
      low[n] = flushed(floatOf(bitsOf(columns.words[n]) << 16));
      high[n] = flushed(floatOf(bitsOf(columns.words[n]) & 0xffff0000));
    }
    const uint32_t pair = bitsOf(row.words[0]);
    fusedMultiplyAdd(flushed(floatOf(pair & 0xffff0000)), high, sums.words);
    fusedMultiplyAdd(flushed(floatOf(pair << 16)), low, sums.words);
  }
  static void store(float* to, const Vector& sums) { std::memcpy(to, sums.words, sizeof sums.words); }
};

void multiplyModelPairs(const PackedProduct& product) { PairProduct<ModelPairs>(product).run(); }

constexpr TileUnit kPairsUnit = {"pairsModel", nullptr, nullptr, multiplyModelPairs};

constexpr TileUnit kUnit = {"model", multiplyTiles<Model, kSplitParts, kSplitParts>, multiplyTiles<Model, kSplitParts, 1>,
                            multiplyTiles<Model, 1, 1>};

}  // namespace

const TileUnit& modelUnit() { return kUnit; }
const TileUnit& modelPairsUnit() { return kPairsUnit; }
int64_t modelFaults() { return faults.load(std::memory_order_relaxed); }

}  // namespace sgemoe
